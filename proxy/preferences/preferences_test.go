package preferences

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

func TestRead(t *testing.T) {
	require.Equal(t, Values{Route: router.RouteReplica}, Read(setting.Settings{}, router.RouteReplica))
	got := Read(setting.From(map[string]string{
		"pgweir.route": "AUTO", "pgweir.consistency": "strong", "pgweir.min_lsn": "1/A", "pgweir.trace": "on",
	}), router.RouteReplica)
	require.Equal(t, Values{Route: router.RouteAuto, Level: router.Strong, MinLSN: 1<<32 | 10, Trace: true}, got)
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, value, code string }{
		{"route", "primary", ""},
		{"route", "", "22023"},
		{"route", "elsewhere", "22023"},
		{"consistency", "tenant", ""},
		{"consistency", "best", "22023"},
		{"min_lsn", "", ""},
		{"min_lsn", "0/0", ""},
		{"min_lsn", "1", "22023"},
		{"trace", "off", ""},
		{"trace", "maybe", "22023"},
		{"lsn", "0/0", "42704"},
		{"roote", "primary", "42704"},
	} {
		err := Check(c.name, c.value)
		if c.code == "" {
			require.Nil(t, err, "%s = %q", c.name, c.value)
			continue
		}
		require.NotNil(t, err, "%s = %q", c.name, c.value)
		require.Equal(t, c.code, err.Code, "%s = %q", c.name, c.value)
	}
}
