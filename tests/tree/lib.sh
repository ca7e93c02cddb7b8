# Shared by the tree tests: TAP in plain sh. Read with `.`; a test ends by calling done_testing.
# shellcheck shell=sh disable=SC2034
set -u
: "${top_srcdir:=.}" "${top_builddir:=.}"
tests=0

ok() {
	tests=$((tests + 1))
	printf 'ok %d - %s\n' $tests "$1"
}

not_ok() {
	tests=$((tests + 1))
	printf 'not ok %d - %s\n' $tests "$1"
}

skip() {
	tests=$((tests + 1))
	printf 'ok %d - %s # SKIP %s\n' $tests "$1" "$2"
}

# empty NAME TEXT: passes when nothing was found; what was found is shown.
empty() {
	if test -z "$2"; then
		ok "$1"
	else
		not_ok "$1"
		printf '%s\n' "$2" | head -n 40 | sed 's/^/# /'
	fi
}

done_testing() {
	printf '1..%d\n' $tests
	exit 0
}

# sources FOLDER…: the files of C, C++ and CUDA and the headers below these folders, by their path from the top.
sources() {
	(cd "$top_srcdir" && find "$@" \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cc' \) -type f | sort)
}

# A place to work in.
work=$(mktemp -d "${TMPDIR:-/tmp}/sinkd-tree.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# program NAME: where the build has it.
program() {
	for place in "$top_builddir/$1" "$top_builddir/daemon/$1" "$top_builddir/client/$1"; do
		if test -x "$place" && ! test -d "$place"; then
			echo "$place"
			return 0
		fi
	done
	return 1
}
