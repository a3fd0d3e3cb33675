package progress_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/progress"
)

// TestMeter: short work is silent, long work speaks every interval.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told strings.Builder
		m := progress.Meter{To: &told}
		for i := range 60 {
			m.Tell("%d of 60", i)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, "21 of 60\n42 of 60\n", told.String())
	})
}
