package batch

import (
	"hash/maphash"

	"github.com/pgweir/pgweir/internal/wire"
)

var rowsSeed = maphash.MakeSeed()

// HashRows hashes the names, types and type modifiers of a RowDescription; NoData has a
// hash too.
func HashRows(frame []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(rowsSeed)
	_ = h.WriteByte(frame[0])
	const field = 18 // table, column, type, size, modifier, format
	if frame[0] == wire.RowDescription && len(frame) >= wire.HeaderSize+2 {
		for b := frame[wire.HeaderSize+2:]; ; {
			name, rest, ok := wire.CString(b)
			if !ok || len(rest) < field {
				break
			}
			_, _ = h.Write(name)
			_ = h.WriteByte(0)
			_, _ = h.Write(rest[6:10])
			_, _ = h.Write(rest[12:16])
			b = rest[field:]
		}
	}
	return max(h.Sum64(), 1)
}
