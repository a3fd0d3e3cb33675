package audit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/wire"
)

func TestParameterText(t *testing.T) {
	for _, c := range []struct {
		typ   string
		p     wire.Parameter
		want  string
		known bool
	}{
		{"int4", wire.Parameter{Value: []byte{0xff, 0xff, 0xff, 0xfe}, Binary: true}, "-2", true},
		{"int4", wire.Parameter{Value: []byte{0, 2}, Binary: true}, "2", true},
		{"point", wire.Parameter{Value: []byte{0xff, 0xff, 0xff, 0xfe}, Binary: true}, "", false},
		{"int4", wire.Parameter{Value: []byte("x")}, "x", true},
		{"int4", wire.Parameter{}, "", false},
	} {
		text, ok := parameterText(c.p, c.typ)
		require.Equal(t, c.known, ok)
		require.Equal(t, c.want, text)
	}
}
