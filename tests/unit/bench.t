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
gives 2 'separators' perplexity --model "$model" --text "$work/text" --policy separator:4,-1,20
gives 2 'window' perplexity --model "$model" --text "$work/text" --policy anchor:4,7
gives 2 '--separators takes a number' perplexity --model "$model" --text "$work/text" --policy separator --separators -1
gives 2 '--separators takes a number' perplexity --model "$model" --text "$work/text" --separators 99999999999
gives 2 'needs a sink' perplexity --model "$model" --text "$work/text" --sinks 0 --sink-token 5
gives 1 'no token 999999' perplexity --model "$model" --text "$work/text" --sink-token 999999
gives 1 'no token 999999' perplexity --model "$model" --text "$work/text" --policy separator --separator-ids 5,999999
gives 1 'no token id' perplexity --model "$model" --text "$work/text" --policy anchor --anchors 5,x
gives 1 'no token id' perplexity --model "$model" --text "$work/text" --policy anchor --anchors 5,-6
gives 1 'empty' perplexity --model "$model" --text "$work/text" --policy separator --separator-ids "$work/empty"
gives 4 'no-list' perplexity --model "$model" --text "$work/text" --policy separator --separator-ids "$work/no-list"
gives 1 '--timed 2000 needs' perplexity --model "$model" --text "$work/text" --timed 2000
gives 2 '--budget takes' compare --model "$model" --text "$work/text" --budget 0
gives 2 '--budget takes' compare --model "$model" --text "$work/text" --budget 64,,128
gives 2 '--budget takes' compare --model "$model" --text "$work/text" --budget 64,x
gives 2 '--budget takes' compare --model "$model" --text "$work/text" --budget 99999999999
gives 1 'no window' compare --model "$model" --text "$work/text" --budget 4
gives 1 'no window' compare --model "$model" --text "$work/text" --budget 64 --sinks 64
gives 1 'no policy "snik"' compare --model "$model" --text "$work/text" --policies sink,snik
gives 1 'names none' compare --model "$model" --text "$work/text" --policies ,
gives 1 'fewer than two tokens' compare --model "$model" --text "$work/empty"
gives 2 'one --budget' sinks --model "$model" --text "$work/text" --budget 64,128
gives 1 'no window' sinks --model "$model" --text "$work/text" --budget 16
gives 2 'takes no option --policy' sinks --model "$model" --text "$work/text" --policy sink
gives 2 'throughput knows no recompute' throughput --model "$model" --policy recompute:64
gives 2 '--prompts is needed' chat --model "$model"
gives 4 'no-prompts' chat --model "$model" --prompts "$work/no-prompts"
gives 1 'are none' chat --model "$model" --prompts "$work/empty"
gives 6 'Line 1' chat --model "$model" --prompts "$work/text"
printf '{"turns": ["a", 7]}\n' >"$work/bad-prompts"
gives 1 '"turns"' chat --model "$model" --prompts "$work/bad-prompts"
gives 2 '--back takes' streameval --model "$model" --back 0
gives 1 '' perplexity --model "$model" --text "$work/text" --tokens 10 --nll-file "$work/no/such/folder"
gives 2 '--repeat takes' restore --model "$model" --text "$work/text" --repeat 0
gives 2 'takes no option --decode' restore --model "$model" --decode 3
gives 4 'no-model' restore --model "$work/no-model" --text "$work/text"
gives 4 'no-text' restore --model "$model" --text "$work/no-text"
gives 2 '--bandwidth takes' throughput --model "$model" --bandwidth 0
gives 2 'takes no option --decode' load --model "$model" --decode 3
gives 2 '--model is needed' load
gives 4 'no-model' load --model "$work/no-model"
gives 6 '' load --model "$work/text"
gives 2 'takes no option --model' roofline --model "$model"
gives 2 'abacus' roofline --kernels abacus
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

# A text shorter than the window is seen whole by all policies; no separators are no policy of their own.
for policy in dense window:400 recompute:400 sink:0,400 separator:0,9,391 anchor:0,all,400; do
	"$bench" perplexity --model "$model" --text "$work/text" --tokens 200 --policy $policy --nll-file "$work/nll" \
		--anchors 200 --json >"$work/out" && cksum <"$work/nll"
done | sort -u >"$work/sums"
test "$(wc -l <"$work/sums")" -eq 1 && ok 'a short text is seen whole' || not_ok 'a short text is seen whole'
for policy in sink:4,40 separator:4,0,40; do
	"$bench" perplexity --model "$model" --text "$work/text" --tokens 300 --policy $policy --json |
		sed 's/.*"logits_xxh3": "\([0-9a-f]*\)".*/\1/'
done | sort -u >"$work/sums"
test "$(wc -l <"$work/sums")" -eq 1 && ok 'K = 0 is the policy sink' || not_ok 'K = 0 is the policy sink'

# Separators by name and as a list are the same; chunks change nothing.
"$bench" tokenize --model "$model" <"$work/text" >"$work/ids"
printf ',.;:?!\n' | "$bench" tokenize --model "$model" | tr ' ' ',' >"$work/separators"
for words in '--chunk 1' '--chunk 64' "--chunk 7 --separator-ids $work/separators" \
	"--chunk 200 --separator-ids $(cat "$work/separators")"; do
	# shellcheck disable=SC2086
	"$bench" perplexity --model "$model" --text "$work/text" --tokens 300 --policy separator --sinks 2 --window 30 \
		--separators 5 $words --json | sed 's/.*"logits_xxh3": "\([0-9a-f]*\)".*/\1/'
done | sort -u >"$work/sums"
test "$(wc -l <"$work/sums")" -eq 1 && ok 'separators by default are these' || not_ok 'separators by default are these'

# A sample's lines have their token's number: the first fills the window.
"$bench" perplexity --model "$model" --text "$work/text" --tokens 300 --policy recompute --window 50 --every 100 \
	--nll-file "$work/nll" --json >"$work/out"
test "$(cut -d' ' -f1 "$work/nll" | tr '\n' ' ')" = '49 149 249 ' && ok 'every hundredth' || not_ok "$(cat "$work/nll")"
"$bench" perplexity --model "$model" --text "$work/text" --tokens 300 --window 60 --by 100 --timed 20 --json >"$work/out"
fields "$work/out" first_timed_ms last_timed_ms rows end resident_kib cache_bytes
"$bench" perplexity --model "$model" --text "$work/text" --tokens 100 --policy anchor --json >"$work/out"
grep -q '"note": ".*anchors' "$work/out" && ok 'anchors are told of' || not_ok "$(cat "$work/out")"
"$bench" perplexity --model "$model" --text "$work/text" --tokens 100 --sink-token 5 --json >"$work/out"
grep -q '"policy": "sink:4,1020,token=5"' "$work/out" && ok 'a sink token' || not_ok "$(cat "$work/out")"

"$bench" compare --model "$model" --text "$work/text" --tokens 400 --budget 32,64 --timed 10 --tsv "$work/tsv" --json \
	>"$work/out"
fields "$work/out" rows policy setting budget ppl ppl_second_half vs_recompute vs_recompute_se timed mean_ms median_ms p99_ms \
	max_ms cache_bytes speedup note
test "$(wc -l <"$work/tsv")" -eq 14 && ok 'a line a row and one for their names' || not_ok "$(cat "$work/tsv")"
test "$(awk -F'\t' 'NR > 1 { print NF }' "$work/tsv" | sort -u)" = "$(head -n 1 "$work/tsv" | awk -F'\t' '{ print NF }')" &&
	ok 'the rows have the same fields' || not_ok 'the rows have the same fields'
"$bench" sinks --model "$model" --text "$work/text" --tokens 200 --budget 40 --json >"$work/out"
fields "$work/out" margin recommended rows sinks ppl
empty 'nothing is saved unless it is asked for' "$(ls "$work"/*.sinks 2>/dev/null)"
gives 2 'takes no option --save' compare --model "$model" --text "$work/text" --save
gives 2 'positions in the cache' sinks --model "$model" --text "$work/text" --save --positions text
gives 1 'at least 80 are needed' sinks --model "$model" --text "$work/text" --tokens 70 --budget 40 --save
"$bench" sinks --model "$model" --text "$work/text" --tokens 200 --budget 40 --save --json >"$work/out"
fields "$work/out" recommended saved rows
recommended=$(sed -n 's/.*"recommended": \([0-9]*\).*/\1/p' "$work/out")
grep -qx "sinks = $recommended" "$model.sinks" && ok 'what is recommended is saved' || not_ok 'what is recommended is saved'
"$bench" streameval --model "$model" --lines 40 --every 5 --back 2,20 --json >"$work/out"
fields "$work/out" accuracy questions rows back tokens_back correct nats_a_digit
"$bench" streameval --model "$model" --lines 30 --policy recompute --window 100 --json >"$work/out"
grep -q '"questions": 1,' "$work/out" && ok 'a question a distance that there is' || not_ok "$(cat "$work/out")"
printf '{"turns": ["the cat", "the dog"]}\n\n{"turns": ["and?"], "other": 1}\n' >"$work/prompts"
"$bench" chat --model "$model" --prompts "$work/prompts" --answer 9 --sinks 2 --window 20 --json >"$work/out"
fields "$work/out" turns tokens evicted tokens_per_s resident_kib_first resident_kib_last rows
grep -q '"turns": 3,' "$work/out" && ok 'a turn a text' || not_ok "$(cat "$work/out")"
"$bench" chat --model "$model" --prompts "$work/prompts" --answer 3 >"$work/out"
test "$(grep -c '^USER: ' "$work/out")" -eq 3 && ok 'the conversation is shown' || not_ok "$(cat "$work/out")"

"$bench" latency --model "$model" --text "$work/text" --tokens 80 --policy recompute --window 40 --json >"$work/out"
fields "$work/out" median_ms
"$bench" latency --model "$model" --text "$work/text" --tokens 3000 --sinks 4 --window 60 --json >"$work/out"
fields "$work/out" median_ms p99_ms max_ms p99_over_median above_1_5_medians above_2_medians first_tenth_ms last_tenth_ms resident_kib_first resident_kib_last
grep -q '"tokens": 3000, "timed": 2936' "$work/out" && ok 'the text begins again' || not_ok "$(cat "$work/out")"
"$bench" restore --model "$model" --text "$work/text" --tokens 200 --repeat 1 --json >"$work/out"
fields "$work/out" policy rounds tokens replay_ms memory_ms disk_ms logits restored recomputed file_bytes adopt_ms \
	verify_memory_ms first_memory_ms head_ms fill_ms verify_disk_ms first_disk_ms load_ms
grep -q '"logits": "identical", "restored": 200, "recomputed": 0' "$work/out" && ok 'nothing is read anew' ||
	not_ok "$(cat "$work/out")"
"$bench" throughput --model "$model" --prompt 20 --decode 5 --depth 30 --batch 3 --repeat 2 --json >"$work/out"
fields "$work/out" tokens_per_s memory_before_gb_s memory_after_gb_s peak_gop_s rows mib_a_step gb_s gop_a_token gop_s \
	bound bound_per_s of_bound repeats
"$bench" throughput --model "$model" --decode 5 --repeat 1 --json >"$work/out"
test "$(grep -o '"work"' "$work/out" | wc -l)" -eq 1 && ok 'one kind of work alone' || not_ok 'one kind of work alone'
"$bench" throughput --model "$model" --decode 40 --depth 70 --policy sink:2,60 --repeat 1 --bandwidth 7 --kv f32 --json \
	>"$work/out"
grep -q '"memory_before_gb_s": 7.00, "memory_after_gb_s": 7.00' "$work/out" && ok 'a bandwidth that is told' ||
	not_ok "$(cat "$work/out")"
# A window that is full has the same rows in sight, however long the text is; in F32 they are twice as large as in F16.
for words in '--depth 62 --kv f32' '--depth 100 --kv f32' '--depth 200 --kv f32' '--depth 100 --kv f16 --batch 2'; do
	# shellcheck disable=SC2086
	"$bench" throughput --model "$model" --decode 3 --policy sink:2,60 --repeat 1 --bandwidth 7 --json $words |
		sed 's/.*"mib_a_step": \([0-9.]*\).*/\1/'
done | sort -u >"$work/sizes"
test "$(wc -l <"$work/sizes")" -eq 1 && ok 'a step reads what is in sight' || not_ok "$(cat "$work/sizes")"

"$bench" load --model "$model" --repeat 2 --depth 100 --json >"$work/out"
fields "$work/out" rounds load_ms load_best_ms file_ms device_ms weights_ms buffers_ms file_bytes matrix_bytes \
	resident_kib_before resident_kib_loaded depth cache_bytes resident_kib_talked
for kernels in auto scalar; do
	"$bench" roofline --kernels $kernels --threads 2 --json >"$work/out"
	fields "$work/out" kernels threads memory_gb_s products8_gop_s f32_gop_s handover_us handover_us_median rows what kib \
		unit one one_median all all_median
	grep -qE '"(one|all)(_median)?": (null|0\.0)[,}]' "$work/out" && not_ok "$(cat "$work/out")" || ok "$kernels: figures"
done

# A model of a known shape, cut short: it loads, it takes steps, and its numbers are ordinary ones.
gives 2 '--shape takes' make-random --shape llama1-7b --out "$work/random.gguf"
gives 2 '--type takes' make-random --shape smollm2-135m --type q3 --out "$work/random.gguf"
gives 2 '--out is needed' make-random --shape smollm2-135m
gives 2 'takes no option --model' make-random --model "$model"
gives 1 'cannot be written' make-random --shape smollm2-135m --out "$work/no/random.gguf"
for type in f16 q8_0 q4_0; do
	set -- --shape smollm2-135m --type $type --layers 1 --seed 7
	"$bench" make-random "$@" --out "$work/random.gguf" --json >"$work/out"
	fields "$work/out" shape type layers parameters tensor_bytes seconds
	"$bench" make-random "$@" --out "$work/again.gguf" >"$work/out"
	cmp -s "$work/random.gguf" "$work/again.gguf" && ok "$type: the same again" || not_ok "$type: the same again"
	"$bench" perplexity --model "$work/random.gguf" --text "$work/text" --tokens 20 --json >"$work/out"
	grep -q '"nll": 1[0-9]\.' "$work/out" && ok "$type: no token is likely" || not_ok "$(cat "$work/out")"
done
rm -f "$work/random.gguf" "$work/again.gguf"

printf 'the\0\0 the\nthe\0' | "$bench" tokenize --model "$model" >"$work/out"
test "$(wc -l <"$work/out")" -eq 3 && test -z "$(sed -n 2p "$work/out")" && test -n "$(sed -n 3p "$work/out")" &&
	ok 'a line of ids a text' || not_ok 'a line of ids a text'
for type in q4_k q5_k q6_k; do
	"$top_builddir/tests/unit/make_tiny" "$work/$type.gguf" $type 5 || not_ok "a model of $type was made"
	for precision in exact fast; do
		gives 0 '' perplexity --model "$work/$type.gguf" --text "$work/text" --precision $precision
	done
done
printf 'the' | "$bench" tokenize --model "$model" --json >"$work/out"
grep -qE '^\{"rows": \[\{"ids": \[[0-9, ]+\]\}\]\}$' "$work/out" && ok 'ids as JSON' || not_ok 'ids as JSON'
done_testing
