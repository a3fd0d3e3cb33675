package simpg

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/internal/setting"
)

// builtins are the functions that every database has, by name. Their OIDs and volatility
// are in catalog.txt, from PostgreSQL.
var builtins map[string][]builtin

func init() { // they refer to what refers to them
	builtins = ordinary()
	addAdvisory(builtins)
}

func ordinary() map[string][]builtin {
	text, b := typText, typBool
	return map[string][]builtin{
		"set_config": {{args: []uint32{text, text, b}, returns: text, nulls: true, f: setConfig}},
		"current_setting": {
			{args: []uint32{text}, returns: text, f: func(se *session, a []datum) datum { return se.currentSetting(a[0].(string), false) }},
			{args: []uint32{text, b}, returns: text, f: func(se *session, a []datum) datum { return se.currentSetting(a[0].(string), a[1].(bool)) }},
		},
		"pg_backend_pid":           {{returns: typInt4, f: func(se *session, _ []datum) datum { return int64(se.pid) }}},
		"to_regproc":               {{args: []uint32{text}, returns: text, f: func(*session, []datum) datum { return nil }}}, // it is asked for other flavours only
		"pg_postmaster_start_time": {{returns: typTimestamp, f: func(se *session, _ []datum) datum { return se.server.began }}},
		"date_part":                {{args: []uint32{text, typTimestamp}, returns: typFloat8, f: datePart}},
		"pg_is_in_recovery":        {{returns: b, f: func(se *session, _ []datum) datum { return se.server.recovering() }}},
		"version":                  {{returns: text, f: func(se *session, _ []datum) datum { return "PostgreSQL " + se.set.is("server_version") + " (simpg)" }}},
		"current_database":         {{returns: typName, f: func(se *session, _ []datum) datum { return se.database }}},
		"current_schema":           {{returns: typName, f: func(se *session, _ []datum) datum { return se.creationSchema() }}},
		"pg_my_temp_schema":        {{returns: typOID, f: func(se *session, _ []datum) datum { return int64(se.tempOID()) }}},
		"pg_client_encoding":       {{returns: typName, f: func(se *session, _ []datum) datum { return se.set.is("client_encoding") }}},
		"has_parameter_privilege": {{args: []uint32{typName, text, text}, returns: b, f: func(se *session, a []datum) datum {
			g := gucs[setting.Fold(a[1].(string))]
			return g == nil || g.context == "user" || se.roleOf(a[0].(string)).super
		}}},
		"pg_current_wal_insert_lsn": {{returns: typLSN, f: func(se *session, _ []datum) datum { return se.primaryLSN("pg_current_wal_insert_lsn") }}},
		"pg_current_wal_lsn":        {{returns: typLSN, f: func(se *session, _ []datum) datum { return se.primaryLSN("pg_current_wal_lsn") }}},
		"pg_current_wal_flush_lsn":  {{returns: typLSN, f: func(se *session, _ []datum) datum { return se.primaryLSN("pg_current_wal_flush_lsn") }}},
		"pg_last_wal_replay_lsn": {{returns: typLSN, f: func(se *session, _ []datum) datum {
			if !se.server.recovering() {
				return nil
			}
			return se.server.now().end.String()
		}}},
		"pg_sleep": {{args: []uint32{typFloat8}, returns: typVoid, f: func(se *session, a []datum) datum {
			se.sleep(time.Duration(a[0].(float64) * float64(time.Second)))
			return ""
		}}},
		"txid_current":         {{returns: typInt8, volatile: true, f: transactionID}},
		"pg_current_xact_id":   {{returns: typInt8, volatile: true, f: transactionID}},
		"pg_notify":            {{args: []uint32{text, text}, returns: typVoid, nulls: true, f: func(se *session, a []datum) datum { se.notifies(output(a[0]), output(a[1])); return "" }}},
		"pg_cancel_backend":    {{args: []uint32{typInt4}, returns: b, f: func(se *session, a []datum) datum { return se.signals(a[0], nil, errCanceled) }}},
		"pg_terminate_backend": {{args: []uint32{typInt4}, returns: b, f: func(se *session, a []datum) datum { return se.signals(a[0], errShutdown, nil) }}},
		"nextval":              {{args: []uint32{text}, returns: typInt8, volatile: true, f: func(se *session, a []datum) datum { return se.nextval(a[0].(string)) }}},
		"currval":              {{args: []uint32{text}, returns: typInt8, f: func(se *session, a []datum) datum { return se.currval(a[0].(string)) }}},
		"lastval":              {{returns: typInt8, f: func(se *session, _ []datum) datum { return se.lastval() }}},
		"setval":               {{args: []uint32{text, typInt8}, returns: typInt8, volatile: true, f: func(se *session, a []datum) datum { return se.setval(a[0].(string), a[1].(int64)) }}},
		"lower":                {{args: []uint32{text}, returns: text, f: func(_ *session, a []datum) datum { return strings.ToLower(a[0].(string)) }}},
		"upper":                {{args: []uint32{text}, returns: text, f: func(_ *session, a []datum) datum { return strings.ToUpper(a[0].(string)) }}},
		"length":               {{args: []uint32{text}, returns: typInt4, f: func(_ *session, a []datum) datum { return int64(len([]rune(a[0].(string)))) }}},
		"repeat":               {{args: []uint32{text, typInt4}, returns: text, f: func(_ *session, a []datum) datum { return strings.Repeat(a[0].(string), int(max(0, a[1].(int64)))) }}},
		"abs":                  {{args: []uint32{typInt4}, returns: typInt4, f: func(_ *session, a []datum) datum { return max(a[0].(int64), -a[0].(int64)) }}},
		"concat":               {{args: []uint32{0}, variadic: true, returns: text, nulls: true, f: concat}},
		"quote_literal":        {{args: []uint32{text}, returns: text, f: func(_ *session, a []datum) datum { return "'" + strings.ReplaceAll(a[0].(string), "'", "''") + "'" }}},
		"decode":               {{args: []uint32{text, text}, returns: typBytea, f: func(_ *session, a []datum) datum { v, _ := hex.DecodeString(a[0].(string)); return string(v) }}},
		"convert_from":         {{args: []uint32{typBytea, typName}, returns: text, f: func(_ *session, a []datum) datum { return a[0] }}},
		"pg_size_bytes": {{args: []uint32{text}, returns: typInt8, f: func(_ *session, a []datum) datum {
			g := &guc{kind: 'i', unit: "B"}
			return input(g.integer(a[0].(string), func(string) { raise("22023", `invalid size: "%s"`, a[0]) }), typInt8)
		}}},
		"hashtext":        {{args: []uint32{text}, returns: typInt4, f: func(_ *session, a []datum) datum { return int64(hashText(a[0].(string))) }}},
		"random":          {{returns: typFloat8, f: func(se *session, _ []datum) datum { return se.rand.Float64() }}},
		"now":             {{returns: typTimestamp, f: func(se *session, _ []datum) datum { return se.server.cluster.clock() }}},
		"clock_timestamp": {{returns: typTimestamp, f: func(se *session, _ []datum) datum { return se.server.cluster.clock() }}},
	}
}

// datePart is date_part of an instant; it has the epoch only.
func datePart(_ *session, a []datum) datum {
	if a[0] != "epoch" {
		raise("0A000", "simpg: date_part of %v is not modelled", a[0])
	}
	return float64(a[1].(time.Time).UnixMicro()) / 1e6
}

// addAdvisory adds the functions of advisory locks.
func addAdvisory(builtins map[string][]builtin) {
	b := typBool
	for _, xact := range []bool{false, true} {
		for _, shared := range []bool{false, true} {
			for _, try := range []bool{false, true} {
				name := "pg_" + map[bool]string{true: "try_"}[try] + "advisory_" + map[bool]string{true: "xact_"}[xact] + "lock" + map[bool]string{true: "_shared"}[shared]
				builtins[name] = advisoryCalls(func(se *session, k advisoryKey) datum {
					if got := se.advisory(k, xact, shared, try); try {
						return got
					}
					return ""
				}, map[bool]uint32{true: b, false: typVoid}[try])
			}
		}
	}
	for _, shared := range []bool{false, true} {
		builtins["pg_advisory_unlock"+map[bool]string{true: "_shared"}[shared]] = advisoryCalls(func(se *session, k advisoryKey) datum {
			done := se.advisoryUnlock(k, shared)
			if !done {
				se.notice(&Error{Severity: "WARNING", Code: "01000", Message: "you don't own a lock of type " + map[bool]string{true: "Share", false: "Exclusive"}[shared] + "Lock"})
			}
			return done
		}, b)
	}
	builtins["pg_advisory_unlock_all"] = []builtin{{returns: typVoid, f: func(se *session, _ []datum) datum {
		for k, l := range se.server.advisory {
			if h := l.holders[se]; h != nil {
				h.session, h.shared = 0, 0
				se.server.dropAdvisory(k, se)
			}
		}
		return ""
	}}}
}

func advisoryCalls(f func(se *session, k advisoryKey) datum, returns uint32) []builtin {
	return []builtin{
		{args: []uint32{typInt8}, returns: returns, f: func(se *session, a []datum) datum { return f(se, advisoryKey{low: a[0].(int64)}) }},
		{args: []uint32{typInt4, typInt4}, returns: returns, f: func(se *session, a []datum) datum {
			return f(se, advisoryKey{high: a[0].(int64), low: a[1].(int64), two: true})
		}},
	}
}

func concat(_ *session, a []datum) datum {
	var out strings.Builder
	for _, d := range a {
		if d != nil {
			out.WriteString(output(d))
		}
	}
	return out.String()
}

// setConfig is set_config: NULL returns a setting to its default.
func setConfig(se *session, a []datum) datum {
	if a[0] == nil {
		raise("22004", "SET requires parameter name")
	}
	name := a[0].(string)
	local := a[2] == true
	if a[1] == nil {
		se.assign(name, "", true, local)
	} else {
		se.assign(name, a[1].(string), false, local)
	}
	return se.currentSetting(name, false)
}

// currentSetting is a setting as SHOW shows it.
func (se *session) currentSetting(name string, missingOK bool) datum {
	low := setting.Fold(name)
	if _, ok := se.set.value(low); !ok {
		if missingOK {
			return nil
		}
		raise("42704", `unrecognized configuration parameter "%s"`, name)
	}
	return se.shown(low)
}

// primaryLSN is one of the locations that only a primary knows.
func (se *session) primaryLSN(name string) datum {
	s := se.server
	if s.recovering() {
		e := failure("55000", "recovery is in progress")
		e.Hint = "WAL control functions cannot be executed during recovery."
		panic(e)
	}
	at := s.now().end
	if name != "pg_current_wal_insert_lsn" {
		at = s.log[s.flushedTo(s.cluster.clock())-1].end
	}
	return at.String()
}

func transactionID(se *session, _ []datum) datum {
	return int64(se.tx.id)
}

func (se *session) signals(pid datum, end, cancel *Error) datum {
	for _, o := range se.server.sessions {
		if int64(o.pid) != pid.(int64) {
			continue
		}
		if o == se && end == nil {
			panic(errCanceled)
		}
		o.signal(end, cancel)
		if o == se {
			panic(end)
		}
		return true
	}
	se.notice(&Error{Severity: "WARNING", Code: "01000", Message: fmt.Sprintf("PID %d is not a PostgreSQL server process", pid)})
	return false
}

// refuseReadOnly refuses what writes in a read-only transaction and on a standby.
func (se *session) refuseReadOnly(what string) {
	if se.server.recovering() || se.tx.modes.readOnly {
		raise("25006", "cannot execute %s in a read-only transaction", what)
	}
}

// channels are those the session listens to.
func (se *session) channels() (list []string) {
	for ch := range se.heard {
		list = append(list, ch)
	}
	slices.Sort(list)
	return list
}
