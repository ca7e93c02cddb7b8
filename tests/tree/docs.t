#!/bin/sh
# What the programs say of themselves, and what their manuals say: the same options, verbs, settings and exit codes.
. "${top_srcdir:-.}/tests/tree/lib.sh"
man=$top_srcdir/man

if command -v mandoc >/dev/null; then
	for page in "$man"/*.[1-8]; do
		empty "mandoc has nothing to say of ${page##*/}" "$(mandoc -T lint -W warning "$page" 2>&1 |
			grep -v 'referenced manual not found')"
	done
else
	echo '1..0 # SKIP no mandoc'
	exit 0
fi

# page NAME: as plain text.
page() {
	mandoc -T ascii -O width=120 "$man/$1" | sed "s/.$(printf '\b')//g"
}

# words: the options that stand in a text: -x and --name, by themselves.
words() {
	grep -oE -- "(^|[[:space:],|[(\"\`'])(--[a-z][a-z0-9-]*|-[A-Za-z]([[:space:],=|\])]|\$))" |
		grep -oE -- '-[-A-Za-z0-9]*' | sort -u
}

# tagged: the options that a manual explains, which stand at the beginning of a line.
tagged() {
	grep -E '^[[:space:]]*-' | sed 's/   .*//' | words
}

# both PROGRAM PAGE: the options in $work/help against the manual's.
both() {
	words <"$work/help" >"$work/says"
	page "$2" >"$work/page"
	words <"$work/page" >"$work/named"
	tagged <"$work/page" >"$work/tagged"
	empty "$2 knows each option of $1" "$(comm -23 "$work/says" "$work/named")"
	empty "$1 knows each option that $2 explains" "$(comm -13 "$work/says" "$work/tagged")"
}

if sinkd=$(program sinkd); then
	"$sinkd" --help >"$work/help" 2>&1
	both sinkd sinkd.8
	# The settings: an option of the command line that may stand in the file, which --print-config prints in full.
	"$sinkd" --print-config 2>/dev/null | sed -n 's/^[#;[:space:]]*\([a-z][a-z-]*\)[[:space:]]*=.*/\1/p' | sort -u \
		>"$work/settings"
	page sinkd.conf.5 | tr -cs 'a-z-' '\n' | sort -u >"$work/named"
	test -s "$work/settings" && ok 'sinkd prints its settings' || not_ok 'sinkd prints its settings'
	empty 'sinkd.conf.5 knows each setting' "$(comm -23 "$work/settings" "$work/named")"
	sed -n 's/^#*\([a-z][a-z-]*\) =.*/\1/p' "$top_srcdir/contrib/sinkd.conf" | sort -u >"$work/example"
	empty 'contrib/sinkd.conf shows each setting' "$(comm -3 "$work/settings" "$work/example")"
	for name in $(cat "$work/settings"); do
		grep -qE -- "--$name( |,|=|\$)" "$work/help" || echo "$name"
	done >"$work/missing"
	empty 'each setting is an option' "$(cat "$work/missing")"
else
	not_ok 'sinkd was built'
fi

if bench=$(program sinkd-bench); then
	"$bench" --help >"$work/help" 2>&1
	both sinkd-bench sinkd-bench.1
else
	not_ok 'sinkd-bench was built'
fi

if gateway=$(program sinkd-http); then
	"$gateway" --help >"$work/help" 2>&1
	both sinkd-http sinkd-http.8
else
	skip 'sinkd-http.8 knows each option of sinkd-http' 'built without libmicrohttpd'
fi

if sink=$(program sink); then
	"$sink" --help >"$work/help" 2>&1
	# Verbs stand indented, under a heading each; options and exit codes have other forms.
	verbs=$(sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' "$work/help")
	for verb in $verbs; do
		"$sink" help "$verb" >>"$work/help" 2>&1 || echo "$verb" >>"$work/mute"
	done
	touch "$work/mute"
	empty 'sink helps with each verb' "$(cat "$work/mute")"
	both sink sink.1
	for verb in $verbs; do
		grep -qE "^ *(sink )?$verb( |\$)" "$work/page" || echo "$verb"
	done >"$work/missing"
	empty 'sink.1 knows each verb' "$(cat "$work/missing")"
	sed -n '/^Exit codes/,/^$/s/^ *\([0-9][0-9]*\)  .*/\1/p' "$work/help" | sort -u >"$work/codes"
	for code in $(cat "$work/codes"); do
		grep -qE "^ +$code( |\$)" "$work/page" || echo "$code"
	done >"$work/missing"
	empty 'sink.1 knows each exit code' "$(cat "$work/missing")"
else
	not_ok 'sink was built'
fi

# The protocol's page and the manual of it name the same verbs and events.
page sink-protocol.7 >"$work/page"
sed -n '/^## Verbs/,/^## /s/^| `\([a-z_]*\)` |.*/\1/p; /^## Events/,$s/^| `\([a-z]*\)` |.*/\1/p' \
	"$top_srcdir/libproto/README.md" | sort -u >"$work/protocol"
for word in $(cat "$work/protocol"); do
	grep -qwE "$word" "$work/page" || echo "$word"
done >"$work/missing"
test -s "$work/protocol" && ok 'the page of the protocol has tables' || not_ok 'the page of the protocol has tables'
empty 'sink-protocol.7 knows each verb and event' "$(cat "$work/missing")"

# The public functions.
tr '\n' ' ' <"$top_srcdir/libproto/sink.h" | grep -oE 'SINK_API [^;(]*\(' | grep -oE 'sink_[a-z_]+\(' | tr -d '(' |
	sort >"$work/declared"
page libsink.3 | grep -oE 'sink_[a-z_]+' | sort -u >"$work/named"
empty 'libsink.3 knows each function of sink.h' "$(comm -23 "$work/declared" "$work/named")"
empty 'sink.h has each function of libsink.3' "$(comm -13 "$work/declared" "$work/named" | grep -vE '^sink_(args|reply|code|t)$')"
done_testing
