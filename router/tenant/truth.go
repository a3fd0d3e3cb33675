package tenant

// truth is what a condition may come to for a row that nothing is known of: any of
// the three values in it. None at all means that evaluating it fails.
type truth struct {
	yes, no, null bool
	// bound: it is true only for rows of a tenant that the session or a constant names.
	// It goes with yes only.
	bound bool
}

var (
	nullTruth = truth{null: true}
	anyTruth  = truth{yes: true, no: true, null: true}
	// boundTruth is an equality of the tenant column with a tenant.
	boundTruth = truth{yes: true, no: true, null: true, bound: true}
)

func truthOf(b bool) truth { return truth{yes: b, no: !b} }

func (t truth) fails() bool { return !t.yes && !t.no && !t.null }

// rows is which rows such a condition lets through.
func (t truth) rows() rowCheck {
	switch {
	case !t.yes:
		return rowsNone
	case t.bound:
		return rowsBound
	case !t.no && !t.null:
		return rowsAll
	}
	return rowsUnsure
}

func (t truth) not() truth { return truth{yes: t.no, no: t.yes, null: t.null} }

// and is t AND o. Where one side fails the other may have been looked at first, and
// decide; for rows where it does not, null stands for the failure.
func (t truth) and(o truth) truth {
	switch {
	case t.fails():
		return truth{no: o.no, null: o.no && (o.yes || o.null)}
	case o.fails():
		return o.and(t)
	}
	return truth{
		yes: t.yes && o.yes, no: t.no || o.no,
		null:  t.null && (o.null || o.yes) || o.null && t.yes,
		bound: t.yes && o.yes && (t.bound || o.bound),
	}
}

// boundBoth reports whether what either is true for is bound.
func boundBoth(t, o truth) bool {
	return (t.yes || o.yes) && (t.bound || !t.yes) && (o.bound || !o.yes)
}

// or is t OR o.
func (t truth) or(o truth) truth {
	switch {
	case t.fails():
		return truth{yes: o.yes, null: o.yes && (o.no || o.null), bound: o.bound}
	case o.fails():
		return o.or(t)
	}
	return truth{
		yes: t.yes || o.yes, no: t.no && o.no,
		null:  t.null && (o.null || o.no) || o.null && t.no,
		bound: boundBoth(t, o),
	}
}

// either is one of both, by what is not known.
func (t truth) either(o truth) truth {
	return truth{
		yes: t.yes || o.yes, no: t.no || o.no, null: t.null || o.null,
		bound: boundBoth(t, o),
	}
}

// equals is t = o of two conditions.
func (t truth) equals(o truth) truth {
	switch {
	case t == nullTruth || o == nullTruth:
		return nullTruth // whether the other fails or not
	case t.fails() || o.fails():
		return truth{}
	case o == truthOf(true):
		return t
	case t == truthOf(true):
		return o
	}
	return truth{
		yes:  t.yes && o.yes || t.no && o.no,
		no:   t.yes && o.no || t.no && o.yes,
		null: t.null || o.null,
	}
}

// orElse is COALESCE(t, o).
func (t truth) orElse(o truth) truth {
	if !t.null {
		return t
	}
	known := t
	known.null = false
	return known.either(o)
}

// asks is t IS [NOT] TRUE and the like: true for the values in wanted.
func (t truth) asks(wanted truth) truth {
	return truth{
		yes:   t.yes && wanted.yes || t.no && wanted.no || t.null && wanted.null,
		no:    t.yes && !wanted.yes || t.no && !wanted.no || t.null && !wanted.null,
		bound: t.bound && wanted == truth{yes: true}, // IS TRUE
	}
}
