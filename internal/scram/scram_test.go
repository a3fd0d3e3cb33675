package scram

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func derive(t testing.TB, password string, salt []byte, iterations int) Keys {
	t.Helper()
	k, err := Derive(sha256.New, password, salt, iterations)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVector is the example of RFC 7677, section 3.
func TestVector(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	k := derive(t, "pencil", salt, 4096)
	const withoutProof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	const authMessage = "n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," + withoutProof
	proof, err := base64.StdEncoding.DecodeString("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if err != nil {
		t.Fatal(err)
	}
	stored := k
	stored.ClientKey = nil
	recovered, ok := stored.WithClientKey(sha256.New, proof, authMessage)
	if !ok || !recovered.Equal(k) {
		t.Error("the client key is not recovered from the proof")
	}
	if got := base64.StdEncoding.EncodeToString(k.ServerSignature(sha256.New, authMessage)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
	proof[0] ^= 1
	if _, ok := stored.WithClientKey(sha256.New, proof, authMessage); ok {
		t.Error("a wrong proof is accepted")
	}
	if _, ok := stored.WithClientKey(sha256.New, proof[:31], authMessage); ok {
		t.Error("a short proof is accepted")
	}
}

func TestParseSecret(t *testing.T) {
	k := derive(t, "secret", []byte("0123456789abcdef"), 4096)
	k.ClientKey = nil
	again, err := ParseSecret(k.Secret())
	if err != nil || !again.Equal(k) || again.ClientKey != nil {
		t.Fatalf("%v", err)
	}
	good := k.Secret()
	for name, bad := range map[string]string{
		"empty": "", "another mechanism": strings.Replace(good, "256", "512", 1), "no iterations": strings.Replace(good, "4096", "", 1),
		"zero": strings.Replace(good, "4096", "0", 1), "signed": strings.Replace(good, "4096", "+4096", 1),
		"too many": strings.Replace(good, "4096", "99999999", 1), "no salt": strings.Replace(good, "MDEyMzQ1Njc4OWFiY2RlZg==", "", 1),
		"not base64": strings.Replace(good, "MDEy", "M!Ey", 1), "short key": strings.Replace(good, ":"+base64.StdEncoding.EncodeToString(k.ServerKey), ":AAAA", 1),
		"more": good + ":x", "cut": good[:len(good)-5], "no colon": strings.ReplaceAll(good, ":", ";"),
	} {
		if _, err := ParseSecret(bad); !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(derive(f, "secret", []byte("0123456789abcdef"), 1).Secret())
	f.Add("SCRAM-SHA-256$4096:AA==$AA==:AA==")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseSecret(s)
		if err != nil {
			return
		}
		if again, err := ParseSecret(k.Secret()); err != nil || !again.Equal(k) {
			t.Errorf("%q is not read again: %v", s, err)
		}
	})
}

// TestClient runs the client against a server's half made of Keys.
func TestClient(t *testing.T) {
	salt := []byte("0123456789abcdef")
	k := derive(t, "secret", salt, 64)
	binding := bytes.Repeat([]byte{7}, 32)
	for name, c := range map[string]struct {
		offered   []string
		binding   []byte
		password  string
		keys      Keys
		mechanism string
		header    string
		right     bool
	}{
		"password":                 {[]string{SHA256}, nil, "secret", Keys{}, SHA256, "n,,", true},
		"wrong password":           {[]string{SHA256}, nil, "Secret", Keys{}, SHA256, "n,,", false},
		"keys":                     {[]string{SHA256}, nil, "", k, SHA256, "n,,", true},
		"keys of another salt":     {[]string{SHA256}, nil, "", derive(t, "secret", []byte("x"), 64), SHA256, "n,,", false},
		"password beats such keys": {[]string{SHA256}, nil, "secret", derive(t, "secret", []byte("x"), 64), SHA256, "n,,", true},
		"bound":                    {[]string{SHA256Plus, SHA256}, binding, "secret", Keys{}, SHA256Plus, "p=tls-server-end-point,,", true},
		"only bound":               {[]string{SHA256Plus}, binding, "secret", Keys{}, SHA256Plus, "p=tls-server-end-point,,", true},
		"binding not offered":      {[]string{SHA256}, binding, "secret", Keys{}, SHA256, "y,,", true},
		"no TLS":                   {[]string{SHA256Plus, SHA256}, nil, "secret", Keys{}, SHA256, "n,,", true},
	} {
		t.Run(name, func(t *testing.T) {
			cl, err := NewClient(c.offered, c.binding, c.password, c.keys)
			if err != nil {
				t.Fatal(err)
			}
			first, ok := strings.CutPrefix(string(cl.First()), c.header)
			if !ok || cl.Mechanism() != c.mechanism {
				t.Fatalf("%s with %s", cl.Mechanism(), first)
			}
			_, nonce, _ := strings.Cut(first, "r=")
			challenge := fmt.Sprintf("r=%sxyz,s=%s,i=64", nonce, base64.StdEncoding.EncodeToString(salt))
			final, err := cl.Final([]byte(challenge))
			if err != nil {
				t.Fatal(err)
			}
			withoutProof, proof64, _ := strings.Cut(string(final), ",p=")
			header := append([]byte(c.header), c.binding...)
			if c.header[0] != 'p' {
				header = []byte(c.header)
			}
			if want := "c=" + base64.StdEncoding.EncodeToString(header) + ",r=" + nonce + "xyz"; withoutProof != want {
				t.Errorf("final is %s, want %s", withoutProof, want)
			}
			proof, _ := base64.StdEncoding.DecodeString(proof64)
			authMessage := first + "," + challenge + "," + withoutProof
			if _, right := k.WithClientKey(sha256.New, proof, authMessage); right != c.right {
				t.Errorf("the proof is right: %v", right)
			}
			verifier := "v=" + base64.StdEncoding.EncodeToString(k.ServerSignature(sha256.New, authMessage))
			if err := cl.Verify([]byte(verifier)); (err == nil) != c.right {
				t.Errorf("verify: %v", err)
			}
			for _, bad := range []string{"", "v=", "v=AAAA", "e=other-error", strings.ToLower(verifier)} {
				if cl.Verify([]byte(bad)) == nil {
					t.Errorf("%q is accepted", bad)
				}
			}
			if _, err := cl.Final([]byte(challenge)); err == nil {
				t.Error("a second challenge is answered")
			}
		})
	}
	if _, err := NewClient([]string{SHA256}, nil, "", Keys{}); !errors.Is(err, ErrNoCredential) {
		t.Errorf("nothing known: %v", err)
	}
	if _, err := NewClient([]string{SHA256Plus}, nil, "x", Keys{}); err == nil {
		t.Error("binding without TLS")
	}
}

func TestBadChallenges(t *testing.T) {
	for _, challenge := range []string{
		"", "r=N", "r=Nx,s=AAAA", "r=x,s=AAAA,i=1", "r=N,s=AAAA,i=1", "r=Nx,s=,i=1", "r=Nx,s=!,i=1", "r=Nx,s=AAAA,i=0",
		"r=Nx,s=AAAA,i=-1", "r=Nx,s=AAAA,i=x", "r=Nx,s=AAAA,i=2000000000", "m=x,r=Nx,s=AAAA,i=1", "e=other-error",
	} {
		cl, err := NewClient([]string{SHA256}, nil, "secret", Keys{})
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, _ := strings.Cut(string(cl.First()), "r=")
		if _, err := cl.Final([]byte(strings.Replace(challenge, "N", nonce, 1))); err == nil {
			t.Errorf("%q is answered", challenge)
		}
	}
}

func TestRedacted(t *testing.T) {
	k := derive(t, "secret", []byte("salt"), 1)
	js, err := json.Marshal(k)
	if err != nil || k.IsZero() || !(Keys{}).IsZero() {
		t.Error(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, []Keys{k}); !strings.Contains(string(js), "redacted") || len(js) > 30 || strings.ContainsAny(s, "0123456789") {
		t.Errorf("keys are shown: %s", s)
	}
}
