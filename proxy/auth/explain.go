package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"

	"github.com/pgweir/pgweir/internal/hba"
	"github.com/pgweir/pgweir/internal/scram"
)

// Finding is how a client has to prove who it is, and what that is compared with.
type Finding struct {
	Method string
	Rule   string // the line that says so; empty without a file of lines
	Source string // the key by which the secret was found; empty for none
	Kind   string // of the secret: plain, md5 or SCRAM

	user   string
	secret stored
}

// Explain does what comes before an exchange. s is the state of the client's connection, nil
// without TLS. Errors are as those of Authenticate.
func (v *Verifier) Explain(ctx context.Context, c Client, s *tls.ConnectionState) (Finding, error) {
	rule, err := v.rules.of(ctx, c, s)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Method: rule.Method, user: c.User}
	if rule.Line > 0 {
		f.Rule = rule.String()
	}
	if !f.ByPassword() {
		return f, nil
	}
	f.secret, err = v.find(ctx, c.Database, c.User)
	_, configured := v.users[c.User]
	_, static := v.static(c.User)
	switch {
	case f.secret.kind == secretNone:
	case configured:
		f.Source = "users." + c.User + ".password"
	case static:
		f.Source = "auth.user_file"
	default:
		f.Source = "auth.query"
	}
	f.Kind = map[secretKind]string{secretPlain: "plain", secretMD5: "md5", secretSCRAM: "SCRAM"}[f.secret.kind]
	return f, err
}

// ByPassword reports whether a secret is compared with.
func (f Finding) ByPassword() bool { return Identity{Method: f.Method}.ByPassword() }

// Why says why there is no secret that serves.
func (f Finding) Why() string { return reason(f.secret) }

// Matches reports whether a password is one of those that let the user in.
func (f Finding) Matches(password string) (right bool) {
	f.secret.each(func(s stored) {
		switch s.kind {
		case secretPlain:
			right = right || s.text == password
		case secretMD5: // serves no SCRAM exchange
			right = right || f.Method != hba.SCRAM && s.text == "md5"+hexMD5(password+f.user)
		case secretSCRAM:
			keys, err := scram.Derive(sha256.New, password, s.keys.Salt, s.keys.Iterations)
			right = right || err == nil && hmac.Equal(keys.StoredKey, s.keys.StoredKey)
		case secretNone:
		}
	})
	return right
}
