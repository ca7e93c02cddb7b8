#!/bin/sh
# Names: what the installed library exports, and that every global function or object begins with its module's name. A
# module is called as its file (gguf_read.c is a part of gguf); the other nouns of a room stand in the table below.
. "${top_srcdir:-.}/tests/tree/lib.sh"
cd "$top_builddir" || exit 1

if ! command -v nm >/dev/null; then
	echo '1..0 # SKIP no nm'
	exit 0
fi

# room: the nouns that its files may begin with besides their own names
cat >"$work/nouns" <<'END'
libproto	err sink args
kernels		backend cpu isa kernels page precision type weight
daemon/engine	arch arena key kv layers logits norm philox role sampler sampling tensor tokens turns view vocab
daemon		accept4 clock errand load report request state text
client		gnutls _gnutls
END

# globals OBJECT: the names that it defines for others (sanitizers and the compiler add some of their own).
globals() {
	nm --defined-only "$1" 2>/dev/null | awk '$2 ~ /[BCDRTVW]/ { print $3 }' |
		grep -vE '^(__|_init$|_fini$|_edata$|_end$|\.|DW[.]ref)'
}

library=$(find . -path '*/.libs/libsink.so' | head -n 1)
if test -z "$library"; then
	skip 'libsink exports what sink.h declares' 'no shared library was built'
else
	nm -D --defined-only "$library" | awk '$2 ~ /[A-Z]/ { print $3 }' |
		grep -vE '^(_init|_fini|_edata|_end|__.*)$' | sort >"$work/exported"
	tr '\n' ' ' <"$top_srcdir/libproto/sink.h" | grep -oE 'SINK_API [^;(]*\(' | grep -oE 'sink_[a-z_]+\(' |
		tr -d '(' | sort >"$work/declared"
	empty 'libsink exports sink_ alone' "$(grep -v '^sink_' "$work/exported")"
	empty 'libsink exports what sink.h declares' "$(comm -3 "$work/exported" "$work/declared")"
fi

# Objects are called daemon/engine/libengine_la-kv.o or client/sink-json.o; the last part is the file's name.
find libproto client kernels daemon -name '*.o' ! -path '*/.libs/*' 2>/dev/null | sort >"$work/objects"
test -s "$work/objects" || skip 'globals bear the name of their module' 'no objects'
while read -r object; do
	module=${object##*/}
	module=${module%.o}
	module=${module##*-}
	file=${object%/*}/$module.c
	test -f "$top_srcdir/$file" || continue
	case $file in
	daemon/engine/*) room=daemon/engine ;;
	*) room=${file%%/*} ;;
	esac
	prefixes="${module%%_*} $(awk -v room="$room" '$1 == room { $1 = ""; print }' "$work/nouns")"
	strange=
	for name in $(globals "$object"); do
		fits=no
		for prefix in $prefixes; do
			case $name in
			"$prefix" | "$prefix"_* | "$prefix"s_* | main) fits=yes ;;
			esac
		done
		test $fits = yes || strange="$strange$name "
	done
	empty "$file: globals bear the name of their module" "$strange"
done <"$work/objects"

# The CUDA backend's names are its namespace's, so that a program can have it twice; what goes out of the room is its table,
# and what is asked about cards.
if test -f kernels/cuda/device.o; then
	for object in kernels/cuda/*.o; do
		empty "$object: globals are in namespace sinkd_cuda" \
			"$(globals "$object" | grep -vE '^(_ZNK?10sinkd_cuda|backend_cuda$|cuda_)')"
	done
else
	skip 'globals of the CUDA backend are in its namespace' 'built without --with-cuda'
fi

# What one set of instructions was compiled for is reached through its table alone, and tiles stand in one file.
amx=$(grep 'kernels/cpu/libamx_la-amx[.]o$' "$work/objects")
if test -z "$amx" || ! command -v objdump >/dev/null; then
	skip 'AMX stays in kernels/cpu/amx.c' 'no object of it, or no objdump'
else
	# tiles OBJECT…: those that have instructions of tiles.
	tiles() {
		for object in "$@"; do
			objdump -d --no-show-raw-insn "$object" |
				grep -qE '[[:space:]](tdp[a-z0-9]+|tile(load|store|zero|rel)[a-z0-9]*|[ls][dt]tilecfg)([[:space:]]|$)' &&
				echo "$object"
		done
	}
	test "$(tiles "$amx")" = "$amx" && ok 'kernels/cpu/amx.c multiplies tiles' ||
		not_ok 'kernels/cpu/amx.c multiplies tiles'
	# shellcheck disable=SC2046
	empty 'AMX stays in kernels/cpu/amx.c' "$(tiles $(grep '^kernels/' "$work/objects" | grep -vxF "$amx"))"
	empty 'kernels/cpu/amx.c defines its table alone' "$(globals "$amx" | grep -vx isa_amx)"
fi
done_testing
