// Package described holds prepared statements to what their client was told of them. A client
// writes parameters and reads rows by that. A server keeps to what it told, and refuses to run the
// statement when its rows have changed; but what another connection would have to remember, the
// session does (session.Told).
package described

import (
	"context"
	"errors"
	"strings"

	"github.com/pgweir/pgweir/internal/prepared"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
)

// Check asks a server of statements that it does not hold yet. It belongs to the goroutine that
// has the connection.
type Check struct {
	Backend  *backend.Backend
	Registry *prepared.Registry
	// InBlock is that a transaction of the client's is open there, which is not to fail with what is asked.
	InBlock bool
	// Apart is that it is asked in a block of its own, as a standby takes no transaction by the
	// connection's defaults.
	Apart bool
	Names session.Meaning // now
	// Renew is that nothing that the server holds is as it is to be.
	Renew bool
}

// Due reports whether a statement must be seen to before it runs on a server: one that is not held there,
// and was described when names may have meant something else, or that runs behind what may change that.
func (c *Check) Due(p *session.Prepared, renamed bool) bool {
	switch told := &p.Told.Names; {
	case p.Told.Rows == 0 || p.Statement.SQL != "" || p.SQL != nil || !c.Renew && c.Backend.Held().Holds(p.Statement):
		return false
	case renamed:
		return !c.Renew && (told.SameButPath(c.Names) || told.SameSettings(c.Names))
	default:
		return c.Renew || !told.Same(c.Names)
	}
}

// See compares a statement that is due with what its client was told of it, and prepares it if names may mean
// something else before it runs: the server holds it to what it was then. It returns the error that it deserves
// if the server has other rows for it; ok is false if the connection is lost.
func (c *Check) See(ctx context.Context, p *session.Prepared, renamed bool) (refusal *wire.Error, ok bool) {
	if ok = true; !renamed || !p.Told.Names.SameButPath(c.Names) {
		ask := func() (*wire.Error, bool) { return c.compare(ctx, p) }
		if c.InBlock || c.Apart {
			refusal, ok = c.apart(ctx, ask)
		} else {
			refusal, ok = ask()
		}
	}
	if refusal == nil && ok && renamed && (p.Told.Names == c.Names || p.Told.Names.SameButPath(c.Names)) {
		return c.prepare(ctx, p)
	}
	return refusal, ok
}

// compare gives a statement the parameter types that its client was told of, as values are sent by these,
// unless they are gone.
func (c *Check) compare(ctx context.Context, p *session.Prepared) (refusal *wire.Error, ok bool) {
	var refused *backend.ServerError
	rows, types, err := c.ask(ctx, p.Statement)
	if err == nil && p.Told.Types != "" && types != p.Told.Types {
		st := c.Registry.Statement([]byte(p.Text), []byte(p.Told.Types), p.Statement.Name)
		told, _, failed := c.ask(ctx, st)
		switch {
		case failed == nil:
			p.Statement, rows = st, told
		case !errors.As(failed, &refused):
			err = failed
		case !gone(refused):
			return wire.ReadError(refused.Frame), true
		}
	}
	switch {
	case errors.As(err, &refused):
		return nil, true // it will be refused again
	case err != nil:
		return nil, false
	case rows != p.Told.Rows:
		c.Registry.Forget(p.Statement)
		e := wire.Errorf("0A000", "cached plan must not change result type")
		e.Routine = "RevalidateCachedQuery" // by which drivers know to prepare it anew
		return e, true
	}
	p.Told.Names = c.Names
	return nil, true
}

// prepare has the server hold a statement as its client was told of it. What that locks is free behind it.
func (c *Check) prepare(ctx context.Context, p *session.Prepared) (refusal *wire.Error, ok bool) {
	held := c.Backend.Held()
	if p.ParsedNow(p.Told.Names, c.Registry); held.Holds(p.Statement) {
		return nil, true
	}
	return c.apart(ctx, func() (*wire.Error, bool) {
		var frames []byte
		for _, st := range held.TakeOwed() { // it may be among them
			frames = wire.AppendTarget(frames, wire.Close, 'S', st.Name)
		}
		if p.Told.Names != c.Names {
			path, set := p.Told.Names.Settings.Value(session.Path)
			frames = appendRun(frames, setting.Change{Name: session.Path, Value: path, Reset: !set, Local: true}.SQL())
		}
		frames = wire.AppendParse(frames, p.Name, p.Text, []byte(p.Types))
		_, err := c.Backend.RoundTrip(ctx, wire.AppendSync(frames))
		if err == nil {
			held.Hold(p.Statement)
		}
		if c.Names.Definitions == 0 {
			held.Pass(p.Statement) // to another session it may be something else
		}
		var refused *backend.ServerError
		return nil, err == nil || errors.As(err, &refused) // it is prepared where it runs
	})
}

// apart asks in a transaction of its own, or a part of the client's, of which nothing stays but what is prepared.
func (c *Check) apart(ctx context.Context, ask func() (*wire.Error, bool)) (refusal *wire.Error, ok bool) {
	begin, end := []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}, []string{"ROLLBACK"}
	if c.InBlock {
		begin, end = []string{"SAVEPOINT " + own}, []string{"ROLLBACK TO " + own, "RELEASE " + own}
	}
	var refused *backend.ServerError
	switch _, err := c.Backend.RoundTrip(ctx, wire.AppendSync(appendRun(nil, begin...))); {
	case errors.As(err, &refused):
		return wire.ReadError(refused.Frame), true // the client's transaction has failed with it
	case err != nil:
		return nil, false
	}
	refusal, ok = ask()
	_, err := c.Backend.RoundTrip(ctx, wire.AppendSync(appendRun(nil, end...)))
	return refusal, ok && err == nil
}

// own names what is there for a moment, as an identifier. The unnamed statement and portal are the client's.
const own = `"pgweir: described"`

// appendRun has statements run.
func appendRun(frames []byte, texts ...string) []byte {
	for _, text := range texts {
		frames = wire.AppendParse(frames, own, text, nil)
		frames = wire.AppendBind(frames, []byte(own), own, nil)
		frames = wire.AppendExecute(frames, own)
		frames = wire.AppendTarget(frames, wire.Close, 'P', own)
		frames = wire.AppendTarget(frames, wire.Close, 'S', own)
	}
	return frames
}

// gone reports whether an error tells that a type is no more.
func gone(e *backend.ServerError) bool {
	return e.Code() == "42704" || e.Code() == "XX000" && strings.HasPrefix(string(wire.ErrorField(e.Frame, 'M')), "cache lookup failed")
}

// ask prepares a statement for a moment, under another name, to have it described.
func (c *Check) ask(ctx context.Context, st *prepared.Statement) (rows uint64, types string, err error) {
	frames := wire.AppendParse(nil, own, st.Text, []byte(st.Types))
	frames = wire.AppendTarget(frames, wire.Describe, 'S', own)
	frames = wire.AppendTarget(frames, wire.Close, 'S', own)
	_, err = c.Backend.Ask(ctx, wire.AppendSync(frames), func(frame []byte) {
		switch frame[0] {
		case wire.ParameterDescription:
			types = string(frame[wire.HeaderSize:])
		case wire.RowDescription, wire.NoData:
			rows = batch.HashRows(frame)
		}
	})
	return rows, types, err
}
