#!/usr/bin/env bash
# Takes an operator's path with the packages: lintian, then in a new Debian that systemd boots, with a
# primary and a replica: install, configure, start, look, reload, upgrade under a client, remove, purge. The .rpm is
# installed, upgraded and removed in a root of its own. Needs root; the first time it needs Debian's archive, too.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${PGWEIR_CACHE:-/var/cache/pgweir}
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
base=$cache/package-root-$suite
work=$(mktemp -d)
nspawn=

die() {
	echo "test-package: $*" >&2
	exit 1
}

finish() {
	if [ -n "$nspawn" ]; then
		kill "$nspawn" 2>/dev/null && sleep 1 # it asks the system to stop, and then is told that it need not wait
		kill "$nspawn" 2>/dev/null || true
		wait "$nspawn" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap finish EXIT

[ "$(id -u)" -eq 0 ] || die "needs root, to boot a system"

if ! [ -d "$base" ]; then
	echo "== a Debian $suite in $base"
	mkdir -p "$cache"
	rm -rf "$base.new"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,postgresql,curl,passwd,procps,rpm \
		"$suite" "$base.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/log" 2>&1 || {
		tail "$work/log" >&2
		die "debootstrap failed"
	}
	mv "$base.new" "$base"
fi

echo "== packages"
for version in 1.0 2.0; do
	.ci/package.sh "$version" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "package.sh failed"; }
done
deb=(dist/pgweir_1.0-1_*.deb) rpms=(dist/pgweir-[12].0-1.*.rpm)
lintian --fail-on error,warning "${deb[@]}" 2>/dev/null

system=$work/system
cp -a --reflink=auto "$base" "$system"
mv "${deb[0]}" "$system/root/old.deb"
# The next version has another configuration, too.
dpkg-deb -R dist/pgweir_2.0-1_*.deb "$work/next"
echo "max_clients: 5000" >>"$work/next/etc/pgweir/pgweir.yaml"
dpkg-deb -b "$work/next" "$system/root/new.deb" >/dev/null
rm dist/pgweir_2.0-1_*.deb
cp .ci/test-package-inside.sh "$system/root/inside.sh"

echo "== a system boots"
systemd-nspawn --quiet --register=no --keep-unit --boot --private-network --machine="pgweir-$$" --console=pipe -D "$system" </dev/null >"$work/console" 2>&1 &
nspawn=$!
for _ in $(seq 60); do
	sleep 1
	init=$(pgrep -P "$nspawn" | head -n 1) || continue
	state=$(nsenter -t "$init" -a systemctl is-system-running 2>/dev/null) || true
	[ "$state" != running ] || break
done
[ "$state" = running ] || { cat "$work/console" >&2; die "the system is $state"; }
nsenter -t "$init" -a env -i PATH="$PATH:/usr/sbin:/sbin" HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash /root/inside.sh

echo "== the .rpm"
root=$work/rpm
cp -a --reflink=auto "$base" "$root"
cp "${rpms[@]}" "$root/root"
rm "${rpms[@]}"
# shellcheck disable=SC2016 # it expands within
chroot "$root" sh -euc '
	PATH=$PATH:/usr/sbin:/sbin
	rpm -i --nodeps /root/pgweir-1.0-1.*.rpm
	[ "$(stat -c "%a %G" /etc/pgweir/pgweir.yaml)" = "640 pgweir" ]
	pgweir version >/dev/null
	echo "# mine" >>/etc/pgweir/pgweir.yaml
	rpm -U --nodeps /root/pgweir-2.0-1.*.rpm
	[ "$(rpm -q --queryformat "%{VERSION}" pgweir)" = 2.0 ]
	grep -q "# mine" /etc/pgweir/pgweir.yaml
	rpm -e pgweir
	grep -q "# mine" /etc/pgweir/pgweir.yaml.rpmsave
	[ ! -e /usr/bin/pgweir ]
'
echo "== all is well"
