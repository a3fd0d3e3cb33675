package sim

import (
	"slices"
	"testing"
	"time"
)

// Histories that showed a fault of the proxy once are played under several seeds, and show
// none any more.
func TestFormerFaults(t *testing.T) {
	tell = *sqlFlag
	plain := Knobs{PoolSize: 2, Consistency: "database", Delay: time.Millisecond}
	alone := plain
	alone.PoolSize = 1
	few := plain
	few.Statements, few.Declared = 2, true
	replicated := plain
	replicated.Replicas = 1
	slow := plain
	slow.Delay, slow.Replicas = 5*time.Millisecond, 2
	far := plain
	far.Delay = 400 * time.Millisecond
	for name, h := range map[string]History{
		"a cancel request while a connection is dialled": {Knobs: slow, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "select '%m', pg_sleep(0.05)", Cancel: 3 * time.Millisecond}}},
		}},
		"LISTEN and NOTIFY in a transaction that only reads": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin read only"}, {Simple: "select '%m', 1"}, {Simple: "listen \"%o\""}, {Simple: "notify \"%o\", '%m'"}, {Simple: "commit"},
				{Simple: "select '%m', 2"},
			}},
		}},
		"the connection that listens is lost while a NOTIFY waits": {Knobs: Knobs{Replicas: 1, PoolSize: 2, Consistency: "eventual", Wait: 100 * time.Millisecond, Verify: true, Delay: 5 * time.Millisecond, SCRAM: true}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Simple: "notify \"%o\", '%m'"}}},
			{Name: "c1", User: "app", Steps: []Step{{Simple: "select pg_notify('%o', '%m')"}}},
		}, Events: []Event{{At: 278577906, Do: Promote, On: "replica1"}}},
		"a name that is taken behind DISCARD ALL while nothing is known of the catalog": {Knobs: Knobs{PoolSize: 1, Consistency: "session", Wait: 100 * time.Millisecond, Async: true, Delay: time.Millisecond, SCRAM: true}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "select '%m', id, tenant, v from items where owner = '%o' order by id"},
				{Calls: []Call{{Parse: "discard all"}, {Name: "s1", Parse: "select id, v from items where v <> $1 and owner = $2", Args: []string{"%m", "%o"}}}},
				{Wait: 6 * time.Millisecond, Calls: []Call{{Name: "s1", Args: []string{"%m", "%o"}}}},
			}},
		}, Faults: []Fault{{From: proxyHost, To: serverName(0), Nth: 4, Byte: 219, Back: true, Kind: Silence}}},
		"a portal that is run again, and a read beside it, on a replica that is behind": {Knobs: Knobs{Replicas: 1, PoolSize: 8, Consistency: "session", Wait: 100 * time.Millisecond, Lag: time.Second, Delay: 100 * time.Microsecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "select set_config('app.tenant', 't1', false)"},
				{Simple: "insert into items values ('%o', 2, current_setting('app.tenant', true), '%m')"},
				{Calls: []Call{{Parse: "select set_config($1, $2, $3)", Args: []string{"app.tenant", "t1", "f"}, Flush: true}, {Again: true, Rows: 1},
					{Parse: "select $1::text, id, v from items where owner = $2 order by id", Args: []string{"%m", "%o"}}}},
			}},
		}},
		"a Bind that takes the snapshot, on a replica that is behind, and its Execute behind a Flush": {Knobs: Knobs{Replicas: 1, PoolSize: 8, Consistency: "session", Wait: 10 * time.Millisecond, Lag: time.Second, Delay: 100 * time.Microsecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "select set_config('app.tenant', 't1', false)"},
				{Simple: "insert into items values ('%o', 2, current_setting('app.tenant', true), '%m')"}, {Simple: "select '%m', 1"},
				{Wait: 100 * time.Millisecond, Calls: []Call{{Parse: "select $1::text, id, v from items where owner = $2 order by id", Args: []string{"%m", "%o"}, Apart: true}}},
			}},
		}},
		"the primary comes back before its successor has ever answered": {Knobs: Knobs{Replicas: 1, PoolSize: 2, Consistency: "tenant", Wait: 10 * time.Millisecond, Delay: 5 * time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: append([]Step{{Wait: 1900 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}},
				slices.Repeat([]Step{{Wait: 20 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}}, 12)...)},
		}, Events: []Event{{At: 1970 * time.Millisecond, Do: Promote, On: "replica1", For: time.Second, Text: unchanged}},
			Faults: []Fault{{From: proxyHost, To: serverName(1), Kind: Hang}}},
		"the primary comes back as the first question to its successor ends": {Knobs: Knobs{Replicas: 1, PoolSize: 2, Consistency: "database", Wait: 10 * time.Millisecond, Delay: time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: slices.Repeat([]Step{{Wait: 200 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}}, 24)},
		}, Events: []Event{{At: 1168 * time.Millisecond, Do: Promote, On: "replica1", For: 3 * time.Second, Text: unchanged}},
			Faults: []Fault{{From: proxyHost, To: serverName(1), Kind: Hang}}},
		"the primary comes back that was lost before anything was known": {Knobs: Knobs{Replicas: 1, PoolSize: 1, Consistency: "session", Wait: 10 * time.Millisecond, Delay: time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: slices.Repeat([]Step{{Wait: 200 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}}, 24)},
		}, Events: []Event{{At: 991 * time.Millisecond, Do: Promote, On: "replica1", For: time.Second, Text: unchanged}},
			Faults: []Fault{{From: proxyHost, To: serverName(1), Kind: Hang}}},
		"the primary comes back at an address that was a replica's": {Knobs: Knobs{Replicas: 2, PoolSize: 8, Consistency: "database", Lag: time.Millisecond, Async: true, Delay: 100 * time.Microsecond, SCRAM: true}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "select who from log", Check: observes}, {Simple: "begin"}, {Simple: "select who from log", Check: observes}, {Simple: "commit"},
				{Wait: 457 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}, {Simple: "begin"},
				{Wait: 38 * time.Millisecond, Simple: "set transaction isolation level repeatable read"}, {Simple: "delete from items where owner = '%o'"}, {Simple: "commit"},
			}},
		}, Events: []Event{{At: 81971142, Do: Crash, On: "primary", For: 2054500826}, {At: 1566171149, Do: Exchange, On: "primary", Text: "replica2"}}},
		"a setting undone with its server": {Knobs: Knobs{Replicas: 2, PoolSize: 1, Consistency: "tenant", Slots: 9, Delay: 100 * time.Microsecond, Stall: 5, SCRAM: true}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "set application_name = 'x%m'"}, {Simple: "set transaction isolation level repeatable read"},
				{Wait: 428 * time.Millisecond, Simple: "delete from items where owner = '%o'"}, {Simple: "rollback"},
			}},
		}, Events: []Event{{At: 525 * time.Millisecond, Do: Promote, On: "replica1", For: 3 * time.Second}}},
		"a placeholder that a function may have defined in a block, lost with its server": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "clerk", Steps: []Step{
				{Simple: "begin"}, {Simple: "select '%m', set_tenant('t2')"}, {Wait: 200 * time.Millisecond, Simple: "set role none"}, {Wait: 100 * time.Millisecond, Simple: whoami},
			}},
			{Name: "c1", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "select '%m', set_config('app.tenant', 't3', false)"}, {Wait: 200 * time.Millisecond, Simple: "insert into log values ('%m')"}, {Simple: whoami},
			}},
			{Name: "c2", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "select '%m', set_tenant('t2')"}, {Simple: "commit and chain"}, {Wait: 200 * time.Millisecond, Simple: "set role none"}, {Wait: 100 * time.Millisecond, Simple: whoami},
			}},
		}, Events: []Event{{At: 100 * time.Millisecond, Do: Crash, On: "primary", For: 840 * time.Millisecond}}},
		"a placeholder that a function defined, behind DISCARD ALL while there is no catalog": {Knobs: plain, Scripts: []Script{
			{Name: "c1", User: "app", Steps: []Step{
				{Simple: "select set_tenant('t1')"}, {Simple: "discard all"}, {Calls: []Call{{Parse: "select '%m', set_tenant('t2')"}}},
			}},
		}, Faults: []Fault{{From: proxyHost, To: serverName(0), Nth: 1, Byte: 6735, Kind: Silence}}},
		"a placeholder that was defined in a block on a replica, lost with it": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: whoami}, {Simple: "select '%m', set_config('app.tenant', 't3', true)"}, {Wait: 200 * time.Millisecond, Simple: whoami}, {Simple: "commit"}, {Simple: whoami},
			}},
			{Name: "c1", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: whoami}, {Simple: "select '%m', set_config('app.tenant', 't3', false)"}, {Wait: 200 * time.Millisecond, Simple: whoami}, {Simple: "commit"}, {Simple: whoami},
			}},
		}, Events: []Event{{At: 100 * time.Millisecond, Do: Crash, On: "replica1", For: 840 * time.Millisecond}}},
		"modes behind DEALLOCATE": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin read only"}, {Simple: "deallocate all"}, {Simple: "set transaction isolation level repeatable read"}, {Simple: "rollback"},
				{Simple: "begin"}, {Simple: "show timezone"}, {Simple: "deallocate all"}, {Simple: "set transaction isolation level repeatable read"}, {Simple: "rollback"},
				{Simple: "prepare p as select '%m', 1"}, {Simple: "begin"}, {Simple: "deallocate p"}, {Simple: "begin isolation level repeatable read"}, {Simple: "rollback"},
				{Simple: "prepare p as select '%m', 1"}, {Simple: "execute p"}, {Simple: "begin"}, {Simple: "select '%m', 2"}, {Simple: "deallocate p"}, {Simple: "commit"}, {Simple: "execute p"},
				{Calls: []Call{{Parse: "begin"}, {Parse: "deallocate all"}, {Parse: "set transaction isolation level repeatable read"}}}, {Simple: "rollback"},
				{Simple: "begin"}, {Calls: []Call{{Parse: "deallocate all"}, {Parse: "set transaction read only"}}}, {Simple: "set transaction read write"}, {Simple: "commit"},
				{Simple: "begin"}, {Simple: "close all"}, {Simple: "set transaction isolation level repeatable read"}, {Simple: "rollback"},
				{Simple: "begin"}, {Calls: []Call{{Parse: "deallocate all"}, {Parse: "rollback"}, {Parse: "select $1::text, 1", Args: []string{"%m"}}}}, {Simple: whoami},
			}},
		}},
		"a write behind the end of a block that only reads": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin read only"}, {Simple: "select set_config('app.tenant', 't2', true)"}, {Calls: []Call{{Parse: "rollback"}, {Parse: "drop table tt"}}},
			}},
		}},
		"names after DISCARD ALL and DEALLOCATE ALL in a pipeline": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, 1", Args: []string{"%m"}}}},
				{Calls: []Call{{Parse: "discard all"}, {Name: "s0", Args: []string{"%m"}}}},
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
				{Calls: []Call{{Parse: "set application_name = 'x'"}}},
				{Calls: []Call{{Parse: "discard all"}, {Name: "s0", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
				{Calls: []Call{{Name: "s1", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
				{Calls: []Call{{Name: "s0", Args: []string{"%m"}}}},
				{Simple: "prepare p as select 3"},
				{Calls: []Call{{Parse: "deallocate all"}, {Parse: "deallocate p"}}},
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
			}},
		}},
		"what a failed INSERT undid while its connection was kept for currval": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "app", Options: map[string]string{"search_path": "s2"}, Steps: []Step{{Simple: "insert into items values ('%o', 1, '', '%m')"}, {Simple: "insert into log values ('%m')"}}},
		}},
		"a name that is taken behind the end of an aborted transaction": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, 1", Args: []string{"%m"}}}},
				{Simple: "begin"}, {Simple: "select '%m', 1/0"},
				{Calls: []Call{{Parse: "commit"}, {Name: "s0", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
			}},
		}},
		"sessions that begin to listen at once": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Simple: "unlisten *"}, {Simple: "listen \"%o\""}, {Simple: "select '%m', 1"}}},
			{Name: "c1", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Simple: "unlisten *"}, {Simple: "listen \"%o\""}, {Simple: "select '%m', 1"}}},
			{Name: "c2", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Simple: "unlisten *"}, {Simple: "listen \"%o\""}, {Simple: "select '%m', 1"}}},
		}},
		"UNLISTEN and NOTIFY in one pipeline": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Calls: []Call{{Parse: "unlisten \"%o\""}, {Parse: "notify \"%o\", '%m'"}}}, {Simple: "select '%m', 1"}}},
		}},
		"what a failed COPY undid is not told to who listens": {Knobs: alone, Scripts: []Script{
			{Name: "c0", User: "app", Options: map[string]string{"application_name": "t1"}, Steps: []Step{{Simple: "listen \"%o\""}, {Wait: 40 * time.Millisecond, Simple: "copy items from stdin"}}},
			{Name: "c1", User: "app", Steps: []Step{{Simple: "listen \"%o\""}, {Wait: 20 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}}},
		}},
		"DISCARD ALL before what may draw": {Knobs: plain, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "declare c cursor with hold for select '%m', 1"}, {Calls: []Call{{Parse: "discard all"}, {Name: "s1", Parse: "select $1::text, *, $2::text from \"t %o\"", Args: []string{"%m", "%o"}}}}}},
		}},
		"a statement that made room in an aborted transaction": {Knobs: few, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "select pg_advisory_lock(3)"},
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, 1", Args: []string{"%m"}}}},
				{Calls: []Call{{Name: "s1", Parse: "select $1::text, 2", Args: []string{"%m"}}}},
				{Simple: "begin"}, {Simple: "select '%m', 1/0"},
				{Calls: []Call{{Parse: "select $1::text, 3", Args: []string{"%m"}}, {Name: "s2", Parse: "select $1::text, 4", Args: []string{"%m"}}}},
				{Simple: "rollback"},
				{Calls: []Call{{Name: "s0", Args: []string{"%m"}}}},
			}},
		}},
		"settings that are set again in front of SET TRANSACTION": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "reset application_name"},
				{Simple: "set transaction isolation level repeatable read; declare c cursor for select '%m', id from items where owner = '%o'; commit"},
			}},
			{Name: "c1", User: "app", Options: map[string]string{"application_name": "t1"}, Steps: []Step{
				{Simple: "begin"}, {Simple: "reset application_name"}, {Simple: "set search_path = s2, \"$user\", public"},
				{Simple: "set transaction isolation level repeatable read"}, {Simple: "insert into items values ('%o', 1, 't1', '%m')"}, {Simple: "show application_name"}, {Simple: "rollback"},
			}},
			{Name: "c2", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "set search_path = s2, \"$user\", public"}, {Simple: "show search_path"},
				{Simple: "set transaction isolation level serializable"}, {Simple: "select '%m', name from places"}, {Simple: "show search_path"}, {Simple: "commit"}, {Simple: "show search_path"},
			}},
		}},
		"modes that AND CHAIN passed on, behind an error": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin read only"}, {Simple: "commit and chain"}, {Simple: "select '%m', 1/0"}, {Simple: "commit and chain"},
				{Simple: "update items set v = '%m' where owner = '%o'"}, {Simple: "rollback"},
				{Simple: "begin read only"}, {Simple: "rollback and chain"}, {Simple: "set transaction isolation level repeatable read"}, {Simple: "insert into log values ('%m')"},
				{Simple: "rollback and chain"}, {Simple: "show transaction_isolation"}, {Simple: "show transaction_read_only"}, {Simple: "rollback"},
				{Simple: "begin read only"}, {Simple: "select nosuch"}, {Simple: "commit and chain"}, {Simple: "show transaction_read_only"}, {Simple: "rollback"},
			}},
		}},
		"rows that COMMIT AND CHAIN kept before the server was lost": {Knobs: alone, Events: []Event{{At: 300 * time.Millisecond, Do: Reset, On: "primary", For: 100 * time.Millisecond}}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "insert into log values ('%m')", Check: appends}, {Simple: "commit and chain"}, {Wait: 500 * time.Millisecond, Simple: "delete from items where owner = '%o'"},
				{Simple: "rollback"}, {Wait: time.Second, Simple: "select who from log", Check: observes},
			}},
		}},
		"a portal in a transaction that could leave its replica": {Seed: 2031649, Knobs: Knobs{Replicas: 1, PoolSize: 2, Consistency: "session", Declared: true, Delay: 100 * time.Microsecond}, Scripts: []Script{
			{Name: "c0", User: "clerk", Steps: []Step{
				{Simple: "begin"}, {Simple: "select '%m', length('%l')"},
				{Wait: 7242600 * time.Nanosecond, Calls: []Call{
					{Parse: "select $1::text, length($2::text)", Args: []string{"%m", "%l"}}, {Parse: "select $1::text, id, v from items where owner = $2 order by id", Args: []string{"%m", "%o"}, Rows: 1},
				}},
			}},
		}},
		"a string in a failed transaction that cannot leave its replica": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin isolation level repeatable read read only"}, {Simple: "declare c cursor for select '%m', id from items where owner = '%o'"},
				{Simple: "select '%m', set_tenant('t2')"}, {Simple: "select nosuch"},
				{Simple: "select '%m', set_tenant('t2'); delete from items where owner = '%o' and id = 1 and v <> '%m'"}, {Simple: "select '%m', 1; rollback"},
				{Simple: "rollback; select '%m', id, tenant, v from items where owner = '%o' order by id"}, {Simple: "insert into log values ('%m')", Check: appends},
			}},
		}},
		"a portal that is not there, or has run, beside what is for the primary": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Calls: []Call{{Parse: "begin"}}}, {Simple: "select '%m', 1"}, {Calls: []Call{{Again: true, Rows: 1}, {Parse: "drop table tt"}}}, {Simple: "rollback"},
				{Simple: "begin"}, {Simple: "select '%m', 2"}, {Calls: []Call{{Again: true}, {Parse: "insert into log values ($1)", Args: []string{"%m"}}}}, {Simple: "rollback"},
			}},
		}},
		"a portal nobody knows in a failed transaction, which leaves its replica then": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "select '%m', 1"}, {Simple: "select nosuch"}, {Calls: []Call{{Again: true, Rows: 1}}}, {Calls: []Call{{Parse: "commit"}, {Parse: "listen \"%o\""}}},
			}},
		}},
		"a write behind COMMIT and BEGIN in one string": {Knobs: Knobs{Replicas: 1, PoolSize: 8, Consistency: "session", Wait: 100 * time.Millisecond, Lag: 30 * time.Millisecond, Delay: time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "set app.tenant = 't1'"}, {Simple: "commit; begin; insert into items values ('%o', 2, 't1', '%m')"}, {Wait: 200 * time.Millisecond, Simple: "insert into log values ('%m')", Check: appends}, {Simple: "savepoint a"},
				{Wait: 250 * time.Millisecond, Simple: "rollback to a"}, {Simple: "commit"},
				{Simple: "select '%m', id, tenant, v from items where owner = '%o' order by id"},
			}},
		}},
		"a snapshot taken by what reads no table": {Knobs: Knobs{Replicas: 1, PoolSize: 2, Consistency: "database", Declared: true, Lag: 30 * time.Millisecond, Delay: time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "set app.tenant = 't1'"}, {Simple: "insert into items values ('%o', 90, 't1', '%m')"}, {Simple: "begin isolation level repeatable read read only"},
				{Simple: "select '%m', current_setting('app.tenant', true), current_setting('app.other', true), current_user, session_user"},
				{Simple: "select '%m', id, tenant, v from items where owner = '%o' order by id"}, {Simple: "commit"},
			}},
		}},
		"a portal in a failed transaction, which is ended behind it": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "clerk", Steps: []Step{
				{Calls: []Call{{Parse: "begin isolation level repeatable read read only"}, {Parse: "select $1::text, id, v from items where owner = $2 order by id", Args: []string{"%m", "%o"}}}},
				{Simple: "select nosuch"}, {Calls: []Call{{Again: true}, {Parse: "commit"}, {Parse: "insert into log values ($1)", Args: []string{"%m"}}}}, {Simple: "rollback"},
			}},
		}},
		"UNLISTEN among other statements": {Knobs: alone, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Calls: []Call{{Parse: "listen \"%o\""}}}, {Simple: "unlisten \"%o\"; set transaction read only; reset role"}, {Simple: "select pg_notify('%o', '%m')"},
			}},
			{Name: "c1", User: "app", Steps: []Step{
				{Calls: []Call{{Parse: "listen \"%o\""}}}, {Simple: "unlisten *; set application_name = 'x'"}, {Simple: "select pg_notify('%o', '%m')"},
			}},
		}},
		"a connection that falls silent once it has logged in": {Knobs: Knobs{PoolSize: 1, Consistency: "strong", Declared: true, Delay: 100 * time.Microsecond, Acquire: 20 * time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "select '%m', id, tenant, v from items where owner = '%o' order by id"}}},
			{Name: "c1", User: "clerk", Steps: []Step{{Simple: "insert into log values ('%m')", Check: appends}}},
			{Name: "c2", User: "app", Steps: []Step{{Simple: "insert into log values ('%m')", Check: appends}}},
		}, Faults: []Fault{{From: proxyHost, To: serverName(0), Nth: 6, Byte: 106, Kind: Silence}}},
		"a connection lost while what ran there is in doubt": {Knobs: Knobs{PoolSize: 2, Consistency: "database", Delay: 5 * time.Millisecond}, Events: []Event{{At: 190 * time.Millisecond, Do: Reset, On: "primary"}}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Calls: []Call{{Parse: "create table \"t %o\"(a text)"}, {Parse: "select $1::text, *, $2::text from \"t %o\" order by 2", Args: []string{"%m", "%o"}}}}}},
		}},
		"what a statement has defined whose transaction is rolled back on a replica, and goes on elsewhere": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin isolation level repeatable read read only"}, {Simple: whoami}, {Simple: "select '%m', set_config('app.other', 't2', false)"},
				{Simple: "rollback and chain"}, {Simple: "select '%m', set_tenant('t1')"}, {Simple: whoami}, {Simple: "rollback"}, {Simple: whoami},
			}},
		}},
		"a portal run once more on a replica, before a write": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Calls: []Call{{Parse: "select set_config($1, $2, $3)", Args: []string{"app.tenant", "t3", "t"}}}},
				{Calls: []Call{{Again: true, Rows: 1}, {Parse: "select set_tenant('t1')"}}}, {Simple: "insert into log values ('%m')", Check: appends},
			}},
		}},
		"an aborted transaction whose end is bound before a Flush, and run behind it": {Knobs: replicated, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Simple: "select nosuch"},
				{Calls: []Call{{Parse: "commit", Apart: true}, {Parse: "insert into log values ('%m')"}}, Check: appends},
			}},
		}},
		"a declared setting that a function has set in a transaction that has to stay on its replica, while there was no catalog": {Knobs: Knobs{Replicas: 1, PoolSize: 8, Consistency: "database", Wait: 100 * time.Millisecond, Declared: true, Async: true, Delay: 5 * time.Millisecond}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin isolation level repeatable read read only"}, {Simple: whoami}, {Simple: "select '%m', set_tenant('t1')"}, {Simple: "commit"}, {Simple: whoami},
			}},
		}, Faults: []Fault{{From: proxyHost, To: serverName(0), Nth: 1, Kind: Refused}}},
		"parameters that were told before names meant something else, and the statement was parsed anew": {Knobs: alone, Scripts: []Script{
			{Name: "c0", User: "app", Options: map[string]string{"search_path": "s2"}, Steps: []Step{
				{Calls: []Call{{Name: "s0", Parse: "select $1::text, n from sizes where n <> $2 order by n", Only: true}}}, {Simple: "set search_path = public"},
				{Calls: []Call{{Name: "s0", Args: []string{"%m", "%o"}}}},
			}},
		}},
		"a transaction lost that called what nobody knew, as there was no catalog": {Knobs: Knobs{PoolSize: 1, Consistency: "database", Declared: true, Delay: 5 * time.Millisecond}, Events: []Event{
			{At: 117 * time.Millisecond, Do: Crash, On: "primary", For: 2225 * time.Millisecond}, {At: 2722 * time.Millisecond, Do: Reset, On: "primary", For: time.Second},
		}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{
				{Simple: "begin"}, {Wait: 411 * time.Millisecond, Simple: "select set_tenant('t1')"}, {Wait: 493 * time.Millisecond, Simple: "insert into orders(owner) values ('%o') returning owner"}, {Simple: "select '%m', set_tenant('t2')"},
			}},
		}},
		"a login whose time ends while it dials": {Knobs: far, Events: []Event{{Do: Crash, On: "primary", For: 28 * time.Second}}, Scripts: []Script{
			{Name: "c0", User: "app", Steps: []Step{{Simple: "select '%m', 1"}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range Seed(10) {
				h.Seed = seed
				judge(t, &h)
			}
		})
	}
}
