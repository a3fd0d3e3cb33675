package router

import (
	"strings"
	"testing"
)

func TestLiteralsOf(t *testing.T) {
	plans := NewPlans(Options{})
	for sql, want := range map[string]Literals{
		"":                                  LiteralsNone,
		"select 1, $1, 1.5e3 -- é 'now'":    LiteralsNone,
		"select a from t /* 'now' é */":     LiteralsNone,
		`select "now" from "today"`:         LiteralsNone,
		`select "é" from t`:                 LiteralsSome,
		"select é from t":                   LiteralsSome,
		"select 'x'":                        LiteralsSome,
		"select 'know', 'nowhere'":          LiteralsSome,
		`select '\d+'`:                      LiteralsSome,
		"select $$x$$":                      LiteralsSome,
		"select B'101', X'1F', N'x', E'x'":  LiteralsSome,
		"select 'now'":                      LiteralsTimed,
		"select ' Now '":                    LiteralsTimed,
		"select date 'TODAY'":               LiteralsTimed,
		"select timestamp '04:00 tomorrow'": LiteralsTimed,
		"select $$yesterday$$::date":        LiteralsTimed,
		`select E'\156ow'::date`:            LiteralsTimed,
		`select U&'!006eow' UESCAPE '!'`:    LiteralsTimed,
		"select 'no'\n'w'::date":            LiteralsTimed,
		"select 'no' -- x\n  'w'::date":     LiteralsTimed,
		"select 'open":                      LiteralsTimed,
	} {
		if got := LiteralsOf(sql); got != want {
			t.Errorf("%q: %d, want %d", sql, got, want)
		}
		if got := plans.Get([]byte(sql)).LiteralsOf([]byte(sql)); got != want {
			t.Errorf("%q by its plan: %d, want %d", sql, got, want)
		}
	}
}

// TestLiteralsOfSharedPlan: the Plan is shared by texts that differ in literals, what
// these mean is not.
func TestLiteralsOfSharedPlan(t *testing.T) {
	plans := NewPlans(Options{})
	plan := plans.Get([]byte("select 'x'::date"))
	other := plans.Get([]byte("select 'now'::date"))
	if plan != other {
		t.Fatal("not shared")
	}
	if got := other.LiteralsOf([]byte("select 'now'::date")); got != LiteralsTimed {
		t.Errorf("%d", got)
	}
}

// TestLongStrings: a string of too many statements is taken as one, from the cache too, and of
// one with many literals each byte is passed over once.
func TestLongStrings(t *testing.T) {
	plans := NewPlans(Options{})
	text := func(n int, value string) []byte {
		return []byte(strings.Repeat("SET a.b = '"+value+"'; ", n) + "SELECT 'x'")
	}
	for _, value := range []string{"v", "w"} {
		p := plans.Get(text(maxParts+6, value))
		if p.Parts != nil || p.Statements != maxParts+7 {
			t.Errorf("%q: %d statements, %d parts", value, p.Statements, len(p.Parts))
		}
		p = plans.Get(text(maxParts-4, value))
		for _, part := range p.Parts[:maxParts-4] {
			if part.Sets[0].Value != value {
				t.Fatalf("a part sets %q, not %q", part.Sets[0].Value, value)
			}
		}
	}
}
