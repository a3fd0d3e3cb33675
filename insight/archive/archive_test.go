package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
)

// sample is a snapshot of some statements, each called some times.
func sample(id string, statements, calls int) *insight.Snapshot {
	b := insight.New(insight.Options{})
	s := b.NewSession(insight.Who{Database: "d", User: "u", Application: "web"})
	for i := range statements {
		st := b.Statement("d", fmt.Sprintf("f%d", i), fmt.Sprintf("SELECT %d", i), insight.Shape{Reads: true, Table: "t", Keys: []string{"id"}})
		for n := range calls {
			s.Ran(&insight.Event{
				Statement: st, Transaction: 1, Batch: uint64(n), Params: uint64(n), Rows: 3, Began: time.Unix(1e9, 0),
				Duration: time.Duration(rand.IntN(1e9)),
			})
		}
	}
	s.End()
	x := b.Snapshot()
	x.ID, x.Name, x.Begin, x.End = id, id, time.Unix(1e9, 0).UTC(), time.Unix(1e9+60, 0).UTC()
	x.Lag.Sample(time.Second)
	return x
}

func written(t *testing.T, s *insight.Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Write(&out, s))
	return out.Bytes()
}

// TestCuts: a file reads as it was written; cut off anywhere, or with any byte damaged, it is
// an error and never another snapshot.
func TestCuts(t *testing.T) {
	want := sample("a", 10, 6)
	require.NotEmpty(t, want.Patterns)
	require.NotEmpty(t, want.Routes)
	data := written(t, want)
	require.True(t, Is(data))
	got, err := Read(bytes.NewReader(data))
	require.NoError(t, err)
	require.Equal(t, want, got)
	for n := range data {
		_, err := Read(bytes.NewReader(data[:n]))
		require.Error(t, err, n)
		damaged := bytes.Clone(data)
		damaged[n] ^= byte(1 + rand.IntN(255))
		if got, err := Read(bytes.NewReader(damaged)); err == nil {
			require.Equal(t, want, got, n)
		}
	}
}

// TestStrangers: what is well compressed and is no snapshot, or would be without end, is refused.
func TestStrangers(t *testing.T) {
	compressed := func(text string) *bytes.Buffer {
		var out bytes.Buffer
		z, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		_, err = z.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return &out
	}
	for text, want := range map[string]string{
		"":                                  "unexpected EOF",
		"{}":                                "no snapshot of insight",
		"hello":                             "no snapshot of insight",
		`{"pgweir_insight":2}`:              "a snapshot of another version of pgweir (format 2)",
		`{"pgweir_insight":1,"lines":1}`:    "unexpected EOF",
		"{\"pgweir_insight\":1}\n{}":        "unexpected EOF",
		"{\"pgweir_insight\":1}\n[]":        "line 2: json: cannot unmarshal array into Go value of type archive.line",
		strings.Repeat(" ", maxLine) + "{}": "bufio.Scanner: token too long",
	} {
		_, err := Read(compressed(text))
		require.EqualError(t, err, want)
	}
}

// FuzzLines: whatever lines a file has, to look at them ends no program.
func FuzzLines(f *testing.F) {
	var seed bytes.Buffer
	require.NoError(f, Write(&seed, sample("a", 2, 6)))
	z, err := zstd.NewReader(&seed)
	require.NoError(f, err)
	lines, err := io.ReadAll(z)
	require.NoError(f, err)
	z.Close()
	f.Add(lines)
	f.Add([]byte(`{"pgweir_insight":1,"lines":2}
{"statement":{"fingerprint":"f","on":[{"n":1,"took":-5,"times":[1],"sizes":[9],"uncounted":7},{}]}}
{"pattern":{"kind":"idle_in_transaction","fingerprint":"f","times":0,"wasted":9}}`))
	f.Fuzz(func(t *testing.T, lines []byte) {
		var data bytes.Buffer
		z, err := zstd.NewWriter(&data)
		require.NoError(t, err)
		_, err = z.Write(lines)
		require.NoError(t, errors.Join(err, z.Close()))
		s, err := Read(&data)
		if err != nil {
			return
		}
		sum := NewSum(insight.Options{})
		sum.Add(s)
		sum.Add(s)
		sum.Book.Summary()
		x := sum.Snapshot()
		x.Since(s)
		var out bytes.Buffer
		require.NoError(t, Write(&out, x))
		_, err = Read(&out)
		require.NoError(t, err)
	})
}

// TestDir: a directory keeps the youngest periods, within its bounds, for its owner only; what
// is damaged is told and hides nothing else.
func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := Open(path, 3, 1<<20)
	require.NoError(t, err)
	for i := range 5 {
		s := sample(fmt.Sprint("id", i), 2, 1)
		s.End = s.End.Add(time.Duration(i) * time.Minute)
		require.NoError(t, d.SavePeriod(s))
		require.NoError(t, d.Prune())
	}
	read := func() (ids []string, failed int) {
		require.NoError(t, d.Periods(func(s *insight.Snapshot, err error) {
			if err != nil {
				failed++
				require.ErrorContains(t, err, path)
				return
			}
			ids = append(ids, s.ID)
		}))
		return ids, failed
	}
	ids, failed := read()
	require.Equal(t, []string{"id2", "id3", "id4"}, ids)
	require.Zero(t, failed)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	files, err := d.list(period, suffix)
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f.path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.NoError(t, os.Truncate(files[1].path, files[1].size/2))
	ids, failed = read()
	require.Equal(t, []string{"id2", "id4"}, ids)
	require.Equal(t, 1, failed)

	require.NoError(t, d.SaveBaseline(sample("before", 1, 1)))
	require.NoError(t, d.SaveBaseline(sample("before", 2, 1)))
	var names []string
	baselines := func(s *insight.Snapshot, err error) {
		require.NoError(t, err)
		names = append(names, fmt.Sprint(s.Name, len(s.Statements)))
	}
	require.NoError(t, d.Baselines(baselines))
	require.Equal(t, []string{"before2"}, names)
	require.NoError(t, d.RemoveBaseline("before"))

	d.bytes = files[0].size + 10
	s := sample("last", 2, 1)
	s.End = s.End.Add(time.Hour)
	require.NoError(t, d.SavePeriod(s))
	require.NoError(t, d.Prune())
	ids, _ = read()
	require.Equal(t, []string{"last"}, ids)

	for _, name := range []string{"", "a/b", "../x", ".x", "a b", strings.Repeat("x", 81)} {
		require.Error(t, CheckName(name), name)
	}
	require.NoError(t, CheckName("before-1.2_b"))
}

// saveIn is the environment variable that has TestKilled save to a directory until it is killed.
const saveIn = "PGWEIR_TEST_SAVE_IN"

// TestKilled: a process that is killed while it saves leaves files that can be read, each of
// them, and nothing that stays.
func TestKilled(t *testing.T) {
	if path := os.Getenv(saveIn); path != "" {
		d, err := Open(path, 5, 1<<20)
		require.NoError(t, err)
		s := sample("x", 50, 3)
		for i := 0; ; i++ {
			s.ID, s.End = fmt.Sprint(i), s.End.Add(time.Minute)
			require.NoError(t, d.SavePeriod(s))
			require.NoError(t, d.Prune())
		}
	}
	path := t.TempDir()
	d, err := Open(path, 5, 1<<20)
	require.NoError(t, err)
	for range 6 {
		before, err := d.list(period, suffix)
		require.NoError(t, err)
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), saveIn+"="+path)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			now, err := d.list(period, suffix)
			return err == nil && len(now) > 0 && !reflect.DeepEqual(now, before)
		}, 20*time.Second, time.Millisecond)
		time.Sleep(time.Duration(rand.IntN(int(20 * time.Millisecond))))
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	n := 0
	require.NoError(t, d.Periods(func(_ *insight.Snapshot, err error) { require.NoError(t, err); n++ }))
	require.Positive(t, n)
	left, err := d.list("", unready)
	require.NoError(t, err)
	for _, f := range left {
		require.NoError(t, os.Chtimes(f.path, time.Time{}, time.Now().Add(-2*abandoned)))
	}
	_, err = Open(path, 5, 1<<20)
	require.NoError(t, err)
	left, err = d.list("", unready)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestSum: instances add up, and none counts twice.
func TestSum(t *testing.T) {
	a, b := sample("a", 3, 2), sample("b", 4, 1)
	b.Begin, b.End = b.Begin.Add(-time.Hour), b.End.Add(time.Hour)
	sum := NewSum(insight.Options{})
	require.True(t, sum.Add(a))
	require.True(t, sum.Add(b))
	require.False(t, sum.Add(a))
	x := sum.Snapshot()
	require.Len(t, x.Statements, 4)
	all := x.Statements[0].All()
	require.Equal(t, uint64(3), all.Calls)
	require.Equal(t, b.Begin, x.Begin)
	require.Equal(t, b.End, x.End)
	require.Equal(t, insight.Lag{Samples: 2, Sum: 2 * time.Second, Max: time.Second}, x.Lag)
	text, err := json.Marshal(sum.Book.Summary())
	require.NoError(t, err)
	require.Contains(t, string(text), "SELECT 3")
}
