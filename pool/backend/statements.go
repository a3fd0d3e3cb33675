package backend

import (
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
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
	mu    sync.Mutex // protects known
	known *lru.Cache[string, *Statement]
	last  atomic.Uint64
}

// NewRegistry makes a Registry that remembers up to size statements.
func NewRegistry(size int) *Registry {
	known, err := lru.New[string, *Statement](max(size, 1))
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
	s := build(NamePrefix + strconv.FormatUint(r.last.Add(1), 10))
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

// statements are those one backend holds, bounded; the least recently used goes first.
type statements struct {
	unnamed uint64 // whose unnamed statement it holds: see Unnamed
	held    *simplelru.LRU[*Statement, struct{}]
	evicted []*Statement
}

func newStatements(size int) *statements {
	s := &statements{}
	// An EXECUTE that is itself prepared needs two at a time.
	held, err := simplelru.NewLRU(max(size, 2), func(st *Statement, _ struct{}) {
		s.evicted = append(s.evicted, st)
	})
	if err != nil {
		panic(err) // only for a size below 1
	}
	s.held = held
	return s
}

func (s *statements) clear() {
	s.unnamed = 0
	s.held.Purge()
	s.evicted = s.evicted[:0]
}

// Holds reports whether s is prepared on b, and counts as a use of it.
func (b *Backend) Holds(s *Statement) bool {
	_, ok := b.statements.held.Get(s)
	return ok
}

// Hold notes that s is prepared on b. evicted are statements to be closed there
// to make room; the slice is valid until the next call.
func (b *Backend) Hold(s *Statement) (evicted []*Statement) {
	b.statements.evicted = b.statements.evicted[:0]
	b.statements.held.Add(s, struct{}{})
	return b.statements.evicted
}

// Drop notes that s is not prepared on b any more, or may not be.
func (b *Backend) Drop(s *Statement) {
	b.statements.held.Remove(s)
	b.statements.evicted = b.statements.evicted[:0]
}

// DropAll notes that b holds no statements (DEALLOCATE ALL, DISCARD ALL).
func (b *Backend) DropAll() { b.statements.clear() }

// Unnamed returns whose unnamed statement b holds: a tag its user chose; 0 is nobody's.
func (b *Backend) Unnamed() uint64 { return b.statements.unnamed }

// SetUnnamed notes whose unnamed statement b holds.
func (b *Backend) SetUnnamed(tag uint64) { b.statements.unnamed = tag }
