package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/internal/scram"
)

// password is everybody's, and secret what the servers know of it. Its one iteration costs little.
const password = "everybody's"

var secret = func() string {
	keys, err := scram.Derive(sha256.New, password, []byte("salt"), 1)
	if err != nil {
		panic(err)
	}
	return keys.Secret()
}()

// prover is how a client shows at login that it knows the password. The zero value is ready.
type prover struct{ of *scram.Client }

// answer answers an authentication request, if it asks for anything.
func (p *prover) answer(k *talk, f frame) (err error) {
	var out pgproto3.FrontendMessage
	body := []byte(f.body[4:])
	switch binary.BigEndian.Uint32([]byte(f.body)) {
	case pgproto3.AuthTypeSASL:
		offered := strings.Split(strings.TrimRight(string(body), "\x00"), "\x00")
		if p.of, err = scram.NewClient(offered, nil, password, scram.Keys{}); err != nil {
			return err
		}
		out = &pgproto3.SASLInitialResponse{AuthMechanism: p.of.Mechanism(), Data: p.of.First()}
	case pgproto3.AuthTypeSASLContinue:
		final, err := p.of.Final(body)
		if err != nil {
			return err
		}
		out = &pgproto3.SASLResponse{Data: final}
	case pgproto3.AuthTypeSASLFinal:
		return p.of.Verify(body)
	default:
		return nil
	}
	bytes, err := out.Encode(nil)
	if err != nil {
		return err
	}
	return k.send(bytes)
}
