package auth

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// parseUserlist reads lines of "name" "secret": double quotes within are doubled,
// what follows the secret is ignored, and a line that starts with ; is a comment.
// Errors name the line and quote nothing of it. A later entry of a name wins.
func parseUserlist(text string) (map[string]stored, error) {
	users := make(map[string]stored)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' {
			continue
		}
		name, rest, ok := quoted(line)
		secret, _, ok2 := quoted(strings.TrimLeft(rest, " \t"))
		switch {
		case !ok || !ok2:
			return nil, fmt.Errorf("line %d: expected \"name\" \"secret\"", i+1)
		case name == "":
			return nil, fmt.Errorf("line %d: the name is empty", i+1)
		case strings.Contains(name, "\x00") || strings.Contains(secret, "\x00"):
			return nil, fmt.Errorf("line %d: zero byte", i+1)
		}
		s, err := parseStored(secret)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		users[name] = s
	}
	return users, nil
}

// quoted cuts a double-quoted word from the start of s.
func quoted(s string) (word, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", "", false
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
	state := &userFileState{users: old.users}
	var text []byte
	if err == nil {
		// Noted before the reading: a change in between is seen the next time.
		state.modified, state.size = info.ModTime(), info.Size()
		text, err = os.ReadFile(f.path)
	}
	if err == nil {
		var users map[string]stored
		if users, err = parseUserlist(string(text)); err == nil {
			state.users = users
		} else {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
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
	v.file.refresh(true)
	state := v.file.state.Load()
	for _, s := range state.users {
		v.met(s)
	}
	return state.err
}

// UserFileErr is why the latest automatic reading of a changed user file failed.
func (v *Verifier) UserFileErr() error {
	if v.file == nil {
		return nil
	}
	return v.file.state.Load().err
}
