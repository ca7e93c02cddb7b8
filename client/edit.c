/*
 * libedit, driven from inside: its reader of characters is ours and waits for the daemon as well as for the keyboard.
 * Owns the terminal's mode, what was typed and not yet taken, and the history file.
 *
 * Signals from keys are off while the terminal is ours, so that Ctrl-C is a key like any other and no handler has to
 * interrupt libedit in the middle of its drawing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "edit_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "paths.h"
#include "term.h"

enum {
	HISTORY_LINES = 1000,
	HISTORY_BYTES = 1 << 20, /* of the file, before it is written anew */
	REMEMBER_BYTES = 8192,	 /* longer lines are not remembered */
};

enum { KEY_INTERRUPT = 3, KEY_LEAVE = 4 };

struct edit *edit_self(EditLine *el)
{
	struct edit *e = NULL;

	el_get(el, EL_CLIENTDATA, &e);
	return e;
}

static char *prompt(EditLine *el)
{
	return (char *)(uintptr_t)edit_self(el)->prompt;
}

static void paste_mode(bool on)
{
	if (term_escapes())
		term_raw(on ? "\033[?2004h" : "\033[?2004l", 8);
}

void edit_read_keys(struct edit *e)
{
	char bytes[4096];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

	if (n > 0)
		buf_add(&e->typed, bytes, (size_t)n);
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		e->ended = true;
}

/* The next whole character of what was typed; bytes that are no UTF-8 are passed over. */
static bool take_character(struct edit *e, wchar_t *ret)
{
	while (e->typed.size) {
		mbstate_t state = { 0 };
		size_t n = mbrtowc(ret, e->typed.data, e->typed.size, &state);

		if (n == (size_t)-2)
			return false;
		if (n == (size_t)-1 || n == 0) {
			buf_drop(&e->typed, 1);
			continue;
		}
		buf_drop(&e->typed, n);
		return true;
	}
	return false;
}

/* Moves a place on the screen behind a character, as libedit lays it out. */
static void advance(wchar_t c, size_t columns, size_t *row, size_t *column)
{
	int width = wcwidth(c);
	size_t cells = c == L'\t' ? 8 - *column % 8 : width < 0 ? 2 : (size_t)width;

	if (c == L'\n' || *column + cells > columns) {
		++*row;
		*column = 0;
	}
	if (c != L'\n')
		*column += cells;
	if (*column >= columns) {
		++*row;
		*column = 0;
	}
}

/* How many rows the cursor is below the prompt's beginning. */
static size_t rows_above(struct edit *e)
{
	const LineInfoW *line = el_wline(e->el);
	size_t row = 0, column = 0, columns = term_columns();
	const char *text = e->prompt;
	mbstate_t state = { 0 };
	wchar_t c;
	size_t n;

	while (*text && (n = mbrtowc(&c, text, strlen(text), &state)) <= MB_LEN_MAX) {
		advance(c, columns, &row, &column);
		text += n;
	}
	for (const wchar_t *at = line->buffer; at < line->cursor; at++)
		advance(*at, columns, &row, &column);
	return row < term_rows() ? row : term_rows() - 1;
}

void edit_hide(struct edit *e)
{
	char text[48];
	size_t rows;
	int n;

	if (!e->reading || e->hidden)
		return;
	e->hidden = true;
	fflush(stdout);
	rows = rows_above(e);
	if (!term_escapes())
		n = snprintf(text, sizeof(text), "\n");
	else if (rows)
		n = snprintf(text, sizeof(text), "\r\033[%zuA\033[J", rows);
	else
		n = snprintf(text, sizeof(text), "\r\033[J");
	term_raw(text, (size_t)n);
}

void edit_unhide(struct edit *e)
{
	if (!e->hidden)
		return;
	e->hidden = false;
	el_set(e->el, EL_REFRESH);
	fflush(stdout);
}

static void resized(struct edit *e)
{
	if (!e->reading) {
		el_resize(e->el);
		return;
	}
	edit_hide(e);
	el_resize(e->el);
	edit_unhide(e);
}

/* Ends el_gets() from inside of it, without a prompt that stays behind. */
static int give_up(struct edit *e, enum edit_result why)
{
	edit_hide(e);
	e->result = why;
	return 0;
}

/* libedit asks for a character: the place where everything else may happen. */
static int next_character(EditLine *el, wchar_t *ret)
{
	struct edit *e = edit_self(el);
	struct sink_reply *ev;
	int sig = 0;

	fflush(stdout);
	for (;;) {
		if (take_character(e, ret))
			return 1;
		if (e->ended)
			return give_up(e, EDIT_LEAVE);
		switch (follow_next(e->f, STDIN_FILENO, &ev, &sig)) {
		case FOLLOW_INPUT:
			edit_read_keys(e);
			break;
		case FOLLOW_AWAY:
			ev = NULL;
			/* fall through */
		case FOLLOW_EVENT:
			if (!e->hook(e->arg, ev))
				return give_up(e, EDIT_OVER);
			edit_unhide(e);
			break;
		case FOLLOW_SIGNAL:
			if (sig == SIGTERM || sig == SIGHUP)
				return give_up(e, EDIT_LEAVE);
			if (sig == SIGINT)
				buf_add(&e->typed, "\003", 1);
			else
				resized(e);
			break;
		case FOLLOW_LOST:
			return give_up(e, EDIT_LOST);
		case FOLLOW_TIMEOUT:
			break;
		}
	}
}

static void load_history(struct edit *e)
{
	HistEvent h;
	struct stat st;

	history(e->history, &h, H_SETSIZE, HISTORY_LINES);
	history(e->history, &h, H_SETUNIQUE, 1);
	if (!paths_get(PATHS_STATE, "history", e->history_path, sizeof(e->history_path))) {
		e->history_path[0] = '\0';
		return;
	}
	if (stat(e->history_path, &st))
		return;
	history(e->history, &h, H_LOAD, e->history_path);
	if (st.st_size > HISTORY_BYTES)
		history(e->history, &h, H_SAVE, e->history_path);
}

struct edit *edit_new(struct follow *f, edit_hook *hook, void *arg)
{
	struct edit *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->f = f;
	e->hook = hook;
	e->arg = arg;
	e->prompt = "";
	e->history = history_init();
	e->el = el_init("sink", stdin, stdout, stderr);
	if (!e->history || !e->el) {
		edit_free(e);
		return NULL;
	}
	el_set(e->el, EL_CLIENTDATA, e);
	el_set(e->el, EL_PROMPT, prompt);
	el_set(e->el, EL_EDITOR, "emacs");
	el_set(e->el, EL_SIGNAL, 0);
	el_set(e->el, EL_HIST, history, e->history);
	el_source(e->el, NULL);
	edit_bind_keys(e->el);
	el_set(e->el, EL_SETTY, "-d", "-isig", NULL);
	el_set(e->el, EL_GETCFN, next_character);
	load_history(e);
	edit_take_back(e);
	return e;
}

void edit_complete(struct edit *e, edit_words *words)
{
	e->words = words;
}

void edit_lend(struct edit *e)
{
	paste_mode(false);
	el_set(e->el, EL_PREP_TERM, 0);
}

void edit_take_back(struct edit *e)
{
	el_set(e->el, EL_PREP_TERM, 1);
	paste_mode(true);
}

void edit_free(struct edit *e)
{
	if (!e)
		return;
	if (e->el) {
		edit_lend(e);
		el_end(e->el);
	}
	if (e->history)
		history_end(e->history);
	buf_release(&e->typed);
	buf_release(&e->before);
	free(e);
}

enum edit_result edit_line(struct edit *e, const char *before, struct buf *line)
{
	const char *text;
	int count = 0;

	buf_clear(line);
	buf_clear(&e->before);
	e->prompt = before;
	e->result = EDIT_LINE;
	e->hidden = false;
	e->reading = true;
	text = el_gets(e->el, &count);
	e->reading = false;
	e->prompt = "";
	el_set(e->el, EL_PREP_TERM, 1);
	if (e->result != EDIT_LINE)
		return e->result;
	if (!text || count <= 0) {
		term_raw("\n", 1);
		return EDIT_LEAVE;
	}
	buf_add(line, buf_text(&e->before), e->before.size);
	buf_add(line, text, (size_t)count);
	if (line->size && line->data[line->size - 1] == '\n')
		buf_cut(line, line->size - 1);
	return EDIT_LINE;
}

/* Takes the first of the two keys out of what was typed since `from`. */
static enum edit_result find_key(struct edit *e, size_t from)
{
	for (size_t i = from; i < e->typed.size; i++) {
		char c = e->typed.data[i];

		if (c != KEY_INTERRUPT && c != KEY_LEAVE)
			continue;
		memmove(e->typed.data + i, e->typed.data + i + 1, e->typed.size - i);
		e->typed.size--;
		return c == KEY_INTERRUPT ? EDIT_INTERRUPT : EDIT_LEAVE;
	}
	return e->ended ? EDIT_LEAVE : EDIT_LINE;
}

enum edit_result edit_wait(struct edit *e, struct sink_reply **ev)
{
	int sig = 0;

	for (;;) {
		size_t had = e->typed.size;
		enum edit_result key;

		switch (follow_next(e->f, STDIN_FILENO, ev, &sig)) {
		case FOLLOW_AWAY:
			*ev = NULL;
			return EDIT_EVENT;
		case FOLLOW_EVENT:
			return EDIT_EVENT;
		case FOLLOW_INPUT:
			edit_read_keys(e);
			key = find_key(e, had);
			if (key != EDIT_LINE)
				return key;
			break;
		case FOLLOW_SIGNAL:
			if (sig == SIGTERM || sig == SIGHUP)
				return EDIT_LEAVE;
			if (sig == SIGINT)
				return EDIT_INTERRUPT;
			resized(e);
			break;
		case FOLLOW_LOST:
			return EDIT_LOST;
		case FOLLOW_TIMEOUT:
			break;
		}
	}
}

/* One line of the file: what libedit's own reader undoes. */
static void encode(struct buf *b, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c > 0x20 && c < 0x7f && c != '\\')
			buf_add(b, text, 1);
		else
			buf_addf(b, "\\%03o", (unsigned)c);
	}
	buf_adds(b, "\n");
}

void edit_remember(struct edit *e, const char *text)
{
	struct buf b = { 0 };
	struct stat st;
	HistEvent h;
	int fd;

	if (strlen(text) > REMEMBER_BYTES)
		return;
	history(e->history, &h, H_ENTER, text);
	if (!e->history_path[0] || paths_make(e->history_path))
		return;
	fd = open(e->history_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size == 0)
		buf_adds(&b, "_HiStOrY_V2_\n");
	encode(&b, text);
	term_write(fd, buf_text(&b), b.size);
	close(fd);
	buf_release(&b);
}
