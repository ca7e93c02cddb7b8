#!/bin/sh
# Scripts are read by the shell's own check, by shellcheck, and by Python's compiler; those that are called can be called.
. "${top_srcdir:-.}/tests/tree/lib.sh"
cd "$top_srcdir" || exit 1

# shellcheck disable=SC2046
set -- .ci/run contrib/bench/run contrib/debian/sinkd.postinst contrib/debian/sinkd.postrm contrib/gpu-check \
	contrib/quickstart contrib/selftest tests/tap \
	$(find tests contrib -name '*.t' -o -name '*.sh' | sort)
for script in "$@"; do
	empty "sh -n $script" "$(sh -n "$script" 2>&1)"
done
if command -v shellcheck >/dev/null; then
	for script in "$@"; do
		empty "shellcheck $script" "$(shellcheck -x -s sh -S warning -e SC1090,SC1091 "$script" 2>&1)"
	done
else
	skip 'shellcheck' 'not installed'
fi

for script in .ci/run contrib/bench/run contrib/gpu-check contrib/quickstart contrib/selftest; do
	test -x $script && ok "$script is executable" || not_ok "$script is executable"
done

python=${PYTHON:-$(command -v python3)}
if test -n "$python"; then
	for script in $(find tests contrib -name '*.py' | sort); do
		empty "$script compiles" "$("$python" -c '
import ast, sys
ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$script" 2>&1)"
	done
else
	skip 'Python programs compile' 'no Python 3'
fi

# A registry or mirror is the user's choice, never ours.
empty 'no script names a registry or a mirror' "$(grep -nE 'https?://|--(extra-)?index-url|--trusted-host' \
	contrib/lib.sh contrib/bench/run contrib/gpu-check contrib/quickstart contrib/selftest .ci/run)"
done_testing
