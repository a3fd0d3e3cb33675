package scram_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/scram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// TestPreparedAsPostgreSQLDoes compares our keys with those the server makes.
func TestPreparedAsPostgreSQLDoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := pgtest.New(t, pgtest.Options{})
	if err := c.Exec(ctx, "create role r login"); err != nil {
		t.Fatal(err)
	}
	for name, password := range map[string]string{
		"ASCII":              "correct horse",
		"control characters": "tab\tand\x01",
		"accents":            "p\u00e4ss",
		"decomposed":         "pa\u0308ss",
		"no-break space":     "a\u00a0b",
		"zero width space":   "a\u200bb",
		"zero width joiner":  "a\u200db",
		"soft hyphen":        "a\u00adb",
		"only soft hyphens":  "\u00ad\u00ad",
		"Roman numeral":      "\u2167",
		"full width":         "\uff50\uff57",
		"ligature":           "\ufb01",
		"right to left":      "\u05d0\u05d1\u05d2",
		"mixed directions":   "a\u05d0b",
		"Arabic and digit":   "\u06271",
		"private use":        "a\ue000",
		"control, non-ASCII": "\u00e4\x07",
		"emoji":              "\U0001f40e battery",
		"unassigned then":    "\u0221",
		"Han":                "\u6f22\u5b57",
		"Hangul jamo":        "\u1112\u1161\u11ab",
		"tag character":      "a\U000e0041",
		"object replacement": "a\ufffc",
	} {
		if err := c.Exec(ctx, "alter role r password '"+strings.ReplaceAll(password, "'", "''")+"'"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := c.Primary.Value(ctx, "postgres", "select rolpassword from pg_authid where rolname = 'r'")
		if err != nil {
			t.Fatal(err)
		}
		stored, err := scram.ParseSecret(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		keys, err := scram.Derive(sha256.New, password, stored.Salt, stored.Iterations)
		if err != nil {
			t.Fatal(err)
		}
		if keys.Secret() != text {
			t.Errorf("%s: %q is prepared as %q, and PostgreSQL has another opinion", name, password, scram.Prepare(password))
		}
	}
}

func TestNotUTF8(t *testing.T) {
	for _, s := range []string{"\xff\xfe", "a\u00a0\xff", ""} {
		if got := scram.Prepare(s); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}
