package observe

import (
	"bytes"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/explain"
	"github.com/pgweir/pgweir/router"
)

// offer offers what was executed to be explained, if it is one SELECT that is proved to read
// only, as it was written.
func (s *Session) offer(st *Statement) {
	m, p := st.Message, st.Message.Plan
	if p.Class != router.ClassRead || p.Statements != 1 || p.Statement.Shape().Table == "" || len(p.Sets) > 0 || m.Text != "" || m.SQL != nil {
		return
	}
	text := st.Batch.Text(m, st.Sent, st.Unnamed)
	if len(text) == 0 || len(text) > explain.MaxSize {
		return
	}
	sample := explain.Sample{Statement: p.Statement, Settings: st.Settings, Text: string(text)}
	if m.Kind == batch.Execute {
		sample.Types = st.types()
		if bind := st.frame(st.Batch.BindOf(m)); bind != nil && len(bind) <= explain.MaxSize && s.plans.WantsValues() {
			_, _, values, _ := wire.BindParts(bind)
			sample.Values = bytes.Clone(values)
		}
	}
	s.plans.Offer(&sample)
}

// types are those of the parameters as the Parse of an Execute has them.
func (st *Statement) types() string {
	m := st.Message
	if m.Prepared != nil {
		return m.Prepared.Types
	}
	_, types := st.Batch.Unnamed(st.Sent, st.Unnamed, m.Parse)
	return string(types)
}
