#!/bin/sh
# The systemd units: understood by systemd, locked down, and installed with the program's own path. No systemd need run.
. "${top_srcdir:-.}/tests/tree/lib.sh"

if ! command -v systemd-analyze >/dev/null; then
	echo '1..0 # SKIP no systemd-analyze'
	exit 0
fi
XDG_RUNTIME_DIR=$work
export XDG_RUNTIME_DIR

# Copies whose program exists on any machine, under the names that they are installed by. A key that this systemd is too
# old to know is left out, since it says so: what each of them needs is in the comment beside the key.
mkdir "$work/system" "$work/user"
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
newer=
test "${version:-0}" -ge 254 || newer=/^FileDescriptorStorePreserve=/d
for kind in service socket; do
	sed -e 's|/usr/bin/sinkd-http|/bin/true|' "$top_srcdir/contrib/sinkd-http.$kind" >"$work/system/sinkd-http.$kind"
	sed -e 's|/usr/bin/sinkd-http|/bin/true|' "$top_srcdir/contrib/sinkd-http-user.$kind" >"$work/user/sinkd-http.$kind"
	sed -e 's|/usr/bin/sinkd|/bin/true|' -e "$newer" "$top_srcdir/contrib/sinkd.$kind" >"$work/system/sinkd.$kind"
	sed -e 's|/usr/bin/sinkd|/bin/true|' -e "$newer" "$top_srcdir/contrib/sinkd-user.$kind" >"$work/user/sinkd.$kind"
done

# verify NAME OPTION UNIT…: a file that is meant for another manager or an older systemd says so on standard error.
verify() {
	name=$1
	shift
	said=$(systemd-analyze verify --man=no --recursive-errors=no "$@" 2>&1) && test -z "$said" && ok "$name" || {
		not_ok "$name"
		printf '%s\n' "$said" | sed 's/^/# /'
	}
}
verify 'the system units verify' "$work/system/sinkd.service" "$work/system/sinkd.socket"
verify "the gateway's system units verify" "$work/system/sinkd-http.service" "$work/system/sinkd-http.socket"
verify "the gateway's user units verify" --user "$work/user/sinkd-http.service" "$work/user/sinkd-http.socket"
verify 'the user units verify' --user "$work/user/sinkd.service" "$work/user/sinkd.socket"

# The threshold is in tenths.
for unit in sinkd sinkd-http; do
	if systemd-analyze security --offline=yes --threshold=20 "$work/system/$unit.service" >"$work/security" 2>&1; then
		ok "the exposure of $unit is at most 2.0 ($(sed -n "s/.*level for $unit.service: \([0-9.]*\).*/\1/p" "$work/security"))"
	else
		not_ok "the exposure of $unit is at most 2.0"
		tail -n 3 "$work/security" | sed 's/^/# /'
	fi
done

for directive in Type=notify WatchdogSec= ExecReload= Restart=on-failure TimeoutStopSec= FileDescriptorStoreMax= \
	FileDescriptorStorePreserve=yes; do
	for unit in sinkd sinkd-user; do
		grep -q "^$directive" "$top_srcdir/contrib/$unit.service" && ok "$unit.service has $directive" ||
			not_ok "$unit.service has $directive"
	done
done

# As installed below another prefix.
if make -C "$top_builddir" install-data-local DESTDIR="$work/root" prefix=/opt/house >"$work/log" 2>&1; then
	empty 'installed units name the installed program' "$(find "$work/root" -name '*.service' \
		-exec grep -L '^ExecStart=/opt/house/bin/sinkd' {} +)"
	for unit in system/sinkd.service system/sinkd.socket user/sinkd.service user/sinkd.socket; do
		test -f "$work/root/opt/house/lib/systemd/$unit" && ok "$unit is installed" || not_ok "$unit is installed"
	done
else
	not_ok 'units can be installed'
	sed 's/^/# /' "$work/log"
fi
done_testing
