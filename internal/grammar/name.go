package grammar

import (
	"regexp"

	"github.com/pgweir/pgweir/internal/setting"
)

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Name is the name of a relation or column as SQL writes it, quoted only if it must be; empty
// stays empty.
func Name(s string) string {
	if s == "" || plainName.MatchString(s) && Valid("CREATE TABLE t ("+s+" int)") == nil {
		return s
	}
	return setting.Identifier(s)
}
