#!/usr/bin/env bash
# Builds the archives of a release into dist/, for linux/amd64 and linux/arm64, and
# their checksums. The version is the commit's: its tag, or else what Go makes of the
# commit. The same commit, Go and C compilers give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

die() {
	echo "release: $*" >&2
	exit 1
}

[ -z "$(git status --porcelain)" ] || die "the work tree differs from its commit"
unset CGO_CFLAGS CGO_CPPFLAGS CGO_LDFLAGS GOAMD64 GOARM64
export TZ=UTC LC_ALL=C CGO_ENABLED=1 GOOS=linux GOFLAGS=
time=@$(git log -1 --format=%ct)

# compiler ARCH prints the C compiler that builds the SQL parser for it.
compiler() {
	case $(uname -m)/$1 in
	x86_64/amd64 | aarch64/arm64) echo gcc ;;
	*/amd64) echo x86_64-linux-gnu-gcc ;;
	*/arm64) echo aarch64-linux-gnu-gcc ;;
	esac
}

# version prints what pgweir of an architecture says of itself, which is in its build
# information whether it can run here or not.
version() {
	"$go" version -m "dist/$1/pgweir" | awk '$1 == "mod" { print $3 }'
}

# archive ARCH builds one archive.
archive() {
	local arch=$1 cc name
	cc=$(compiler "$arch")
	command -v "$cc" >/dev/null || die "linux/$arch cannot be built: there is no $cc"
	CC=$cc GOARCH=$arch "$go" build -trimpath -buildvcs=true -o "dist/$arch/pgweir" \
		-ldflags '-s -w -buildid= -linkmode=external -extldflags=-Wl,--build-id=none' ./cmd/pgweir
	name=pgweir-$(version "$arch")-linux-$arch
	[[ $name != *devel* ]] || die "go does not see the commit: build in a clone, not in a linked work tree"
	mv "dist/$arch" "dist/$name"
	cp -R LICENSE ./*.md docs deploy "dist/$name/"
	tar --sort=name --mtime="$time" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=gnu \
		-C dist -cf - "$name" | gzip -n9 >"dist/$name.tar.gz"
	rm -r "dist/${name:?}"
	echo "release: $name.tar.gz, $("$go" env GOVERSION), $("$cc" --version | head -n 1)"
}

rm -rf dist
archive amd64
archive arm64
cd dist
sha256sum -- *.tar.gz | tee SHA256SUMS
