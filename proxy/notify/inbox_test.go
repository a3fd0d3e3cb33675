package notify

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An Inbox that nobody empties takes no more than it has room for, and says so.
func TestInboxIsBounded(t *testing.T) {
	woken := 0
	in := &Inbox{wake: func() { woken++ }}
	frame := make([]byte, 1<<20)
	for range 2 * maxInbox / len(frame) {
		in.put(frame)
		require.LessOrEqual(t, cap(in.frames), 2*maxInbox)
	}
	frames, err := in.take()
	require.ErrorIs(t, err, ErrLost)
	require.Empty(t, frames)
	require.Equal(t, maxInbox/len(frame)+1, woken, "nobody is woken for what is lost")
}
