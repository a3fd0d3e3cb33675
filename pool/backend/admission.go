package backend

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// Admission is what a server makes the login of a role to a database depend on, besides
// the proof of who it is. https://www.postgresql.org/docs/current/sql-createrole.html
type Admission struct {
	Role, Database string

	noRole, noLogin, expired, roleFull    bool // of the role
	noDatabase, closed, noConnect, dbFull bool // of the database
}

// admissionQuery asks for a role ($1) and a database ($2). Superusers are bound by LOGIN only.
const admissionQuery = `
SELECT r.oid IS NULL, NOT r.rolcanlogin, r.rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now(), NOT r.rolsuper AND r.rolconnlimit OPERATOR(pg_catalog.=) 0,
       d.oid IS NULL, NOT d.datallowconn, NOT r.rolsuper AND NOT pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT'),
       NOT r.rolsuper AND d.datconnlimit OPERATOR(pg_catalog.=) 0
  FROM (SELECT $1::pg_catalog.text) w(role)
  LEFT JOIN pg_catalog.pg_roles r ON r.rolname OPERATOR(pg_catalog.=) w.role
  LEFT JOIN pg_catalog.pg_database d ON d.datname OPERATOR(pg_catalog.=) $2`

// AskAdmission asks over b, whoever that is logged in as.
func AskAdmission(ctx context.Context, b *Backend, role, database string) (a Admission, err error) {
	a.Role, a.Database = role, database
	err = b.Query(ctx, AnyDefault+strings.NewReplacer("$1", setting.Literal(role), "$2", setting.Literal(database)).Replace(admissionQuery), func(v [][]byte) error {
		for i, found := range []*bool{&a.noRole, &a.noLogin, &a.expired, &a.roleFull, &a.noDatabase, &a.closed, &a.noConnect, &a.dbFull} {
			*found = string(v[i]) == "t" // NULL is not
		}
		return nil
	})
	return a, err
}

// Refusal is the error the server would refuse the login with, or nil. byPassword is that
// the role shows who it is by a password, which may have expired.
func (a Admission) Refusal(byPassword bool) error {
	switch {
	case a.expired && byPassword:
		return wire.Fatalf("28P01", "password authentication failed for user \"%s\"", a.Role)
	case a.noRole:
		return wire.Fatalf("28000", "role \"%s\" does not exist", a.Role)
	case a.noLogin:
		return wire.Fatalf("28000", "role \"%s\" is not permitted to log in", a.Role)
	case a.roleFull:
		return wire.Fatalf("53300", "too many connections for role \"%s\"", a.Role)
	case a.noDatabase:
		return wire.Fatalf("3D000", "database \"%s\" does not exist", a.Database)
	case a.closed:
		return wire.Fatalf("55000", "database \"%s\" is not currently accepting connections", a.Database)
	case a.noConnect:
		refused := wire.Fatalf("42501", "permission denied for database \"%s\"", a.Database)
		refused.Detail = "User does not have CONNECT privilege."
		return refused
	case a.dbFull:
		return wire.Fatalf("53300", "too many connections for database \"%s\"", a.Database)
	}
	return nil
}

// Full is what a login was refused for, there being too many connections.
type Full uint8

const (
	FullNot      Full = iota // it was not, or not for that
	FullServer               // max_connections, but for what is reserved
	FullDatabase             // CONNECTION LIMIT of the database
	FullRole                 // CONNECTION LIMIT of the role
)

// FullBy tells by the error of Open. Servers word it in their own language; which function of
// theirs it came from says more.
func FullBy(err error) Full {
	var refused *pgconn.PgError
	switch {
	case err == nil || !errors.As(err, &refused) || refused.Code != "53300":
		return FullNot
	case refused.Routine == "CheckMyDatabase":
		return FullDatabase
	case refused.Routine == "InitializeSessionUserId":
		return FullRole
	}
	return FullServer
}

// slotsQuery asks how many sessions a server lets in, and how many of these are for superusers, or
// for roles with pg_use_reserved_connections.
const slotsQuery = `SELECT name, setting FROM pg_catalog.pg_settings
 WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')`

// AskSlots asks how many sessions of ordinary roles a server lets in, and how many more it keeps
// for others.
func AskSlots(ctx context.Context, b *Backend) (free, reserved int, err error) {
	err = b.Query(ctx, AnyDefault+slotsQuery, func(v [][]byte) error {
		n, err := strconv.Atoi(string(v[1]))
		if string(v[0]) == "max_connections" {
			free += n
		} else {
			free, reserved = free-n, reserved+n
		}
		return err
	})
	return free, reserved, err
}
