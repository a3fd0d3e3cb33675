package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBindParameters(t *testing.T) {
	rest := []byte{
		0, 2, 0, 1, 0, 0, // formats: binary, text
		0, 3,
		0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe,
		0, 0, 0, 1, 'x',
		0xff, 0xff, 0xff, 0xff,
		0, 0,
	}
	require.Equal(t, []Parameter{{[]byte{0xff, 0xff, 0xff, 0xfe}, true}, {[]byte("x"), false}, {nil, false}}, BindParameters(rest))
	for i, want := range BindParameters(rest) {
		got, ok := BindParameter(rest, i)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	_, ok := BindParameter(rest, 3)
	require.False(t, ok)
	for i := range len(rest) - 2 {
		require.Nil(t, BindParameters(rest[:i]), i)
	}
	one := BindParameters([]byte{0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 0, 2}) // one format is for all
	require.Equal(t, []Parameter{{[]byte{0, 1}, true}, {[]byte{0, 2}, true}}, one)
}

// Of a Bind whose values are yet to come it is known how many they are.
func TestBindCount(t *testing.T) {
	for _, c := range []struct {
		rest []byte
		n    int
		ok   bool
	}{
		{[]byte{0, 0, 0, 3}, 3, true},
		{[]byte{0, 1, 0, 1, 0, 3, 0, 0}, 3, true},
		{[]byte{0, 2, 0, 1, 0, 0, 0, 2}, 2, true},
		{[]byte{0, 2, 0, 1, 0, 0, 0, 3}, 3, false}, // two format codes for three
		{[]byte{0, 2, 0, 1, 0, 0, 0}, 0, false},
		{nil, 0, false},
	} {
		n, ok := BindCount(c.rest)
		require.Equal(t, c.ok, ok, c.rest)
		require.Equal(t, c.n, n, c.rest)
	}
}

func TestLengthen(t *testing.T) {
	frame := AppendSync(nil)
	Lengthen(frame, 1<<20)
	_, size, err := PeekHeader(frame)
	require.NoError(t, err)
	require.Equal(t, len(frame)+1<<20, size)
}
