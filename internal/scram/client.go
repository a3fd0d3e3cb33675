package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Client is the client's half of one exchange: First, Final, Verify, in that
// order. It logs in with a password or with a client key alone. It is of one use.
type Client struct {
	mechanism string
	gs2       string // gs2-header
	binding   []byte // channel binding data with SHA256Plus
	password  string
	keys      Keys

	firstBare   string
	nonce       string
	authMessage string
}

// ErrNoCredential says that neither a password nor a client key is known.
var ErrNoCredential = errors.New("neither a password nor another usable secret is known")

// NewClient chooses among the mechanisms the server offers. binding is the channel
// binding data of the TLS channel, nil if there is none. keys.ClientKey, where it
// is known, is used in place of the password where it fits.
func NewClient(offered []string, binding []byte, password string, keys Keys) (*Client, error) {
	if password == "" && keys.ClientKey == nil {
		return nil, ErrNoCredential
	}
	c := &Client{mechanism: SHA256, gs2: "n,,", password: password, keys: keys}
	switch {
	case binding != nil && slices.Contains(offered, SHA256Plus):
		c.mechanism, c.gs2, c.binding = SHA256Plus, "p="+EndPoint+",,", binding
	case !slices.Contains(offered, SHA256):
		return nil, fmt.Errorf("the server offers none of the known SASL mechanisms: %q", offered)
	case binding != nil:
		// Were the offer of PLUS taken away on the wire, the server would see it here.
		c.gs2 = "y,,"
	}
	return c, nil
}

// Mechanism is the chosen one.
func (c *Client) Mechanism() string { return c.mechanism }

// First is the client-first-message.
func (c *Client) First() []byte {
	var raw [18]byte
	_, _ = rand.Read(raw[:]) // never fails
	c.nonce = base64.StdEncoding.EncodeToString(raw[:])
	// PostgreSQL takes the user's name from the startup packet.
	c.firstBare = "n=,r=" + c.nonce
	return []byte(c.gs2 + c.firstBare)
}

// Final answers the server-first-message with the proof.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	nonce, salt, iterations, err := parseServerFirst(string(serverFirst))
	if err != nil {
		return nil, err
	}
	if c.authMessage != "" {
		return nil, errors.New("the server sent a second SCRAM challenge")
	}
	if !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) {
		return nil, errors.New("the server's SCRAM nonce is not an extension of ours")
	}
	if !c.usesKey(salt, iterations) {
		if c.keys, err = Derive(sha256.New, c.password, salt, iterations); err != nil {
			return nil, err
		}
	}
	cbind := base64.StdEncoding.EncodeToString(append([]byte(c.gs2), c.binding...))
	withoutProof := "c=" + cbind + ",r=" + nonce
	c.authMessage = c.firstBare + "," + string(serverFirst) + "," + withoutProof
	proof := make([]byte, KeySize)
	if subtle.XORBytes(proof, c.keys.ClientKey, c.keys.ClientSignature(sha256.New, c.authMessage)) != KeySize {
		return nil, errors.New("the SCRAM client key has a wrong length")
	}
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// usesKey reports whether the known client key is the one to prove, and not the
// password: it fits this salt, or there is nothing else.
func (c *Client) usesKey(salt []byte, iterations int) bool {
	if c.keys.ClientKey == nil || c.password == "" {
		return c.password == ""
	}
	return c.keys.Iterations == iterations && bytes.Equal(c.keys.Salt, salt)
}

// Verify checks the server-final-message: the server too must know the secret.
func (c *Client) Verify(serverFinal []byte) error {
	text, ok := strings.CutPrefix(string(serverFinal), "v=")
	if !ok {
		return errors.New("malformed SCRAM message from the server: no verifier")
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || c.authMessage == "" ||
		!hmac.Equal(signature, c.keys.ServerSignature(sha256.New, c.authMessage)) {
		return errors.New("the server's SCRAM signature is wrong: it does not know the user's secret")
	}
	return nil
}

func parseServerFirst(s string) (nonce string, salt []byte, iterations int, err error) {
	malformed := errors.New("malformed SCRAM message from the server")
	fields := strings.Split(s, ",")
	if len(fields) < 3 {
		return "", nil, 0, malformed
	}
	nonce, ok1 := strings.CutPrefix(fields[0], "r=")
	salt64, ok2 := strings.CutPrefix(fields[1], "s=")
	count, ok3 := strings.CutPrefix(fields[2], "i=")
	if !ok1 || !ok2 || !ok3 {
		return "", nil, 0, malformed
	}
	if salt, err = base64.StdEncoding.DecodeString(salt64); err != nil || len(salt) == 0 {
		return "", nil, 0, malformed
	}
	if iterations, err = strconv.Atoi(count); err != nil || iterations < 1 {
		return "", nil, 0, malformed
	}
	return nonce, salt, iterations, nil
}
