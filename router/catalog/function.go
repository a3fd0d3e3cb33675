package catalog

// function is one row of pg_proc: what it says of itself.
type function struct {
	oid          uint32
	schema, name string
	volatility   byte // i, s or v
	kind         byte // f, p, a or w
	language     string
	extension    string // whose member it is
	unheard      bool   // of a PostgreSQL newer than this program, and not immutable
}

// builtin reports whether PostgreSQL was born with it.
func (f *function) builtin() bool { return f.oid < firstUserOID }

// listed is the extension the lists name f under.
func (f *function) listed() (extension string, ok bool) {
	return f.extension, f.builtin() || f.extension != ""
}

// keptFromReplica says why f must run on the primary, as far as its own row of
// pg_proc shows; empty if nothing does.
func (f *function) keptFromReplica() string {
	extension, ok := f.listed()
	if ok {
		if reason, is := known.primary.reason(extension, f.name); is {
			return reason
		}
	}
	switch {
	case f.kind == 'p':
		return "procedure"
	case f.unheard:
		return "function of a newer PostgreSQL"
	case f.volatility != 'v':
		return ""
	case ok:
		if _, is := known.harmless.reason(extension, f.name); is {
			return ""
		}
	}
	return "volatile"
}

// mayLeaveState says why f is not clean, as far as its own row shows.
func (f *function) mayLeaveState() string {
	extension, ok := f.listed()
	if ok {
		if reason, is := known.state.reason(extension, f.name); is {
			return reason
		}
	}
	switch {
	case f.unheard:
		return "function of a newer PostgreSQL"
	case f.builtin(), f.kind == 'a', f.kind == 'w':
		return "" // an aggregate is what its functions are
	case f.language == "sql", f.language == "plpgsql", f.language == "internal":
		return "" // its source is looked at
	case f.language == "c" && (f.volatility == 'i' || known.clean[extension] && extension != ""):
		return ""
	case f.language == "c":
		return "written in C"
	}
	return "written in " + f.language
}
