#!/bin/sh
# The command sinkd-bench on a tiny random model: fields, exit codes, and that what is wrong is named.
. "${top_srcdir:-.}/tests/tree/lib.sh"

bench=$(program sinkd-bench) || { not_ok 'sinkd-bench was built'; done_testing; }
"$top_builddir/tests/unit/make_tiny" "$work/tiny.gguf" q4_1 5 || { not_ok 'a model was made'; done_testing; }
model=$work/tiny.gguf
i=0
while test $i -lt 60; do
	echo "the cat and the dog sat on the mat, and the rain fell on all of them; line $i."
	i=$((i + 1))
done >"$work/text"
: >"$work/empty"

# gives CODE WORDS ARGUMENT…: the exit code and a part of what is said on standard error.
gives() {
	code=$1 says=$2
	shift 2
	"$bench" "$@" >"$work/out" 2>"$work/err"
	got=$?
	if test $got -eq "$code" && { test $got -eq 0 || grep -qF -- "$says" "$work/err"; }; then
		ok "exit $code: $*"
	else
		not_ok "exit $code and \"$says\": $* (exit $got: $(cat "$work/err"))"
	fi
}

# fields FILE NAME…: one JSON object with these members.
fields() {
	file=$1
	shift
	missing=
	test "$(wc -l <"$file")" -eq 1 || missing='one line '
	for name in "$@"; do
		grep -q "\"$name\": " "$file" || missing="$missing$name "
	done
	empty "the report has $*" "$missing"
}

gives 2 'A verb is needed'
gives 2 'no verb "perplex"' perplex
gives 2 'comes before' --model "$model" tokenize
gives 2 'no option "--modell"' perplexity --modell x
gives 2 'takes no option --decode' perplexity --decode 3
gives 2 '--model is needed' tokenize
gives 2 '--text is needed' perplexity --model "$model"
gives 2 'needs a value' perplexity --model
for number in x 1x '' -1 99999999999999999999; do
	gives 2 '--tokens takes a number' perplexity --model "$model" --text "$work/text" --tokens "$number"
done
gives 2 '--window takes a number' perplexity --model "$model" --text "$work/text" --window 0
gives 2 '--chunk takes a number' perplexity --model "$model" --text "$work/text" --chunk 5000
gives 2 'no policy "snik"' perplexity --model "$model" --text "$work/text" --policy snik
gives 2 'window' perplexity --model "$model" --text "$work/text" --policy sink:4
gives 2 '--positions' perplexity --model "$model" --text "$work/text" --positions nowhere
gives 2 '--kv' perplexity --model "$model" --text "$work/text" --kv q1
gives 2 'abacus' perplexity --model "$model" --text "$work/text" --kernels abacus
gives 4 'no-model' perplexity --model "$work/no-model" --text "$work/text"
gives 4 'no-text' perplexity --model "$model" --text "$work/no-text"
gives 6 '' perplexity --model "$work/text" --text "$work/text"
gives 6 '' tokenize --model "$work/empty"
gives 1 'fewer than two tokens' perplexity --model "$model" --text "$work/empty"
gives 1 '' perplexity --model "$model" --text "$work/text" --tokens 10 --nll-file "$work/no/such/folder"
gives 0 '' --help
gives 0 '' latency --help
gives 0 '' --version

# The same checksum for every cut, and as many lines as predictions.
for chunk in 1 7 64 512; do
	"$bench" perplexity --model "$model" --text "$work/text" --tokens 300 --policy sink --sinks 2 --window 30 \
		--chunk $chunk --threads 2 --nll-file "$work/nll" --json >"$work/out"
	sed 's/.*"logits_xxh3": "\([0-9a-f]*\)".*/\1/' "$work/out"
done | sort -u >"$work/sums"
test "$(wc -l <"$work/sums")" -eq 1 && ok 'no chunk size changes a bit' || not_ok 'no chunk size changes a bit'
test "$(wc -l <"$work/nll")" -eq 300 && ok 'one line a token' || not_ok 'one line a token'
"$bench" perplexity --model "$model" --text "$work/text" --tokens 50 --json >"$work/out"
fields "$work/out" tokens nll ppl ppl_second_half resident_kib_first resident_kib_last logits_xxh3
"$bench" perplexity --model="$model" --text="$work/text" --policy dense --start 4000000 --json >"$work/out"
grep -q '"policy": "dense"' "$work/out" && ok 'a whole text is read' || not_ok 'a whole text is read'

"$bench" latency --model "$model" --text "$work/text" --tokens 3000 --sinks 4 --window 60 --json >"$work/out"
fields "$work/out" median_ms p99_ms max_ms first_tenth_ms last_tenth_ms resident_kib_first resident_kib_last
grep -q '"tokens": 3000, "timed": 2936' "$work/out" && ok 'the text begins again' || not_ok "$(cat "$work/out")"
"$bench" throughput --model "$model" --prompt 20 --decode 5 --depth 30 --batch 3 --repeat 2 --json >"$work/out"
fields "$work/out" tokens_per_s rows repeats
"$bench" throughput --model "$model" --decode 5 --repeat 1 --json >"$work/out"
test "$(grep -o '"work"' "$work/out" | wc -l)" -eq 1 && ok 'one kind of work alone' || not_ok 'one kind of work alone'

printf 'the\0\0 the\nthe\0' | "$bench" tokenize --model "$model" >"$work/out"
test "$(wc -l <"$work/out")" -eq 3 && test -z "$(sed -n 2p "$work/out")" && test -n "$(sed -n 3p "$work/out")" &&
	ok 'a line of ids a text' || not_ok 'a line of ids a text'
printf 'the' | "$bench" tokenize --model "$model" --json >"$work/out"
grep -qE '^\{"rows": \[\{"ids": \[[0-9, ]+\]\}\]\}$' "$work/out" && ok 'ids as JSON' || not_ok 'ids as JSON'
done_testing
