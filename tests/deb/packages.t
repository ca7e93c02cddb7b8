#!/bin/sh
# The Debian packages of `make deb`: what lintian says, what is in them, and that it runs where they unpack it. Nothing is
# installed. Run by `make check-deb`.
. "${top_srcdir:-.}/tests/tree/lib.sh"
debs=${DEB_DIR:-$top_builddir/build/deb}

if ! command -v dpkg-deb >/dev/null || ! ls "$debs"/sinkd_*.deb >/dev/null 2>&1; then
	echo '1..0 # SKIP no packages: make deb'
	exit 0
fi
version=$(sed -n 's/^AC_INIT(\[sinkd\], \[\(.*\)\])/\1/p' "$top_srcdir/configure.ac")
packages=$(sed -n 's/^Package: //p' "$top_srcdir/contrib/debian/control")

# A root of all of them, and a list of each.
for package in $packages; do
	deb=$(ls "$debs/${package}_${version}"_*.deb 2>/dev/null) && dpkg-deb -x "$deb" "$work/root" &&
		dpkg-deb --fsys-tarfile "$deb" | tar tf - | sed -n 's|^\./\(.*[^/]\)$|\1|p' | sort >"$work/list.$package" &&
		ok "$package $version is there" || not_ok "$package $version is there"
done
sort -m "$work"/list.* | uniq -d >"$work/twice"
empty 'no file is in two packages' "$(cat "$work/twice")"

if command -v lintian >/dev/null; then
	lintian --allow-root --fail-on error,warning "$debs"/*.changes >"$work/lintian" 2>&1 && ok 'lintian has nothing to say' || {
		not_ok 'lintian has nothing to say'
		sed 's/^/# /' "$work/lintian"
	}
else
	skip 'lintian has nothing to say' 'no lintian'
fi

# has PACKAGE PATTERN…: files, as grep -x takes them.
has() {
	package=$1
	shift
	for pattern in "$@"; do
		grep -qx "$pattern" "$work/list.$package" && ok "$package has $pattern" || not_ok "$package has $pattern"
	done
}
has sinkd usr/bin/sinkd usr/bin/sinkd-bench etc/sinkd/sinkd.conf usr/lib/sysusers.d/sinkd.conf \
	lib/systemd/system/sinkd.service lib/systemd/system/sinkd.socket usr/lib/systemd/user/sinkd.service \
	usr/lib/systemd/user/sinkd.socket usr/share/man/man8/sinkd.8.gz usr/share/man/man5/sinkd.conf.5.gz
has sink usr/bin/sink usr/share/man/man1/sink.1.gz usr/share/man/man7/sink-stdio.7.gz \
	usr/share/bash-completion/completions/sink usr/share/zsh/vendor-completions/_sink \
	usr/share/fish/vendor_completions.d/sink.fish 'usr/share/sinkd/templates/.*[.]ini'
has sinkd-http usr/bin/sinkd-http lib/systemd/system/sinkd-http.service lib/systemd/system/sinkd-http.socket \
	usr/share/man/man8/sinkd-http.8.gz
has libsink0 'usr/lib/.*/libsink.so.0'
has libsink-dev usr/include/sink.h 'usr/lib/.*/libsink.a' 'usr/lib/.*/pkgconfig/sink.pc' usr/share/man/man3/libsink.3.gz
has python3-sinkd usr/lib/python3/dist-packages/sinkd/__init__.py usr/lib/python3/dist-packages/sinkd/py.typed
for package in $packages; do
	has "$package" "usr/share/doc/$package/copyright" "usr/share/doc/$package/changelog.gz"
done
for program in "$work/root"/usr/bin/*; do
	name=${program##*/}
	ls "$work/root"/usr/share/man/man[18]/"$name".[18].gz >/dev/null 2>&1 && ok "$name has a manual" ||
		not_ok "$name has a manual"
done

# runs NAME COMMAND…: it says the version.
LD_LIBRARY_PATH=$(dirname "$(find "$work/root" -name libsink.so.0)")
export LD_LIBRARY_PATH
runs() {
	name=$1
	shift
	said=$("$@" 2>&1)
	case $said in
	*"$version"*) ok "$name" ;;
	*) not_ok "$name: $said" ;;
	esac
}
for program in "$work/root"/usr/bin/*; do
	runs "${program##*/} runs and says its version" "$program" --version
done
if /usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null; then
	PYTHONPATH=$work/root/usr/lib/python3/dist-packages
	export PYTHONPATH
	runs 'Python finds its package' /usr/bin/python3 -c 'import sinkd; print(sinkd.__version__, sinkd.Client)'
	runs 'and what it is called' /usr/bin/python3 -c 'import importlib.metadata; print(importlib.metadata.version("sinkd"))'
else
	skip 'Python finds its package' 'no zmq and msgpack'
fi

# A program of somebody's, against the development files.
cat >"$work/use.c" <<'END'
#include <sink.h>
#include <stdio.h>

int main(void)
{
	return puts(sink_version()) < 0;
}
END
if command -v pkg-config >/dev/null && command -v cc >/dev/null; then
	pc=$(dirname "$(find "$work/root" -name sink.pc)")
	flags=$(PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$work/root pkg-config --cflags --libs sink) &&
		eval "cc -o '$work/use' '$work/use.c' $flags" >"$work/cc" 2>&1 || sed 's/^/# /' "$work/cc"
	runs 'a program can be built' "$work/use"
else
	skip 'a program can be built' 'no pkg-config or cc'
fi

# The editors find what is theirs, in the folders where Debian's look.
finds() {
	if ! command -v "$2" >/dev/null; then
		skip "$1 finds its package" "no $2"
		return
	fi
	name=$1
	shift
	said=$(HOME=$work XDG_CONFIG_HOME=$work TERM=dumb "$@" 2>&1 </dev/null)
	case $said in
	*found*) ok "$name finds its package" ;;
	*) not_ok "$name finds its package: $said" ;;
	esac
}
share=$work/root/usr/share
finds Neovim env XDG_DATA_DIRS="$share" nvim --headless -c 'lua print(require("sinkd") and "found")' -c 'qall!'
finds Vim vim -e -s --cmd "set nocompatible packpath^=$share/vim/vimfiles" -u NONE \
	-c 'packloadall | verbose echo exists(":Sink") == 2 ? "found" : "no command"' -c 'qall!'
finds Emacs emacs --batch -Q -L "$share/emacs/site-lisp" --eval '(and (require (quote sinkd)) (princ "found"))'

# The units, with the programs where they are; what this systemd is too old to know is left out (see tree/units.t).
if command -v systemd-analyze >/dev/null; then
	sed -i -e "s|^ExecStart=/usr|ExecStart=$work/root/usr|" -e '/^FileDescriptorStorePreserve=/d' \
		"$work/root"/lib/systemd/system/*.service
	for unit in "$work/root"/lib/systemd/system/*.service "$work/root"/lib/systemd/system/*.socket; do
		empty "${unit##*/} verifies" "$(XDG_RUNTIME_DIR=$work SYSTEMD_UNIT_PATH=$work/root/lib/systemd/system: \
			systemd-analyze verify --man=no --recursive-errors=no "$unit" 2>&1)"
	done
else
	skip 'the units verify' 'no systemd-analyze'
fi
done_testing
