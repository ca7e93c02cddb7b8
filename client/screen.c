/*
 * Owns the terminal while something is shown on it as a whole. The one file that knows terminfo, whose header takes
 * many short names for itself.
 *
 * A picture is written in one go, line over line, each cleared behind its end: nothing flickers, and a terminal over a
 * slow line gets no more than the text.
 */
#include "screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "follow.h"
#include "term.h"

/* Last, since they define many short words. */
#include <curses.h>
#include <term.h>

static struct {
	int signals;
	sigset_t before;
	struct termios was;
	char typed[64];
	size_t count; /* bytes of it */
	struct buf out;
} screen;

/* The sequence of a capability, or "" where the terminal has none. */
static const char *capability(const char *name)
{
	const char *text = tigetstr(name);

	return text && text != (const char *)-1 ? text : "";
}

static int put_byte(int c)
{
	const char byte = (char)c;

	buf_add(&screen.out, &byte, 1);
	return c;
}

static void put(const char *name)
{
	tputs(capability(name), 1, put_byte);
}

static void flush(void)
{
	term_raw(buf_text(&screen.out), screen.out.size);
	buf_clear(&screen.out);
}

bool screen_able(void)
{
	int error;

	if (!term_is(STDIN_FILENO) || !term_is(STDOUT_FILENO) || !term_escapes())
		return false;
	return setupterm(NULL, STDOUT_FILENO, &error) == OK && *capability("home") && *capability("el");
}

/* Keys come one by one and unseen; Ctrl-C and Ctrl-Z go on to be signals. */
static bool take_terminal(void)
{
	struct termios t = screen.was;

	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
	t.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) < 0)
		return false;
	put("smcup");
	put("smkx");
	put("civis");
	flush();
	return true;
}

static void give_back_terminal(void)
{
	put("cnorm");
	put("rmkx");
	put("rmcup");
	flush();
	tcsetattr(STDIN_FILENO, TCSADRAIN, &screen.was);
}

bool screen_open(void)
{
	static const int taken[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT };
	sigset_t set;

	if (tcgetattr(STDIN_FILENO, &screen.was) < 0)
		return false;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(&set, taken[i]);
	sigprocmask(SIG_BLOCK, &set, &screen.before);
	screen.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (screen.signals >= 0 && take_terminal())
		return true;
	if (screen.signals >= 0)
		close(screen.signals);
	sigprocmask(SIG_SETMASK, &screen.before, NULL);
	return false;
}

void screen_close(void)
{
	give_back_terminal();
	close(screen.signals);
	sigprocmask(SIG_SETMASK, &screen.before, NULL);
	buf_release(&screen.out);
	screen.count = 0;
}

void screen_draw(const struct buf *b)
{
	const size_t most = term_rows();
	const char *at = buf_text(b), *end;
	size_t row = 0;

	put("home");
	for (; row < most && (end = strchr(at, '\n')); at = end + 1) {
		if (row++)
			buf_adds(&screen.out, "\r\n");
		buf_add(&screen.out, at, (size_t)(end - at));
		put("el");
	}
	if (row < most && *capability("ed")) {
		buf_adds(&screen.out, "\r\n");
		put("ed");
	}
	flush();
}

/* Keys that are more than a byte. Terminals differ in some of them from what terminfo says of their kind. */

static const struct {
	const char *name, *usual;
	int key;
} sequences[] = {
	{ "kcuu1", "\033[A", SCREEN_UP },	{ "kcud1", "\033[B", SCREEN_DOWN },
	{ "kpp", "\033[5~", SCREEN_PAGE_UP },	{ "khome", "\033[H", SCREEN_FIRST },
	{ "knp", "\033[6~", SCREEN_PAGE_DOWN }, { "kend", "\033[F", SCREEN_LAST },
};

/* Whether what was typed begins with `text`: its length, 0 when not, -1 when more must come before one can tell. */
static int begins_with(const char *text)
{
	const size_t len = strlen(text), n = screen.count < len ? screen.count : len;

	if (!len || memcmp(screen.typed, text, n) != 0)
		return 0;
	return n == len ? (int)len : -1;
}

static int take_typed(size_t bytes, int key)
{
	screen.count -= bytes;
	memmove(screen.typed, screen.typed + bytes, screen.count);
	return key;
}

/* The next key; -1: none is whole. A sequence that is none is passed over with its first byte. */
static int next_key(void)
{
	bool waits = false;

	if (!screen.count)
		return -1;
	for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
		const int a = begins_with(capability(sequences[i].name)), b = begins_with(sequences[i].usual);

		if (a > 0 || b > 0)
			return take_typed((size_t)(a > 0 ? a : b), sequences[i].key);
		waits = waits || a < 0 || b < 0;
	}
	if (waits)
		return -1;
	return take_typed(1, (unsigned char)screen.typed[0]);
}

/* Another program has the terminal until we are continued. */
static void step_back(void)
{
	sigset_t stop;

	give_back_terminal();
	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &stop, NULL); /* here it stops */
	sigprocmask(SIG_BLOCK, &stop, NULL);
	take_terminal();
}

static bool take_signal(enum screen_what *what, int *which)
{
	struct signalfd_siginfo info;

	if (read(screen.signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return false;
	*which = (int)info.ssi_signo;
	*what = SCREEN_REDRAW;
	if (info.ssi_signo == SIGTSTP)
		step_back();
	else if (info.ssi_signo != SIGWINCH && info.ssi_signo != SIGCONT)
		*what = SCREEN_END;
	return true;
}

/* False: the terminal is gone. */
static bool read_typed(void)
{
	ssize_t n = read(STDIN_FILENO, screen.typed + screen.count, sizeof(screen.typed) - screen.count);

	if (n > 0)
		screen.count += (size_t)n;
	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

enum screen_what screen_wait(int ms, int *which)
{
	const int64_t until = follow_clock() + ms;
	enum screen_what what;

	for (;;) {
		struct pollfd p[] = { { screen.signals, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
		const int64_t left = until - follow_clock();

		*which = next_key();
		if (*which >= 0)
			return SCREEN_KEY;
		if (poll(p, 2, left > 0 ? (int)left : 0) > 0) {
			if (p[0].revents && take_signal(&what, which))
				return what;
			if (p[1].revents && !read_typed()) {
				*which = 0;
				return SCREEN_END;
			}
		} else if (left <= 0) {
			return SCREEN_TIME;
		}
	}
}
