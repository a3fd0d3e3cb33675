#!/usr/bin/env bash
# Runs every fuzz test of the module for a while.
#
# Usage: fuzz.sh TIME    for each, such as 20s
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
count=0
while read -r dir name; do
	echo "== $name in $dir"
	"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "./$dir"
	count=$((count + 1))
done < <(git ls-files -co --exclude-standard '*_test.go' |
	xargs -r grep -Ho '^func Fuzz[A-Za-z0-9_]*' |
	sed 's|^\(.*\)/[^/]*:func \(.*\)$|\1 \2|')
echo "$count fuzz tests, no failure"

echo "== histories of settings, $1"
PGWEIR_FUZZ_TIME="$1" go test -run TestSettingsHistories -count=1 ./proxy
