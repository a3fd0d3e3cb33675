package observe

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/router"
)

func TestTaggedRows(t *testing.T) {
	for tag, want := range map[string]uint64{
		"SELECT 12": 12, "INSERT 0 3": 3, "UPDATE 0": 0, "BEGIN": 0, "CREATE TABLE": 0, "FETCH 7": 7, "": 0, "COPY 1000000": 1000000,
	} {
		require.Equal(t, want, taggedRows(wire.AppendComplete(nil, tag)), tag)
	}
	require.Zero(t, taggedRows([]byte{wire.CommandComplete}))
}

func TestRoutes(t *testing.T) {
	s := New(insight.New(insight.Options{}), insight.Who{}, nil)
	for _, tc := range []struct{ text, rest, route string }{
		{"select 1", "select 1", ""},
		{"select 1 /*controller='x',route='%2Fpolls%2F%3Cid%3E',traceparent='00-1'*/", "select 1 ", "/polls/<id>"},
		{"select 2 /* nothing */;", "select 2 ", ""},
		{"select 3 /*route='/x'*/ ; \n", "select 3 ", "/x"},
		{"select 4 */", "select 4 */", ""},
		{"select /*route='/y'*/ 5", "select /*route='/y'*/ 5", ""},
		{"select 6 /*route='%zz\xff'*/", "select 6 ", "%zz"},
		{"select 7 /*route='open*/", "select 7 ", ""},
	} {
		rest, comment := splitComment([]byte(tc.text))
		require.Equal(t, tc.rest, string(rest))
		route := s.requested(comment)
		if tc.route == "" {
			require.Nil(t, route, tc.text)
			continue
		}
		require.Equal(t, tc.route, route.Name, tc.text)
		require.Same(t, route, s.requested(comment))
	}
}

// TestRoutesAllocateNothing: sessions of a pool serve one request after the other.
func TestRoutesAllocateNothing(t *testing.T) {
	s := New(insight.New(insight.Options{}), insight.Who{Database: "d", Application: "web/1.0"}, nil)
	comments := [][]byte{[]byte("route='%2Fa%2Fb'"), []byte("route='/c'"), []byte("x='1',route='/a/b'")}
	ask := func() {
		for _, c := range comments {
			s.requested(c)
		}
	}
	ask()
	require.Zero(t, testing.AllocsPerRun(100, ask))
	require.Same(t, s.requested(comments[0]), s.requested(comments[2]))
	require.Nil(t, s.requested([]byte("route='"+strings.Repeat("x", 200)+"'")))
}

// TestSchemaChanges: DDL that others see is a change, once it succeeded.
func TestSchemaChanges(t *testing.T) {
	book := insight.New(insight.Options{})
	plans := router.NewPlans(router.Options{Insight: book})
	s := New(book, insight.Who{}, nil)
	for text, want := range map[string]string{
		"create index on t (a)": "ddl", "alter table t add b int": "ddl", "drop table t": "ddl",
		"create temp table x (a int)": "", "select 1": "", "insert into t values (1)": "", "analyze t": "",
	} {
		for _, failed := range []bool{true, false} {
			m := &batch.Message{Kind: batch.Query, Plan: plans.Get([]byte(text))}
			s.Sent(time.Now(), time.Now())
			s.Ran(&Statement{Message: m, Batch: &batch.Batch{}, Failed: failed})
			if failed {
				require.Empty(t, book.TakeChange(), text)
				continue
			}
			require.Equal(t, want, book.TakeChange(), text)
		}
	}
}

// TestNothing: a session that nobody observes takes everything.
func TestNothing(t *testing.T) {
	s := New(nil, insight.Who{}, nil)
	s.Complete(wire.CommandComplete, nil)
	s.Idle()
	s.Close()
}

// BenchmarkRan observes a statement of a transaction from Sent to Ran: what insight costs.
//
// On a shared two-core machine 130 ns of CPU, with one reading of the clock; nothing is allocated.
func BenchmarkRan(b *testing.B) {
	book := insight.New(insight.Options{})
	plans := router.NewPlans(router.Options{Insight: book})
	s := New(book, insight.Who{User: "u"}, nil)
	text := "SELECT id, name, status FROM couriers WHERE organization_id = 7 AND status = 'ACTIVE' ORDER BY name LIMIT 20 /*route='/couriers'*/"
	frame := append([]byte{wire.Query, 0, 0, 0, byte(len(text) + 5)}, append([]byte(text), 0)...)
	m := &batch.Message{Kind: batch.Query, Size: len(frame), Plan: plans.Get([]byte(text))}
	complete := wire.AppendComplete(nil, "SELECT 20")
	now, of := time.Now(), &batch.Batch{}
	b.ReportAllocs()
	for b.Loop() {
		s.Sent(now, now)
		s.Complete(wire.CommandComplete, complete)
		s.Ran(&Statement{Message: m, Batch: of, Sent: frame, Bytes: 900, WasInBlock: true, InBlock: true})
	}
}
