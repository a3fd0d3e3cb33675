#!/bin/sh
# Makes the test suite of the system's PostgreSQL ready to run in pgweir's cache
# directory, and prints where: its files out of the source package of the
# distribution, and the libraries its functions are in, built with the headers of
# the server's development package. Nothing of the system is changed.
#
# Usage: install.sh [MAJOR]        (by default the newest version of the system)
#
# PGWEIR_CACHE names the cache directory; see CacheDir in ../pgtest/binaries.go.
set -eu

say() { echo "regress: $*" >&2; }
die() {
	say "$*"
	exit 1
}

major=${1:-$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 2>/dev/null | sed 's|.*/||' | sort -n | tail -n 1)}
server=/usr/lib/postgresql/$major
if ! [ -x "$server/bin/postgres" ] || ! [ -x "$server/bin/psql" ]; then
	die "PostgreSQL $major of the distribution's packages is not installed"
fi

if [ -n "${PGWEIR_CACHE:-}" ]; then
	cache=$PGWEIR_CACHE
elif [ "$(id -u)" -eq 0 ]; then
	cache=/var/cache/pgweir
else
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgweir
fi
version=$(dpkg-query -W -f '${Version}' "postgresql-$major")
target=$cache/regress/$version
if [ -f "$target/version" ]; then
	echo "$target"
	exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# quietly runs a command and shows what it printed if it fails.
quietly() {
	"$@" >"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		die "$* failed"
	}
}

# own is apt-get with lists of its own: where packages come from, sources do too.
own() {
	quietly apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}

mkdir -p lists/partial cache/archives/partial
keyring=$(find /usr/share/keyrings -name 'debian-archive-keyring.gpg' -o -name 'ubuntu-archive-keyring.gpg' | head -n 1)
# shellcheck disable=SC2016 # apt's own variables
apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
	while read -r origin uri release component; do
		case $origin in
		Debian | Ubuntu)
			for kind in deb deb-src; do echo "$kind ${keyring:+[signed-by=$keyring] }$uri $release $component"; done
			;;
		esac
	done >sources.list
[ -s sources.list ] || die "apt knows no packages: run apt-get update"
say "fetching the source of PostgreSQL $version"
own update
own source --download-only "postgresql-$major=$version"
own download "postgresql-server-dev-$major=$version"

tar -xf postgresql-"$major"_*.orig.tar.* --wildcards '*/src/test/regress/*'
dpkg-deb -x postgresql-server-dev-"$major"_*.deb headers
mkdir -p suite/lib
mv postgresql-*/src/test/regress suite/tests
gcc -O2 -fPIC -shared -o suite/lib/regress.so -I"headers/usr/include/postgresql/$major/server" suite/tests/regress.c
for library in refint autoinc; do
	if [ -f "$server/lib/$library.so" ]; then cp "$server/lib/$library.so" suite/lib; fi
done
ln -s "$server/bin" suite/bin
ln -s "$server/lib/pgxs/src/test/regress/pg_regress" suite/pg_regress
echo "$major" >suite/version
chmod -R a+rX suite

mkdir -p "$cache/regress"
rm -rf "$target"
mv suite "$target"
say "installed in $target"
echo "$target"
