package main

import (
	"reflect"
	"testing"
)

func TestParseOptions(t *testing.T) {
	type chosen struct {
		systems, parts, loads, modes []string
		clients                      []int
		out                          string
	}
	three, parts := []string{direct, pgbouncer, pgweir}, []string{"matrix", "allocs", "results", "idle", "levels", "tenants", "insight", "operations"}
	everything := chosen{three, parts, allLoads[:2], allModes, []int{1, 8, 64, 256}, resultsFile}
	narrowed := everything
	narrowed.out = ""

	quick := narrowed
	quick.clients = []int{1, 8}
	one := narrowed
	one.systems, one.modes, one.clients = []string{pgbouncer, pgweir}, []string{"simple"}, []int{64}
	profiled := everything
	profiled.parts = allParts
	compared := narrowed
	compared.systems = allSystems
	kept := one
	kept.out = "x.md"

	for _, c := range []struct {
		args []string
		want chosen
	}{
		{nil, everything},
		{[]string{"-quick"}, quick},
		{[]string{"-systems", "pgweir,pgbouncer", "-modes", "simple", "-clients", "64"}, one},
		{[]string{"-systems", "pgweir,pgbouncer", "-modes", "simple", "-clients", "64", "-out", "x.md"}, kept},
		{[]string{"-profile"}, profiled},
		{[]string{"-base", "/old/pgweir"}, compared},
	} {
		o, err := parseOptions(c.args)
		got := chosen{o.systems, o.parts, o.loads, o.modes, o.clients, o.out}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.args, got, err, c.want)
		}
	}
}

func TestParseOptionsFaults(t *testing.T) {
	for _, args := range [][]string{
		{"-systems", "odyssey"},
		{"-systems", "base,pgweir"}, // without -base
		{"-modes", "simple,"},
		{"-clients", "8,many"},
		{"-clients", "0"},
		{"-clients", "1000"}, // more than the servers take
		{"-rounds", "0"},
		{"-seconds", "0"},
		{"select"},
	} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
