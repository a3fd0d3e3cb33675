package notify

import (
	"encoding/binary"
	"sync"

	"github.com/pgweir/pgweir/internal/wire"
)

// maxInbox is how many bytes of notifications may wait for a session that does not read
// them. One that is further behind is ended: it must not hold up others.
const maxInbox = 16 << 20

// Inbox is what a session hears through a Hub. Its session's goroutine takes out what Hubs
// put in.
type Inbox struct {
	wake     func() // called, under mu, when something was put in or nothing more will be
	channels []string

	mu     sync.Mutex // protects the fields below; taken last
	frames []byte
	lost   bool
}

func (in *Inbox) put(frame []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.lost:
		return
	case len(in.frames)+len(frame) > maxInbox:
		in.frames, in.lost = nil, true
	default:
		in.frames = append(in.frames, frame...)
	}
	in.wake()
}

func (in *Inbox) lose() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.lost = true
	in.wake()
}

// take empties the Inbox. The error is that more was notified than it had.
func (in *Inbox) take() (frames []byte, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if frames, in.frames = in.frames, nil; in.lost {
		err = ErrLost
	}
	return frames, err
}

// Rename has notifications of one process seem to be another's, in place.
func Rename(frames []byte, from, to uint32) {
	for len(frames) >= wire.HeaderSize {
		var frame []byte
		if frame, frames = next(frames); frame[0] != wire.NotificationResponse || len(frame) < wire.HeaderSize+4 {
			continue
		}
		if pid := frame[wire.HeaderSize:]; binary.BigEndian.Uint32(pid) == from {
			binary.BigEndian.PutUint32(pid, to)
		}
	}
}

// next cuts off the first frame.
func next(frames []byte) (frame, rest []byte) {
	_, size, err := wire.PeekHeader(frames)
	if err != nil || size > len(frames) {
		size = len(frames)
	}
	return frames[:size], frames[size:]
}

// notification is a NotificationResponse, but for the process it is from.
type notification struct{ channel, payload string }

func parse(frame []byte) (n notification, ok bool) {
	if len(frame) < wire.HeaderSize+4 || frame[0] != wire.NotificationResponse {
		return n, false
	}
	channel, rest, ok := wire.CString(frame[wire.HeaderSize+4:])
	if !ok {
		return n, false
	}
	payload, _, ok := wire.CString(rest)
	return notification{string(channel), string(payload)}, ok
}
