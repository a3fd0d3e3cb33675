package session_test

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// settable are the settings of random histories, with the values they get; "bad" is one
// that a server refuses.
var settable = []struct {
	name   string
	values []string
}{
	{"app.a", []string{"1", "2", "bad"}},
	{"app.b", []string{"x", "it's", "at start"}},
	{"work_mem", []string{"1MB", "2MB", "3MB", "bad"}},
	{"application_name", []string{"one", "two", "starts"}},
	{"timezone", []string{"utc", "UTC"}},
	{"role", []string{"pg_monitor", "none"}},
	{"search_path", []string{"pg_catalog, public"}},
}

// own is a setting of the proxy.
const own = "pgweir.route"

// genOp draws a statement. In a string of several, none has parameters and none is of the
// proxy's own settings.
func genOp(t *rapid.T, inString bool) op {
	k := rapid.SampledFrom([]kind{
		opSet, opSet, opSet, opSet, opSet, opSet, opBegin, opBegin, opCommit, opCommit, opRollback,
		opSavepoint, opSavepoint, opRelease, opRollbackTo, opRollbackTo, opSetTx, opQuery, opFail, opResetAll,
	}).Draw(t, "kind")
	o := op{kind: k, text: strings.ToUpper(string(k))}
	switch k {
	case opSet:
		return genSet(t, inString)
	case opBegin:
		o.modes = genModes(t)
		o.text, o.tag = "BEGIN"+o.modes.clause(), "BEGIN"
		if rapid.Bool().Draw(t, "start") {
			o.text, o.tag = "START TRANSACTION"+o.modes.clause(), "START TRANSACTION"
		}
	case opSetTx:
		for o.modes == (modes{}) {
			o.modes = genModes(t)
		}
		o.text += o.modes.clause()
	case opCommit, opRollback:
		if o.chain = rapid.IntRange(0, 2).Draw(t, "chain") == 0; o.chain {
			o.text += " AND CHAIN"
		}
	case opSavepoint, opRelease, opRollbackTo:
		o.name = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
		o.text += " " + o.name
	case opQuery:
		o.text, o.tag, o.query = "SELECT 1", "SELECT 1", true
	case opFail:
		o.text, o.query = "SELECT 1/0", true
	}
	return o
}

func genModes(t *rapid.T) (m modes) {
	pick := func(label string, of ...string) string {
		return rapid.SampledFrom(append([]string{"", ""}, of...)).Draw(t, label)
	}
	return modes{
		isolation: pick("isolation", "read committed", "repeatable read", "serializable"),
		readOnly:  pick("read only", "on", "off"), deferrable: pick("deferrable", "on", "off"),
	}
}

// clause writes modes as BEGIN and SET TRANSACTION take them.
func (m modes) clause() (s string) {
	if m.isolation != "" {
		s = " ISOLATION LEVEL " + strings.ToUpper(m.isolation)
	}
	return s + map[string]string{"on": " READ ONLY", "off": " READ WRITE"}[m.readOnly] +
		map[string]string{"on": " DEFERRABLE", "off": " NOT DEFERRABLE"}[m.deferrable]
}

func genSet(t *rapid.T, inString bool) op {
	s := rapid.SampledFrom(settable).Draw(t, "setting")
	if !inString && rapid.IntRange(0, 9).Draw(t, "own") == 0 {
		s.name, s.values = own, []string{"replica", "auto"}
	}
	o := op{kind: opSet, name: s.name, tag: "SET", local: rapid.Bool().Draw(t, "local")}
	if o.reset = rapid.IntRange(0, 3).Draw(t, "reset") == 0; !o.reset {
		o.value = rapid.SampledFrom(s.values).Draw(t, "value")
	}
	list := o.name == "search_path"
	if o.name != own && !list && rapid.IntRange(0, 2).Draw(t, "as a function") == 0 {
		o.asFunction(!inString && rapid.Bool().Draw(t, "bound"))
		return o
	}
	word := ""
	if o.local {
		word = "LOCAL "
	}
	switch {
	case o.reset && !o.local:
		o.text, o.tag = "RESET "+o.name, "RESET"
	case o.reset:
		o.text = "SET LOCAL " + o.name + " TO DEFAULT"
	case list:
		o.text = "SET " + word + o.name + " = " + o.value
	default:
		o.text = "SET " + word + o.name + " = " + quoted(o.value)
	}
	return o
}

func (o *op) asFunction(bound bool) {
	o.tag, o.query = "SELECT 1", true
	value, local := quoted(o.value), fmt.Sprint(o.local)
	if o.reset {
		value = "NULL"
	}
	if bound && !o.reset {
		o.text, o.params = "SELECT set_config($1, $2, $3)", []string{o.name, o.value, local}
		return
	}
	o.text = "SELECT set_config(" + quoted(o.name) + ", " + value + ", " + local + ")"
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// batch is what a client sends up to ReadyForQuery: a simple query, of one statement or
// several, or a pipeline.
type batch struct {
	pipeline bool
	ops      []op
}

func (b batch) String() string {
	var texts []string
	for i := range b.ops {
		text := b.ops[i].text
		if b.ops[i].params != nil {
			text += fmt.Sprintf(" %q", b.ops[i].params)
		}
		texts = append(texts, text)
	}
	if b.pipeline {
		return strings.Join(texts, " | ")
	}
	return strings.Join(texts, "; ")
}

func genBatch(t *rapid.T) batch {
	switch rapid.IntRange(0, 9).Draw(t, "batch") {
	case 0:
		return batch{ops: []op{{kind: opDiscard, text: "DISCARD ALL"}}}
	case 1:
		return batch{ops: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op { return genOp(t, true) }), 2, 3).Draw(t, "string")}
	case 2, 3:
		return batch{pipeline: true, ops: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op { return genOp(t, false) }), 1, 4).Draw(t, "pipeline")}
	}
	o := genOp(t, false)
	return batch{pipeline: o.params != nil, ops: []op{o}}
}

// answer is what a client sees of a statement: its command tag, or its SQLSTATE.
func answer(tag, code string) string {
	if code != "" {
		return code
	}
	return tag
}

// do runs a batch on the model, and returns what a client sees of it, before the
// ReadyForQuery.
func (m *model) do(b batch) (answers []string) {
	for _, o := range b.ops {
		a := answer(m.run(o, !b.pipeline && len(b.ops) > 1))
		if a != "skipped" {
			answers = append(answers, a)
		}
	}
	return answers
}
