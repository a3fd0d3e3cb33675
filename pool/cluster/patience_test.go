package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPatience: each question has its time to itself; who was late or whose parent ended is told, and the next may go on.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, stop := context.WithCancel(t.Context())
		p := patience{parent: parent}
		defer p.end()
		first := p.begin(time.Second)
		time.Sleep(900 * time.Millisecond)
		p.done()
		require.NoError(t, first.Err())
		require.Equal(t, first, p.begin(time.Second), "it is used again")
		time.Sleep(900 * time.Millisecond)
		require.NoError(t, first.Err(), "the time of the first does not count for the second")
		time.Sleep(101 * time.Millisecond)
		require.ErrorIs(t, context.Cause(first), context.DeadlineExceeded)
		p.done()
		next := p.begin(time.Second)
		require.NoError(t, next.Err())
		stop()
		require.ErrorIs(t, next.Err(), context.Canceled)
		p.done()
		require.Error(t, p.begin(time.Second).Err())
		p.done()
	})
}

// TestPatienceAllocates: questions that are answered in time cost no allocation.
func TestPatienceAllocates(t *testing.T) {
	p := patience{parent: t.Context()}
	defer p.end()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.begin(time.Minute)
		p.done()
	}))
}
