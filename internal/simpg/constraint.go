package simpg

import (
	"slices"
	"strings"
)

// checkRow checks NOT NULL and the policies.
func (t *target) checkRow(e *env, row []datum) {
	in := &env{se: e.se, st: e.st, row: append(slices.Clone(row), nil)}
	if t.check != nil && !t.check(in) {
		raise("42501", `new row violates row-level security policy for table "%s"`, t.r.name)
	}
	for i, c := range t.r.columns {
		if c.notNull && row[i] == nil {
			er := failure("23502", `null value in column "%s" of relation "%s" violates not-null constraint`, c.name, t.r.name)
			er.Detail = t.failing(row)
			er.Schema, er.Table, er.Column = t.r.schema, t.r.name, c.name
			panic(er)
		}
	}
	for i, rule := range t.rules {
		if rule(in) == false {
			er := failure("23514", `new row for relation "%s" violates check constraint "%s"`, t.r.name, t.r.checks[i].name)
			er.Detail = t.failing(row)
			er.Schema, er.Table, er.Constraint = t.r.schema, t.r.name, t.r.checks[i].name
			panic(er)
		}
	}
}

// failing is the detail of what is wrong with a row, if the user may know it.
func (t *target) failing(row []datum) string {
	if !t.a.exempt(t.r) {
		return ""
	}
	return "Failing row contains " + rowText(row) + "."
}

func rowText(row []datum) string {
	parts := make([]string, len(row))
	for i, d := range row {
		if parts[i] = "null"; d != nil {
			parts[i] = output(d)
		}
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// conflict checks a new row against the keys: it waits for whoever else is about to have
// the same. It returns the row that is there already; without ignore that is an error.
func (t *target) conflict(se *session, row []datum, id int64, ignore bool) *row {
	for _, k := range t.r.keys {
		if k.deferred {
			se.tx.deferred = append(se.tx.deferred, func() { t.duplicate(se, k, row, id) })
			continue
		}
		vals, null := keyOf(k, row)
		if null {
			continue
		}
		se.lock(keyValue{se.database, t.r.key(), k.name, rowKey(vals)}, lockExclusive, false, false)
		t.awaitHolder(se, k, row, id)
		if ignore {
			if o := t.holder(se, k, row, id); o != nil {
				return o
			}
			continue
		}
		t.duplicate(se, k, row, id)
	}
	return nil
}

func keyOf(k key, r []datum) (vals []datum, null bool) {
	for _, c := range k.columns {
		vals = append(vals, r[c])
		null = null || r[c] == nil
	}
	return vals, null
}

// holder is another row with the same key, of what is committed or the transaction's own.
func (t *target) holder(se *session, k key, r []datum, id int64) *row {
	_, null := keyOf(k, r)
	rel := se.latest().databases[se.database].relations[t.r.key()]
	if null || rel == nil {
		return nil
	}
	for i := range rel.rows {
		o := &rel.rows[i]
		if o.id != id && !slices.ContainsFunc(k.columns, func(c int) bool { return o.vals[c] == nil || compare(o.vals[c], r[c]) != 0 }) {
			return o
		}
	}
	return nil
}

// awaitHolder waits for who is changing the row that has the key.
func (t *target) awaitHolder(se *session, k key, r []datum, id int64) {
	for {
		o := t.holder(se, k, r, id)
		if o == nil {
			return
		}
		what := rowID{se.database, t.r.key(), o.id}
		i := slices.IndexFunc(se.server.locks[what], func(l rowLock) bool { return l.owner != se && l.owner.changedByOwn(t.r.key(), o.id) })
		if i < 0 {
			return
		}
		owner, tx := se.server.locks[what][i].owner, se.server.locks[what][i].owner.tx.id
		se.waitFor(owner, func() bool { return owner.tx.id != tx || !owner.changedByOwn(t.r.key(), o.id) })
	}
}

func (t *target) duplicate(se *session, k key, r []datum, id int64) {
	if rel := se.latest().databases[se.database].relations[t.r.key()]; k.deferred && (rel == nil || rel.row(id) < 0) {
		return // the row itself is gone
	}
	if t.holder(se, k, r, id) == nil {
		return
	}
	e := failure("23505", `duplicate key value violates unique constraint "%s"`, k.name)
	var names []string
	vals, _ := keyOf(k, r)
	for _, c := range k.columns {
		names = append(names, t.r.columns[c].name)
	}
	if t.a.exempt(t.r) {
		e.Detail = "Key (" + strings.Join(names, ", ") + ")=" + rowText(vals) + " already exists."
	}
	e.Schema, e.Table, e.Constraint = t.r.schema, t.r.name, k.name
	panic(e)
}
