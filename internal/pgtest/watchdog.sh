#!/bin/sh
# Waits until standard input ends, which it does when the process holding its
# other end closes it or dies, then stops every server under the directory and
# removes the directory.
#
# Usage: watchdog.sh DIRECTORY
dir=$1
[ -d "$dir" ] || exit 1
trap '' INT TERM HUP

cat >/dev/null

# Processes of a server work in its data directory.
pids() {
	for p in /proc/[0-9]*; do
		case $(readlink "$p/cwd" 2>/dev/null) in
		"$dir"/*) echo "${p#/proc/}" ;;
		esac
	done
}

running=$(pids)
if [ -n "$running" ]; then
	# A frozen process would not see the signal; QUIT is PostgreSQL's immediate shutdown.
	# shellcheck disable=SC2086 # a list of numbers
	kill -CONT $running 2>/dev/null
	# shellcheck disable=SC2086
	kill -QUIT $running 2>/dev/null
	tries=60
	while running=$(pids) && [ -n "$running" ]; do
		# shellcheck disable=SC2086
		[ "$tries" -gt 0 ] || kill -KILL $running 2>/dev/null
		tries=$((tries - 1))
		sleep 0.05
	done
fi

# A postmaster that was killed leaves its System V segment behind; line 7 of its
# pid file names it.
for f in "$dir"/*/postmaster.pid; do
	[ -f "$f" ] || continue
	segment=$(sed -n '7s/^ *[0-9]* *\([0-9]*\)$/\1/p' "$f")
	[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
done

rm -rf "$dir"
