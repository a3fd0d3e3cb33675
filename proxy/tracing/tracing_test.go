package tracing

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/proxy/batch"
)

const (
	sampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func TestInComment(t *testing.T) {
	for _, c := range []struct {
		text  string
		found bool
		state string
	}{
		{"", false, ""},
		{"*/", false, ""},
		{"/*/", false, ""},
		{"select 1", false, ""},
		{"select 1 /* x */", false, ""},
		{"select 1 /*traceparent='%s'*/", true, ""},
		{"select 1 /*traceparent='%s'*/ ;\n ; ", true, ""},
		{"select 1 /*a='%%27b',traceparent='%s',tracestate='congo%%3Dt61,rojo%%3D00'*/", true, "congo=t61,rojo=00"},
		{"select 1 /*traceparent='%s',tracestate='%%zz'*/", true, ""},
		{"/*traceparent='%s'*/ select 1", true, ""},
		{"/* x */ select 1 /*traceparent='%s'*/", true, ""},
		{"/*traceparent='%s'*/ select 1 /* x */", true, ""},
		{"select 1 /*application:x,traceparent:%s,job:y*/", true, ""},
		{"select 1 /*application:x,traceparent:%s*/", true, ""},
		{"select '/*traceparent=''%s''*/'", false, ""},
		{"select 1 /*traceparent='%s'*/ + 2", false, ""},
		{"select 1 /*traceparent=*/", false, ""},
		{"select 1 /*traceparent='", false, ""},
		{"select 1 /*" + strings.Repeat("x", 2*maxComment) + "traceparent='%s'*/", false, ""},
		{"select " + strings.Repeat("x", 2*maxComment) + " /*traceparent='%s'*/", true, ""},
	} {
		text := c.text
		if strings.Contains(text, "%") {
			text = fmt.Sprintf(text, sampled)
		}
		parent, found := inComment([]byte(text))
		require.Equal(t, c.found, found, text)
		require.Equal(t, found, parent.IsSampled(), text)
		require.Equal(t, c.state, parent.TraceState().String(), text)
		again, _ := inComment(text)
		require.True(t, parent.Equal(again), text)
	}
	for _, bad := range []string{
		strings.ToUpper(sampled), "ff" + sampled[2:], sampled[:54] + "x", strings.ReplaceAll(sampled, "-", "_"),
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
	} {
		_, found := inComment("select 1 /*traceparent='" + bad + "'*/")
		require.False(t, found, bad)
	}
	parent, found := inComment("select 1 /*traceparent='" + unsampled + "'*/")
	require.True(t, found)
	require.False(t, parent.IsSampled())
}

// TestUnsampledAllocatesNothing: what most statements cost while tracing is on.
func TestUnsampledAllocatesNothing(t *testing.T) {
	for _, text := range []string{"select note from orders where id = 7", "select note from orders where id = 7 /*route='%2Fx',traceparent='" + unsampled + "'*/"} {
		bytes := []byte(text)
		require.Zero(t, testing.AllocsPerRun(100, func() { inComment(bytes); inComment(text) }))
	}
}

// FuzzInComment: no text makes it read too far.
func FuzzInComment(f *testing.F) {
	f.Add("select 1 /*traceparent='" + sampled + "',tracestate='a=b'*/")
	f.Add("/*traceparent:" + unsampled)
	f.Fuzz(func(t *testing.T, text string) {
		if parent, found := inComment(text); parent.IsValid() && !found {
			t.Error("a parent that is not found")
		}
	})
}

func BenchmarkInComment(b *testing.B) {
	for name, text := range map[string]string{
		"none":      "select note from orders where id = 7",
		"unsampled": "select note from orders where id = 7 /*route='%2Fx',traceparent='" + unsampled + "'*/",
		"sampled":   "select note from orders where id = 7 /*route='%2Fx',traceparent='" + sampled + "'*/",
	} {
		b.Run(name, func(b *testing.B) {
			bytes := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				inComment(bytes)
			}
		})
	}
}

// TestNamesOfOtherEncodings: one span with bytes that are not UTF-8 would have a collector refuse all it comes with.
func TestNamesOfOtherEncodings(t *testing.T) {
	parent, _ := inComment("select 1 /*traceparent='" + sampled + "'*/")
	of := &Source{Batch: &batch.Batch{Messages: []batch.Message{{Kind: batch.Query}}}, Database: "caf\xe9", Session: parent}
	recorded := (&Tracer{}).Record(nil, of, 0)
	require.Equal(t, "caf\uFFFD", recorded.database)
	require.True(t, utf8.ValidString((&Tracer{}).show(nil, []byte("select 1 as \"caf\xe9\"")).text))
}
