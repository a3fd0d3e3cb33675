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
}

// Compare returns the error that a statement deserves if the server has other rows for it than its
// client was told of; ok is false if the connection is lost. The statement gets the parameter types
// that its client was told of, as values are sent by these, unless they are gone.
func (c *Check) Compare(ctx context.Context, p *session.Prepared) (refusal *wire.Error, ok bool) {
	if begin, end := c.around(); begin != nil {
		if _, err := c.Backend.RoundTrip(ctx, begin); err != nil {
			return nil, false
		}
		defer func() {
			_, err := c.Backend.RoundTrip(ctx, end)
			ok = ok && err == nil
		}()
	}
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

// around are what begins and ends a transaction, or a part of one, for what is asked; nil if it needs none.
func (c *Check) around() (begin, end []byte) {
	switch {
	case c.InBlock:
		return run("SAVEPOINT " + own), run("ROLLBACK TO "+own, "RELEASE "+own)
	case c.Apart:
		return run("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"), run("ROLLBACK")
	}
	return nil, nil
}

// own names what is there for a moment, as an identifier. The unnamed statement and portal are the client's.
const own = `"pgweir: described"`

// run has statements run.
func run(texts ...string) (frames []byte) {
	for _, text := range texts {
		frames = wire.AppendParse(frames, own, text, nil)
		frames = wire.AppendBind(frames, []byte(own), own, nil)
		frames = wire.AppendExecute(frames, own)
		frames = wire.AppendTarget(frames, wire.Close, 'P', own)
		frames = wire.AppendTarget(frames, wire.Close, 'S', own)
	}
	return wire.AppendSync(frames)
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
