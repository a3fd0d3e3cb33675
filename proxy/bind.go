package proxy

import (
	"encoding/binary"

	"github.com/pgweir/pgweir/router"
)

// bound is a parameter of a Bind as it came; a nil value is NULL.
type bound struct {
	value  []byte
	binary bool
}

// bindValues are the parameters of a Bind, what follows its names; nil if it is malformed.
func bindValues(rest []byte) []bound {
	formats, rest, ok := take16(rest)
	if !ok || len(rest) < 2*formats {
		return nil
	}
	codes, rest := rest[:2*formats], rest[2*formats:]
	n, rest, ok := take16(rest)
	if !ok {
		return nil
	}
	list := make([]bound, n)
	for i := range list {
		if len(rest) < 4 {
			return nil
		}
		size := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if size >= 0 {
			if int(size) > len(rest) {
				return nil
			}
			list[i].value, rest = rest[:size], rest[size:]
		}
		switch {
		case formats == 1:
			list[i].binary = codes[1] == 1
		case i < formats:
			list[i].binary = codes[2*i+1] == 1
		}
	}
	return list
}

func take16(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b)), b[2:], true
}

// boundParameters are the parameters of a Bind for what sets settings.
func boundParameters(rest, types []byte) []router.Argument {
	list := bindValues(rest)
	params := make([]router.Argument, len(list))
	for i, b := range list {
		// Text and binary are the same bytes, or differ enough (true).
		params[i].Value, params[i].Null = string(b.value), b.value == nil
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
