/*
 * One poll(2) over the daemon's descriptor, the signals and perhaps the keyboard. The daemon's events come first as
 * long as there are any: libsink may hold some that its descriptor no longer tells of.
 */
#include "follow.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

enum {
	SLICE_MS = 500, /* libsink is looked at this often, so that it can reconnect */
	LOOK_MS = 3000, /* of silence, before it is looked whether the daemon shows life */
	PERIODS = 3,	/* of its status segment, that one which shows life has at most not written */
};

int64_t follow_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void follow_open(struct follow *f, struct sink *s, const char *endpoint, double seconds)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	*f = (struct follow){ .sink = s, .endpoint = endpoint, .deadline = -1, .lost = -1 };
	f->heard = follow_clock();
	sigprocmask(SIG_BLOCK, &set, &f->before);
	f->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (f->signals < 0)
		sigprocmask(SIG_SETMASK, &f->before, NULL);
	if (seconds > 0)
		f->deadline = follow_clock() + (int64_t)(seconds < 1e9 ? seconds * 1000 : 1e12);
}

void follow_close(struct follow *f)
{
	sink_reply_free(f->end);
	f->end = NULL;
	if (f->signals < 0)
		return;
	close(f->signals);
	sigprocmask(SIG_SETMASK, &f->before, NULL);
	f->signals = -1;
}

/* Whether the connection has been lost for a while, or for too long: FOLLOW_AWAY, FOLLOW_LOST; else FOLLOW_EVENT. */
static enum follow_what connection(struct follow *f)
{
	int64_t now = follow_clock();

	if (sink_connected(f->sink)) {
		f->lost = -1;
		f->told = false;
		return FOLLOW_EVENT;
	}
	if (f->lost < 0)
		f->lost = now;
	if (now - f->lost >= FOLLOW_PATIENCE_MS)
		return FOLLOW_LOST;
	if (f->told || now - f->lost < FOLLOW_SILENCE_MS)
		return FOLLOW_EVENT;
	f->told = true;
	return FOLLOW_AWAY;
}

/* Whether a daemon that has said nothing for a while shows no life either: once, until it does. */
static bool falls_silent(struct follow *f)
{
	int64_t now = follow_clock();
	struct sink_reply *r;
	bool silent;

	if (now - f->heard < LOOK_MS)
		return false;
	f->heard = now;
	r = sink_board(f->endpoint);
	silent = r && sink_float(r, "age", 0) * 1e3 > PERIODS * sink_float(r, "period_ms", 1000);
	sink_reply_free(r);
	if (silent == f->silent)
		return false;
	f->silent = silent;
	return silent;
}

/* Something has come. The end of the attachment is no event to show. */
static enum follow_what take(struct follow *f, struct sink_reply **ev)
{
	f->heard = follow_clock();
	f->silent = false;
	if (sink_reply_request(*ev) || !sink_reply_error(*ev, NULL))
		return FOLLOW_EVENT;
	sink_reply_free(f->end);
	f->end = *ev;
	*ev = NULL;
	return FOLLOW_LOST;
}

static bool take_signal(struct follow *f, int *sig)
{
	struct signalfd_siginfo info;

	if (f->signals < 0 || read(f->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return false;
	*sig = (int)info.ssi_signo;
	return true;
}

/* What poll(2) is to wait for at most. */
static int time_left(const struct follow *f)
{
	int64_t left = f->deadline < 0 ? SLICE_MS : f->deadline - follow_clock();

	return left < 0 ? 0 : left < SLICE_MS ? (int)left : SLICE_MS;
}

enum follow_what follow_next(struct follow *f, int input, struct sink_reply **ev, int *sig)
{
	for (;;) {
		struct pollfd p[] = {
			{ .fd = sink_fd(f->sink), .events = POLLIN },
			{ .fd = f->signals, .events = POLLIN },
			{ .fd = input, .events = POLLIN },
		};

		enum follow_what line;

		/* Keys before events: a long replay must not keep a person from leaving. */
		if (poll(&p[1], 2, 0) > 0) {
			if (take_signal(f, sig))
				return FOLLOW_SIGNAL;
			if (p[2].revents)
				return FOLLOW_INPUT;
		}
		*ev = sink_event(f->sink, 0);
		if (*ev)
			return take(f, ev);
		if (sink_error(f->sink))
			return FOLLOW_LOST;
		line = connection(f);
		if (line != FOLLOW_EVENT)
			return line;
		if (falls_silent(f))
			return FOLLOW_AWAY;
		if (f->deadline >= 0 && follow_clock() >= f->deadline)
			return FOLLOW_TIMEOUT;
		poll(p, 3, time_left(f));
	}
}

int follow_lost(const struct follow *f)
{
	const char *text = "";
	int code = f->end ? sink_reply_error(f->end, &text) : 0;

	if (code)
		return fail(fail_of(sink_error_name(code)), "%s", text);
	if (sink_error(f->sink))
		return fail_sink(f->sink);
	return fail(FAIL_UNREACHABLE, "The daemon went away and did not come back.");
}
