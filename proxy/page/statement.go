package page

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/compare"
)

const (
	// step is between two samples of what statements were called, and steps how many are kept:
	// of the last five minutes, as on the page of all.
	step  = 10 * time.Second
	steps = 30
)

// statementPage is what the page of one statement shows. Durations are in milliseconds.
type statementPage struct {
	At        int64             `json:"at"`
	Version   string            `json:"version"`
	Up        float64           `json:"up"`
	Statement string            `json:"statement"`
	Database  string            `json:"database"`
	Since     int64             `json:"since"` // it is counted
	Points    []statementPoint  `json:"points"`
	On        []insight.Row     `json:"on"` // a row for each kind of server
	Findings  []insight.Finding `json:"findings"`
	Plan      *planShown        `json:"plan"`     // null if none is known
	Baseline  *compared         `json:"baseline"` // null if there is none
}

// statementPoint is what happened in one step.
type statementPoint struct {
	At    int64   `json:"at"`
	Calls float64 `json:"calls"` // a second
	Mean  float64 `json:"mean"`  // below 0 if there were none
	Busy  float64 `json:"busy"`  // how many ran at a time
}

// planShown is how a server executes the statement.
type planShown struct {
	Lines  []string     `json:"lines"`
	Server string       `json:"server"`
	Asked  int64        `json:"asked"`
	Since  int64        `json:"since"`
	Change string       `json:"change"` // of the one before it; empty if there was none
	Wanted []wantedLine `json:"wanted"`
}

type wantedLine struct {
	SQL     string `json:"sql"`
	Verdict string `json:"verdict"`
}

// compared is a statement before and after the last baseline.
type compared struct {
	Name string `json:"name"`
	At   int64  `json:"at"`
	compare.Statement
}

// serveStatement answers what is known of the statement that the query names.
func (p *Page) serveStatement(w http.ResponseWriter, r *http.Request) {
	of := r.URL.Query()
	p.asked.Lock() // so that however many ask, one processor is busy with it
	shown := p.statement(of.Get("database"), of.Get("fingerprint"), time.Now())
	p.asked.Unlock()
	if shown == nil {
		http.Error(w, "no such statement is counted", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(shown) // an error is the reader's, who is gone
}

// statement is what is known of a statement; nil if it is not counted.
func (p *Page) statement(database, fingerprint string, now time.Time) *statementPage {
	book := p.o.Service.Book()
	if book == nil {
		return nil
	}
	s := book.Find(database, fingerprint)
	if s == nil {
		return nil
	}
	sum := book.SummaryOf(s)
	shown := &statementPage{
		At: now.UnixMilli(), Version: p.o.Version, Up: ms(now.Sub(p.began)), Statement: s.Text, Database: s.Database, Since: sum.Since.UnixMilli(),
		Points: []statementPoint{}, On: sum.Statements, Findings: sum.Findings, Baseline: p.compared(s, now),
	}
	p.mu.Lock()
	if p.recent != nil {
		for _, m := range p.recent.Of(s) {
			shown.Points = append(shown.Points, pointOf(m))
		}
	}
	p.mu.Unlock()
	if len(sum.Plans) > 0 {
		shown.Plan = planOf(&sum.Plans[0])
	}
	return shown
}

func pointOf(m insight.Moment) statementPoint {
	x := statementPoint{At: m.End.UnixMilli(), Mean: -1}
	if m.Calls > 0 {
		x.Mean = ms(m.Took / time.Duration(m.Calls))
	}
	if m.Length > 0 {
		x.Calls, x.Busy = float64(m.Calls)/m.Length.Seconds(), m.Took.Seconds()/m.Length.Seconds()
	}
	return x
}

func planOf(row *insight.PlanRow) *planShown {
	shown := &planShown{Lines: row.Lines(), Server: row.Server, Asked: row.Asked.UnixMilli(), Since: row.Since.UnixMilli(), Wanted: []wantedLine{}}
	if row.Before != nil {
		shown.Change = row.Before.Change(row.Plan)
	}
	for i := range row.Wanted {
		shown.Wanted = append(shown.Wanted, wantedLine{row.Wanted[i].SQL(), row.Wanted[i].Verdict()})
	}
	return shown
}

// sinceBaseline is what differs since the last baseline, of some seconds ago; p.asked protects it.
type sinceBaseline struct {
	at     time.Time
	report *compare.Report // nil if there is no baseline
}

// compared finds a statement in what differs since the last baseline. All statements are compared,
// because how many there are decides what may be chance.
func (p *Page) compared(s *insight.Statement, now time.Time) *compared {
	if now.Sub(p.since.at) >= slowly {
		p.since = sinceBaseline{at: now}
		if before, after, err := p.o.Service.SinceBaseline(); err == nil && before != nil {
			p.since.report = compare.Compare(before, after, compare.Options{})
		}
	}
	r := p.since.report
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.Statements, func(x compare.Statement) bool {
		return x.Fingerprint == s.Fingerprint && x.Database == s.Database
	})
	if i < 0 {
		return nil
	}
	return &compared{r.Before.Name, r.Before.End.UnixMilli(), r.Statements[i]}
}
