package client

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whether a connection goes to somebody else.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name  string
		lease lease
		state session.State
		want  verdict
	}{
		{"at rest", lease{}, session.State{}, clean},
		{"mid-batch", lease{stands: midBatch}, session.State{}, mustClose},
		{"refused mid-batch", lease{stands: midBatchFailed}, session.State{}, mustClose},
		{"open block", lease{}, session.State{Tx: session.Transaction{Phase: session.Open}}, mustClose},
		{"aborted block", lease{}, session.State{Tx: session.Transaction{Phase: session.Aborted}}, mustClose},
		{"deferred block", lease{}, session.State{Tx: session.Transaction{Phase: session.Deferred}}, clean},
		{"known to be discarded", lease{residue: session.Discardable}, session.State{}, discardAll},
		{"nobody knows", lease{residue: session.Opaque}, session.State{}, mustClose},
		{"settings unknown", lease{}, session.State{Known: session.UnknownText}, readBack},
		{"settings unknown, and to be discarded", lease{residue: session.Discardable}, session.State{Known: session.UnknownText}, readBack},
		{"unknown until its end", lease{}, session.State{Known: session.UnknownLocal}, clean},
	} {
		require.Equal(t, c.want, c.lease.verdict(&c.state), c.name)
	}
}

// Whether a batch may be sent again: its answer is held back as long as it may.
func TestMayRetry(t *testing.T) {
	read := &router.Plan{Class: router.ClassRead, Target: router.TargetReplica, Statements: 1}
	write := &router.Plan{Class: router.ClassWrite, Target: router.TargetPrimary, Statements: 1, Flags: router.FlagDDL}
	open, deferred := session.Transaction{Phase: session.Open}, session.Transaction{Phase: session.Deferred}
	for _, c := range []struct {
		name      string
		plan      *router.Plan
		role      cluster.Role
		stands    stands
		state     session.State
		replays   batch.Replay
		traits    batch.Traits
		mayRetry  bool
		untouched bool
	}{
		{name: "read on a replica", plan: read, role: cluster.RoleReplica, mayRetry: true, untouched: true},
		{name: "read on the primary", plan: read, role: cluster.RolePrimary, mayRetry: true, untouched: true},
		{name: "DDL on the primary", plan: write, role: cluster.RolePrimary, untouched: true},
		{name: "DDL on a replica", plan: write, role: cluster.RoleReplica, mayRetry: true, untouched: true},
		{name: "pinned", plan: read, role: cluster.RolePrimary, state: session.State{Pins: router.PinTemp}},
		{name: "a portal of an earlier batch", plan: read, role: cluster.RoleReplica, traits: batch.Resumes},
		{name: "mid-batch on the primary", plan: read, role: cluster.RolePrimary, stands: midBatch},
		{name: "in a block", plan: read, role: cluster.RolePrimary, state: session.State{Tx: open}},
		{name: "in a block on a replica", plan: read, role: cluster.RoleReplica, state: session.State{Tx: open}, mayRetry: true},
		{name: "opening a block", plan: read, role: cluster.RolePrimary, state: session.State{Tx: deferred}, replays: batch.ReplaysBlock,
			mayRetry: true, untouched: true},
	} {
		w := &work{c: &Client{state: c.state, lease: lease{role: c.role, stands: c.stands}}}
		w.batch.Traits, w.try.Replays = c.traits, c.replays
		w.batch.Add(&batch.Message{Kind: batch.Query, Plan: c.plan})
		require.Equal(t, c.mayRetry, repetition{w}.mayRetry(), c.name)
		require.Equal(t, c.untouched, repetition{w}.untouched(), c.name)
		w.try.flow = copying
		require.False(t, repetition{w}.untouched(), "%s, with COPY data on its way", c.name)
	}
}

func TestFlow(t *testing.T) {
	for from, want := range map[flow]flow{passedOn: passedOn, heldBack: passedOn, copying: copying, copyingPastSync: copyingPastSync} {
		a := attempt{flow: from}
		a.sure()
		require.Equal(t, want, a.flow)
	}
}
