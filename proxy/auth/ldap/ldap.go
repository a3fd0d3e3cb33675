// Package ldap asks LDAP servers whether a password is a user's: by a bind as the user, whose
// place in the directory is made from the name or searched for.
// https://www.postgresql.org/docs/current/auth-ldap.html
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/pgweir/pgweir/internal/hba"
)

// ErrRefused is in the chain of the error for a user or password that is not the directory's.
// Others are of a server that does not answer, or of how it is asked.
var ErrRefused = errors.New("refused by the LDAP server")

// Check asks whether a password is a user's. Certificates of servers are checked against
// authorities, the system's for nil. It opens a connection of its own and closes it;
// ctx bounds it all. An empty password is refused without asking: servers take it for a
// client that does not say who it is, and let that in.
func Check(ctx context.Context, d *hba.Directory, authorities *x509.CertPool, user, password string) error {
	if password == "" {
		return fmt.Errorf("%w: the password is empty", ErrRefused)
	}
	conn, err := dial(ctx, d, authorities)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	dn := d.Prefix + ldap.EscapeDN(user) + d.Suffix
	if d.Base != "" {
		if dn, err = find(conn, d, user); err != nil {
			return err
		}
	}
	return refused(conn.Bind(dn, password), "bind as "+dn)
}

// dial connects to the first server that answers.
func dial(ctx context.Context, d *hba.Directory, authorities *x509.CertPool) (*ldap.Conn, error) {
	var errs []error
	for _, address := range d.URLs {
		conn, err := dialOne(ctx, d, authorities, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

func dialOne(ctx context.Context, d *hba.Directory, authorities *x509.CertPool, address string) (*ldap.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	trust := &tls.Config{ServerName: u.Hostname(), RootCAs: authorities, MinVersion: tls.VersionTLS12}
	conn, err := ldap.DialURL(address, ldap.DialWithDialer(&net.Dialer{Deadline: deadline}), ldap.DialWithTLSConfig(trust))
	if err != nil {
		return nil, err
	}
	conn.SetTimeout(time.Until(deadline))
	if d.StartTLS {
		if err := conn.StartTLS(trust); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

var scopes = map[string]int{"base": ldap.ScopeBaseObject, "one": ldap.ScopeSingleLevel, "sub": ldap.ScopeWholeSubtree}

// find searches for the one entry that is the user's.
func find(conn *ldap.Conn, d *hba.Directory, user string) (dn string, err error) {
	if d.BindDN != "" {
		if err := conn.Bind(d.BindDN, d.BindPassword); err != nil {
			return "", fmt.Errorf("bind as %s to search: %w", d.BindDN, err)
		}
	}
	filter := strings.ReplaceAll(d.Filter, "$username", ldap.EscapeFilter(user))
	if !strings.HasPrefix(filter, "(") {
		filter = "(" + filter + ")"
	}
	found, err := conn.Search(ldap.NewSearchRequest(d.Base, scopes[d.Scope], ldap.NeverDerefAliases, 2, 0, false, filter, []string{"1.1"}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return "", fmt.Errorf("%w: several entries are %s in %s", ErrRefused, filter, d.Base)
	case err != nil:
		return "", fmt.Errorf("search for %s in %s: %w", filter, d.Base, err)
	case len(found.Entries) != 1:
		return "", fmt.Errorf("%w: %d entries are %s in %s", ErrRefused, len(found.Entries), filter, d.Base)
	}
	return found.Entries[0].DN, nil
}

// refused tells a server that says no from one that says nothing.
func refused(err error, what string) error {
	var answer *ldap.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.ResultCode < ldap.ErrorNetwork && !ldap.IsErrorAnyOf(err, ldap.LDAPResultBusy, ldap.LDAPResultUnavailable):
		return fmt.Errorf("%w: %s: %w", ErrRefused, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
