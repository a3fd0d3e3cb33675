package router

// Executing is the Plan of an EXECUTE, given that of the statement it executes:
// the stricter of both, with what either may leave behind. EXPLAIN and CREATE TABLE
// AS may stand around it, and its arguments are expressions of their own.
func (p *Plan) Executing(inner *Plan) *Plan {
	inner = inner.withArguments(p.args)
	if p.Target == TargetAny && p.Pins|p.Unpins == 0 && p.Flags == 0 && len(p.Touches) == 0 && !inner.Flags.Has(FlagNoSnapshot) {
		return inner
	}
	both := *inner
	if p.Target > inner.Target || p.Target == inner.Target && severity[p.Class] > severity[inner.Class] {
		both = *p
	}
	if severity[p.Class] > severity[both.Class] {
		both.Class = p.Class
	}
	both.Flags = (p.Flags | inner.Flags) &^ FlagNoSnapshot // EXECUTE itself takes one
	both.Pins, both.Unpins = p.Pins|inner.Pins, 0
	both.Touches = append(append([]string(nil), inner.Touches...), p.Touches...)
	both.Tx, both.SQL, both.Own = Tx{}, p.SQL, Own{}
	both.Variants = nil
	both.Tenant, both.literals.tenants = inner.Tenant, inner.literals.tenants
	both.Reads, both.Writes, both.Version = inner.Reads, inner.Writes, inner.Version
	both.touchesToo(p)
	both.Uses, both.literals.plain = p.Uses || inner.Uses, p.literals.plain && inner.literals.plain
	both.Consistency, both.MinLSN = max(p.Consistency, inner.Consistency), max(p.MinLSN, inner.MinLSN)
	both.neverOnReplica = p.neverOnReplica || inner.neverOnReplica
	return &both
}
