package wire

import "encoding/binary"

// Append functions build the frames the proxy originates; each appends one whole frame to dst.

// AppendFrame appends a frame with the body's parts joined.
func AppendFrame(dst []byte, typ byte, parts ...[]byte) []byte {
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	dst = append(dst, typ)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// begin appends a header whose length end fills in.
func begin(dst []byte, typ byte) ([]byte, int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

func end(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}

// AppendQuery appends a simple Query.
func AppendQuery(dst []byte, text string) []byte {
	dst, at := begin(dst, Query)
	dst = append(dst, text...)
	return end(append(dst, 0), at)
}

// AppendParse appends a Parse; types is the count and OIDs as ParseParts returns them, nil for none.
func AppendParse(dst []byte, name, text string, types []byte) []byte {
	dst, at := begin(dst, Parse)
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, text...)
	dst = append(dst, 0)
	if types == nil {
		dst = append(dst, 0, 0)
	}
	return end(append(dst, types...), at)
}

// AppendBind appends a Bind of the named statement to a portal; rest is as BindParts returns it, nil for no parameters.
func AppendBind(dst, portal []byte, statement string, rest []byte) []byte {
	dst, at := begin(dst, Bind)
	dst = append(dst, portal...)
	dst = append(dst, 0)
	dst = append(dst, statement...)
	dst = append(dst, 0)
	if rest == nil {
		dst = append(dst, 0, 0, 0, 0, 0, 0)
	}
	return end(append(dst, rest...), at)
}

// Lengthen has the header of a frame say that n more bytes of it follow what is there.
func Lengthen(frame []byte, n int) {
	binary.BigEndian.PutUint32(frame[1:], binary.BigEndian.Uint32(frame[1:])+uint32(n))
}

// AppendTarget appends a Describe or Close.
func AppendTarget(dst []byte, typ, kind byte, name string) []byte {
	dst, at := begin(dst, typ)
	dst = append(dst, kind)
	dst = append(dst, name...)
	return end(append(dst, 0), at)
}

// AppendExecute appends an Execute of a portal without row limit.
func AppendExecute(dst []byte, portal string) []byte {
	dst, at := begin(dst, Execute)
	dst = append(dst, portal...)
	return end(append(dst, 0, 0, 0, 0, 0), at)
}

// AppendSync appends a Sync.
func AppendSync(dst []byte) []byte { return append(dst, Sync, 0, 0, 0, 4) }

// AppendComplete appends a CommandComplete.
func AppendComplete(dst []byte, tag string) []byte {
	dst, at := begin(dst, CommandComplete)
	dst = append(dst, tag...)
	return end(append(dst, 0), at)
}

// AppendReady appends a ReadyForQuery.
func AppendReady(dst []byte, status byte) []byte {
	return append(dst, ReadyForQuery, 0, 0, 0, 5, status)
}

// AppendParameter appends a ParameterStatus.
func AppendParameter(dst []byte, name, value string) []byte {
	dst, at := begin(dst, ParameterStatus)
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, value...)
	return end(append(dst, 0), at)
}

// AppendTextDescription appends a RowDescription of text columns.
func AppendTextDescription(dst []byte, columns ...string) []byte {
	dst, at := begin(dst, RowDescription)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(columns)))
	for _, column := range columns {
		dst = append(dst, column...)
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0) // no table, no column
		dst = binary.BigEndian.AppendUint32(dst, 25)
		dst = append(dst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0) // variable size, no modifier, text format
	}
	return end(dst, at)
}

// AppendTextValue appends a DataRow of text values.
func AppendTextValue(dst []byte, values ...string) []byte {
	dst, at := begin(dst, DataRow)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for _, value := range values {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
		dst = append(dst, value...)
	}
	return end(dst, at)
}
