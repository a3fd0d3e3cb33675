// Package prepared gives equal prepared statements one identity, whoever prepared them, so
// that a server holds each once. It knows texts and parameter types; no sockets and no SQL.
package prepared

import (
	"encoding/binary"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"weak"
)

// NamePrefix begins the names statements bear on servers; clients' names never reach one.
const NamePrefix = "_pgweir_"

// Statement is one prepared statement as all clients and servers share it: its
// identity is its text and parameter types. Immutable.
type Statement struct {
	Name  string // on servers
	Text  string
	Types string // count and OIDs of parameter types, as in a Parse frame
	// SQL is the PREPARE statement that makes it, for one prepared by SQL; empty otherwise.
	SQL string

	key string // in the registry
	at  int    // where Name stands in SQL
}

// Named is the PREPARE statement that makes it under another name, an identifier as SQL has it.
func (s *Statement) Named(name string) string { return s.SQL[:s.at] + name + s.SQL[s.at+len(s.Name):] }

// Registry gives equal statements one identity, so that servers hold them once whoever
// prepared them. It keeps none alive: a statement is forgotten once no client and no server
// connection has it. Safe for concurrent use; the zero value is ready.
type Registry struct {
	mu    sync.Mutex // protects the fields below
	known map[string]weak.Pointer[Statement]
	most  int // entries that known had room for
	last  uint64

	own sync.Map // of *Statement by text: see Own
}

// Own returns the statement of a text of the proxy's own, without parameter types. It is
// kept for good: there are few.
func (r *Registry) Own(text string) *Statement {
	if s, ok := r.own.Load(text); ok {
		return s.(*Statement)
	}
	s := r.Statement([]byte(text), []byte{0, 0}, "")
	r.own.Store(text, s)
	return s
}

// Statement returns the one statement of that text and those types, among sessions that
// read the text alike: reading names the way they do.
func (r *Registry) Statement(text, types []byte, reading string) *Statement {
	var key strings.Builder
	key.WriteByte('P') // what a client chooses must not look like the other kind of key
	key.WriteString(string(types))
	key.Write(text)
	if reading != "" {
		key.WriteString("\x00" + reading) // a text has no NUL
	}
	return r.find(key.String(), func(key, name string) *Statement {
		key = key[1:]
		return &Statement{Name: name, Text: key[len(types):][:len(text)], Types: key[:len(types)]}
	})
}

// SQLStatement returns the one statement made by PREPARE; before and after are the
// statement's text around the name.
func (r *Registry) SQLStatement(before, after, reading string) *Statement {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(before)))
	return r.find("S"+string(n[:])+before+after+"\x00"+reading, func(_, name string) *Statement {
		return &Statement{Name: name, SQL: before + name + after, at: len(before)}
	})
}

func (r *Registry) find(key string, build func(key, name string) *Statement) *Statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.known[key].Value(); s != nil {
		return s
	}
	r.last++
	s := build(key, NamePrefix+strconv.FormatUint(r.last, 10))
	s.key = key
	if r.known == nil {
		r.known = map[string]weak.Pointer[Statement]{}
	}
	r.known[key] = weak.Make(s)
	r.most = max(r.most, len(r.known))
	registry := weak.Make(r) // kept by its own statements, which it keeps, it would never be collected
	runtime.AddCleanup(s, func(key string) {
		if r := registry.Value(); r != nil {
			r.gone(key)
		}
	}, key)
	return s
}

// gone drops what was known of a statement that nobody has any more.
func (r *Registry) gone(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.known[key]; ok && s.Value() == nil {
		delete(r.known, key)
		r.shrinkLocked()
	}
}

// shrinkLocked makes the map anew once it has far more room than entries: it gives none back.
func (r *Registry) shrinkLocked() {
	if r.most < 1024 || len(r.known) > r.most/4 {
		return
	}
	known := make(map[string]weak.Pointer[Statement], len(r.known))
	maps.Copy(known, r.known)
	r.known, r.most = known, len(known)
}

// Forget gives the next asker for an equal statement a new one.
func (r *Registry) Forget(s *Statement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[s.key].Value() == s {
		delete(r.known, s.key)
	}
}
