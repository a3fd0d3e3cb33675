package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/scram"
)

// password answers a password request.
func password(p string) *scripted {
	return &scripted{answer: func(int, []byte) []byte { return []byte(p + "\x00") }}
}

// initialResponse is a SASLInitialResponse's body.
func initialResponse(mechanism, message string) []byte {
	b := append([]byte(mechanism), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

// saslClient is an honest client whose messages a test bends.
type saslClient struct {
	password string
	bend     func(n int, body []byte) []byte
	binding  []byte
	client   *scram.Client
	t        testing.TB
}

func (c *saslClient) exchange() *scripted {
	return &scripted{answer: func(n int, last []byte) []byte {
		body := c.honest(n, last)
		if c.bend != nil {
			body = c.bend(n, body)
		}
		return body
	}}
}

func (c *saslClient) honest(n int, last []byte) []byte {
	switch n {
	case 1:
		var err error
		if c.client, err = scram.NewClient(mechanismsOf(last), c.binding, c.password, scram.Keys{}); err != nil {
			c.t.Fatal(err)
		}
		return initialResponse(c.client.Mechanism(), string(c.client.First()))
	case 2:
		final, err := c.client.Final(last[9:])
		if err != nil {
			// The first message was bent: the challenge answers another one.
			return []byte("c=biws,r=x,p=" + strings.Repeat("A", 43) + "=")
		}
		return final
	}
	return nil
}

func mechanismsOf(frame []byte) []string {
	return strings.Split(strings.Trim(string(frame[9:]), "\x00"), "\x00")
}

func authenticate(t testing.TB, v *Verifier, user string, x Exchange) (Identity, string) {
	id, err := v.Authenticate(testContext(t), Client{User: user, Database: "d", Address: "192.0.2.7:1234"}, x)
	return id, code(err)
}

func TestMalformedSASL(t *testing.T) {
	v := mustNew(t, config.Auth{}, testUsers(t), nil, nil)
	replace := func(at int, with []byte) func(int, []byte) []byte {
		return func(n int, body []byte) []byte {
			if n == at {
				return with
			}
			return body
		}
	}
	change := func(at int, from, to string) func(int, []byte) []byte {
		return func(n int, body []byte) []byte {
			if n == at {
				return []byte(strings.Replace(string(body), from, to, 1))
			}
			return body
		}
	}
	first := func(message string) func(int, []byte) []byte {
		return replace(1, initialResponse(scram.SHA256, message))
	}
	const nonce = "r=abcdefghijklmnopqrstuvwx"
	for name, c := range map[string]struct {
		bend func(int, []byte) []byte
		want string
	}{
		"honest":                      {nil, "ok"},
		"empty message":               {replace(1, []byte{}), "08P01"},
		"only a mechanism":            {replace(1, []byte("SCRAM-SHA-256\x00")), "08P01"},
		"no end of the mechanism":     {replace(1, []byte("SCRAM-SHA-256")), "08P01"},
		"length too large":            {replace(1, []byte("SCRAM-SHA-256\x00\x00\x00\xff\xffn,,")), "08P01"},
		"length negative":             {replace(1, []byte("SCRAM-SHA-256\x00\xff\xff\xff\xfen,,")), "08P01"},
		"unknown mechanism":           {replace(1, initialResponse("PLAIN", "n,,n=,"+nonce)), "08P01"},
		"PLUS though not offered":     {replace(1, initialResponse(scram.SHA256Plus, "p=tls-server-end-point,,n=,"+nonce)), "08P01"},
		"empty first":                 {first(""), "08P01"},
		"no header":                   {first("n=," + nonce), "08P01"},
		"binding in plain mechanism":  {first("p=tls-server-end-point,,n=," + nonce), "08P01"},
		"unknown flag":                {first("z,,n=," + nonce), "08P01"},
		"authorization identity":      {first("n,a=root,n=," + nonce), "0A000"},
		"extension":                   {first("n,,m=x,n=," + nonce), "0A000"},
		"no nonce":                    {first("n,,n="), "08P01"},
		"zero byte":                   {first("n,,n=\x00," + nonce), "08P01"},
		"y without an offer":          {first("y,,n=," + nonce), "08P01"}, // the honest final then has another header
		"empty final":                 {replace(2, []byte{}), "08P01"},
		"garbage final":               {replace(2, []byte("hello")), "08P01"},
		"final without proof":         {change(2, ",p=", ",q="), "08P01"},
		"proof not base64":            {change(2, ",p=", ",p=!"), "08P01"},
		"proof too short":             {replace(2, []byte("c=biws,r=x,p=AAAA")), "08P01"},
		"another nonce":               {change(2, "r=", "r=x"), "08P01"},
		"another header":              {change(2, "c=biws", "c=eSws"), "08P01"},
		"zero byte in the final":      {change(2, "c=biws", "c=biws\x00"), "08P01"},
		"extension before the proof":  {change(2, ",p=", ",x=y,p="), "28P01"}, // not what the proof signed
		"too large":                   {replace(1, bytes.Repeat([]byte("x"), MaxMessage+1)), "08P01"},
		"as large as possible":        {replace(1, initialResponse(scram.SHA256, "n,,n=,r="+strings.Repeat("x", MaxMessage-26))), "08P01"},
		"hangs up before the message": {replace(1, nil), "use of closed network connection"},
		"hangs up before the proof":   {replace(2, nil), "use of closed network connection"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := saslClient{t: t, password: "secret", bend: c.bend}
			x := cl.exchange()
			if _, got := authenticate(t, v, "scram", x); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestMechanismWithoutMessage(t *testing.T) {
	v := mustNew(t, config.Auth{}, testUsers(t), nil, nil)
	cl := saslClient{t: t, password: "secret"}
	x := &scripted{answer: func(n int, last []byte) []byte {
		switch n {
		case 1:
			return append([]byte(scram.SHA256), 0, 0xff, 0xff, 0xff, 0xff)
		case 2:
			if len(last) != 9 {
				t.Errorf("the challenge is %q", last)
			}
			cl.client, _ = scram.NewClient([]string{scram.SHA256}, nil, "secret", scram.Keys{})
			return cl.client.First()
		}
		return cl.honest(2, last)
	}}
	if _, got := authenticate(t, v, "scram", x); got != "ok" {
		t.Errorf("got %s", got)
	}
}

// TestChannelBinding plays clients under attack: each believes something else
// about the channel than the proxy does.
func TestChannelBinding(t *testing.T) {
	conf, _ := testTLS(t, "allow")
	v := mustNew(t, config.Auth{}, testUsers(t), conf, nil)
	for name, c := range map[string]struct {
		binding []byte
		bend    func(int, []byte) []byte
		user    string
		want    string
	}{
		"bound":                {conf.endPoint, nil, "scram", "ok"},
		"bound, unknown user":  {conf.endPoint, nil, "unknown", "28P01"},
		"another certificate":  {[]byte(strings.Repeat("x", 48)), nil, "scram", "28000"},
		"not able to bind":     {nil, nil, "scram", "ok"},
		"the offer taken away": {nil, replaceFirst("n,,", "y,,"), "scram", "28000"},
		"mechanism without data": {nil, func(n int, body []byte) []byte {
			if n == 1 {
				return initialResponse(scram.SHA256Plus, "n,,n=,r=abcdefgh")
			}
			return body
		}, "scram", "08P01"},
		"another kind": {conf.endPoint, func(n int, body []byte) []byte {
			if n == 1 {
				return initialResponse(scram.SHA256Plus, "p=tls-unique,,n=,r=abcdefgh")
			}
			return body
		}, "scram", "08P01"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := saslClient{t: t, password: "secret", binding: c.binding, bend: c.bend}
			x := cl.exchange()
			x.state = &tls.ConnectionState{}
			if _, got := authenticate(t, v, c.user, x); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if m := mechanismsOf(x.sent[0]); len(m) != 2 || m[0] != scram.SHA256Plus {
				t.Errorf("offered %q", m)
			}
		})
	}
}

func replaceFirst(from, to string) func(int, []byte) []byte {
	return func(n int, body []byte) []byte {
		if n == 1 {
			return []byte(strings.Replace(string(body), from, to, 1))
		}
		return body
	}
}

// TestUnknownLooksKnown compares what an unknown user's client sees with what a
// known one's does: the salt must stay, differ between names, and have the same size.
func TestUnknownLooksKnown(t *testing.T) {
	v := mustNew(t, config.Auth{}, testUsers(t), nil, nil)
	again := mustNew(t, config.Auth{}, testUsers(t), nil, nil) // after a reload
	challenge := func(v *Verifier, user string) (salt, iterations string) {
		cl := saslClient{t: t, password: "guess"}
		x := cl.exchange()
		if _, got := authenticate(t, v, user, x); got != "28P01" {
			t.Fatalf("%s: got %s", user, got)
		}
		fields := strings.Split(string(x.sent[1][9:]), ",")
		return fields[1], fields[2]
	}
	salt, iterations := challenge(v, "nobody")
	for _, other := range []*Verifier{v, again} {
		if s, i := challenge(other, "nobody"); s != salt || i != iterations {
			t.Error("the challenge of an unknown user changes")
		}
	}
	for _, user := range []string{"nobody2", "plain", "scram", "hashed"} {
		s, i := challenge(v, user)
		if s == salt || len(s) != len(salt) || i != iterations {
			t.Errorf("%s is challenged with %s %s, an unknown user with %s %s", user, s, i, salt, iterations)
		}
	}
}

func TestMalformedPasswords(t *testing.T) {
	for _, method := range []string{"password", "md5"} {
		v := mustNew(t, config.Auth{Method: method, AllowPlainPassword: true}, testUsers(t), nil, nil)
		for body, want := range map[string]string{
			"": "08P01", "secret": "08P01", "sec\x00ret\x00": "08P01", "\x00": "28P01", "\x00\x00": "08P01",
			"x\x00": "28P01", strings.Repeat("x", MaxMessage) + "\x00": "08P01",
		} {
			x := &scripted{answer: func(int, []byte) []byte { return []byte(body) }}
			if _, got := authenticate(t, v, "plain", x); got != want {
				t.Errorf("%s, %.10q: got %s, want %s", method, body, got, want)
			}
		}
	}
}

// FuzzSASL gives the exchange any two messages: it must end, and never well.
func FuzzSASL(f *testing.F) {
	v := mustNew(f, config.Auth{}, map[string]config.User{"u": {Password: scramSecret(f, "secret")}}, nil, nil)
	f.Add(initialResponse(scram.SHA256, "n,,n=,r=abc"), []byte("c=biws,r=abc,p="+strings.Repeat("A", 43)+"="))
	f.Add(initialResponse(scram.SHA256Plus, "p=tls-server-end-point,,n=,r=abc"), []byte("c=,r=,p="))
	f.Add(initialResponse(scram.SHA256, "y,a=x,m=,n=a=2C,r="), []byte(",,,"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, state := range []*tls.ConnectionState{nil, {}} {
			x := &scripted{state: state, answer: func(n int, _ []byte) []byte {
				return [][]byte{nil, first, second, second}[n]
			}}
			if _, err := v.Authenticate(context.Background(), Client{User: "u", Database: "d", Address: ""}, x); err == nil {
				t.Error("logged in")
			}
		}
	})
}
