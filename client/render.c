/*
 * Events to the terminal. A table gives each kind of event its row, so that one that is not known (of a newer daemon)
 * is silently passed over, as the protocol asks.
 */
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "format.h"
#include "term.h"

enum { PROGRESS_MS = 500 }; /* reading that takes less is not worth a word */

struct row {
	const char *name;
	enum render_end (*show)(struct render *r, const struct sink_reply *ev);
	bool loud; /* writes something in the chat */
};

void render_init(struct render *r, enum render_style style, const char *name, const char *policy)
{
	*r = (struct render){ .style = style, .own = -1, .capacity = format_capacity(policy ? policy : "") };
	r->footer = style != RENDER_JSON && !term_quiet() && term_is(STDERR_FILENO);
	snprintf(r->name, sizeof(r->name), "%s", name);
}

/* Markdown that waits for more is shown as it is. */
static void flush_markdown(struct render *r)
{
	struct buf b = { 0 };

	if (!r->markdown.count)
		return;
	markdown_flush(&r->markdown, &b);
	term_raw(buf_text(&b), b.size);
	buf_release(&b);
}

void render_newline(struct render *r)
{
	flush_markdown(r);
	if (r->in_line)
		term_raw("\n", 1);
	r->in_line = false;
}

static void write_text(struct render *r, const char *text, size_t len)
{
	if (!len)
		return;
	term_text(text, len);
	r->in_line = text[len - 1] != '\n';
}

/* The same of a model's text, which is Markdown; its first `skip` bytes are not shown. */
static void write_markdown(struct render *r, const char *text, size_t len, size_t skip)
{
	struct buf plain = { 0 }, styled = { 0 };

	if (len == skip || !term_markdown()) {
		flush_markdown(r);
		write_text(r, text + skip, len - skip);
		return;
	}
	markdown_add(&r->markdown, text, skip, &styled);
	buf_clear(&styled);
	if (term_filters())
		term_filter(&plain, text + skip, len - skip);
	else
		buf_add(&plain, text + skip, len - skip);
	markdown_add(&r->markdown, buf_text(&plain), plain.size, &styled);
	if (styled.size)
		term_raw(buf_text(&styled), styled.size);
	r->in_line = text[len - 1] != '\n';
	buf_release(&plain);
	buf_release(&styled);
}

static void write_line(enum term_style style, const char *text)
{
	struct buf b = { 0 };

	buf_addf(&b, "%s%s%s\n", term_style(STDOUT_FILENO, style), text, term_style(STDOUT_FILENO, TERM_PLAIN));
	term_raw(buf_text(&b), b.size);
	buf_release(&b);
}

static void heading(int64_t number, const char *role, const char *note)
{
	char text[160];

	snprintf(text, sizeof(text), "[%" PRId64 "] %s%s%s", number, role, note ? "  " : "", note ? note : "");
	write_line(TERM_BOLD, text);
}

void render_message(struct render *r, int64_t number, const char *role, const char *text, size_t len, size_t skip,
		    const char *note)
{
	if (r->style == RENDER_CHAT && strcmp(role, "system") == 0)
		return;
	render_newline(r);
	if (r->style == RENDER_LOG) {
		heading(number, role, note);
	} else if (strcmp(role, "assistant") != 0) {
		struct buf b = { 0 };

		buf_addf(&b, "%s%s>%s ", term_style(STDOUT_FILENO, TERM_BOLD),
			 strcmp(role, "user") == 0 ? r->name : role, term_style(STDOUT_FILENO, TERM_PLAIN));
		term_raw(buf_text(&b), b.size);
		buf_release(&b);
	}
	r->markdown = (struct markdown){ 0 };
	if (strcmp(role, "assistant") == 0)
		write_markdown(r, text, len, skip);
	else
		write_text(r, text + skip, len - skip);
	render_newline(r);
	if (r->style == RENDER_LOG)
		term_raw("\n", 1);
}

/* Ends a line that is open where a person would see our words behind it; an answer in a file stays as it is. */
static void step_aside(struct render *r)
{
	if (r->style != RENDER_TEXT || term_is(STDOUT_FILENO))
		render_newline(r);
}

void render_away(struct render *r)
{
	term_clear();
	step_aside(r);
	term_note("[the daemon does not answer; waiting for it]\n");
}

void render_rule(struct render *r, const char *text)
{
	render_newline(r);
	write_line(TERM_DIM, text);
	term_raw("\n", 1);
}

static enum render_end on_message(struct render *r, const struct sink_reply *ev)
{
	int64_t number = sink_int(ev, "message", -1);
	const char *role = sink_str(ev, "role", NULL), *text;
	size_t len = 0;

	text = sink_str(ev, "text", &len);
	if (number == r->own)
		r->own = -1; /* once: a message taken back gives its number to another one */
	else if (r->style != RENDER_TEXT && role && text)
		render_message(r, number, role, text, len, 0, NULL);
	return RENDER_MORE;
}

static enum render_end on_answer(struct render *r, const struct sink_reply *ev)
{
	r->answering = true;
	r->error[0] = '\0';
	r->markdown = (struct markdown){ 0 };
	if (r->style == RENDER_LOG) {
		render_newline(r);
		heading(sink_int(ev, "message", -1), "assistant", NULL);
	}
	return RENDER_MORE;
}

/* Nobody waits at a prompt for what is only read: no answer may follow it. */
static bool prefill_matters(const struct render *r)
{
	return r->answering || r->style != RENDER_CHAT;
}

static enum render_end on_prefill(struct render *r, const struct sink_reply *ev)
{
	int64_t done = sink_int(ev, "done", 0), total = sink_int(ev, "total", 0);

	if (!prefill_matters(r))
		return RENDER_MORE;
	if (done >= total)
		term_clear();
	else if (sink_float(ev, "ms", 0) >= PROGRESS_MS && !r->in_line)
		term_progress("reading %" PRId64 " of %" PRId64 " tokens (%.0f %%)", done, total,
			      100.0 * (double)done / (double)total);
	return RENDER_MORE;
}

static enum render_end on_text(struct render *r, const struct sink_reply *ev)
{
	size_t len = 0;
	const char *text = sink_str(ev, "text", &len);

	r->answering = true;
	if (text)
		write_markdown(r, text, len, 0);
	return RENDER_MORE;
}

static void write_footer(const struct render *r, const struct sink_reply *ev)
{
	struct format_usage u = {
		.prompt = sink_int(ev, "usage.prompt", 0),
		.cached = sink_int(ev, "usage.cached", 0),
		.generated = sink_int(ev, "usage.generated", 0),
		.evicted = sink_int(ev, "usage.evicted", 0),
		.kept = sink_int(ev, "usage.kept", 0),
		.window = sink_int(ev, "usage.window", 0),
		.pinned = sink_int(ev, "usage.pinned", 0),
		.capacity = r->capacity,
		.per_s = sink_float(ev, "timing.decode_per_s", 0),
		.finish = r->finish,
	};
	char text[320];

	term_note("── %s\n", format_footer(&u, text, sizeof(text)));
}

static enum render_end on_done(struct render *r, const struct sink_reply *ev)
{
	const char *finish = sink_str(ev, "finish", NULL);

	r->answering = false;
	snprintf(r->finish, sizeof(r->finish), "%s", finish ? finish : "");
	term_clear();
	render_newline(r);
	if (r->footer)
		write_footer(r, ev);
	if (r->style == RENDER_LOG)
		term_raw("\n", 1);
	return RENDER_DONE;
}

static enum render_end on_error(struct render *r, const struct sink_reply *ev)
{
	const char *text = sink_str(ev, "text", NULL);

	snprintf(r->error, sizeof(r->error), "%s", text ? text : "");
	render_newline(r);
	fail(FAIL_FAILED, "%s: %s", r->name, r->error);
	return RENDER_MORE;
}

static enum render_end on_rewound(struct render *r, const struct sink_reply *ev)
{
	if (r->style == RENDER_TEXT)
		return RENDER_MORE;
	render_newline(r);
	term_note("[%s was taken back to message %" PRId64 "]\n", r->name, sink_int(ev, "messages", 0));
	return RENDER_MORE;
}

static enum render_end on_renamed(struct render *r, const struct sink_reply *ev)
{
	const char *to = sink_str(ev, "to", NULL);

	if (!to)
		return RENDER_MORE;
	render_newline(r);
	term_note("[%s is called %s now]\n", r->name, to);
	snprintf(r->name, sizeof(r->name), "%s", to);
	return RENDER_MORE;
}

static enum render_end on_removed(struct render *r, const struct sink_reply *ev)
{
	(void)ev;
	r->answering = false;
	render_newline(r);
	term_note("[%s was removed]\n", r->name);
	return RENDER_GONE;
}

/* Memory that came back as it was is not worth a word, and none breaks into a line that goes on. */
static bool restored_matters(const struct render *r, const struct sink_reply *ev)
{
	return sink_int(ev, "recomputed", 0) > 0 && !r->in_line;
}

static enum render_end on_restored(struct render *r, const struct sink_reply *ev)
{
	const char *from = sink_str(ev, "from", NULL);

	if (!restored_matters(r, ev))
		return RENDER_MORE;
	term_note("[memory restored from %s: %" PRId64 " tokens, %" PRId64 " read anew]\n", from ? from : "somewhere",
		  sink_int(ev, "tokens", 0), sink_int(ev, "recomputed", 0));
	return RENDER_MORE;
}

static enum render_end on_unsaved(struct render *r, const struct sink_reply *ev)
{
	const char *text = sink_str(ev, "text", NULL);

	step_aside(r);
	fail(FAIL_FAILED, "%s: What follows is not saved for now: %s", r->name, text ? text : "no reason is given.");
	return RENDER_MORE;
}

static enum render_end on_saved(struct render *r, const struct sink_reply *ev)
{
	(void)ev;
	step_aside(r);
	fail(FAIL_NOT, "%s: All is saved again.", r->name);
	return RENDER_MORE;
}

/* A daemon that is started again comes back before anybody would have read about it; render_away() tells otherwise. */
static enum render_end on_bye(struct render *r, const struct sink_reply *ev)
{
	(void)r;
	(void)ev;
	return RENDER_BYE;
}

static const struct row rows[] = {
	{ "message", on_message, true },   { "answer", on_answer, true },   { "prefill", on_prefill, true },
	{ "text", on_text, true },	   { "done", on_done, true },	    { "error", on_error, true },
	{ "rewound", on_rewound, true },   { "renamed", on_renamed, true }, { "removed", on_removed, true },
	{ "restored", on_restored, true }, { "unsaved", on_unsaved, true }, { "saved", on_saved, true },
	{ "bye", on_bye, false },
};

static const struct row *find(const struct sink_reply *ev)
{
	const char *name = sink_str(ev, "ev", NULL);

	for (size_t i = 0; name && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

bool render_shows(const struct render *r, const struct sink_reply *ev)
{
	const struct row *row = find(ev);

	if (row && row->show == on_message)
		return sink_int(ev, "message", -1) != r->own;
	if (row && row->show == on_restored)
		return restored_matters(r, ev);
	if (row && row->show == on_prefill)
		return prefill_matters(r);
	return row && row->loud;
}

/* A script gets every event as it is; what it means for us is kept all the same. */
static enum render_end event_json(struct render *r, const struct sink_reply *ev, const struct row *row)
{
	char *text = row || sink_has(ev, "seq") ? sink_json(ev) : NULL; /* else it is none of the log's */
	const char *word;

	if (text) {
		struct buf b = { 0 };

		buf_addf(&b, "%s\n", text);
		term_raw(buf_text(&b), b.size);
		buf_release(&b);
	}
	free(text);
	if (row && row->show == on_done && (word = sink_str(ev, "finish", NULL)))
		snprintf(r->finish, sizeof(r->finish), "%s", word);
	if (row && row->show == on_renamed && (word = sink_str(ev, "to", NULL)))
		snprintf(r->name, sizeof(r->name), "%s", word);
	if (!row)
		return RENDER_MORE;
	return row->show == on_done	 ? RENDER_DONE
	       : row->show == on_removed ? RENDER_GONE
	       : row->show == on_bye	 ? RENDER_BYE
					 : RENDER_MORE;
}

enum render_end render_event(struct render *r, const struct sink_reply *ev)
{
	const struct row *row = find(ev);

	if (r->style == RENDER_JSON)
		return event_json(r, ev, row);
	return row ? row->show(r, ev) : RENDER_MORE;
}

int render_finish_code(const char *finish, bool strict)
{
	if (strcmp(finish, "error") == 0)
		return FAIL_FAILED;
	if (strcmp(finish, "stopped") == 0)
		return FAIL_INTERRUPTED;
	if (strict && strcmp(finish, "length") == 0)
		return FAIL_CUT;
	return FAIL_NOT;
}

int render_code(const struct render *r, bool strict)
{
	return render_finish_code(r->finish, strict);
}
