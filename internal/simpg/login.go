package simpg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	xscram "github.com/xdg-go/scram"

	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/setting"
)

// Codes of first packets.
const (
	sslRequest    = 80877103
	gssRequest    = 80877104
	cancelRequest = 80877102
)

// accept reads first packets up to the one that begins a session, and logs in. nil is that
// there is no session; then everything has been said.
func (s *Server) accept(l *link) *session {
	s.control(func() { s.strangers[l] = true })
	defer s.control(func() { delete(s.strangers, l) })
	for {
		code, body := s.first(l)
		switch {
		case code == 0:
			return nil
		case code == sslRequest || code == gssRequest:
			l.out = append(l.out, 'N')
			if l.flush() != nil {
				return nil
			}
		case code == cancelRequest:
			s.cancelBy(body)
			return nil
		default:
			return s.logIn(l, code, body)
		}
	}
}

// first reads a packet without a type. 0 is that none came, or that the server does not run.
func (s *Server) first(l *link) (code uint32, body []byte) {
	var running bool
	s.control(func() { running = s.running })
	if !running || l.need(8, time.Time{}) != nil {
		return 0, nil
	}
	size := int(binary.BigEndian.Uint32(l.in))
	if size < 8 || size > 10000 || l.need(size, time.Time{}) != nil {
		return 0, nil
	}
	code, body = binary.BigEndian.Uint32(l.in[4:]), append([]byte(nil), l.in[8:size]...)
	l.in = l.in[size:]
	return code, body
}

// cancelBy carries out a cancel request.
func (s *Server) cancelBy(body []byte) {
	if len(body) < 5 {
		return
	}
	pid, key := binary.BigEndian.Uint32(body), body[4:]
	s.control(func() {
		for _, se := range s.sessions {
			if se.pid == pid && bytes.Equal(se.key, key) {
				se.signal(nil, errCanceled)
			}
		}
	})
}

// logIn makes a session of a startup packet.
func (s *Server) logIn(l *link, version uint32, body []byte) *session {
	if version>>16 != 3 {
		s.refuse(l, &Error{Severity: "FATAL", Code: "0A000", Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", version>>16, version&0xffff)})
		return nil
	}
	params := map[string]string{}
	parts := strings.Split(strings.TrimSuffix(string(body), "\x00\x00"), "\x00")
	for i := 0; i+1 < len(parts); i += 2 {
		params[parts[i]] = parts[i+1]
	}
	minor := version & 0xffff
	if newest := s.minor(); minor > newest {
		l.send(&negotiation{newest: newest})
		minor = newest
	}
	se := s.newSession(params["user"], params["database"])
	se.io = l
	if minor >= 2 {
		for len(se.key) < 32 {
			se.key = binary.BigEndian.AppendUint64(se.key, se.rand.Uint64())
		}
		se.key = se.key[:32]
	}
	var why *Error
	s.control(func() { why = s.admit(se) })
	if why == nil {
		why = s.authenticate(se)
	}
	if why == nil {
		s.control(func() { why = caught(func() { se.welcome(params) }) })
	}
	if why == nil && l.flush() == nil {
		return se
	}
	if why != nil && why != errSilent {
		fatal := *why
		fatal.Severity = "FATAL"
		s.refuse(l, &fatal)
	}
	s.control(func() { s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool { return o == se }) })
	return nil
}

// minor is the newest minor version of protocol 3 that the server speaks.
func (s *Server) minor() uint32 {
	if s.cluster.options.Version >= 180000 {
		return 2
	}
	return 0
}

// negotiation is NegotiateProtocolVersion.
type negotiation struct{ newest uint32 }

func (n *negotiation) Backend() {}

func (n *negotiation) Decode([]byte) error { return nil }

func (n *negotiation) Encode(b []byte) ([]byte, error) {
	b = append(b, 'v', 0, 0, 0, 12)
	b = binary.BigEndian.AppendUint32(b, 3<<16|n.newest)
	return append(b, 0, 0, 0, 0), nil
}

func (s *Server) refuse(l *link, e *Error) {
	r := e.response()
	l.send(&r)
	_ = l.flush()
}

func (s *Server) newSession(user, database string) *session {
	if database == "" {
		database = user
	}
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	se := &session{
		server: s, io: &link{}, user: user, database: database, pid: 1000 + c.serial, began: c.clock(), rand: rand.New(rand.NewPCG(c.options.Seed, uint64(c.serial))),
		set: newSettings(), tx: &transaction{block: 'I'}, names: newNames(), heard: map[string]bool{}, drew: map[string]int64{}, wake: make(chan struct{}, 1),
	}
	se.key = binary.BigEndian.AppendUint32(nil, se.rand.Uint32())
	return se
}

// admit lets a session in or says why not. The lock is held.
func (s *Server) admit(se *session) *Error {
	slots := s.slots
	if slots == 0 {
		slots = s.cluster.options.Slots
	}
	switch {
	case !s.running:
		return errSilent
	case s.refuses != nil:
		return s.refuses
	case slots != 0 && len(s.sessions) >= slots:
		return errSlots
	case se.user == "":
		return &Error{Code: "28000", Message: "no PostgreSQL user name specified in startup packet"}
	}
	s.sessions = append(s.sessions, se)
	return nil
}

// authenticate has the client prove who it is.
func (s *Server) authenticate(se *session) *Error {
	if !s.cluster.options.SCRAM {
		return nil
	}
	var keys scram.Keys
	s.control(func() {
		if r := s.now().state.roles[se.user]; r != nil && r.secret != "" {
			keys, _ = scram.ParseSecret(r.secret)
		}
	})
	failed := &Error{Code: "28P01", Message: fmt.Sprintf(`password authentication failed for user "%s"`, se.user)}
	if keys.IsZero() {
		keys, _ = scram.Derive(sha256.New, "", []byte("nobody's"), 1)
		keys.StoredKey[0]++
	}
	if x := (&saslServer{io: se.io}); x.run(keys) {
		return nil
	}
	s.control(func() {
		if se.ended != nil {
			failed = errSilent // who is terminated while a client proves who it is says nothing
		}
	})
	return failed
}

// saslServer is the server's side of a SCRAM exchange.
type saslServer struct{ io *link }

func (x *saslServer) run(keys scram.Keys) bool {
	server, err := xscram.HashGeneratorFcn(func() hash.Hash { return sha256.New() }).NewServer(func(string) (xscram.StoredCredentials, error) {
		return xscram.StoredCredentials{KeyFactors: xscram.KeyFactors{Salt: string(keys.Salt), Iters: keys.Iterations}, StoredKey: keys.StoredKey, ServerKey: keys.ServerKey}, nil
	})
	if err != nil {
		return false
	}
	talk := server.NewConversation()
	body, ok := x.ask(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256}})
	var first pgproto3.SASLInitialResponse
	if !ok || first.Decode(body) != nil {
		return false
	}
	challenge, err := talk.Step(string(first.Data))
	if err != nil {
		return false
	}
	if body, ok = x.ask(&pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)}); !ok {
		return false
	}
	final, err := talk.Step(string(body))
	if err != nil || !talk.Valid() {
		return false
	}
	x.io.send(&pgproto3.AuthenticationSASLFinal{Data: []byte(final)})
	return true
}

func (x *saslServer) ask(m pgproto3.BackendMessage) ([]byte, bool) {
	x.io.send(m)
	if x.io.flush() != nil {
		return nil, false
	}
	until := time.Now().Add(time.Minute)
	typ, body, err := x.io.frame(until)
	for errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(until) { // it is woken for what its client can wait for
		typ, body, err = x.io.frame(until)
	}
	return body, err == nil && typ == 'p'
}

// welcome begins the session. The lock is held.
func (se *session) welcome(params map[string]string) {
	st := se.server.now().state
	r, d := st.roles[se.user], st.databases[se.database]
	switch {
	case r == nil:
		raise("28000", `role "%s" does not exist`, se.user)
	case !r.login:
		raise("28000", `role "%s" is not permitted to log in`, se.user)
	case d == nil:
		raise("3D000", `database "%s" does not exist`, se.database)
	}
	se.beginWith(st, params)
	se.io.send(&pgproto3.AuthenticationOk{})
	se.report()
	se.io.send(&pgproto3.BackendKeyData{ProcessID: se.pid, SecretKey: se.key})
	se.ready()
}

// beginWith gives the session the settings that it begins with: what is nearer to it comes later.
func (se *session) beginWith(st *state, params map[string]string) {
	began := se.set.began
	se.set.conf = map[string]string{}
	for name, value := range se.server.cluster.options.Parameters {
		if low, g := settingName(name); g != nil {
			se.set.conf[low] = g.canonical(value)
		}
	}
	version := se.server.cluster.options.Version
	began["server_version"] = fmt.Sprintf("%d.%d", version/10000, version%10000)
	began["server_version_num"] = fmt.Sprint(version)
	began["session_authorization"] = se.user
	for _, of := range [][3]string{{"", "", "global"}, {"", se.database, "database"}, {se.user, "", "user"}, {se.user, se.database, "database user"}} {
		for _, d := range st.defaults {
			if d.role == of[0] && d.database == of[1] {
				_ = caught(func() { se.beginsWith(d.name, d.value, of[2]) }) // what is no good is passed over
			}
		}
	}
	given := map[string]string{}
	if o := params["options"]; o != "" {
		given, _ = setting.Options(o)
	}
	names := make([]string, 0, len(params))
	for name, value := range params {
		if name != "user" && name != "database" && name != "options" && name != "replication" && !strings.HasPrefix(name, "_pq_.") {
			given[name] = value
		}
	}
	for name := range given {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		se.beginsWith(name, given[name], "client")
	}
}

// beginsWith sets what RESET returns to; source is that of pg_settings.
func (se *session) beginsWith(name, value, source string) {
	low, g := settingName(name)
	if g == nil {
		se.set.defined[low] = name
		se.set.began[low] = value
		return
	}
	if g.context != "user" && !se.super() {
		raise("42501", `permission denied to set parameter "%s"`, g.name)
	}
	se.set.began[low], se.set.source[low] = g.canonical(value), source
}

// local is a session of the cluster's own, as the superuser, without a connection.
func (s *Server) local(database string) (*session, error) {
	se := s.newSession(Superuser, database)
	var err error
	s.control(func() {
		switch st := s.now().state; {
		case !s.running:
			err = fmt.Errorf("simpg: %s does not run", s.Name)
		case st.databases[database] == nil:
			err = fmt.Errorf("simpg: %s has no database %s", s.Name, database)
		default:
			se.beginWith(st, nil)
			se.io.conn = nowhere{}
			s.sessions = append(s.sessions, se)
		}
	})
	return se, err
}

// runLocal runs a string and ends the session.
func (se *session) runLocal(sql string) (rows [][]string, err error) {
	defer se.leave()
	se.handle('Q', append([]byte(sql), 0))
	for out := se.io.out; len(out) > 0; {
		size := int(binary.BigEndian.Uint32(out[1:5]))
		body := out[5 : 1+size]
		switch out[0] {
		case 'E':
			var m pgproto3.ErrorResponse
			_ = m.Decode(body)
			return nil, &Error{Severity: m.Severity, Code: m.Code, Message: m.Message, Detail: m.Detail}
		case 'T':
			rows = [][]string{}
		case 'D':
			var m pgproto3.DataRow
			_ = m.Decode(body)
			line := make([]string, len(m.Values))
			for i, v := range m.Values {
				if line[i] = "NULL"; v != nil {
					line[i] = string(v)
				}
			}
			rows = append(rows, line)
		}
		out = out[1+size:]
	}
	return rows, nil
}
