package clients

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pgxModeChecks run once in each of pgx's ways to execute.
var pgxModeChecks = []pgxCheck{
	{"types", pgxTypes},
	{"statements", pgxStatements},
	{"sizes", pgxSizes},
	{"batch by mode", pgxBatchByMode},
}

func pgxTypes(s *session) error {
	for _, v := range []struct {
		name  string
		value any
	}{
		{"int2", int16(-7)}, {"int4", int32(1 << 30)}, {"int8", int64(1) << 60}, {"float4", float32(1.5)}, {"float8", 2.5e300}, {"bool", true},
		{"text", "it's ü 漢 🚚"}, {"text", ""}, {"text", nil}, {"bytea", []byte{0, 255, 39}}, {"bytea", []byte{}},
		{"int4[]", []int32{1, 2, 3}}, {"text[]", []string{"a", `b "c"`, "d,e", ""}}, {"jsonb", map[string]any{"a": []any{1, nil, "ü"}}},
		{"date", time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)}, {"timestamptz", time.Date(2026, 2, 28, 1, 2, 3, 456000, time.UTC)},
		{"uuid", [16]byte{1, 2, 15: 255}}, {"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, {"interval", 26*time.Hour + time.Second},
		{"inet", "10.1.0.0/16"}, {"numeric", "12345678901234567890.000123"}, {"varchar(3)", "abc"}, {"name", "n"},
	} {
		s.try(v.name, "select $1::"+v.name+"::text, $1::"+v.name, v.value)
	}
	s.try("bad int", "select $1::int", "x")
	s.try("out of range", "select $1::int2", int64(1)<<40)
	s.try("range", "select int4range(1, 5)::text, row(1, 'a')::text, array[[1,2],[3,4]], 'NaN'::float8, '-infinity'::timestamptz")
	return nil
}

func pgxStatements(s *session) error {
	table := fmt.Sprintf("st_%d", s.Config().DefaultQueryExecMode)
	if err := s.must("create table " + table + " (a int primary key, b text)"); err != nil {
		return err
	}
	for i := range 12 {
		s.try("insert", "insert into "+table+" values ($1, $2) returning a", i, fmt.Sprint("v", i))
		s.try("select", "select b from "+table+" where a = $1", i)
	}
	s.try("duplicate", "insert into "+table+" values ($1, $2)", 1, "x")
	s.try("syntax", "selec $1", 1)
	s.try("undefined", "select * from nowhere where a = $1", 1)
	s.try("division", "select 1 / $1::int", 0)
	s.try("empty", "")
	s.try("comment", "-- nothing")
	s.try("semicolon", ";")
	s.try("two", "select 1; select 2")
	tag, err := s.Exec(s.ctx, "insert into "+table+" values (100, 'x'); update "+table+" set b = 'y' where a >= 99; select 1")
	s.attempt("script", tag, err)
	_, err = s.Exec(s.ctx, "insert into "+table+" values (200, 'x'); select 1/0; insert into "+table+" values (201, 'x')")
	s.say("script with error", err)
	s.try("left", "select count(*), max(a) from "+table)
	s.try("wrong count", "select $1::int + $2::int", 1)
	s.try("any", "select a from "+table+" where a = any($1) order by a", []int32{1, 3, 100})
	s.try("notice", "do $$ begin raise notice 'n' using hint = 'h', detail = 'd'; end $$")
	s.say("notices", s.notices)
	return nil
}

func pgxSizes(s *session) error {
	s.try("large text", "select length($1::text), md5($1::text), $1::text", strings.Repeat("é", 1<<20))
	s.try("large bytes", "select length($1::bytea), $1::bytea", bytes.Repeat([]byte{0, 1, 2, 255}, 1<<19))
	marks, args := make([]string, 3000), make([]any, 3000)
	for i := range marks {
		marks[i], args[i] = fmt.Sprintf("$%d::int", i+1), int32(i)
	}
	s.try("many parameters", "select sum(x) from unnest(array["+strings.Join(marks, ",")+"]) x", args...)
	s.try("many rows", "select g, md5(g::text), null::int from generate_series(1, $1::int) g", 10000)
	wide := make([]string, 500)
	for i := range wide {
		wide[i] = fmt.Sprintf("%d as c%d", i, i)
	}
	s.try("wide", "select "+strings.Join(wide, ", "))
	return nil
}

func pgxBatchByMode(s *session) error {
	table := fmt.Sprintf("bm_%d", s.Config().DefaultQueryExecMode)
	if err := s.must("create table " + table + " (a int primary key)"); err != nil {
		return err
	}
	batch := func(values ...int) error {
		b := &pgx.Batch{}
		for _, v := range values {
			b.Queue("insert into "+table+" values ($1)", v)
		}
		b.Queue("select count(*) from " + table)
		return s.SendBatch(s.ctx, b).Close()
	}
	s.attempt("good", "done", batch(1, 2, 3, 4, 5, 6, 7, 8))
	s.attempt("error in the middle", "done", batch(9, 1, 10))
	s.attempt("good again", "done", batch(11, 12))
	s.try("rows", "select count(*), sum(a) from "+table)
	return nil
}

func pgxNamedStatements(s *session) error {
	if err := s.must("create table ns (a int primary key, b text)", "insert into ns select g, 'v' || g from generate_series(1, 50) g"); err != nil {
		return err
	}
	description, err := s.Prepare(s.ctx, "by_key", "select b, a from ns where a = $1")
	if err != nil {
		return err
	}
	s.say("parameters", description.ParamOIDs)
	for _, f := range description.Fields {
		s.say("field", fmt.Sprint(f.Name, " ", f.DataTypeOID, " ", f.TypeModifier))
	}
	for i := range 10 {
		s.try("by key", "by_key", i+1)
	}
	// PgConn does not keep the books that Conn keeps, so the server has the word.
	_, err = s.PgConn().Prepare(s.ctx, "by_key", "select 1", nil)
	s.say("duplicate", err)
	s.attempt("close", "done", s.PgConn().Deallocate(s.ctx, "by_key"))
	s.attempt("close again", "done", s.PgConn().Deallocate(s.ctx, "by_key"))
	s.try("closed", "by_key", 1)
	_, err = s.PgConn().Prepare(s.ctx, "by_key", "select $1::text || '!'", nil)
	s.attempt("another text", "done", err)
	result := s.PgConn().ExecPrepared(s.ctx, "by_key", [][]byte{[]byte("x")}, nil, nil).Read()
	s.attempt("its result", fmt.Sprintf("%s", result.Rows), result.Err)
	_, err = s.PgConn().Prepare(s.ctx, "bad", "selec 1", nil)
	s.say("syntax error", err)
	s.say("unknown", s.PgConn().ExecPrepared(s.ctx, "unknown", nil, nil, nil).Read().Err)
	for i := range 600 {
		v, err := s.rows(fmt.Sprintf("select $1::int + %d", i), 1)
		if err != nil || v != fmt.Sprintf("SELECT 1 [[%d]]", i+1) {
			s.attempt(fmt.Sprintf("statement %d", i), v, err)
		}
	}
	s.attempt("deallocate all", "done", s.DeallocateAll(s.ctx))
	s.try("after", "select b from ns where a = $1", 1)
	return nil
}

func pgxDDL(s *session) error {
	if err := s.must("create table ddl (a int)", "insert into ddl values (1)"); err != nil {
		return err
	}
	const query = "select * from ddl where a = $1"
	s.try("before", query, 1)
	if err := s.must("alter table ddl add b text default 'x'"); err != nil {
		return err
	}
	s.try("column added", query, 1)
	s.try("again", query, 1)
	s.try("and again", query, 1)
	if err := s.must("begin", "alter table ddl add c int"); err != nil {
		return err
	}
	s.try("in a transaction", query, 1)
	s.try("aborted", query, 1)
	if err := s.must("rollback"); err != nil {
		return err
	}
	s.try("after rollback", query, 1)
	s.try("drop", "drop table ddl")
	s.try("dropped", query, 1)
	return nil
}

func pgxBatch(s *session) error {
	if err := s.must("create table ba (a int primary key, b text)"); err != nil {
		return err
	}
	b := &pgx.Batch{}
	for i := range 1000 {
		b.Queue("insert into ba values ($1, $2) returning a", i, strings.Repeat("x", 100))
	}
	b.Queue("select count(*), sum(length(b)) from ba")
	b.Queue("begin")
	b.Queue("update ba set b = $1 where a < $2", "y", 10)
	b.Queue("commit")
	b.Queue("select b, count(*) from ba group by b order by count(*)")
	results := s.SendBatch(s.ctx, b)
	sum := 0
	for range 1000 {
		var a int
		if err := results.QueryRow().Scan(&a); err != nil {
			return err
		}
		sum += a
	}
	s.say("inserted", sum)
	for _, name := range []string{"count", "begin", "update", "commit", "groups"} {
		v, err := rowsOf(results.Query())
		s.attempt(name, v, err)
	}
	s.attempt("close", "done", results.Close())
	b = &pgx.Batch{}
	b.Queue("begin")
	b.Queue("insert into ba values (5000, 'in')")
	b.Queue("select 1 / (a - 5000) from ba where a = 5000")
	b.Queue("commit")
	s.attempt("failed transaction", "done", s.SendBatch(s.ctx, b).Close())
	s.say("status", string(s.PgConn().TxStatus()))
	s.try("rollback", "rollback")
	s.try("rows", "select count(*) from ba")
	return nil
}

func pgxPipeline(s *session) error {
	if err := s.must("create table pi (a int primary key)"); err != nil {
		return err
	}
	p := s.PgConn().StartPipeline(s.ctx)
	p.SendPrepare("ins", "insert into pi values ($1)", nil)
	p.SendQueryPrepared("ins", [][]byte{[]byte("1")}, nil, nil)
	p.SendQueryParams("select count(*) from pi", nil, nil, nil, nil)
	for _, v := range []string{"2", "1", "3"} {
		if v == "2" {
			if err := p.Sync(); err != nil {
				return err
			}
		}
		p.SendQueryPrepared("ins", [][]byte{[]byte(v)}, nil, nil)
	}
	if err := p.Sync(); err != nil {
		return err
	}
	p.SendQueryPrepared("ins", [][]byte{[]byte("4")}, nil, nil)
	p.SendDeallocate("ins")
	p.SendQueryPrepared("ins", [][]byte{[]byte("5")}, nil, nil)
	if err := p.Sync(); err != nil {
		return err
	}
	for i := range 30 {
		r, err := p.GetResults()
		if r == nil && err == nil {
			break
		}
		name := fmt.Sprintf("result %d %T", i, r)
		s.attempt(name, pipelineResult(r), err)
	}
	s.attempt("close", "done", p.Close())
	s.try("rows", "select a from pi order by a")
	return nil
}

func pipelineResult(r any) any {
	reader, ok := r.(*pgconn.ResultReader)
	if !ok {
		return "done"
	}
	result := reader.Read()
	if result.Err != nil {
		return result.Err
	}
	return fmt.Sprintf("%s %s", result.CommandTag, result.Rows)
}

func pgxCopy(s *session) error {
	if err := s.must("create table cp (a int primary key, b text, c timestamptz)"); err != nil {
		return err
	}
	when := time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)
	from := func(start, count int) pgx.CopyFromSource {
		return pgx.CopyFromSlice(count, func(i int) ([]any, error) { return []any{int32(start + i), "grün", when}, nil })
	}
	columns := []string{"a", "b", "c"}
	n, err := s.CopyFrom(s.ctx, pgx.Identifier{"cp"}, columns, from(0, 50000))
	s.attempt("copy from", n, err)
	n, err = s.CopyFrom(s.ctx, pgx.Identifier{"cp"}, columns, from(49999, 10))
	s.attempt("duplicate", n, err)
	n, err = s.CopyFrom(s.ctx, pgx.Identifier{"cp"}, columns, pgx.CopyFromFunc(func() ([]any, error) { return nil, fmt.Errorf("the client gave up") }))
	s.attempt("client gives up", n, err)
	n, err = s.CopyFrom(s.ctx, pgx.Identifier{"nowhere"}, columns, from(0, 1))
	s.attempt("no such table", n, err)
	tag, err := s.PgConn().CopyFrom(s.ctx, strings.NewReader("60000\tx\t\\N\nbad\tx\t\\N\n"), "copy cp from stdin")
	s.attempt("bad line", tag, err)
	var b strings.Builder
	for i := range 100000 {
		fmt.Fprintf(&b, "%d\t%s\t\\N\n", 100000+i, strings.Repeat("y", 100))
	}
	tag, err = s.PgConn().CopyFrom(s.ctx, strings.NewReader(b.String()), "copy cp from stdin")
	s.attempt("10 MB", tag, err)
	var out bytes.Buffer
	tag, err = s.PgConn().CopyTo(s.ctx, &out, "copy (select * from cp order by a) to stdout")
	s.attempt("copy to", tag, err)
	s.say("text", out.String())
	tag, err = s.PgConn().CopyTo(s.ctx, io.Discard, "copy (select 1 / (a - 60) from cp where a < 100 order by a) to stdout")
	s.attempt("copy to with error", tag, err)
	s.try("usable", "select count(*) from cp")
	return nil
}

func pgxLargeObjects(s *session) error {
	tx, err := s.Begin(s.ctx)
	if err != nil {
		return err
	}
	objects := tx.LargeObjects()
	oid, err := objects.Create(s.ctx, 515151)
	s.attempt("create", oid, err)
	lo, err := objects.Open(s.ctx, 515151, pgx.LargeObjectModeWrite|pgx.LargeObjectModeRead)
	if err != nil {
		return err
	}
	n, err := lo.Write(bytes.Repeat([]byte("0123456789"), 20000))
	s.attempt("write", n, err)
	at, err := lo.Seek(-15, io.SeekEnd)
	s.attempt("seek", at, err)
	rest, err := io.ReadAll(lo)
	s.attempt("read", string(rest), err)
	s.attempt("unlink", "done", objects.Unlink(s.ctx, 515151))
	return tx.Commit(s.ctx)
}
