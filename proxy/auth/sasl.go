package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	xscram "github.com/xdg-go/scram"

	"github.com/pgweir/pgweir/internal/scram"
	"github.com/pgweir/pgweir/internal/wire"
)

// scram is method scram-sha-256.
// https://www.postgresql.org/docs/current/sasl-authentication.html
func (l *login) scram(s stored) (Secret, error) {
	keys, real, err := l.v.scramKeys(l.User, s)
	if err != nil {
		return Secret{}, err
	}
	e := saslExchange{login: l, choices: keys, mechanisms: []string{scram.SHA256}}
	if e.binding = l.v.tls.binding(l.x.TLS()); e.binding != nil {
		e.mechanisms = []string{scram.SHA256Plus, scram.SHA256}
	}
	if err := e.first(); err != nil {
		return Secret{}, err
	}
	proved, err := e.final()
	if err != nil {
		return Secret{}, err
	}
	if !proved || !real {
		return Secret{}, l.failed(reason(s))
	}
	l.v.delays.succeeded(l.key)
	if err := l.send(&pgproto3.AuthenticationSASLFinal{Data: []byte(e.serverFinal)}); err != nil {
		return Secret{}, err
	}
	if s.kind == secretPlain {
		return s.usable(), nil
	}
	return s.forServers(Secret{Keys: e.keys}), nil
}

// saslExchange is one SCRAM exchange, server's side. The library checks the
// messages and the proof; what PostgreSQL checks beyond it is checked here.
type saslExchange struct {
	*login
	choices    []scram.Keys // one of which the client may prove
	keys       scram.Keys   // those it proved, with the client key
	binding    []byte       // nil where none is offered
	mechanisms []string

	conversation *xscram.ServerConversation
	nonce        string // our part of it
	bound        bool   // the client chose channel binding
	clientFirst  string
	clientBare   string // client-first-message-bare
	serverFirst  string
	serverFinal  string
}

// first runs the exchange up to our first message.
func (e *saslExchange) first() error {
	body, err := e.ask(&pgproto3.AuthenticationSASL{AuthMechanisms: e.mechanisms})
	if err != nil {
		return err
	}
	mechanism, message, present, err := parseInitialResponse(body)
	if err != nil {
		return err
	}
	if !slices.Contains(e.mechanisms, mechanism) {
		return wire.Fatalf("08P01", "client selected an invalid SASL authentication mechanism")
	}
	if !present {
		// The mechanism was chosen without a message: an empty challenge asks for it.
		if body, err = e.ask(&pgproto3.AuthenticationSASLContinue{}); err != nil {
			return err
		}
		message = string(body)
	}
	e.bound = mechanism == scram.SHA256Plus
	if e.clientBare, err = checkClientFirst(message, e.bound, e.binding != nil); err != nil {
		return err
	}
	e.clientFirst, e.nonce = message, rand.Text()
	e.serverFirst, err = e.converse(e.choices[0])
	return err
}

// converse begins the conversation about one of the choices; what it answers is the same for all.
func (e *saslExchange) converse(keys scram.Keys) (serverFirst string, err error) {
	server, err := xscram.HashGeneratorFcn(e.v.newHash).NewServer(
		func(string) (xscram.StoredCredentials, error) {
			return xscram.StoredCredentials{
				KeyFactors: xscram.KeyFactors{Salt: string(keys.Salt), Iters: keys.Iterations},
				StoredKey:  keys.StoredKey,
				ServerKey:  keys.ServerKey,
			}, nil
		})
	if err != nil {
		return "", err
	}
	server.WithNonceGenerator(func() string { return e.nonce })
	e.conversation = server.NewConversation()
	if e.binding != nil {
		e.conversation = server.NewConversationWithChannelBinding(xscram.ChannelBinding{
			Type: xscram.ChannelBindingTLSServerEndpoint, Data: e.binding,
		})
	}
	if serverFirst, err = e.conversation.Step(e.clientFirst); err != nil {
		return "", malformed(err.Error())
	}
	return serverFirst, nil
}

// choose finds which of the choices was proved, with its client key; without any it is the
// first, and ok false.
func (e *saslExchange) choose(proof []byte, authMessage string) (keys scram.Keys, ok bool) {
	for i, k := range e.choices {
		recovered, proved := k.WithClientKey(e.v.newHash, proof, authMessage)
		if !proved || ok {
			continue
		}
		if i > 0 { // the conversation so far was about the first
			if _, err := e.converse(k); err != nil {
				continue
			}
		}
		keys, ok = recovered, true
	}
	return keys, ok
}

// final checks the client's proof. false is a wrong one; an error is anything else.
func (e *saslExchange) final() (proved bool, err error) {
	body, err := e.ask(&pgproto3.AuthenticationSASLContinue{Data: []byte(e.serverFirst)})
	if err != nil {
		return false, err
	}
	message := string(body)
	withoutProof, proof, err := splitClientFinal(message)
	if err != nil {
		return false, err
	}
	if err := e.mayCheck(); err != nil {
		return false, err
	}
	// Right or wrong, the same computations follow.
	authMessage := e.clientBare + "," + e.serverFirst + "," + withoutProof
	recovered, ok := e.choose(proof, authMessage)
	e.serverFinal, err = e.conversation.Step(message)
	switch {
	case err == nil && ok:
		e.keys = recovered
		return true, nil
	case err == nil || e.serverFinal == xscram.ErrInvalidProof:
		_ = e.choices[0].ServerSignature(e.v.newHash, authMessage)
		return false, nil
	case e.serverFinal == xscram.ErrChannelBindingsDontMatch && e.bound:
		return false, wire.Fatalf("28000", "SCRAM channel binding check failed")
	case e.serverFinal == xscram.ErrChannelBindingsDontMatch:
		return false, wire.Fatalf("08P01", "unexpected SCRAM channel-binding attribute in client-final-message")
	case e.serverFinal == xscram.ErrOtherError:
		return false, &wire.Error{Severity: "FATAL", Code: "08P01", Message: "invalid SCRAM response", Detail: "Nonce does not match."}
	}
	return false, malformed(err.Error())
}

// parseInitialResponse reads a SASLInitialResponse. present is false if the client
// sent no message with its choice.
func parseInitialResponse(body []byte) (mechanism, message string, present bool, err error) {
	i := bytes.IndexByte(body, 0)
	if i < 0 || len(body) < i+5 {
		return "", "", false, wire.Fatalf("08P01", "invalid SASL message")
	}
	mechanism, rest := string(body[:i]), body[i+5:]
	size := int32(binary.BigEndian.Uint32(body[i+1:]))
	switch {
	case size == -1 && len(rest) == 0:
		return mechanism, "", false, nil
	case size < 0 || int(size) != len(rest):
		return "", "", false, wire.Fatalf("08P01", "invalid SASL message")
	}
	return mechanism, string(rest), true, nil
}

// checkClientFirst checks the GS2 header against what was offered and chosen, and
// returns the rest of the message. RFC 5802, 6: flag "y" where binding was offered
// means that somebody took the offer away.
func checkClientFirst(message string, bound, offered bool) (bare string, err error) {
	if message == "" || !printable(message) {
		return "", malformed("empty, or not printable")
	}
	flag, rest, ok := strings.Cut(message, ",")
	if !ok {
		return "", malformed("no GS2 header")
	}
	switch {
	case flag == "n" && bound || flag == "y" && bound:
		return "", malformed("the client selected " + scram.SHA256Plus + ", but the message has no channel binding data")
	case flag == "y" && offered:
		return "", &wire.Error{
			Severity: "FATAL", Code: "28000", Message: "SCRAM channel binding negotiation error",
			Detail: "The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding.",
		}
	case flag == "n" || flag == "y":
	case strings.HasPrefix(flag, "p=") && !bound:
		return "", malformed("the client selected " + scram.SHA256 + " without channel binding, but the message has channel binding data")
	case strings.HasPrefix(flag, "p=") && flag != "p="+scram.EndPoint:
		return "", wire.Fatalf("08P01", "unsupported SCRAM channel-binding type")
	case strings.HasPrefix(flag, "p="):
	default:
		return "", malformed("unexpected channel-binding flag")
	}
	identity, bare, ok := strings.Cut(rest, ",")
	switch {
	case !ok:
		return "", malformed("no GS2 header")
	case identity != "":
		return "", wire.Fatalf("0A000", "client uses authorization identity, but it is not supported")
	case strings.HasPrefix(bare, "m="):
		return "", wire.Fatalf("0A000", "client requires an unsupported SCRAM extension")
	}
	return bare, nil
}

// splitClientFinal cuts the proof, the last attribute, from a client-final-message.
func splitClientFinal(message string) (withoutProof string, proof []byte, err error) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 || !printable(message) {
		return "", nil, malformed("no proof")
	}
	proof, err = base64.StdEncoding.Strict().DecodeString(message[i+len(",p="):])
	if err != nil || len(proof) != scram.KeySize {
		return "", nil, malformed("the proof is not base64 of the right length")
	}
	return message[:i], proof, nil
}

// printable reports whether s holds no control character, above all no zero byte.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// malformed is for messages no honest client sends; why is for the log.
func malformed(why string) error {
	return fmt.Errorf("%w: %s", wire.Fatalf("08P01", "malformed SCRAM message"), why)
}
