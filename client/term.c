/*
 * Standard output and standard error. Owns the progress line and the decision about colour. Output is written with
 * write(2) as it comes, since a token that waits in a buffer is a token that is late; stdio is only used for tables.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* wcwidth */
#endif
#include "term.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static struct {
	bool quiet, colour[3], raw, paged;
	size_t progress; /* cells of the progress line that stands now */
	int broken;	 /* errno of standard output */
} term;

bool term_is(int fd)
{
	return isatty(fd) == 1;
}

bool term_escapes(void)
{
	const char *name = getenv("TERM");

	return name && *name && strcmp(name, "dumb") != 0;
}

static bool wants_colour(const char *when, int fd)
{
	const char *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE");

	if (strcmp(when, "auto") != 0)
		return strcmp(when, "always") == 0;
	if (no && *no)
		return false;
	if (force && *force && strcmp(force, "0") != 0)
		return true;
	return term_is(fd) && term_escapes();
}

bool term_init(const char *when, bool quiet)
{
	if (!when)
		when = "auto";
	if (strcmp(when, "auto") != 0 && strcmp(when, "always") != 0 && strcmp(when, "never") != 0)
		return false;
	term.quiet = quiet;
	for (int fd = 1; fd <= 2; fd++)
		term.colour[fd] = wants_colour(when, fd);
	return true;
}

bool term_markdown(void)
{
	return term.colour[STDOUT_FILENO] && !term.raw;
}

bool term_markdown_set(bool raw)
{
	term.raw = raw;
	return term_markdown();
}

void term_paged(bool on)
{
	term.paged = on;
	if (!on && term.broken == EPIPE)
		term.broken = 0;
}

bool term_quiet(void)
{
	return term.quiet;
}

static struct winsize window(void)
{
	struct winsize w = { 0 };

	for (int fd = 0; fd <= 2; fd++)
		if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col)
			break;
	return w;
}

size_t term_columns(void)
{
	size_t n = window().ws_col;

	return n ? n : 80;
}

size_t term_rows(void)
{
	size_t n = window().ws_row;

	return n ? n : 24;
}

const char *term_style(int fd, enum term_style style)
{
	static const char *const sequences[] = {
		[TERM_PLAIN] = "\033[0m",  [TERM_DIM] = "\033[2m",  [TERM_BOLD] = "\033[1m",
		[TERM_GREEN] = "\033[32m", [TERM_RED] = "\033[31m",
	};

	return term.colour[fd] ? sequences[style] : "";
}

int term_write(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t n = write(fd, at, size);

		if (n >= 0) {
			at += n;
			size -= (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
		} else if (errno != EINTR) {
			return errno;
		}
	}
	return 0;
}

void term_filter(struct buf *b, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i], next = i + 1 < size ? (unsigned char)text[i + 1] : 0;

		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			buf_adds(b, "\xef\xbf\xbd");
			i++;
		} else if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f)) {
			buf_add(b, text + i, 1);
		} else if (c != '\r') {
			buf_addf(b, "^%c", c ^ 0x40);
		}
	}
}

void term_raw(const char *text, size_t size)
{
	if (term.broken)
		return;
	term_clear();
	fflush(stdout);
	term.broken = term_write(STDOUT_FILENO, text, size);
}

bool term_filters(void)
{
	return term.paged || term_is(STDOUT_FILENO);
}

void term_text(const char *text, size_t size)
{
	struct buf b = { 0 };

	if (!term_filters()) {
		term_raw(text, size);
		return;
	}
	term_filter(&b, text, size);
	term_raw(buf_text(&b), b.size);
	buf_release(&b);
}

bool term_broken(void)
{
	return term.broken != 0;
}

size_t term_width(const char *text)
{
	mbstate_t state = { 0 };
	size_t cells = 0;

	while (*text) {
		wchar_t c;
		size_t n = mbrtowc(&c, text, strlen(text), &state);
		int width = n > MB_LEN_MAX ? 1 : wcwidth(c);

		if (n > MB_LEN_MAX) {
			n = 1;
			state = (mbstate_t){ 0 };
		}
		cells += width > 0 ? (size_t)width : 0;
		text += n;
	}
	return cells;
}

/* The next character: its bytes, and the cells it takes; -1 for one that is not to be shown. */
static size_t next_character(const char *text, int *cells)
{
	mbstate_t state = { 0 };
	wchar_t c;
	size_t n = mbrtowc(&c, text, strlen(text), &state);

	*cells = n > MB_LEN_MAX ? -1 : wcwidth(c);
	return n > MB_LEN_MAX || n == 0 ? 1 : n;
}

void term_fit(struct buf *b, const char *text, size_t cells, bool pad)
{
	size_t all = 0, used = 0, most, n;
	int width;

	for (const char *at = text; *at && all <= cells; at += n) {
		n = next_character(at, &width);
		all += width < 0 ? 1 : (size_t)width;
	}
	most = all > cells && cells ? cells - 1 : cells;
	for (const char *at = text; *at; at += n) {
		n = next_character(at, &width);
		if (used + (width < 0 ? 1 : (size_t)width) > most)
			break;
		if (width < 0)
			buf_adds(b, "?");
		else
			buf_add(b, at, n);
		used += width < 0 ? 1 : (size_t)width;
	}
	if (all > cells && cells) {
		buf_adds(b, "…");
		used++;
	}
	for (; pad && used < cells; used++)
		buf_adds(b, " ");
}

static __attribute__((format(printf, 2, 0))) void say(const char *before, const char *fmt, va_list args,
						      const char *after)
{
	struct buf b = { 0 };
	char text[1024];

	term_clear();
	fflush(stdout);
	vsnprintf(text, sizeof(text), fmt, args);
	buf_adds(&b, before);
	term_filter(&b, text, strlen(text));
	buf_adds(&b, after);
	term_write(STDERR_FILENO, buf_text(&b), b.size);
	buf_release(&b);
}

static __attribute__((format(printf, 1, 0))) void dim(const char *fmt, va_list args)
{
	if (!term.quiet)
		say(term_style(STDERR_FILENO, TERM_DIM), fmt, args, term_style(STDERR_FILENO, TERM_PLAIN));
}

void term_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	dim(fmt, args);
	va_end(args);
}

void term_hint(const char *fmt, ...)
{
	va_list args;

	if (!term_is(STDERR_FILENO))
		return;
	va_start(args, fmt);
	dim(fmt, args);
	va_end(args);
}

void term_complain(const char *fmt, va_list args)
{
	say("sink: ", fmt, args, "\n");
}

void term_progress(const char *fmt, ...)
{
	char text[256];
	va_list args;
	size_t width;

	if (term.quiet || !term_is(STDERR_FILENO))
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	width = term_width(text);
	if (width >= term_columns())
		return;
	fflush(stdout);
	fprintf(stderr, "\r%s%s%s%*s", term_style(STDERR_FILENO, TERM_DIM), text, term_style(STDERR_FILENO, TERM_PLAIN),
		term.progress > width ? (int)(term.progress - width) : 0, "");
	fflush(stderr);
	term.progress = width > term.progress ? width : term.progress;
}

void term_clear(void)
{
	if (!term.progress)
		return;
	fprintf(stderr, "\r%*s\r", (int)term.progress, "");
	fflush(stderr);
	term.progress = 0;
}

int term_finish(int code)
{
	term_clear();
	errno = 0;
	if (!term.broken && (fflush(stdout) || ferror(stdout)))
		term.broken = errno ? errno : EIO;
	if (!term.broken)
		return code;
	if (term.broken == EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	fprintf(stderr, "sink: Standard output cannot be written: %s.\n", strerror(term.broken));
	return code ? code : 1;
}
