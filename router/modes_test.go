package router

import "testing"

// TestModes: what was said one after the other comes to the same whether it is folded by
// the parser's list or by With, and the statement that Begin writes says just that.
func TestModes(t *testing.T) {
	p := NewPlans(Options{})
	said := func(sql string) Modes { return p.Get([]byte(sql)).Tx.Modes }
	for _, test := range []struct{ list, begin, later, want string }{
		{"BEGIN", "BEGIN", "SET TRANSACTION READ ONLY", "BEGIN READ ONLY"},
		{"BEGIN READ WRITE, READ ONLY", "BEGIN READ WRITE", "SET TRANSACTION READ ONLY", "BEGIN READ ONLY"},
		{
			"START TRANSACTION ISOLATION LEVEL SERIALIZABLE, ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE",
			"BEGIN ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY DEFERRABLE",
			"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE",
		},
		{"BEGIN DEFERRABLE, NOT DEFERRABLE", "BEGIN DEFERRABLE", "SET transaction_deferrable = off", "BEGIN NOT DEFERRABLE"},
	} {
		got := said(test.begin).With(said(test.later))
		if got.Begin() != test.want {
			t.Errorf("%s; %s: %s, want %s", test.begin, test.later, got.Begin(), test.want)
		}
		if said(got.Begin()) != got || said(got.Set()) != got {
			t.Errorf("%s does not say %+v", got.Begin(), got)
		}
		if list := said(test.list); test.begin != "BEGIN" && list != got {
			t.Errorf("%s: %+v, want %+v", test.list, list, got)
		}
	}
	if got := (Modes{}).Set(); got != "" {
		t.Errorf("nothing said: %q", got)
	}
}

// TestDecideModes: a standby refuses some modes, whenever they are said.
func TestDecideModes(t *testing.T) {
	plans := NewPlans(Options{})
	rr := Modes{Isolation: RepeatableRead}
	rrRO := Modes{Isolation: RepeatableRead, Access: ReadOnly}
	for _, test := range []struct {
		sql  string
		view View
		want Decision
	}{
		{"select 1", View{InTx: true, Modes: Modes{Access: ReadWrite}}, Decision{TargetPrimary, ReasonIsolation}},
		{"delete from t", View{InTx: true, OnReplica: true, Read: true, Fixed: true, Modes: rrRO}, Decision{TargetReplica, ReasonTransaction}},
		{"delete from t", View{InTx: true, OnReplica: true, Read: true, Fixed: true, Modes: rrRO, Leaves: true}, Decision{TargetReplica, ReasonTransaction}},
		{"delete from t", View{InTx: true, OnReplica: true, Read: true, Fixed: true, Modes: rrRO, Leaves: true, AtOnce: true}, Decision{TargetPrimary, ReasonWrite}},
		{"select 1", View{Pins: PinLock, InTx: true, OnReplica: true, Read: true, Fixed: true, Modes: rrRO}, Decision{TargetReplica, ReasonTransaction}},
		{"select 1", View{Pins: PinLock, InTx: true, OnReplica: true, Read: true, Modes: rrRO}, Decision{TargetPrimary, ReasonPinned}},
		{"delete from t", View{InTx: true, OnReplica: true, Read: true, Modes: Modes{Access: ReadOnly}, Leaves: true}, Decision{TargetPrimary, ReasonWrite}},
		{"select 1", View{InTx: true, Modes: Modes{Access: ReadOnly}}, Decision{TargetReplica, ReasonRead}},
		{"select 1", View{InTx: true}, Decision{TargetReplica, ReasonRead}},
		{"select 1", View{InTx: true, Modes: rr}, Decision{TargetPrimary, ReasonIsolation}},
		{"select 1", View{InTx: true, Modes: rrRO}, Decision{TargetReplica, ReasonRead}},
		{"select 1", View{Modes: Modes{Isolation: Serializable}}, Decision{TargetPrimary, ReasonIsolation}},
		{"set transaction read write", View{InTx: true, OnReplica: true}, Decision{TargetPrimary, ReasonIsolation}},
		{"set transaction read write", View{InTx: true, OnReplica: true, Read: true}, Decision{TargetPrimary, ReasonIsolation}},
		{
			"set transaction read write", View{InTx: true, OnReplica: true, Read: true, Modes: Modes{Access: ReadOnly}},
			Decision{TargetReplica, ReasonTransaction},
		},
		{"begin read write, read only", View{InTx: true, OnReplica: true}, Decision{TargetReplica, ReasonTransaction}},
		{"begin read write", View{InTx: true, OnReplica: true}, Decision{TargetPrimary, ReasonIsolation}},
		{"set transaction isolation level serializable", View{InTx: true, OnReplica: true}, Decision{TargetPrimary, ReasonIsolation}},
		{
			"set transaction isolation level serializable", View{InTx: true, OnReplica: true, Read: true},
			Decision{TargetReplica, ReasonTransaction},
		},
		{"commit", View{InTx: true, OnReplica: true, Modes: rrRO}, Decision{TargetReplica, ReasonTransaction}},
	} {
		if got := Decide(plans.Get([]byte(test.sql)), test.view); got != test.want {
			t.Errorf("%s in %+v: %v %v, want %v %v", test.sql, test.view, got.Target, got.Reason, test.want.Target, test.want.Reason)
		}
	}
}

func TestParseIsolation(t *testing.T) {
	for s, want := range map[string]Isolation{
		"read committed": ReadCommitted, "READ UNCOMMITTED": ReadUncommitted, "Repeatable Read": RepeatableRead,
		"serializable": Serializable,
	} {
		if got, ok := ParseIsolation(s); !ok || got != want {
			t.Errorf("%q: %v %v", s, got, ok)
		}
	}
	for _, s := range []string{"chaos", "", " serializable"} {
		if _, ok := ParseIsolation(s); ok {
			t.Errorf("%q is no isolation level", s)
		}
	}
	for s, want := range map[string]Access{"on": ReadOnly, "T": ReadOnly, "off": ReadWrite, "f": ReadWrite, "0": ReadWrite, "": AccessDefault, "o": AccessDefault} {
		if got, _ := ParseAccess(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
