package simpg

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }
