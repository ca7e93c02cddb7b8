#!/bin/sh
# The limits of length and form that a program can check.
. "${top_srcdir:-.}/tests/tree/lib.sh"
cd "$top_srcdir" || exit 1

sources libproto client kernels daemon tests >"$work/files"
all() {
	xargs "$@" <"$work/files"
}

empty 'no file is longer than 600 lines' "$(all awk 'FNR == 601 { print FILENAME }')"
empty 'no line is longer than 120 columns' "$(export LC_ALL=C; all awk '
	{
		text = $0
		gsub(/[\200-\277]/, "", text) # a character counts once
		columns = 0
		while ((at = index(text, "\t")) > 0) {
			columns += at - 1
			columns += 8 - columns % 8
			text = substr(text, at + 1)
		}
		if (columns + length(text) > 120)
			print FILENAME ":" FNR
	}')"
empty 'no function is longer than 60 lines' "$(all awk '
	FNR == 1 { begin = 0 }
	/^namespace/ { head = 0 }
	/^[a-zA-Z_].*\(/ { head = FNR; name = $0 }
	/^{/ { begin = head }
	/^}/ && begin {
		if (FNR - begin + 1 > 60)
			print FILENAME ":" begin ": " FNR - begin + 1 " lines: " name
		begin = 0
	}')"
empty 'indentation is made of tabs' "$(all grep -nE '^	* {8}[^ \\]' /dev/null)"
empty 'no blanks at the end of a line' "$(all grep -nE '[[:blank:]]$' /dev/null)"
empty 'nothing is left to do' "$(all grep -nE '\<(TODO|FIXME|XXX)\>' /dev/null)"
empty 'no typedef hides a struct' "$(all grep -nE 'typedef[[:space:]]+(struct|union|enum)' /dev/null)"
empty 'each file opens with a comment' "$(all awk 'FNR == 1 && !/^\/\*/ { print FILENAME }')"
empty 'each header has a guard' "$(grep '[.]h$' "$work/files" | xargs grep -LE '^#ifndef [A-Z0-9_]+_H$')"
empty 'no function that cannot be used safely' "$(all grep -nwE \
	'(strcat|sprintf|vsprintf|gets|strtok|atoi|atof|alloca|tmpnam|mktemp)[[:space:]]*\(' /dev/null |
	grep -vE ':[[:space:]]*(/?\*|//)')"
empty 'no exit below main' "$(grep -E '^(libproto|kernels|daemon)/' "$work/files" | grep -v '^daemon/main[.]c$' |
	grep -v '/bench' | xargs grep -nE '(^|[^a-z_])(exit|abort)[[:space:]]*\(' /dev/null |
	grep -vE ':[[:space:]]*(/?\*|//)')"

format=$(command -v clang-format) || format=
if test -z "$format"; then
	skip 'clang-format has nothing to change' 'no clang-format'
else
	empty 'clang-format has nothing to change' "$(all "$format" --dry-run 2>&1 | grep 'warning:' | cut -d: -f1 |
		sort | uniq -c)"
fi
done_testing
