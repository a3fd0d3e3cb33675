package auth

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[3]s
database mdb
suffix dc=example,dc=org
rootdn cn=root,dc=example,dc=org
directory %[1]s/db
access to attrs=userPassword by anonymous auth
access to * by dn.exact="cn=search,dc=example,dc=org" read by users read by anonymous auth
`

const entries = `
dn: dc=example,dc=org
objectClass: domain
dc: example

dn: cn=search,dc=example,dc=org
objectClass: person
cn: search
sn: search
userPassword: finder

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
mail: alice@example.org
userPassword: wonder

dn: ou=more,ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: more

dn: uid=bob,ou=more,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
mail: bob@example.org
userPassword: builder

dn: uid=twin,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: T
userPassword: one

dn: uid=twin,ou=more,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: T
userPassword: one
`

// slapd runs a real LDAP server for the length of a test. It returns its ports without and with TLS.
func slapd(t *testing.T, cert, key string) (plain, secure int) {
	t.Helper()
	pgtest.SkipShort(t)
	if _, err := os.Stat("/usr/sbin/slapd"); err != nil {
		t.Fatal("there is no slapd; .ci/deps.sh test installs it")
	}
	dir := t.TempDir()
	conf, ldif := filepath.Join(dir, "slapd.conf"), filepath.Join(dir, "entries.ldif")
	writeFile(t, conf, fmt.Sprintf(slapdConf, dir, cert, key))
	writeFile(t, ldif, strings.TrimSpace(entries)+"\n")
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/sbin/slapadd", "-f", conf, "-l", ldif).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	plain, secure = freePort(t), freePort(t)
	server := exec.Command("/usr/sbin/slapd", "-d", "0", "-f", conf, "-h", fmt.Sprintf("ldap://127.0.0.1:%d ldaps://127.0.0.1:%d", plain, secure))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for deadline := time.Now().Add(testTimeout); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", plain))
		if err == nil {
			conn.Close()
			return plain, secure
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestLDAP asks a real LDAP server, by simple bind and by search and bind.
func TestLDAP(t *testing.T) {
	a := newAuthority(t, "authority of the directory")
	cert, key := a.server(t) // for localhost
	plain, secure := slapd(t, cert, key)
	at := fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ", plain)
	const simple = `ldapprefix="uid=" ldapsuffix=",ou=people,dc=example,dc=org"`
	const search = `ldapbasedn="ou=people,dc=example,dc=org" ldapbinddn="cn=search,dc=example,dc=org" ldapbindpasswd=finder `
	url := `ldapurl="ldap://127.0.0.1:%d/ou=people,dc=example,dc=org?uid?%s" ldapbinddn="cn=search,dc=example,dc=org" ldapbindpasswd=finder`
	for _, c := range []struct{ options, user, password, want string }{
		{at + simple, "alice", "wonder", "ok"},
		{at + simple, "alice", "wrong", "28000"},
		{at + simple, "alice", "", "28P01"}, // an empty password would be a bind as nobody
		{at + simple, "bob", "builder", "28000"},
		{at + simple, "alice,ou=people,dc=example,dc=org", "wonder", "28000"},
		{at + search, "alice", "wonder", "ok"},
		{at + search, "bob", "builder", "ok"},
		{at + search, "bob", "wonder", "28000"},
		{at + search, "nobody", "wonder", "28000"},
		{at + search, "*", "wonder", "28000"},
		{at + search, "alice)(uid=*", "wonder", "28000"},
		{at + search, "twin", "one", "28000"}, // there are two
		{at + search + "ldapsearchattribute=mail", "bob@example.org", "builder", "ok"},
		{at + search + `ldapsearchfilter="(|(uid=$username)(mail=$username))"`, "alice@example.org", "wonder", "ok"},
		{at + strings.Replace(search, "finder", "wrong", 1), "alice", "wonder", "57P03"},
		{at + `ldapbasedn="ou=people,dc=example,dc=org"`, "alice", "wonder", "57P03"}, // nobody may search
		{fmt.Sprintf(url, plain, "one"), "alice", "wonder", "ok"},
		{fmt.Sprintf(url, plain, "one"), "bob", "builder", "28000"},
		{fmt.Sprintf(url, plain, "sub"), "bob", "builder", "ok"},
		{fmt.Sprintf("ldapserver=localhost ldapport=%d ldaptls=1 ", plain) + simple, "alice", "wonder", "ok"},
		{at + "ldaptls=1 " + simple, "alice", "wonder", "57P03"}, // not whose certificate it is
		{fmt.Sprintf("ldapserver=localhost ldapscheme=ldaps ldapport=%d ", secure) + simple, "alice", "wonder", "ok"},
		{fmt.Sprintf("ldapserver=127.0.0.1 ldapscheme=ldaps ldapport=%d ", secure) + simple, "alice", "wonder", "57P03"},
		{fmt.Sprintf(`ldapserver="127.0.0.9 127.0.0.1" ldapport=%d `, plain) + simple, "alice", "wonder", "ok"}, // the second answers
		{"ldapserver=127.0.0.1 ldapport=1 " + simple, "alice", "wonder", "57P03"},
	} {
		path := filepath.Join(t.TempDir(), "hba")
		var options []string
		for _, o := range strings.Split(c.options, " ldap") {
			name, value, _ := strings.Cut(strings.TrimSpace(o), "=")
			options = append(options, `"ldap`+strings.TrimPrefix(name, "ldap")+"="+strings.ReplaceAll(value, `"`, "")+`"`)
		}
		writeFile(t, path, "host all all all ldap "+strings.Join(options, " ")+"\n")
		f := newFront(t, mustNew(t, config.Auth{HBAFile: path, AllowPlainPassword: true, Timeout: testTimeout, LDAPCAFile: a.ca()}, nil, nil, nil), nil)
		err := f.connect(t, c.user, c.password, "sslmode=disable")
		if got := code(err); got != c.want {
			t.Errorf("%s, %s: %s, want %s (%v)", c.options, c.user, got, c.want, err)
		}
		if err == nil && f.last(t).Secret.Password != c.password {
			t.Errorf("%s: the password is not passed on", c.user)
		}
	}
	path := filepath.Join(t.TempDir(), "hba")
	writeFile(t, path, "host all all all ldap "+at+`"ldapprefix=uid="`+"\n")
	f := newFront(t, mustNew(t, config.Auth{HBAFile: path}, nil, nil, nil), nil)
	if err := f.connect(t, "alice", "wonder", "sslmode=disable"); code(err) != "28000" || !strings.Contains(err.Error(), "requires a TLS connection") {
		t.Errorf("in clear: %v", err)
	}
}

// TestLDAPOptions: what does not go together is a fault, as PostgreSQL has it.
func TestLDAPOptions(t *testing.T) {
	for options, want := range map[string]string{
		"":                                       "ldapserver or ldapurl",
		"ldapserver=a":                           "ldapbasedn, ldapprefix or ldapsuffix",
		"ldapserver=a ldapprefix=b ldapbasedn=c": "do not go with what searches",
		"ldapserver=a ldapbasedn=c ldapnonsense=d":                           "option ldapnonsense is unknown",
		"ldapserver=a ldapbasedn=c ldapport=x":                               "is no port",
		"ldapserver=a ldapbasedn=c ldapscheme=http":                          "neither ldap nor ldaps",
		"ldapserver=a ldapbasedn=c ldaptls=1 ldapscheme=ldaps":               "do not go together",
		"ldapurl=http://a/b":                                                 "is no ldap://",
		"ldapserver=a ldapbasedn=c ldapsearchattribute=u ldapsearchfilter=f": "do not go together",
		"ldapserver=a ldapbasedn=c map=m":                                    "map=m is nothing",
	} {
		path := filepath.Join(t.TempDir(), "hba")
		writeFile(t, path, "host all all all ldap "+options+"\n")
		_, err := New(config.Auth{HBAFile: path}, nil, nil, Servers{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", options, err, want)
		}
	}
}
