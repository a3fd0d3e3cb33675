package sim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// session plays a script: every step through the proxy, and then on the one server that
// runs alone, whose answer is the right one.
//
// What the session writes bears its owner's mark, so that on both sides it sees only its
// own rows, whatever others do; what all share is judged by the oracle. Once an answer is
// lost the session is over, what it wrote last is in doubt, and the client comes back as
// another owner.
type session struct {
	w      *world
	script *Script
	life   int   // how often it has come back
	main   *talk // nil: it has yet to log in
	alone  *talk
	step   int

	began     int             // its first step in this life
	described map[string]bool // prepared statements whose client was certainly told of their columns and parameters
	untold    bool            // it has yet to be told of settings that a lost transaction had
	pending   []string        // markers appended in the open transaction
	requests  int             // cancel requests on their way; these three are protected by world.mu
	cancels   time.Time       // when the last one was delivered
	delivered time.Time       // when the step's own was; zero is not, or there is none
}

func newSession(w *world, s *Script) *session { return &session{w: w, script: s} }

// owner marks what the session writes in its present life.
func (s *session) owner() string { return fmt.Sprintf("%s.%d", s.script.Name, s.life) }

func (s *session) marker() string { return fmt.Sprintf("%s.%d", s.owner(), s.step) }

func (s *session) play() {
	defer s.close()
	for s.step = range s.script.Steps {
		step := &s.script.Steps[s.step]
		time.Sleep(step.Wait)
		if step.Redial || step.Vanish {
			s.close()
			continue
		}
		if s.main == nil && !s.begin() {
			return
		}
		s.do(step)
	}
}

// begin logs in on both sides. It reports whether that succeeded, in the end.
func (s *session) begin() bool {
	params := map[string]string{"user": s.script.User, "database": database}
	maps.Copy(params, s.script.Options)
	full := false // at the last try
	for range 40 {
		conn, err := s.w.dialProxy(s.script.Name)
		var k *talk
		if err == nil {
			if k, err = logIn(conn, params); err != nil {
				_ = conn.Close()
			}
		}
		if err == nil {
			s.main = k
			break
		}
		s.w.note("%s cannot log in: %v", s.script.Name, err)
		full = strings.Contains(err.Error(), "53300") && s.w.h.shares()
		if errors.Is(err, errHung) || s.w.h.calm() && !full {
			s.w.fault("%s cannot log in: %v", s.script.Name, err)
			return false
		}
		if s.w.over() {
			return false
		}
		time.Sleep(500*time.Millisecond + time.Duration(s.life))
	}
	if s.main == nil {
		if !full || !slices.ContainsFunc(s.w.h.Faults, func(f Fault) bool { return f.Kind == Silence }) { // a connection of the pool may wait for its server
			s.w.fault("%s could not log in for 20 seconds", s.script.Name)
		}
		return false
	}
	var err error
	if s.alone, err = logIn(s.w.dialAlone(), params); err != nil {
		s.w.fault("%s cannot log in alone: %v", s.script.Name, err)
		return false
	}
	s.began, s.pending, s.described = s.step, nil, map[string]bool{}
	s.compareReported("at login")
	return true
}

func (s *session) close() {
	if s.main != nil {
		s.main.leave()
		s.alone.leave()
		s.main, s.alone = nil, nil
		s.life++
	}
}

// abandon is the end of a session whose last answer is lost, or may be.
func (s *session) abandon(step *Step) {
	s.w.oracle.doubt(s, step)
	s.close()
}

// do plays a step and judges the answer.
func (s *session) do(step *Step) {
	s.w.note("%s %d: %s", s.owner(), s.step, step)
	seen := s.w.oracle.asked(s, step)
	if step.Cancel > 0 {
		s.requestCancel(step.Cancel)
	}
	began := time.Now()
	got, err := s.main.exchange(step, s.marker())
	s.w.note("%s %d= %s%s", s.owner(), s.step, text(got), failure(err))
	s.w.answered()
	s.checkStatus(got)
	if late := s.sinceCancel(); step.Cancel > 0 && late > heeded && step.Cancel > certain && s.w.h.calm() && s.w.h.Knobs.Stall == 0 && !s.w.h.redefines() {
		s.w.fault("%s: the cancel request was lost: the answer came %v after it", s.marker(), late)
	}
	switch {
	case errors.Is(err, errHung):
		s.w.fault("%s: no answer for %v: %s", s.marker(), patience, step)
		s.abandon(step)
	case err != nil:
		s.lost(step, got, err)
	case s.wasCanceled(got, began):
		s.canceled(step, got)
	default:
		s.judge(step, got, seen)
	}
}

// requestCancel has a cancel request sent for what the session runs after a while.
func (s *session) requestCancel(after time.Duration) {
	k := s.main
	s.w.mu.Lock()
	s.requests, s.delivered = s.requests+1, time.Time{}
	s.w.mu.Unlock()
	s.w.hosts.Go(func() {
		time.Sleep(after)
		k.cancel(s.w.net.Dialer(s.script.Name+"'"), s.w.clientsDial())
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.requests--
		s.cancels = time.Now()
		s.delivered = s.cancels
	})
}

// sinceCancel is how long ago the step's cancel request was delivered; 0 if it was not.
func (s *session) sinceCancel() time.Duration {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.delivered.IsZero() || s.requests > 0 {
		return 0
	}
	return time.Since(s.delivered)
}

// certain is after how long a statement has certainly reached its server, if nothing stalls: a
// request that is there before it is for nothing.
const certain = 50 * time.Millisecond

// heeded is how long after a cancel request an answer may come, in virtual time. A session
// that waits for the catalog to be read anew may not hear of one.
const heeded = time.Second

// checkStatus checks that behind an error a transaction is not said to go on.
func (s *session) checkStatus(got []frame) {
	failed := false
	for _, f := range got {
		switch {
		case f.typ == 'E':
			failed = true
		case f.typ == 'Z' && f.body == "T" && failed:
			s.w.fault("%s: a transaction goes on behind an error: %s", s.marker(), text(got))
		case f.typ == 'Z':
			failed = false
		}
	}
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return " [" + err.Error() + "]"
}

// lost judges the end of a connection.
func (s *session) lost(step *Step, got []frame, err error) {
	var op *net.OpError
	end := errors.Is(err, errTorn) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &op)
	switch {
	case !end:
		s.w.fault("%s: %v", s.marker(), err)
	case s.w.h.calm() && !((s.ever(holds) || s.ever(readsOnly) || s.everCalled(again)) && (strings.Contains(text(got), "is on a replica and cannot be moved") || errors.Is(err, syscall.ECONNRESET))):
		s.w.fault("%s: the connection ended: %v, having said %s", s.marker(), err, text(got))
	}
	s.abandon(step)
}

// wasCanceled reports whether an answer tells that a cancel request did its work, and there
// was one that may have.
func (s *session) wasCanceled(got []frame, began time.Time) bool {
	s.w.mu.Lock()
	may := s.requests > 0 || s.cancels.After(began)
	s.w.mu.Unlock()
	return may && slices.ContainsFunc(got, func(f frame) bool { return f.typ == 'E' && f.field('C') == "57014" })
}

// canceled judges a step that a cancel request ended: all of it is undone.
func (s *session) canceled(step *Step, got []frame) {
	if last := got[len(got)-1]; step.Calls == nil && last.typ == 'Z' && last.body == "I" && len(s.pending) == 0 && s.autocommit() {
		s.w.oracle.undone(s, step)
		return // as if it had not been said
	}
	s.abandon(step)
}

// autocommit reports whether the server alone is outside a transaction.
func (s *session) autocommit() bool {
	got, err := s.alone.exchange(&Step{}, "")
	return err == nil && got[len(got)-1].body == "I"
}

// judge compares an answer with what one server would have said. One that tells of a
// server's failure leaves the step in doubt, if servers may fail.
func (s *session) judge(step *Step, got []frame, seen *seen) {
	failed, before := s.tolerable(got), ""
	if failed {
		before = s.w.oracle.rowsAlone(s.owner())
	}
	want, ok := s.follow(step)
	a, b := comparable(step, got), comparable(step, want)
	if ok && (s.stuck(step, got, want) || s.shownThere(step, a, b) || s.resetsThere(step)) {
		s.w.oracle.forget(s.owner()) // what is behind a refusal, or a RESET to another default, was not done
		s.close()
		return
	}
	anew := a != b && s.parsedAnew(step, got, want)
	leave := a != b && known(got, want, s.everCalled(func(c Call) bool { return c.Only })) // what it has prepared may differ from then on
	if leave {
		a = b
	}
	switch {
	case ok && (anew || leave && refusal(got) == ""):
		s.w.oracle.forget(s.owner())
	case ok && a == b:
		if strings.Contains(b, "simpg:") {
			s.w.fault("%s: the model cannot do it: %s", s.marker(), b)
		}
		s.w.oracle.ran(s, step, got, seen)
		if !leave { // else one transaction has failed, and one has not
			s.compareReported("after " + s.marker())
			s.compareHeard()
		}
		if leave || s.forgotten(step, got) {
			s.close()
		}
		s.describe(step, got)
		return
	case ok && failed && s.blockLost(step, got, want):
		return
	case ok && failed:
		s.w.oracle.doubtful(s, before)
	default:
		s.w.fault("%s: %s\n\t   got    %s\n\twanted %s", s.marker(), step, a, b)
		s.w.oracle.forget(s.owner())
	}
	s.close()
}

// names are those of the prepared statements that a step runs and did not make itself.
func (s *session) names(step *Step) (out []string) {
	for _, c := range step.Calls {
		if c.Name != "" && c.Parse == "" && !c.Close {
			out = append(out, c.Name)
		}
	}
	return out
}

// describe notes of which statements the client knows the columns and parameters.
func (s *session) describe(step *Step, got []frame) {
	for _, c := range step.Calls {
		if c.Name != "" && (c.Parse != "" || c.Close) {
			delete(s.described, c.Name)
		}
		if c.Name != "" && c.Only && refusal(got) == "" {
			s.described[c.Name] = true
		}
	}
}

// parsedAnew reports whether one server runs or refuses a prepared statement as it was parsed, and
// the proxy may have parsed it anew by what names mean to the session now: for who is told of its
// columns anew, for who sent it in parts, for who was never told of its parameters, and, for who was, as one whose text is
// refused rather than a value.
func (s *session) parsedAnew(step *Step, got, want []frame) bool {
	why := refusal(want)
	again := strings.Contains(step.said(), "execute") || step.inParts() || slices.ContainsFunc(step.Calls, func(c Call) bool { return c.Name != "" && !c.Bare })
	untold := slices.ContainsFunc(s.names(step), func(name string) bool { return !s.described[name] })
	otherwise := func(of []frame) bool { return meantOtherwise.MatchString(refusal(of)) }
	return s.ever(renames) && (strings.Contains(why, "cached plan must not change result type") && again ||
		untold && (otherwise(want) || otherwise(got)) || len(s.names(step)) > 0 && otherwise(want) && otherwise(got))
}

// inParts reports whether the proxy sends a step part by part, so that it cannot ask a server of the rest.
func (s *Step) inParts() bool {
	return slices.ContainsFunc(s.Calls, func(c Call) bool { return c.Flush || c.Apart || slices.Contains(c.Args, "%l") })
}

// renames are texts behind which a name may mean something else.
var renames = regexp.MustCompile(`search_path|role|authorization|reset all|discard|table`)

// meantOtherwise are errors of a statement, or its values, in which a name means another column than it did.
var meantOtherwise = regexp.MustCompile(` (22P02|22003|42883|42P01|0A000): `)

// blockLost judges what becomes of a session whose transaction was lost with its server: it
// has failed, and the session goes on once it is rolled back. It reports whether the step
// was that simple.
func (s *session) blockLost(step *Step, got, want []frame) bool {
	last := got[len(got)-1]
	if last.typ != 'Z' || last.body != "E" || want[len(want)-1].body == "I" || step.Calls != nil || strings.Contains(step.Simple, ";") || strings.HasPrefix(step.Simple, "commit") {
		return false
	}
	_, err := s.alone.exchange(&Step{Simple: "select 1/0"}, "")
	rollback := &Step{Simple: "rollback"}
	ended, err2 := s.main.exchange(rollback, "")
	if err != nil || err2 != nil {
		return false
	}
	right, _ := s.alone.exchange(rollback, "")
	s.w.note("%s %d, rolled back= %s", s.owner(), s.step, text(ended))
	if a, b := text(ended), text(right); a != b && !s.tolerable(ended) {
		s.w.fault("%s, rolled back:\n\t   got    %s\n\twanted %s", s.marker(), a, b)
	}
	for _, m := range s.pending {
		s.w.oracle.never(m)
	}
	s.pending, s.untold = nil, true
	if outlives.MatchString(step.Simple) {
		s.close() // one server has defined, locked or prepared what its statement says, and the other has not
	}
	return true
}

// forgotten reports whether a step may have had the proxy forget a placeholder that a function
// has defined: DISCARD frees the session of its connection, and so does the end of a READ ONLY
// transaction that had to stay on a replica, or, of a name that nothing else has said, that of one
// that failed. While servers fail the catalog may never have told what the function does.
func (s *session) forgotten(step *Step, got []frame) bool {
	if s.w.h.calm() || !s.ever(calls) {
		return false
	}
	said, idle := step.said(), got[len(got)-1].body == "I"
	failed := refusal(got) != "" || strings.Contains(said, "rollback")
	stayed := s.ever(readsOnly) && (idle || strings.Contains(said, "chain"))
	switch {
	case strings.Contains(said, "discard"):
		return true
	case s.w.h.Knobs.Declared:
		return (failed || stayed) && (s.ever(inS2) || s.script.Options["search_path"] == "s2")
	default:
		return failed || stayed
	}
}

// stuck reports whether a replica refused what the primary would not, in a transaction that had
// to stay there, in a string or pipeline that went on behind its end, or beside or behind a portal that is there.
func (s *session) stuck(step *Step, got, want []frame) bool {
	why := refusal(got)
	if step.inParts() && strings.Contains(why+refusal(want), "DISCARD ALL cannot be executed within a pipeline") {
		return true // what the proxy had to run first is a part of it, and what it answered before is not
	}
	return strings.Contains(why, " 25006: ") && refusal(want) != why &&
		(s.everCalled(again) || s.ever(readsOnly) && ofThePrimary.MatchString(step.said()))
}

// shownThere reports whether a replica showed that its transactions are read only, in a string or
// pipeline that went on behind the end of one that had to stay there, or beside a portal that is there.
func (s *session) shownThere(step *Step, got, want string) bool {
	said := step.said()
	return got != want && strings.Contains(said, "show transaction_read_only") && (ofThePrimary.MatchString(said) && s.ever(readsOnly) || s.everCalled(again)) &&
		strings.ReplaceAll(got, "row on;", "row off;") == strings.ReplaceAll(want, "row on;", "row off;")
}

// resetsThere reports whether a step of a session with a default of its own may return to that of the
// connection that it holds, and go on: RESET among others, where no connection begun by it can take its place.
func (s *session) resetsThere(step *Step) bool {
	before := s.script.Steps[s.began:s.step]
	return s.script.Options != nil && returns.MatchString(step.said()) &&
		(step.inParts() || slices.ContainsFunc(before, func(step Step) bool { return holdsOn.MatchString(step.said()) }))
}

// ofThePrimary are texts that a READ ONLY transaction takes on the primary only.
var ofThePrimary = regexp.MustCompile(`(commit|rollback)[^|]*[;|]|notify|listen|copy [^(]* from`)

// ever reports whether the session has said something in this life, in the step at hand perhaps.
func (s *session) ever(what *regexp.Regexp) bool {
	return slices.ContainsFunc(s.script.Steps[s.began:s.step+1], func(step Step) bool { return what.MatchString(step.said()) })
}

// everCalled is ever of a call.
func (s *session) everCalled(is func(c Call) bool) bool {
	return slices.ContainsFunc(s.script.Steps[s.began:s.step+1], func(step Step) bool { return slices.ContainsFunc(step.Calls, is) })
}

// again reports whether a call runs a portal that an earlier message left.
func again(c Call) bool { return c.Again }

// What a session may have said: a cursor that may be on a replica, a transaction that may be, a function whose
// name the proxy may have had no catalog for.
var (
	holds     = regexp.MustCompile(`with hold`)
	readsOnly = regexp.MustCompile(`read only|set default_transaction_read_only`)
	calls     = regexp.MustCompile(`set_tenant\(`)
	holdsOn   = regexp.MustCompile(`begin|start transaction|and chain|_advisory_|temp |declare|listen|set_tenant\(`) // a connection
	returns   = regexp.MustCompile(`(reset|discard all).*[;|].*\S|commit.*reset`)                                    // and says more, or only its server knows what else was set
	inS2      = regexp.MustCompile(`search_path = s2`)                                                               // its set_tenant sets what no configuration declares
)

// said is all texts of a step.
func (s *Step) said() string {
	said := s.Simple
	for i := range s.Calls {
		said += s.Calls[i].Parse + " | "
	}
	return said
}

// outlives are texts of which something stays when their transaction is undone: that a custom setting is
// defined, which reads empty for ever after and not NULL, a lock of the session, a prepared statement.
var outlives = regexp.MustCompile(`set (local )?app\.|set_config\(|set_tenant\(|_advisory_|^prepare |^deallocate `)

// follow runs a step on the server alone.
func (s *session) follow(step *Step) (want []frame, ok bool) {
	want, err := s.alone.exchange(step, s.marker())
	return want, err == nil
}

// compareReported compares the settings the client was told of.
func (s *session) compareReported(when string) {
	if s.untold = s.untold && !maps.Equal(s.main.reported, s.alone.reported); s.untold {
		return // the next answer of a server tells it, which this one may not be
	}
	for name, want := range s.alone.reported {
		if got := s.main.reported[name]; got != want {
			s.w.fault("%s %s: the client believes that %s is %q, not %q", s.owner(), when, name, got, want)
			s.main.reported[name] = want
		}
	}
}

// compareHeard compares the notifications the client got with those it should have: what it
// got is as it came, and as much as is due; some may be on its way.
func (s *session) compareHeard() {
	got, want := payloads(s.main.heard), payloads(s.alone.heard)
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
		s.w.fault("%s: the client was notified of %q, not %q", s.marker(), got, want)
		s.main.heard = slices.Clone(s.alone.heard)
	}
}

// payloads are channels and payloads of notifications.
func payloads(of []frame) (out []string) {
	for _, f := range of {
		out = append(out, f.body[4:])
	}
	return out
}

// comparable is what must be equal of an answer.
func comparable(step *Step, of []frame) string {
	var b strings.Builder
	for _, f := range of {
		if step.Check == observes && (f.typ == 'D' || f.typ == 'C') {
			continue
		}
		b.WriteString(f.String())
		b.WriteString("; ")
	}
	return b.String()
}

// tolerable reports whether an answer that is not one server's is what a client must
// expect of the proxy while servers fail: an error that says that something was lost.
func (s *session) tolerable(got []frame) bool {
	for _, f := range got {
		if f.typ == 'E' && s.w.mayFail(f.field('C')) {
			return true
		}
	}
	return false
}

// known reports whether answers differ in what is known to: at which of its messages a
// statement is refused (the service may know a Parse to succeed, or an EXECUTE to fail), and
// a name that is taken is refused before the text is looked at, as the statement of an EXECUTE
// that is prepared anew is before its parameters are counted. An advisory lock is not taken on
// a replica. In a failed transaction a portal may be there or not: what the service has run beside
// the client's statements, or in place of them, may have been one. parsed is whether the session
// has had statements parsed that it did not run at once.
func known(got, want []frame, parsed bool) bool {
	a, b := refusal(got), refusal(want)
	if strings.Contains(b, "must be called before any query") { // neither DEALLOCATE ALL nor a Parse takes a snapshot in the proxy
		return parsed || strings.Contains(text(got), "DEALLOCATE ALL")
	}
	if a == "" {
		return false
	}
	if noPortal.MatchString(a) && noPortal.MatchString(b) && (strings.Contains(a+b, " 25P02: ") || got[len(got)-1].body == "E") {
		return true
	}
	if strings.Contains(a, "cannot take an advisory lock in a read-only transaction") {
		return true
	}
	return b != "" && (a == b || strings.Contains(a, "42P05") || strings.Contains(b, "wrong number of parameters for prepared statement"))
}

// refusal writes an answer up to its first error, without what tells that messages before it
// succeeded that show nothing; empty if there is no error.
func refusal(of []frame) string {
	i := slices.IndexFunc(of, func(f frame) bool { return f.typ == 'E' })
	if i < 0 {
		return ""
	}
	n := i
	for n > 0 && strings.IndexByte("12n", of[n-1].typ) >= 0 {
		n--
	}
	return text(append(slices.Clone(of[:n]), of[i:]...))
}

// noPortal are the errors of an Execute whose portal is not to be run.
var noPortal = regexp.MustCompile(` (34000|25P02|55000): `)
