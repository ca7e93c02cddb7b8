#!/bin/sh
# The Debian packages of `make deb`, installed into a fresh root by debootstrap and apt, asked a question, and purged. Needs
# root's rights, a mirror, and minutes. Run by `make check-deb-root`; SINKD_ROOT keeps the empty root for the next time.
. "${top_srcdir:-.}/tests/tree/lib.sh"
debs=${DEB_DIR:-$top_builddir/build/deb}

if test "$(id -u)" -ne 0 || ! command -v debootstrap >/dev/null || ! ls "$debs"/sinkd_*.deb >/dev/null 2>&1; then
	echo '1..0 # SKIP needs root, debootstrap, and packages: make deb'
	exit 0
fi
root=$work/root
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# in_root COMMAND…: with an environment of its own, and a /proc that goes with it; what it says is kept.
in_root() {
	unshare --mount --pid --fork --mount-proc="$root/proc" chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		"$@" >"$work/said" 2>&1 </dev/null
}

# holds NAME COMMAND…: a case: the command succeeds in the root.
holds() {
	name=$1
	shift
	in_root "$@" && ok "$name" || {
		not_ok "$name"
		tail -n 20 "$work/said" | sed 's/^/# /'
	}
}

# says NAME PATTERN: what was said last.
says() {
	grep -q "$2" "$work/said" && ok "$1" || {
		not_ok "$1"
		sed 's/^/# /' "$work/said"
	}
}

empty_root=${SINKD_ROOT:-$work/empty}
if ! test -d "$empty_root/etc"; then
	debootstrap --variant=minbase "$suite" "$empty_root" >"$work/log" 2>&1 || {
		tail -n 5 "$work/log" | sed 's/^/# /'
		echo '1..0 # SKIP no root could be made'
		exit 0
	}
fi
cp -a "$empty_root" "$root" && mkdir "$root/debs" && cp "$debs"/*.deb "$root/debs/" && rm -f "$root"/debs/*dbgsym*

holds 'apt knows its packages' apt-get update
holds 'they install' sh -c 'apt-get install -y --no-install-recommends /debs/*.deb'
says 'the installation tells where a model goes' 'no model yet'
holds 'the user sinkd is there' id sinkd
for unit in sinkd.service sinkd.socket; do
	holds "$unit is enabled" systemctl --root=/ is-enabled $unit
done
holds 'no unit of a user is' sh -c '! ls /etc/systemd/user/*/sinkd.socket'
holds 'what the daemon keeps has its place' sh -c 'test "$(stat -c %U:%a /var/lib/sinkd)" = sinkd:700'
holds 'installing again changes nothing' sh -c 'apt-get install -y --reinstall --no-install-recommends /debs/*.deb'

# The daemon as the service starts it, with a model where the packages want it.
if test -n "${SINKD_MODEL-}"; then
	cp -L "$SINKD_MODEL" "$root/var/lib/sinkd/models/default.gguf"
else
	"$top_builddir/tests/unit/make_tiny" "$root/var/lib/sinkd/models/default.gguf" >/dev/null
fi
install -d -o "$(chroot "$root" id -u sinkd)" "$root/run/sinkd"
cat >"$root/talk" <<'END'
set -e
as_sinkd() {
	exec runuser -u sinkd -- env HOME=/var/lib/sinkd STATE_DIRECTORY=/var/lib/sinkd \
		SINKD_MODEL=/var/lib/sinkd/models/default.gguf "$@" 2>/tmp/log
}
socket() {
	for try in $(seq 200); do
		test ! -S "$1" || return 0
		sleep 0.1
	done
	cat /tmp/log
	return 1
}
export SINK_HOST=ipc:///run/sinkd/sinkd.sock
as_sinkd sinkd --listen /run/sinkd/sinkd.sock &
daemon=$!
socket /run/sinkd/sinkd.sock
as_sinkd sinkd-http --host $SINK_HOST --listen unix:/run/sinkd/http.sock &
gateway=$!
trap 'kill $daemon $gateway; wait' EXIT
socket /run/sinkd/http.sock
sink ask -n 20 -c packages 'What is the sea?'
python3 -m sinkd -c packages 'What is a tide?'
python3 - <<'SCRIPT'
import http.client, socket
connection = http.client.HTTPConnection('localhost')
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect('/run/sinkd/http.sock')
connection.request('GET', '/v1/models')
print('models:', connection.getresponse().read().decode())
SCRIPT
sink ls
END
holds 'the command, Python and the gateway talk with the daemon' sh /talk
says 'and see one conversation' '^packages .* 5 '
says 'and the model' '^models: .*"object": *"model"'
holds 'purging them works' sh -c "apt-get purge -y $(sed -n 's/^Package: //p' "$top_srcdir/contrib/debian/control" | tr '\n' ' ')"
says 'what is left is told' 'are left in /var/lib/sinkd'
holds 'conversations are left' test -s /var/lib/sinkd/sinkd.db
# Of what could be ours; apt and dpkg remember in caches and logs.
empty 'nothing of ours is left but that' "$(cd "$root" && find etc usr lib var -path var/cache -prune -o \
	-path var/lib/apt -prune -o -path var/lib/sinkd -prune -o -print | grep -E '/(python3-)?(lib)?sinkd?([-._]|$|/)' | sort)"
done_testing
