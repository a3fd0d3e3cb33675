// Package prepared gives equal prepared statements one identity, whoever prepared them, so
// that a server holds each once. It knows texts and parameter types; no sockets and no SQL.
package prepared

import (
	"encoding/binary"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
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
}

// Registry gives equal statements one identity, so that servers hold them once
// whoever prepared them. Safe for concurrent use. It forgets the least recently
// asked for; a client that still has a forgotten one keeps it alive.
type Registry struct {
	mu    sync.Mutex // protects the fields below
	known *simplelru.LRU[string, *Statement]
	last  uint64 // the number in the latest name
}

// NewRegistry makes a Registry that remembers up to size statements.
func NewRegistry(size int) *Registry {
	known, err := simplelru.NewLRU[string, *Statement](max(size, 1), nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Registry{known: known}
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
	return r.find(key.String(), func(name string) *Statement {
		return &Statement{Name: name, Text: string(text), Types: string(types)}
	})
}

// SQLStatement returns the one statement made by PREPARE; before and after are the
// statement's text around the name.
func (r *Registry) SQLStatement(before, after, reading string) *Statement {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(before)))
	return r.find("S"+string(n[:])+before+after+"\x00"+reading, func(name string) *Statement {
		return &Statement{Name: name, SQL: before + name + after}
	})
}

func (r *Registry) find(key string, build func(name string) *Statement) *Statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.known.Get(key); ok {
		return s
	}
	r.last++
	s := build(NamePrefix + strconv.FormatUint(r.last, 10))
	s.key = key
	r.known.Add(key, s)
	return s
}

// Forget gives the next asker for an equal statement a new one.
func (r *Registry) Forget(s *Statement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.known.Peek(s.key); ok && known == s {
		r.known.Remove(s.key)
	}
}
