package baselines

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/archive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is a Book with its Keeper.
type kept struct {
	*Keeper
	book *insight.Book
	logs *observer.ObservedLogs
}

func keep(t *testing.T, dir string) *kept {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	k := &kept{book: insight.New(insight.Options{}), logs: logs}
	var err error
	k.Keeper, err = New(Options{
		Book: k.book, Dir: dir, Files: 10, Bytes: 1 << 20, Statements: 100, Log: zap.New(core),
		Lag: func() (time.Duration, bool) { return 40 * time.Millisecond, true },
	})
	require.NoError(t, err)
	k.Start()
	return k
}

// call has an application call a statement some times.
func (k *kept) call(application, fingerprint string, times int) {
	s := k.book.NewSession(insight.Who{Database: "d", Application: application})
	for range times {
		s.Ran(&insight.Event{Statement: k.book.Statement("d", fingerprint, "SELECT "+fingerprint, insight.Shape{}), Began: time.Now(), Duration: time.Millisecond})
	}
	s.End()
}

// calls are the calls by statement of a baseline, or of what came since the last one.
func (k *kept) calls(t *testing.T, name string) map[string]uint64 {
	t.Helper()
	var data bytes.Buffer
	require.NoError(t, k.Write(&data, name))
	s, err := archive.Read(&data)
	require.NoError(t, err)
	return callsOf(s)
}

func callsOf(s *insight.Snapshot) map[string]uint64 {
	n := map[string]uint64{}
	for i := range s.Statements {
		all := s.Statements[i].All()
		n[s.Statements[i].Fingerprint] = all.Calls
	}
	return n
}

// TestBaselines: a baseline has what came since the one before, in memory and in files.
func TestBaselines(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			k := keep(t, dir)
			defer k.Close()
			require.EqualError(t, k.Take("early"), errNothing.Error())
			k.call("web", "a", 3)
			time.Sleep(10 * time.Second)
			require.NoError(t, k.Take("one"))
			k.call("web", "a", 2)
			k.call("web", "b", 1)
			require.Equal(t, map[string]uint64{"a": 2, "b": 1}, k.calls(t, ""))
			require.NoError(t, k.Take("two"))
			require.Empty(t, k.calls(t, ""))
			require.Equal(t, map[string]uint64{"a": 3}, k.calls(t, "one"))
			require.Equal(t, map[string]uint64{"a": 2, "b": 1}, k.calls(t, "two"))
			all, err := k.List()
			require.NoError(t, err)
			require.Len(t, all, 2)
			require.Equal(t, all[0].End, all[1].Begin)
			require.Equal(t, 10*time.Second, all[0].End.Sub(all[0].Begin))
			require.Equal(t, uint64(3), all[1].Calls)
			require.EqualError(t, k.Write(new(bytes.Buffer), "three"), `there is no baseline "three"; there are: one, two`)
			require.ErrorContains(t, k.Take("../three"), "is no name of a baseline")
			k.call("web", "c", 1)
			require.NoError(t, k.Take("one"))
			require.Equal(t, map[string]uint64{"c": 1}, k.calls(t, "one"))
			require.NoError(t, k.Remove("one"))
			require.Error(t, k.Remove("one"))
		})
	}
}

// TestRestart: what was counted up to the last minute is there after the process was killed,
// and after an orderly end all of it is.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, dir)
		k.call("web", "a", 3)
		require.NoError(t, k.Take("first"))
		k.call("web", "a", 4)
		time.Sleep(every + time.Second)
		k.call("web", "b", 1) // is lost: what follows does not wait for the minute
		killed := keep(t, dir)
		require.Equal(t, map[string]uint64{"a": 4}, killed.calls(t, ""))
		require.Equal(t, map[string]uint64{"a": 3}, killed.calls(t, "first"))
		require.Equal(t, map[string]uint64{"a": 7}, callsOf(killed.book.Snapshot()))
		killed.call("web", "a", 1)
		killed.Close()
		k.Close() // both write what is theirs, as processes do that take over
		after := keep(t, dir)
		require.Equal(t, map[string]uint64{"a": 5, "b": 1}, after.calls(t, ""))
		require.Equal(t, map[string]uint64{"a": 8, "b": 1}, callsOf(after.book.Snapshot()))
		after.Close()
		require.Zero(t, k.logs.FilterLevelExact(zap.WarnLevel).Len())
		require.Zero(t, after.logs.FilterLevelExact(zap.WarnLevel).Len())
	})
}

// TestFaultsOfFiles: a damaged file is skipped with one warning, and a directory that is gone
// is told once.
func TestFaultsOfFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "insight")
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, dir)
		for i := range 3 {
			k.call("web", fmt.Sprint("f", i), 1)
			time.Sleep(every + time.Second)
		}
		k.Close()
		files, err := filepath.Glob(dir + "/period-*")
		require.NoError(t, err)
		require.Len(t, files, 3)
		require.NoError(t, os.Truncate(files[1], 20))
		k = keep(t, dir)
		require.Equal(t, map[string]uint64{"f0": 1, "f2": 1}, k.calls(t, ""))
		warned := k.logs.FilterLevelExact(zap.WarnLevel).All()
		require.Len(t, warned, 1)
		require.Contains(t, fmt.Sprint(warned[0].ContextMap()), files[1])
		require.NoError(t, os.RemoveAll(dir))
		for range 3 {
			k.call("web", "x", 1)
			time.Sleep(every + time.Second)
		}
		require.Equal(t, 1, k.logs.FilterMessageSnippet("could not be written").Len())
		require.NoError(t, os.Mkdir(dir, 0o700))
		time.Sleep(every)
		k.Close()
		k = keep(t, dir)
		require.Equal(t, uint64(3), k.calls(t, "")["x"])
		k.Close()
	})
}

// TestByThemselves: baselines are taken before another version's calls and when the schema has
// changed, of a minute at least.
func TestByThemselves(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, dir)
		names := func() (names []string) {
			time.Sleep(2 * time.Second)
			all, err := k.List()
			require.NoError(t, err)
			for _, e := range all {
				names = append(names, fmt.Sprint(e.Name, " ", e.Why, " ", e.Calls))
			}
			return names
		}
		k.call("shop/1.4.1", "a", 5)
		time.Sleep(2 * calm)
		require.Empty(t, names())
		k.call("shop/1.4.2", "b", 1) // within the second, this belongs to what was before
		require.Equal(t, []string{"before-shop-1.4.2 shop/1.4.2 6"}, names())
		k.call("shop/1.4.2", "b", 1)
		k.book.Changed("ddl")
		require.Len(t, names(), 1, "too early")
		time.Sleep(calm)
		k.call("shop/1.4.1", "b", 1)
		k.book.Changed("ddl")
		require.Len(t, names(), 2)
		require.Regexp(t, `^before-ddl-\d{8}T\d{6} ddl 2$`, names()[1])
		require.Equal(t, 2, k.logs.FilterField(zap.String("event", "baseline")).Len())
		k.Close()

		k = keep(t, dir) // the next process sees both versions again
		k.call("shop/1.4.1", "a", 1)
		time.Sleep(2 * calm)
		k.call("shop/1.4.2", "b", 1)
		require.Len(t, names(), 2)
		for i := range maxBaselines {
			k.call("shop/1.4.2", "b", 1)
			require.NoError(t, k.Take(fmt.Sprint("own", i)))
		}
		require.Equal(t, "own0  3", names()[0], "those that were taken by themselves make room")
		k.call("shop/1.4.2", "b", 1)
		require.ErrorContains(t, k.Take("more"), "32 baselines are kept")
		require.NoError(t, k.Take("own7"))
		k.Close()
	})
}

// TestNone: while nothing is counted, every command says so.
func TestNone(t *testing.T) {
	k, err := New(Options{})
	require.NoError(t, err)
	k.Start()
	require.Equal(t, errOff, k.Take("x"))
	require.Equal(t, errOff, k.Remove("x"))
	require.Equal(t, errOff, k.Write(nil, ""))
	_, err = k.List()
	require.Equal(t, errOff, err)
	k.Close()

	on := keep(t, "")
	on.Close()
	require.Equal(t, errEnding, on.Take("x"))
	_, err = New(Options{Book: on.book, Dir: "/dev/null/x"})
	require.ErrorContains(t, err, "insight.dir")
}
