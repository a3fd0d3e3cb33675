package batch

import (
	"encoding/binary"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// BoundParameters are the parameters of a Bind, what follows its names, for a statement
// that sets settings. types are those its Parse declared.
func BoundParameters(rest, types []byte) []router.Argument {
	list := wire.BindParameters(rest)
	params := make([]router.Argument, len(list))
	for i, b := range list {
		// Text and binary are the same bytes, or differ enough (true).
		params[i].Value, params[i].Null = string(b.Value), b.Value == nil
		params[i].Text, params[i].Bool = declared(types, i)
	}
	return params
}

// declared reports whether a Parse left parameter i to be inferred, or said that it is
// of a type text or boolean.
func declared(types []byte, i int) (text, boolean bool) {
	at := 2 + 4*i
	if len(types) < at+4 {
		return true, true
	}
	switch binary.BigEndian.Uint32(types[at:]) {
	case 0:
		return true, true
	case 25, 1043, 705: // text, varchar, unknown
		return true, false
	case 16:
		return false, true
	}
	return false, false
}
