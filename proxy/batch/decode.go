package batch

import "github.com/pgweir/pgweir/internal/wire"

// smallFrame is PostgreSQL's bound of messages that carry no data of arbitrary length.
const smallFrame = 10000

// CheckFrame refuses what PostgreSQL refuses: it closes the connection on an impossible
// length, and says so of an unknown type. err is what reading the header came to.
func CheckFrame(typ byte, size int, err error) error {
	limit := smallFrame
	switch typ {
	case wire.Query, wire.Parse, wire.Bind, wire.FunctionCall, wire.CopyData:
		limit = wire.MaxFrame
	case wire.Execute, wire.Close, wire.Describe, wire.Sync, wire.Flush, wire.CopyDone, wire.CopyFail, wire.Terminate:
	default:
		return wire.Fatalf("08P01", "invalid frontend message type %d", typ)
	}
	if err != nil || size-1 > limit {
		return wire.ErrFrameLength
	}
	return nil
}
