#!/bin/sh
# Who may include whom: client -> libproto <- daemon -> daemon/engine -> kernels, never upward; and which outside library
# is known where. The two tables below are the rule.
. "${top_srcdir:-.}/tests/tree/lib.sh"

# room: the rooms (or single headers) whose headers it may include
cat >"$work/rooms" <<'END'
libproto	libproto
client		client libproto
kernels		kernels libproto/error.h tests/kernels/emulate_avx512.h tests/kernels/emulate_amx.h tests/kernels/standin.h
daemon/engine	daemon/engine kernels libproto/error.h
daemon		daemon daemon/engine kernels libproto
END

# header of another project: the files or rooms that may include it
cat >"$work/outside" <<'END'
zmq.h		libproto/link.c daemon/server.c
msgpack		libproto/msg.c libproto/out.c libproto/val.c
systemd/	daemon/notify.c
sqlite3.h	daemon/store.c daemon/store_file.c daemon/store_file.h daemon/store_read.c daemon/store_check.c
ini.h		daemon/conf_load.c daemon/measured.c client/template.c
jansson.h	daemon/bench_stream.c libproto/args_json.c client
histedit.h	client
curses.h	client/screen.c
term.h		client/screen.c
editline/	client
pcre2.h		daemon/engine
xxhash.h	client/http_match.c daemon/engine daemon/store.c daemon/store_file.c daemon/store_file.h daemon/store_read.c daemon/store_check.c daemon/ring.c daemon/ring_check.c
immintrin.h	kernels/cpu
cuda		kernels/cuda
dlfcn.h		kernels/cuda/blas.cu
END

# room_of FILE: the innermost room that it lies in.
room_of() {
	case $1 in
	daemon/engine/*) echo daemon/engine ;;
	*) echo "${1%%/*}" ;;
	esac
}

# within FILE PLACE…: whether the file is one of these places or lies in one of them.
within() {
	what=$1
	shift
	for place in "$@"; do
		test "$what" = "$place" && return 0
		case $place in
		daemon) test "$(room_of "$what")" = daemon && return 0 ;;
		*) case $what in "$place"/*) return 0 ;; esac ;;
		esac
	done
	return 1
}

sources libproto client kernels daemon >"$work/files"
sources libproto client kernels daemon tests | grep '[.]h$' >"$work/headers"
(cd "$top_srcdir" && xargs grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null) <"$work/files" >"$work/includes"

# A quoted name is looked for as the compiler does: beside the file, then in the rooms that it may use; what is found only
# elsewhere is a breach.
while IFS=: read -r file line text; do
	name=$(printf '%s\n' "$text" | sed -n 's/.*include[[:space:]]*"\([^"]*\)".*/\1/p')
	test -n "$name" || continue
	room=$(room_of "$file")
	allowed=$(awk -v room="$room" '$1 == room { $1 = ""; print }' "$work/rooms")
	targets=$(grep -E "(^|/)${name##*/}\$" "$work/headers")
	fits=no
	for target in $targets; do
		# shellcheck disable=SC2086
		within "$target" $allowed && fits=yes
	done
	test -n "$targets" || echo "$file:$line: \"$name\" is no header of a room" >>"$work/strangers"
	test -z "$targets" || test $fits = yes || echo "$file:$line: $room may not include $targets" >>"$work/upward"
done <"$work/includes"

touch "$work/strangers" "$work/upward"
empty 'a quoted include names a header of the house' "$(cat "$work/strangers")"
empty 'no room includes one above it' "$(cat "$work/upward")"

while read -r header places; do
	found=
	pattern=$(printf '%s\n' "$header" | sed 's/[.]/[.]/g')
	for file in $(grep -E "include[[:space:]]*<$pattern" "$work/includes" | cut -d: -f1 | sort -u); do
		# shellcheck disable=SC2086
		within "$file" $places || found="$found$file "
	done
	empty "<$header> stays in $places" "$found"
done <"$work/outside"

done_testing
