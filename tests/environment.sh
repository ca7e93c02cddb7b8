# What every test finds in its environment; read by the makefile before each of them.
#
#	top_srcdir, top_builddir	absolute (set by the makefile)
#	SINKD_MODEL			a real model; kept when given, else the one that contrib/quickstart fetched, else empty;
#					/dev/null: none, whatever there is
#	SINKD_PYTHON			the Python that has what tests/live/requirements.txt names; kept when given, else the
#					one of contrib/selftest's virtual environment, else empty
#
# A user's own daemon and settings must not be met by a test.
if test -z "${SINKD_MODEL-}"; then
	SINKD_MODEL=${XDG_DATA_HOME:-${HOME-/nonexistent}/.local/share}/sinkd/models/default.gguf
	test -r "$SINKD_MODEL" || SINKD_MODEL=
fi
test "$SINKD_MODEL" != /dev/null || SINKD_MODEL=
# shellcheck disable=SC2154
if test -z "${SINKD_PYTHON-}"; then
	SINKD_PYTHON=$top_builddir/../venv/bin/python
	test -x "$SINKD_PYTHON" || SINKD_PYTHON=
fi
export SINKD_MODEL SINKD_PYTHON
unset SINK_HOST NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID LISTEN_FDS LISTEN_PID LISTEN_FDNAMES NO_COLOR || :
LC_ALL=C.UTF-8
PYTHONDONTWRITEBYTECODE=1
export LC_ALL PYTHONDONTWRITEBYTECODE
