// Package lsn is the log sequence number: how PostgreSQL names a location in the
// write-ahead log, how that is read and written.
package lsn

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a location in the write-ahead log, in bytes from its beginning; 0 is none.
type LSN uint64

// maxDigits is how many hexadecimal digits each half of the text may have.
const maxDigits = 8

// Parse reads the text of a pg_lsn, such as 16/B374D848.
// https://www.postgresql.org/docs/current/datatype-pg-lsn.html
func Parse(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil || len(high) > maxDigits || len(low) > maxDigits {
		return 0, fmt.Errorf("invalid LSN %q", s)
	}
	return LSN(h<<32 | l), nil
}

// String writes l as PostgreSQL does.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }
