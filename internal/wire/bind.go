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
	codes, n, rest, ok := bindFormats(rest)
	if !ok {
		return nil
	}
	list := make([]Parameter, n)
	for i := range list {
		if list[i].Value, rest, ok = nextValue(rest); !ok {
			return nil
		}
		list[i].Binary = isBinary(codes, i)
	}
	return list
}

// BindCount reads how many parameters there are, which stands before them. ok is whether that
// and the format codes are there, and agree.
func BindCount(rest []byte) (n int, ok bool) {
	codes, n, _, ok := bindFormats(rest)
	return n, ok && (len(codes) <= 2 || len(codes) == 2*n)
}

// BindParameter reads the one at index i; ok is whether there is one.
func BindParameter(rest []byte, i int) (p Parameter, ok bool) {
	codes, n, rest, ok := bindFormats(rest)
	if !ok || i >= n {
		return Parameter{}, false
	}
	for range i + 1 {
		if p.Value, rest, ok = nextValue(rest); !ok {
			return Parameter{}, false
		}
	}
	p.Binary = isBinary(codes, i)
	return p, true
}

// bindFormats are the format codes and the number of parameters, which follow.
func bindFormats(rest []byte) (codes []byte, n int, values []byte, ok bool) {
	formats, rest, ok := take16(rest)
	if !ok || len(rest) < 2*formats {
		return nil, 0, nil, false
	}
	codes = rest[:2*formats]
	n, values, ok = take16(rest[2*formats:])
	return codes, n, values, ok
}

// isBinary tells the format of parameter i: one code is for all, none is text.
func isBinary(codes []byte, i int) bool {
	if len(codes) == 2 {
		i = 0
	}
	return 2*i+1 < len(codes) && codes[2*i+1] == 1
}

func nextValue(b []byte) (value, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	size := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case size < 0:
		return nil, b, true
	case int(size) > len(b):
		return nil, nil, false
	}
	return b[:size], b[size:], true
}

func take16(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b)), b[2:], true
}
