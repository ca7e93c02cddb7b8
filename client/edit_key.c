/*
 * What keys do beyond libedit's own: interrupt, suspend, newlines, paste, completion, and the person's editor for the
 * line. Each is a function that libedit calls while it reads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "edit_inner.h"
#include "program.h"
#include "term.h"

enum {
	PASTE_BYTES = 1500, /* a longer paste, or one of more lines, is not shown */
	PASTE_LINES = 12,
	PASTE_MS = 2000, /* a paste whose end does not come is taken as it is */
};

/* The line as it stands, behind its prompt, for what is drawn by us. */
static void draw(struct edit *e, const char *after)
{
	const LineInfo *line = el_line(e->el);
	struct buf b = { 0 };

	buf_adds(&b, e->prompt);
	buf_add(&b, line->buffer, (size_t)(line->lastchar - line->buffer));
	buf_adds(&b, after);
	term_text(buf_text(&b), b.size);
	buf_release(&b);
}

static unsigned char on_interrupt(EditLine *el, int c)
{
	struct edit *e = edit_self(el);

	(void)c;
	edit_hide(e);
	draw(e, "^C\n");
	e->hidden = false;
	e->result = EDIT_INTERRUPT;
	return CC_NEWLINE;
}

static unsigned char on_newline(EditLine *el, int c)
{
	(void)c;
	return el_insertstr(el, "\n") ? CC_ERROR : CC_REFRESH;
}

/* Ctrl-Z, since the terminal no longer makes a signal of it. */
static unsigned char on_suspend(EditLine *el, int c)
{
	struct edit *e = edit_self(el);

	(void)c;
	edit_hide(e);
	edit_lend(e);
	raise(SIGTSTP);
	edit_take_back(e);
	edit_unhide(e);
	return CC_NORM;
}

/* Bytes of what was typed up to the end of a paste, waiting for it; *mark: bytes of the end mark behind them. */
static size_t find_paste_end(struct edit *e, size_t *mark)
{
	static const char end[] = "\033[201~";
	size_t seen = 0;

	*mark = 0;
	for (;;) {
		struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
		const char *at = e->typed.size ? memmem(e->typed.data + seen, e->typed.size - seen, end, 6) : NULL;

		if (at) {
			*mark = 6;
			return (size_t)(at - e->typed.data);
		}
		seen = e->typed.size > 5 ? e->typed.size - 5 : 0;
		if (e->ended || poll(&p, 1, PASTE_MS) <= 0)
			return e->typed.size;
		edit_read_keys(e);
	}
}

/* What a paste holds: line ends become newlines, other control characters are left out. */
static void take_paste(struct edit *e, struct buf *text)
{
	size_t mark, size = find_paste_end(e, &mark);

	for (size_t i = 0; i < size; i++) {
		char c = e->typed.data[i];

		if (c == '\r' && i + 1 < size && e->typed.data[i + 1] == '\n')
			continue;
		if (c == '\r')
			c = '\n';
		if (c == '\n' || c == '\t' || ((unsigned char)c >= 0x20 && c != 0x7f))
			buf_add(text, &c, 1);
	}
	buf_drop(&e->typed, size + mark);
	buf_cut(text, buf_utf8(buf_text(text), text->size));
}

/* A paste too large to look at: kept aside with what stands left of it, and told in one line. */
static void keep_aside(struct edit *e, const struct buf *text, size_t lines)
{
	const LineInfo *line = el_line(e->el);
	const LineInfoW *wide = el_wline(e->el);
	struct buf note = { 0 };

	edit_hide(e);
	buf_adds(&note, e->prompt);
	buf_add(&note, line->buffer, (size_t)(line->cursor - line->buffer));
	buf_addf(&note, "[pasted: %zu lines, %zu bytes]\n", lines, text->size);
	term_text(buf_text(&note), note.size);
	buf_release(&note);
	buf_add(&e->before, line->buffer, (size_t)(line->cursor - line->buffer));
	buf_add(&e->before, text->data, text->size);
	el_deletestr(e->el, (int)(wide->cursor - wide->buffer));
	e->prompt = "... ";
	edit_unhide(e);
}

/* Puts a text at the cursor, or aside when it is too large to look at. */
static unsigned char insert(struct edit *e, const struct buf *text)
{
	size_t lines = 1;

	for (size_t i = 0; i < text->size; i++)
		lines += text->data[i] == '\n';
	if (text->size > PASTE_BYTES || lines > PASTE_LINES) {
		keep_aside(e, text, lines);
		return CC_NORM;
	}
	return text->size && el_insertstr(e->el, text->data) ? CC_ERROR : CC_REFRESH;
}

static unsigned char on_paste(EditLine *el, int c)
{
	struct edit *e = edit_self(el);
	struct buf text = { 0 };
	unsigned char ret;

	(void)c;
	take_paste(e, &text);
	ret = insert(e, &text);
	buf_release(&text);
	return ret;
}

/* The line goes to the person's editor, and comes back as it was saved. */
static unsigned char on_editor(EditLine *el, int c)
{
	struct edit *e = edit_self(el);
	const LineInfo *line = el_line(el);
	const LineInfoW *wide = el_wline(el);
	unsigned char ret = CC_NORM;
	struct buf text = { 0 };
	bool good;

	(void)c;
	buf_add(&text, line->buffer, (size_t)(line->lastchar - line->buffer));
	edit_hide(e);
	edit_lend(e);
	good = program_edit(&text) == 0;
	edit_take_back(e);
	if (good) {
		el_cursor(el, (int)(wide->lastchar - wide->cursor));
		el_deletestr(el, (int)(wide->lastchar - wide->buffer));
		ret = insert(e, &text);
	}
	edit_unhide(e);
	buf_release(&text);
	return ret == CC_ERROR ? CC_ERROR : CC_NORM;
}

/* How much all candidates have in common. */
static size_t common(const struct buf *found, size_t *count, const char **first)
{
	size_t same = 0;

	*count = 0;
	*first = buf_text(found);
	for (const char *at = *first; *at; at += strcspn(at, "\n") + 1) {
		size_t len = strcspn(at, "\n"), n = 0;

		while (n < len && n < same && at[n] == (*first)[n])
			n++;
		same = *count ? n : len;
		++*count;
	}
	return buf_utf8(*first, same);
}

/* Candidates in as many columns as fit, above the line. */
static void show_candidates(struct edit *e, const struct buf *found)
{
	size_t widest = 0, column = 0;
	struct buf text = { 0 };

	for (const char *at = buf_text(found); *at; at += strcspn(at, "\n") + 1) {
		char name[PATH_MAX];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, "\n"), at);
		widest = term_width(name) > widest ? term_width(name) : widest;
	}
	for (const char *at = buf_text(found); *at; at += strcspn(at, "\n") + 1) {
		char name[PATH_MAX];
		size_t width;

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, "\n"), at);
		width = term_width(name);
		if (column && column + widest > term_columns()) {
			buf_adds(&text, "\n");
			column = 0;
		}
		buf_addf(&text, "%s%*s", name, (int)(widest - width) + 2, "");
		column += widest + 2;
	}
	buf_adds(&text, "\n");
	edit_hide(e);
	draw(e, "\n");
	term_text(buf_text(&text), text.size);
	edit_unhide(e);
	buf_release(&text);
}

static unsigned char on_complete(EditLine *el, int c)
{
	struct edit *e = edit_self(el);
	const LineInfo *line = el_line(el);
	size_t typed = (size_t)(line->cursor - line->buffer), from = 0, count, same;
	struct buf found = { 0 }, text = { 0 };
	unsigned char ret = CC_ERROR;
	const char *first;

	(void)c;
	buf_add(&text, line->buffer, typed);
	if (!e->words || !e->words(e->arg, buf_text(&text), &from, &found)) {
		ret = el_insertstr(el, "\t") ? CC_ERROR : CC_REFRESH;
		goto out;
	}
	same = common(&found, &count, &first);
	typed -= from;
	buf_clear(&text);
	buf_add(&text, first + (same > typed ? typed : same), same > typed ? same - typed : 0);
	if (count == 1 && same && first[same - 1] != '/')
		buf_adds(&text, " ");
	if (text.size) {
		ret = el_insertstr(el, buf_text(&text)) ? CC_ERROR : CC_REFRESH;
	} else if (count) {
		show_candidates(e, &found);
		ret = CC_NORM;
	}
out:
	buf_release(&found);
	buf_release(&text);
	return ret;
}

void edit_bind_keys(EditLine *el)
{
	static const struct {
		const char *keys, *function;
	} binds[] = {
		{ "^C", "sink-interrupt" },	     { "^Z", "sink-suspend" },
		{ "\\e\\r", "sink-newline" },	     { "\\e\\n", "sink-newline" },
		{ "\\e[200~", "sink-paste" },	     { "^R", "em-inc-search-prev" },
		{ "\\e[H", "ed-move-to-beg" },	     { "\\e[F", "ed-move-to-end" },
		{ "\\e[1~", "ed-move-to-beg" },	     { "\\e[4~", "ed-move-to-end" },
		{ "\\e[3~", "ed-delete-next-char" }, { "\\e[1;5D", "ed-prev-word" },
		{ "\\e[1;5C", "em-next-word" },	     { "^I", "sink-complete" },
		{ "^X^E", "sink-editor" },
	};

	/* The wide form keeps the names as they are; the narrow one copies them and never frees them. */
	el_wset(el, EL_ADDFN, L"sink-interrupt", L"clear the line", on_interrupt);
	el_wset(el, EL_ADDFN, L"sink-suspend", L"suspend", on_suspend);
	el_wset(el, EL_ADDFN, L"sink-newline", L"insert a newline", on_newline);
	el_wset(el, EL_ADDFN, L"sink-paste", L"insert a paste", on_paste);
	el_wset(el, EL_ADDFN, L"sink-complete", L"complete a command", on_complete);
	el_wset(el, EL_ADDFN, L"sink-editor", L"edit the line in $EDITOR", on_editor);
	for (size_t i = 0; i < sizeof(binds) / sizeof(binds[0]); i++)
		el_set(el, EL_BIND, binds[i].keys, binds[i].function, NULL);
}
