package auth

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/internal/userlist"
)

// parseUserlist reads a userlist file. Who has only lines that are wrong is known, and has no
// secret.
func parseUserlist(path, text string) (users map[string]stored, bad []userlist.Bad) {
	entries, bad := userlist.Parse(text)
	users = make(map[string]stored)
	for _, e := range entries {
		s, err := parseStored(e.Secret)
		if err != nil {
			bad = append(bad, userlist.Bad{Line: e.Line, Name: e.Name, Why: err})
			continue
		}
		if first, ok := users[e.Name]; ok && first.kind != secretNone {
			first.more = append(first.more, s)
			s = first
		}
		users[e.Name] = s
	}
	for _, b := range bad {
		if _, ok := users[b.Name]; !ok && b.Name != "" {
			users[b.Name] = stored{why: fmt.Sprintf("%s line %d: %v", path, b.Line, b.Why)}
		}
	}
	return users, bad
}

// fileCheckInterval is how often, at most, the file is looked at for a change.
const fileCheckInterval = time.Second

// userFile is a userlist file that is read again when it changes.
type userFile struct {
	path  string
	next  atomic.Int64 // when to look again, in Unix nanoseconds
	state atomic.Pointer[userFileState]
}

// userFileState is one reading; it never changes.
type userFileState struct {
	users    map[string]stored
	modified time.Time
	size     int64
	bad      []userlist.Bad
	err      error // of the latest attempt; users are then those before it
}

func (f *userFile) find(user string) (stored, bool) {
	now := time.Now().UnixNano()
	// One caller looks; the others go on with what is known.
	if next := f.next.Load(); now >= next && f.next.CompareAndSwap(next, now+int64(fileCheckInterval)) {
		f.refresh(false)
	}
	s, ok := f.state.Load().users[user]
	return s, ok
}

// refresh reads the file if it changed, or anyhow. A file that cannot be read
// leaves the users as they were.
func (f *userFile) refresh(anyhow bool) {
	old := f.state.Load()
	if old == nil {
		old = &userFileState{}
	}
	info, err := os.Stat(f.path)
	if err == nil && !anyhow && old.modified.Equal(info.ModTime()) && old.size == info.Size() {
		return
	}
	state := &userFileState{users: old.users, bad: old.bad}
	var text []byte
	if err == nil {
		// Noted before the reading: a change in between is seen the next time.
		state.modified, state.size = info.ModTime(), info.Size()
		text, err = os.ReadFile(f.path)
	}
	if err == nil {
		state.users, state.bad = parseUserlist(f.path, string(text))
	}
	if err != nil {
		state.err = fmt.Errorf("user file: %w", err)
	}
	f.state.Store(state)
}

// ReloadUserFile reads the user file now. After an error the users are those of the
// last good reading. Without a file it does nothing.
func (v *Verifier) ReloadUserFile() error {
	if v.file == nil {
		return nil
	}
	v.file.next.Store(time.Now().Add(fileCheckInterval).UnixNano())
	v.file.refresh(true)
	state := v.file.state.Load()
	for _, s := range state.users {
		s.each(v.met)
	}
	return state.err
}

// UserFileFaults are what was wrong with the user file when it was last read: why it could
// not be, and lines that let nobody in.
func (v *Verifier) UserFileFaults() (faults []string) {
	if v.file == nil {
		return nil
	}
	state := v.file.state.Load()
	if state.err != nil {
		faults = append(faults, state.err.Error())
	}
	for _, b := range state.bad {
		faults = append(faults, fmt.Sprintf("%s line %d lets nobody in: %v", v.file.path, b.Line, b.Why))
	}
	return faults
}
