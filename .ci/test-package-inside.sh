#!/usr/bin/env bash
# What test-package.sh runs within the system it boots: old.deb and new.deb are beside this file.
set -eu # not pipefail: grep -q does not read to the end
cd "$(dirname "$0")"

die() {
	echo "inside: $*" >&2
	journalctl --no-pager -n 30 -u pgweir >&2
	exit 1
}

# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || die "$1: $2, not $3"; }
# fails COMMAND...
fails() { if "$@" >/dev/null 2>&1; then die "$* succeeds"; fi; }
main() { systemctl show --property MainPID --value pgweir; }
client() { PGPASSWORD=apps-own psql -XAtq "host=127.0.0.1 port=6432 user=app dbname=shop" "$@"; }
# eventually COMMAND...
eventually() {
	for _ in $(seq 100); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	die "in vain: $*"
}

echo "== servers"
cluster=$(pg_lsclusters -h | awk '{ print $1 }')
pg_ctlcluster "$cluster" main status >/dev/null || systemctl start "postgresql@$cluster-main"
pg_createcluster -p 5433 "$cluster" replica >/dev/null
rm -rf "/var/lib/postgresql/$cluster/replica"
su - postgres -c "pg_basebackup -h /var/run/postgresql -D /var/lib/postgresql/$cluster/replica -R -X stream -c fast"
systemctl start "postgresql@$cluster-replica"
su - postgres -c "psql -Xqc \"CREATE ROLE app LOGIN PASSWORD 'apps-own'\" -c 'CREATE DATABASE shop OWNER app'"

echo "== install"
dpkg -i old.deb >/dev/null
same "enabled" "$(systemctl is-enabled pgweir || true)" disabled
same "active" "$(systemctl is-active pgweir || true)" inactive
same "permissions" "$(stat -c '%a %U %G' /etc/pgweir/pgweir.yaml /etc/pgweir/password | xargs)" "640 root pgweir 640 root pgweir"
same "verify" "$(systemd-analyze verify pgweir.service pgweir.socket 2>&1 | grep -v 'man pgweir' || true)" ""
[ -f /usr/share/man/man8/pgweir-serve.8.gz ] || [ -f /etc/dpkg/dpkg.cfg.d/excludes ] || die "no manual"
zcat /usr/share/doc/pgweir/third-party.gz | grep -q jackc/pgx || die "no notices"

echo "== configure"
pgweir setup-sql | su - postgres -c "psql -Xq -v ON_ERROR_STOP=1 -f - -c \"ALTER ROLE pgweir PASSWORD 'choose-one'\"" >/dev/null
echo choose-one >/etc/pgweir/password
sed -i 's/^servers: .*/servers: [127.0.0.1:5432, 127.0.0.1:5433]/' /etc/pgweir/pgweir.yaml
pgweir check --connect | grep -q "servers: ok" || die "check --connect"

echo "== start"
systemctl enable --now --quiet pgweir
same "ready" "$(curl -sf http://127.0.0.1:9930/readyz)" ok
same "user" "$(ps -o user= -p "$(main)")" pgweir
client -c "SET pgweir.trace = on" -c "SELECT 1" 2>&1 | grep -q "replica read" || die "no read on the replica"

echo "== reload"
echo "routing: {shadow: true}" >>/etc/pgweir/pgweir.yaml
systemctl reload pgweir || die "reload"
client -c "SELECT 42" >/dev/null
pgweir report | grep -qF "SELECT \$1" || die "the report lacks the statement"
curl -sf http://127.0.0.1:9930/metrics | grep -q '^pgweir_statements_total' || die "no metrics"
cp /etc/pgweir/pgweir.yaml good.yaml
echo "no_such_key: 1" >>/etc/pgweir/pgweir.yaml
fails systemctl reload pgweir
cp good.yaml /etc/pgweir/pgweir.yaml
same "after a fault" "$(client -c "SELECT 1")" 1

echo "== upgrade"
mkfifo said
client -f said >answers 2>&1 &
session=$!
exec 3>said
echo "SELECT set_config('app.who', 'me', false);" >&3
eventually grep -q me answers
before=$(main)
dpkg --force-confdef --force-confold -i new.deb >/dev/null
[ "$(main)" != "$before" ] || die "the new version has not taken over"
same "the configuration" "$(cat /etc/pgweir/pgweir.yaml)" "$(cat good.yaml)"
grep -q max_clients /etc/pgweir/pgweir.yaml.dpkg-dist || die "the new configuration is not beside the old one"
echo "SELECT 'still ' || current_setting('app.who');" >&3
exec 3>&-
wait "$session" || die "the client was cut off: $(cat answers)"
same "the client's session" "$(tail -n 1 answers)" "still me"
same "a new client" "$(client -c "SELECT 1")" 1
same "version" "$(dpkg-query -W -f '${Version}' pgweir)" 2.0-1
same "permissions" "$(stat -c '%a %U %G' /etc/pgweir/pgweir.yaml)" "640 root pgweir"

echo "== an upgrade that cannot take over"
sed -i '/^upgrade:/d' /etc/pgweir/pgweir.yaml
systemctl restart pgweir
before=$(main)
dpkg --force-confdef --force-confold -i old.deb >said.txt 2>&1
same "the old process" "$(main)" "$before"
grep -q "systemctl restart pgweir" said.txt || die "nothing was said of the old process"

echo "== remove"
dpkg -r pgweir >/dev/null
same "active" "$(systemctl is-active pgweir || true)" inactive
[ -f /etc/pgweir/pgweir.yaml ] || die "the configuration was removed"
dpkg -P pgweir >/dev/null 2>&1
same "the configuration" "$(ls /etc/pgweir 2>/dev/null)" ""
same "units" "$(find /etc/systemd /lib/systemd -name 'pgweir*')" ""
echo "== and again"
dpkg -i old.deb >/dev/null
same "version" "$(dpkg-query -W -f '${Version}' pgweir)" 1.0-1
