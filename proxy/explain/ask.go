package explain

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router/execplan"
)

var (
	errNoServer = errors.New("no server may be asked")
	errPrimary  = errors.New("the server is no replica any more")
)

// asking is the conversation about one sample with one server.
type asking struct {
	*Sample
	b       *backend.Backend
	generic bool
	server  serverFacts
}

// explain asks a server for the plan of a sample. Everything is in one transaction that can
// write nothing and is never committed.
func (x *Sampler) explain(ctx context.Context, s *Sample) (*insight.Plan, error) {
	server := x.pick(s.From.topology())
	if server == nil {
		return nil, errNoServer
	}
	b, err := s.From.open(ctx, server, application)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	a := asking{Sample: s, b: b, generic: x.options.Generic || s.Values == nil && parameters(s) > 0}
	if err := a.begin(ctx, x.options.Timeout.Milliseconds()); err != nil {
		return nil, err
	}
	if err := a.look(ctx); err != nil {
		return nil, err
	}
	if !a.server.replica && !x.options.Primary {
		return nil, errPrimary
	}
	if err := a.prepare(ctx); err != nil {
		return nil, err
	}
	plan, err := a.plan(ctx)
	if err != nil {
		return nil, err
	}
	plan.Server, plan.Generic = server.Address, a.generic
	if err := a.tables(ctx, plan); err != nil {
		return nil, err
	}
	plan.Wanted = execplan.Wanted(plan)
	a.verify(ctx, plan)
	return plan, nil
}

// begin opens the transaction under the session's settings, which end with it.
func (a *asking) begin(ctx context.Context, timeout int64) error {
	changes := a.b.Changes(a.Settings, setting.Names{})
	texts := []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}
	for _, c := range changes {
		if c.Name == "application_name" {
			continue
		}
		c.Local = true
		if texts = append(texts, c.SQL()); c.Recodes() { // it decides how the bytes of the others are read
			if err := a.run(ctx, texts); err != nil {
				return err
			}
			texts = nil
		}
	}
	ms := strconv.FormatInt(timeout, 10)
	texts = append(texts, "SET LOCAL statement_timeout = "+ms, "SET LOCAL lock_timeout = "+ms)
	if a.generic {
		texts = append(texts, "SET LOCAL plan_cache_mode = force_generic_plan")
	}
	return a.run(ctx, texts)
}

func (a *asking) run(ctx context.Context, texts []string) error {
	_, err := a.b.RoundTrip(ctx, wire.AppendQuery(nil, strings.Join(texts, "; ")))
	return err
}

// serverFacts are what a server says of itself.
type serverFacts struct {
	replica bool
	memory  execplan.Memory
	hypopg  string // the schema of HypoPG, quoted; empty if it is not there
}

const factsQuery = `SELECT pg_catalog.pg_is_in_recovery(),
 pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')), pg_catalog.current_setting('hash_mem_multiplier', true),
 (SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
  WHERE e.extname OPERATOR(pg_catalog.=) 'hypopg')`

// look asks what the server is, by the session's settings.
func (a *asking) look(ctx context.Context) error {
	return a.b.Query(ctx, factsQuery, func(v [][]byte) error {
		a.server.replica = string(v[0]) == "t"
		a.server.memory.Work, _ = strconv.ParseFloat(string(v[1]), 64)
		multiplier, _ := strconv.ParseFloat(string(v[2]), 64)
		a.server.memory.Hash = a.server.memory.Work * max(multiplier, 1)
		if v[3] != nil {
			a.server.hypopg = setting.Identifier(string(v[3]))
		}
		return nil
	})
}

// prepared is the name under which a statement is planned without values.
const prepared = "pgweir_plan"

// prepare has the server parse the statement, if it is to be planned without values. The
// extended protocol takes one statement only, whatever a text is.
func (a *asking) prepare(ctx context.Context) error {
	if !a.generic {
		return nil
	}
	frames := wire.AppendParse(nil, prepared, a.Text, types(a.Types))
	_, err := a.b.RoundTrip(ctx, wire.AppendSync(frames))
	return err
}

// plan asks for the plan.
func (a *asking) plan(ctx context.Context) (*insight.Plan, error) {
	const explain = "EXPLAIN (VERBOSE, FORMAT JSON) "
	text, declared, values := explain+a.Text, types(a.Types), withoutFormats(a.Values)
	if a.generic {
		text, declared, values = explain+"EXECUTE "+prepared, nil, withoutFormats(nil)
		if n := parameters(a.Sample); n > 0 {
			text += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
		}
	}
	frames := wire.AppendParse(nil, "", text, declared)
	frames = wire.AppendBind(frames, nil, "", values)
	frames = wire.AppendExecute(frames, "")
	var answer []byte
	_, err := a.b.Ask(ctx, wire.AppendSync(frames), func(frame []byte) {
		var row pgproto3.DataRow
		if frame[0] == wire.DataRow && row.Decode(frame[wire.HeaderSize:]) == nil && len(row.Values) == 1 && len(answer) < maxAnswer {
			answer = append(answer, row.Values[0]...)
		}
	})
	if err != nil {
		return nil, err
	}
	return execplan.Parse(answer, a.server.memory)
}

// maxAnswer is how long a plan may be in JSON, about; what is longer is none.
const maxAnswer = 4 << 20

// tables asks how big the relations of a plan are.
func (a *asking) tables(ctx context.Context, p *insight.Plan) error {
	var names []string
	for i := range p.Nodes {
		if p.Nodes[i].Relation != "" {
			names = append(names, setting.Literal(p.Nodes[i].Relation))
		}
	}
	if len(names) == 0 {
		return nil
	}
	rows := map[string]float64{}
	err := a.b.Query(ctx, "SELECT r.n, c.reltuples FROM pg_catalog.unnest(ARRAY["+strings.Join(names, ", ")+"]) AS r(n)"+
		" JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(r.n)::pg_catalog.oid", func(v [][]byte) error {
		n, _ := strconv.ParseFloat(string(v[1]), 64)
		rows[string(v[0])] = max(n, 0)
		return nil
	})
	for i := range p.Nodes {
		p.Nodes[i].TableRows = rows[p.Nodes[i].Relation]
	}
	return err
}

// verify asks what the statement would cost with each index that is wanted, where HypoPG is
// there to tell. The indexes are known to the connection only, which ends with them. If it
// fails they are not verified.
func (a *asking) verify(ctx context.Context, p *insight.Plan) {
	if a.server.hypopg == "" || a.generic {
		return
	}
	for i := range p.Wanted {
		w := &p.Wanted[i]
		create := strings.Replace(w.SQL(), " CONCURRENTLY", "", 1)
		if a.run(ctx, []string{"SELECT " + a.server.hypopg + ".hypopg_reset()", "SELECT " + a.server.hypopg + ".hypopg_create_index(" + setting.Literal(create) + ")"}) != nil {
			return // so is the transaction
		}
		with, err := a.plan(ctx)
		if err != nil {
			return
		}
		w.Verified, w.After = true, with.Cost
		for _, x := range with.Nodes {
			w.Used = w.Used || strings.HasPrefix(x.Index, `"<`) // as HypoPG names them
		}
	}
}

// parameters is how many a sample's statement has: those of its text, and those declared.
func parameters(s *Sample) int {
	n := grammar.Parameters(s.Text)
	if len(s.Types) >= 2 {
		n = max(n, int(binary.BigEndian.Uint16([]byte(s.Types))))
	}
	return n
}

// types are parameter types as a Parse has them.
func types(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// withoutFormats are the values of a Bind without the formats of its result, which has other
// columns.
func withoutFormats(rest []byte) []byte {
	list := wire.BindParameters(rest)
	out := binary.BigEndian.AppendUint16(nil, uint16(len(list)))
	for _, p := range list {
		format := uint16(0)
		if p.Binary {
			format = 1
		}
		out = binary.BigEndian.AppendUint16(out, format)
	}
	out = binary.BigEndian.AppendUint16(out, uint16(len(list)))
	for _, p := range list {
		if p.Value == nil {
			out = binary.BigEndian.AppendUint32(out, 1<<32-1)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(p.Value))), p.Value...)
	}
	return append(out, 0, 0)
}
