package insight

import "strings"

// Libraries in whose words a cure is told.
const (
	sqlalchemy = "SQLAlchemy"
	django     = "Django"
	rails      = "Rails"
	prisma     = "Prisma"
	hibernate  = "Hibernate"
)

// cures are the idioms against each kind, where there are such.
var cures = [Kinds]map[string]string{
	NPlusOne: {
		sqlalchemy: "selectinload(…) or joinedload(…) in the query's options",
		django:     "select_related(…) for one row, prefetch_related(…) for several",
		rails:      "includes(…), and strict_loading to be told next time",
		prisma:     "include: { … } in the query before",
		hibernate:  "JOIN FETCH, @EntityGraph or @BatchSize",
	},
	Duplicate: {
		sqlalchemy: "keep the object, or session.get(…), which asks once",
		django:     "keep the object, or evaluate the QuerySet once",
		rails:      "memoize: @x ||= …",
	},
	CountFanOut: {
		sqlalchemy: "select(func.count().filter(…), func.count().filter(…))",
		django:     "aggregate(a=Count('pk', filter=Q(…)), b=…)",
		rails:      "group(:column).count",
		prisma:     "groupBy({ by: […], _count: true })",
	},
	PageAndCount: {
		sqlalchemy: "add func.count().over() to the page's columns, or ask for one row more than the page has",
		django:     "ask for one row more than the page has, or a Paginator without count",
		rails:      "pagy_countless, without_count of Kaminari",
		hibernate:  "Slice in place of Page (Spring Data)",
	},
	IdleInTransaction: {
		sqlalchemy: "commit before slow work; expire_on_commit=False keeps the objects",
		django:     "keep slow work out of atomic(); ATOMIC_REQUESTS = False",
		rails:      "keep slow work out of transaction do",
		hibernate:  "shorter @Transactional; spring.jpa.open-in-view=false",
	},
	Unbounded: {
		sqlalchemy: "limit(…), func.sum(…) and group_by(…) in place of .all(), or yield_per(…)",
		django:     "slice the QuerySet, aggregate(…), or iterator()",
		rails:      "limit(…), sum(…), or find_each",
		prisma:     "take: …, aggregate, groupBy",
		hibernate:  "setMaxResults(…), or a stream with a fetch size",
	},
	Offset: {
		sqlalchemy: "where(tuple_(…) > last).limit(…)",
		django:     "filter(pk__gt=last)[:n]",
		rails:      "where(\"id > ?\", last).limit(n)",
		prisma:     "cursor: { … }, skip: 1",
		hibernate:  "scroll by ScrollPosition.keyset() (Spring Data)",
	},
}

// cure says what to do in place of s.
func (f *Finding) cure(s *Statement) {
	f.Idiom = cures[f.kind]
	table, key := orWord(s.Shape().Table, "…"), "…"
	if n := len(s.Shape().Keys); n > 0 {
		key = s.Shape().Keys[n-1]
	}
	switch f.kind {
	case NPlusOne:
		if s.Shape().Counts || s.Shape().Bound == BoundAggregate {
			f.SQL = "SELECT " + key + ", count(*) FROM " + table + " WHERE … GROUP BY " + key
			f.Idiom = cures[CountFanOut]
			break
		}
		switch {
		case len(s.Shape().Keys) == 0:
			f.SQL, f.Idiom = "SELECT … FROM "+table+" for all conditions at once, GROUP BY what differs", cures[CountFanOut]
		case s.Shape().Bound == BoundLimit && len(s.Shape().Order) > 0:
			f.SQL = "SELECT x.* FROM unnest($1) AS k, LATERAL (SELECT … FROM " + table + " WHERE " + key + " = k ORDER BY … LIMIT …) AS x"
		default:
			f.SQL = "SELECT … FROM " + table + " WHERE " + key + " = ANY ($1)"
		}
	case Duplicate:
		f.SQL = "once"
	case CountFanOut:
		f.SQL = "SELECT count(*) FILTER (WHERE …), count(*) FILTER (WHERE …) FROM " + table + ", or GROUP BY the column that differs"
	case PageAndCount:
		f.SQL = "SELECT …, count(*) OVER () FROM " + table + " … LIMIT …, or no total at all"
	case IdleInTransaction:
		f.SQL = "COMMIT before the application does anything else"
	case Unbounded:
		f.SQL = "SELECT … FROM " + table + " … LIMIT …, or the sums and counts the application makes of the rows"
	case Offset:
		order := "key"
		if len(s.Shape().Order) > 0 {
			order = strings.Join(s.Shape().Order, ", ")
		}
		f.SQL = "SELECT … FROM " + table + " WHERE (" + order + ") > (last row's) ORDER BY " + order + " LIMIT …"
	case Unfiltered:
		f.SQL = "name the tenant; see pgweir audit"
	case Spill:
		f.SQL = "fewer rows or columns, an index in that order, or more work_mem for this statement"
	case PlanRegressed:
		f.SQL = "ANALYZE its tables; look at pgweir insights plans"
	case PrimaryRead, SeqScan, PolicyUnindexed, Kinds:
	}
}

func orWord(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
