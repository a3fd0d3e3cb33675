package tenant

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSame(t *testing.T) {
	for _, tc := range []struct {
		value   string
		session []string
		want    bool
	}{
		{"7", []string{"7"}, true},
		{"07", []string{"7"}, true},
		{" 7", []string{"7"}, true},
		{"8", []string{"7"}, false},
		{"8", []string{"7", "8"}, true},
		{"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", []string{"a0eebc999c0b4ef8bb6d6bb9bd380a11"}, true},
		{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12", []string{"a0eebc999c0b4ef8bb6d6bb9bd380a11"}, false},
		{"Acme", []string{"acme"}, false},
		{"acme", []string{"acme"}, true},
	} {
		require.Equal(t, tc.want, Same(tc.value, tc.session), "%s %s", tc.value, tc.session)
	}
}

func TestElements(t *testing.T) {
	require.Equal(t, []string{"1", "2"}, Elements("{1,NULL,2}"))
	for _, unsure := range []string{"", "{}", "1", `{"a"}`, "{{1},{2}}", `{a\b}`} {
		require.Empty(t, Elements(unsure), unsure)
	}
}
