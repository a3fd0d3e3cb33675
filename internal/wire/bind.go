package wire

import "encoding/binary"

// Parameter is a parameter of a Bind as it came; a nil Value is NULL.
type Parameter struct {
	Value  []byte // within the frame
	Binary bool
}

// BindParameters reads the parameters of a Bind from what follows its names; nil if it
// is malformed.
func BindParameters(rest []byte) []Parameter {
	formats, rest, ok := take16(rest)
	if !ok || len(rest) < 2*formats {
		return nil
	}
	codes, rest := rest[:2*formats], rest[2*formats:]
	n, rest, ok := take16(rest)
	if !ok {
		return nil
	}
	list := make([]Parameter, n)
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
			list[i].Value, rest = rest[:size], rest[size:]
		}
		switch {
		case formats == 1:
			list[i].Binary = codes[1] == 1
		case i < formats:
			list[i].Binary = codes[2*i+1] == 1
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
