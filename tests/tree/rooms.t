#!/bin/sh
# The house has exactly these rooms, and each says at its door what it is.
. "${top_srcdir:-.}/tests/tree/lib.sh"
cd "$top_srcdir" || exit 1

# m4 and build-aux are the autotools'; build, _build and _inst are made by building.
rooms='client contrib daemon kernels libproto man tests'
found=$(find . -mindepth 1 -maxdepth 1 -type d ! -name '.*' | sed 's|^\./||' |
	grep -vxE 'm4|build-aux|build|_build|_inst|autom4te[.]cache|sinkd-[0-9].*' | sort | tr '\n' ' ')
test "$found" = "$rooms " && ok 'the top-level folders' || not_ok "the top-level folders: $found"

for room in client contrib daemon daemon/engine kernels libproto tests; do
	test -s $room/README.md && ok "$room has a README" || not_ok "$room has a README"
done
for file in LICENSE README.md configure.ac Makefile.am; do
	test -s $file && ok "$file is there" || not_ok "$file is there"
done
test "$(readlink README)" = README.md && ok 'README is a link to README.md' || {
	cmp -s README README.md && ok 'README is a copy of README.md' || not_ok 'README is README.md'
}
for page in sinkd.8 sinkd-http.8 sinkd.conf.5 sink.1 sinkd-bench.1 sink-protocol.7 sink-stdio.7 libsink.3; do
	test -s man/$page && ok "man/$page is there" || not_ok "man/$page is there"
done

# What a README of a room says of files must be there: names in back quotes that end in a suffix of C, C++ or CUDA.
for room in client daemon daemon/engine kernels libproto; do
	test -f $room/README.md || continue
	gone=
	for name in $(grep -oE '`[a-z0-9_/.-]+[.](c|h|cc|cu)`' $room/README.md | tr -d '`' | sort -u); do
		base=${name##*/}
		find libproto client kernels daemon tests -name "$base" | grep -q . || gone="$gone$name "
	done
	empty "$room/README.md names files that exist" "$gone"
done
done_testing
