#!/usr/bin/env bash
# Makes a .deb and an .rpm in dist/ of the work tree, for this machine's architecture. Whoever gives
# the same commit, Go and C compiler gets the same bytes.
#
# Usage: package.sh [VERSION]    in place of the commit's
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.1 # later ones have packagers that nobody here needs, and their modules
export TZ=UTC LC_ALL=C CGO_ENABLED=1

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# version prints the commit's tag, or what sorts before every version and by the commit's time.
version() {
	local tag
	if tag=$(git describe --tags --exact-match 2>/dev/null); then
		tag=${tag#v}
		echo "${tag/-/\~}"
	else
		git log -1 --date=format:%Y%m%d%H%M%S --format='0~git%cd.%h'
	fi
}

# notices prints the licences of what is linked into the program.
notices() {
	"$go" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/pgweir | sort -u |
		while read -r path version dir; do
			printf '\n==== %s %s\n\n' "$path" "$version"
			files=$(find "$dir" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort)
			[ -n "$files" ] || { echo "package: $path has no licence" >&2; exit 1; }
			xargs -d '\n' cat <<<"$files"
		done
	printf '\n==== Go\n\n'
	cat "$("$go" env GOROOT)/LICENSE"
}

"$go" build -trimpath -buildvcs=auto -buildmode=pie -ldflags '-s -w -linkmode=external -extldflags=-Wl,-z,relro,-z,now' -o "$stage/pgweir" ./cmd/pgweir
declare -A variables=(
	[VERSION]=${1:-$(version)}
	[ARCH]=$("$go" env GOARCH)
	[MTIME]=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
	[MAINTAINER]=$(git log -1 --format='%aN <%aE>')
	[STAGE]=$stage
	[GLIBC]=$(readelf --version-info "$stage/pgweir" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 | cut -d_ -f2)
)
mkdir "$stage/units" "$stage/man8"
for unit in pgweir.service pgweir.socket; do
	sed 's|/usr/local/bin/|/usr/bin/|; s|^Documentation=|&man:pgweir(8) |' "deploy/$unit" >"$stage/units/$unit"
done
"$stage/pgweir" manual "$stage/man8"
for shell in bash zsh fish; do
	"$stage/pgweir" completion "$shell" >"$stage/pgweir.$shell"
done
notices | gzip -n9 >"$stage/third-party.gz"
gzip -n9 <CHANGELOG.md >"$stage/changelog.gz"
gzip -n9 "$stage"/man8/*
cat >"$stage/changelog.yaml" <<EOF
- semver: "${variables[VERSION]}"
  date: ${variables[MTIME]}
  packager: ${variables[MAINTAINER]}
  deb: {urgency: medium, distributions: [stable]}
  changes: [{note: "/usr/share/doc/pgweir/changelog.gz says what is new."}]
EOF
config=$(<deploy/package/nfpm.yaml)
for name in "${!variables[@]}"; do
	config=${config//"\${$name}"/"${variables[$name]}"}
done
echo "$config" >"$stage/nfpm.yaml"
mkdir -p dist
for packager in deb rpm; do
	"$go" run "$nfpm" package --config "$stage/nfpm.yaml" --packager "$packager" --target dist/
done
