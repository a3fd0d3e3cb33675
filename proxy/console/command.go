package console

import (
	"cmp"
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
)

// verb is what kind of command it is.
type verb uint8

const (
	verbCommand verb = iota // for administrators, and logged
	verbTrivial             // what drivers send as they connect, which means nothing here
)

// command is something to be done.
type command struct {
	words  string // that it begins with
	syntax string
	help   string
	tag    string
	// least and most are how many words may follow.
	least, most int
	verb        verb
	waits       bool // for clients, with its effect there already: so its beginning is logged too
	do          func(context.Context, *Session, statement) error
}

// commands are in the order of SHOW HELP; what begins like another one, with more words, is before it.
var commands = []command{
	{words: "PAUSE", syntax: "PAUSE [database]", tag: "PAUSE", most: 1, waits: true,
		help: "no batch begins; answers once all server connections are closed",
		do:   func(ctx context.Context, s *Session, st statement) error { return s.Service.Pause(ctx, name(st, 1)) }},
	{words: "RESUME", syntax: "RESUME [database]", tag: "RESUME", most: 1,
		help: "goes on after PAUSE or KILL",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Resume(name(st, 1)) }},
	{words: "RECONNECT SERVER", syntax: "RECONNECT SERVER address", tag: "RECONNECT", least: 1, most: 1,
		help: "replaces the connections to one server as they become free",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Reconnect("", name(st, 2)) }},
	{words: "RECONNECT", syntax: "RECONNECT [database]", tag: "RECONNECT", most: 1,
		help: "replaces server connections as they become free",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Reconnect(name(st, 1), "") }},
	{words: "KILL", syntax: "KILL [database]", tag: "KILL", most: 1,
		help: "ends clients and their server connections at once, and pauses",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Kill(name(st, 1)) }},
	{words: "KILL_CLIENT", syntax: "KILL_CLIENT id", tag: "KILL_CLIENT", least: 1, most: 1,
		help: "ends one client, by its id of SHOW CLIENTS",
		do:   killClient},
	{words: "DISABLE SERVER", syntax: "DISABLE SERVER address", tag: "DISABLE", least: 1, most: 1,
		help: "no reads go to a replica any more",
		do: func(_ context.Context, s *Session, st statement) error {
			return s.Service.EnableServer(name(st, 2), false)
		}},
	{words: "DISABLE", syntax: "DISABLE database", tag: "DISABLE", least: 1, most: 1,
		help: "refuses new clients",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Enable(name(st, 1), false) }},
	{words: "ENABLE SERVER", syntax: "ENABLE SERVER address", tag: "ENABLE", least: 1, most: 1,
		help: "takes DISABLE SERVER back",
		do: func(_ context.Context, s *Session, st statement) error {
			return s.Service.EnableServer(name(st, 2), true)
		}},
	{words: "ENABLE", syntax: "ENABLE database", tag: "ENABLE", least: 1, most: 1,
		help: "takes DISABLE back",
		do:   func(_ context.Context, s *Session, st statement) error { return s.Service.Enable(name(st, 1), true) }},
	{words: "ROUTE", syntax: "ROUTE PRIMARY | AUTO", tag: "ROUTE", least: 1, most: 1,
		help: "has everything run on the primary, or where the configuration says",
		do:   route},
	{words: "RELOAD", syntax: "RELOAD", tag: "RELOAD",
		help: "reads the configuration again",
		do:   func(_ context.Context, s *Session, _ statement) error { return reloaded(s.Service.Reload()) }},
	{words: "SET", syntax: "SET key = value", tag: "SET", least: 1, most: 1 << 10,
		help: "changes a key of SHOW SETTINGS, until it is reloaded",
		do:   set},
	{words: "SHUTDOWN", syntax: "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]", tag: "SHUTDOWN", most: 1,
		help: "ends the service: at once, when transactions have ended, or when clients have left",
		do:   shutdown},

	{words: "BEGIN", tag: "BEGIN", most: 8, verb: verbTrivial},
	{words: "START TRANSACTION", tag: "BEGIN", most: 8, verb: verbTrivial},
	{words: "COMMIT", tag: "COMMIT", most: 2, verb: verbTrivial},
	{words: "END", tag: "COMMIT", most: 2, verb: verbTrivial},
	{words: "ROLLBACK", tag: "ROLLBACK", most: 2, verb: verbTrivial},
	{words: "DISCARD ALL", tag: "DISCARD ALL", verb: verbTrivial},
	{words: "DEALLOCATE", tag: "DEALLOCATE", least: 1, most: 2, verb: verbTrivial},
}

// clientSettings are what drivers set as they connect: how they want to be told things.
var clientSettings = []string{
	"APPLICATION_NAME", "CLIENT_ENCODING", "CLIENT_MIN_MESSAGES", "DATESTYLE", "EXTRA_FLOAT_DIGITS", "INTERVALSTYLE", "NAMES", "SESSION",
	"STATEMENT_TIMEOUT", "LOCK_TIMEOUT", "BYTEA_OUTPUT", "STANDARD_CONFORMING_STRINGS", "TIMEZONE", "TIME", "SEARCH_PATH",
	"DEFAULT_TRANSACTION_READ_ONLY", "DEFAULT_TRANSACTION_ISOLATION", "TRANSACTION",
}

var setForClient = command{words: "SET", tag: "SET", verb: verbTrivial}

// find is the command that a statement is; nil if it is none.
func find(st statement) *command {
	if st.word(0) == "SET" && len(st.text) > 2 {
		for _, name := range clientSettings {
			if st.word(1) == name {
				return &setForClient
			}
		}
	}
	for i := range commands {
		c := &commands[i]
		switch more, begins := st.behind(c.words); {
		case !begins || more > c.most:
		case more < c.least:
			return nil // malformed
		default:
			return c
		}
	}
	return nil
}

// behind is how many words follow those that a command begins with. What is quoted is a name, and no word of a command.
func (s statement) behind(words string) (more int, begins bool) {
	n := 0
	for word := range strings.FieldsSeq(words) {
		if s.word(n) != word || n > 0 && s.quoted[n] {
			return 0, false
		}
		n++
	}
	return len(s.text) - n, true
}

// malformed is the error of a statement that begins as a command does, and lacks what must follow or has more; nil for others.
func malformed(st statement) *wire.Error {
	for i := range commands {
		c := &commands[i]
		switch more, begins := st.behind(c.words); {
		case begins && more < c.least:
			return wire.Errorf("42601", "a value is missing: %s", cmp.Or(c.syntax, c.words)).WithHint("SHOW HELP lists the commands.")
		case begins && more > c.most && c.verb == verbCommand:
			return wire.Errorf("42601", "too many words: %s", c.syntax).WithHint("SHOW HELP lists the commands.")
		}
	}
	return nil
}

// String is the statement as the log shows it. What is set is not told: it may have been meant to be a
// secret.
func (s statement) String() string {
	if s.word(0) == "SET" {
		return strings.Join(s.text[:2], " ")
	}
	return strings.Join(s.text, " ")
}

// name is the i-th word; "" if there is none.
func name(st statement, i int) string {
	if i < len(st.text) {
		return st.text[i]
	}
	return ""
}

// trivial does what a statement means for the conversation.
func (s *Session) trivial(st statement) (tag string) {
	c := find(st)
	switch c.tag {
	case "BEGIN":
		s.inBlock = true
	case "COMMIT", "ROLLBACK":
		s.inBlock = false
	}
	return c.tag
}

func killClient(_ context.Context, s *Session, st statement) error {
	id, ok := number(st.text[1]).(int64)
	if !ok || id < 0 {
		return wire.Errorf("22P02", "\"%s\" is no client's id", st.text[1]).WithHint("SHOW CLIENTS has them in its column id.")
	}
	return s.Service.KillClient(uint64(id))
}

func route(_ context.Context, s *Session, st statement) error {
	switch st.word(1) {
	case "PRIMARY":
		s.Service.RoutePrimary(true)
	case "AUTO":
		s.Service.RoutePrimary(false)
	default:
		return wire.Errorf("42601", "ROUTE knows PRIMARY and AUTO, not \"%s\"", st.text[1])
	}
	return nil
}

// set is SET key = value or SET key TO value. The value is as the file would have it.
func set(_ context.Context, s *Session, st statement) error {
	words := st.text[1:]
	if len(words) < 3 || words[1] != "=" && st.word(2) != "TO" {
		return wire.Errorf("42601", "a value is missing: SET %s = value", words[0])
	}
	if err := s.Service.Set(words[0], strings.Join(words[2:], " ")); err != nil {
		return wire.Errorf("22023", "%v", err).WithHint("SHOW SETTINGS lists the keys, and which can be changed.")
	}
	return nil
}

func reloaded(err error) error {
	if err == nil {
		return nil
	}
	return wire.Errorf("F0000", "the configuration is not reloaded: what was in force stays: %v", err).
		WithHint("pgweir check says the same of the file.")
}

func shutdown(_ context.Context, s *Session, st statement) error {
	switch st.word(1) {
	case "":
		return s.Service.Shutdown(ShutdownNow)
	case "WAIT_FOR_SERVERS":
		return s.Service.Shutdown(ShutdownWithServers)
	case "WAIT_FOR_CLIENTS":
		return s.Service.Shutdown(ShutdownWithClients)
	}
	return wire.Errorf("42601", "SHUTDOWN knows WAIT_FOR_SERVERS and WAIT_FOR_CLIENTS, not \"%s\"", st.text[1])
}
