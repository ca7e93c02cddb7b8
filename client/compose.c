/*
 * What the person puts into a message beside its line: files, a text from the editor, and settings for the answer. They
 * belong to this terminal, and the conversation's own settings stay as they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "input.h"
#include "json.h"
#include "nearest.h"
#include "program.h"
#include "term.h"

enum { KEY_CELLS = 20 };

void compose_send(struct chat *t, const char *text, size_t len)
{
	struct buf whole = { 0 };

	buf_add(&whole, text, len);
	if (t->files.size) {
		buf_adds(&whole, "\n\n");
		buf_add(&whole, t->files.data, t->files.size);
	}
	if (whole.failed)
		term_note("[there is not enough memory; nothing was sent]\n");
	else
		chat_say(t, "say", buf_text(&whole), whole.size);
	if (t->r.answering)
		buf_clear(&t->files);
	buf_release(&whole);
}

void compose_edit(struct chat *t, const char *rest)
{
	struct buf text = { 0 };
	int code;

	buf_adds(&text, rest);
	edit_lend(t->edit);
	code = program_edit(&text);
	edit_take_back(t->edit);
	if (!code && !buf_text(&text)[strspn(buf_text(&text), " \t\n")]) {
		term_note("[nothing was written]\n");
	} else if (!code) {
		edit_remember(t->edit, buf_text(&text));
		render_message(&t->r, -1, "user", text.data, text.size, 0, NULL);
		compose_send(t, text.data, text.size);
	}
	buf_release(&text);
}

void compose_path(const char *path, struct buf *ret)
{
	const char *home = getenv("HOME");

	if (strncmp(path, "~/", 2) == 0 && home) {
		buf_adds(ret, home);
		path++;
	}
	buf_adds(ret, path);
}

void compose_file(struct chat *t, const char *rest)
{
	struct buf path = { 0 };
	size_t had = t->files.size;

	if (!*rest) {
		buf_clear(&t->files);
		term_note(had ? "[no file goes with the next message]\n"
			      : "[say which file to send with the next message: /file PATH]\n");
		return;
	}
	compose_path(rest, &path);
	if (input_file(&t->files, buf_text(&path)))
		buf_cut(&t->files, had);
	else
		term_note("[%s goes with the next message, %zu bytes]\n", buf_text(&path), t->files.size - had);
	buf_release(&path);
}

/* ---- settings ---- */

static void add_given(struct buf *b, const struct option_row *row, const struct option_value *v)
{
	if (row->type == OPTION_IS_FLAG)
		buf_adds(b, "yes");
	else if (row->type != OPTION_IS_LIST)
		buf_adds(b, v->text);
	for (size_t i = 0; i < v->count; i++) {
		buf_adds(b, i ? ", " : "");
		json_quote(b, v->list[i]);
	}
}

/* Each setting that is known: what holds here, and what the conversation has. */
static void list(struct chat *t)
{
	struct sink_args *a = sink_args_new();
	struct json info, sampling = { "{}", 2 }, value;
	struct buf b = { 0 };
	struct sink_reply *r;
	char *text;
	int code;

	sink_args_str(a, "conversation", t->r.name);
	r = verb_call(t->c, "show", a, &code);
	text = r ? sink_json(r) : NULL;
	if (text && json_member((struct json){ text, strlen(text) }, "conversation", &info))
		json_member(info, "sampling", &sampling);
	for (enum option i = 0; i < OPTION_COUNT; i++) {
		const struct option_row *row = &option_rows[i];
		bool own = row->key && json_member(sampling, row->key, &value);

		if (!row->key || (!own && !t->set.v[i].given))
			continue;
		buf_addf(&b, "  %-*s ", KEY_CELLS, row->name);
		if (t->set.v[i].given) {
			add_given(&b, row, &t->set.v[i]);
			buf_adds(&b, own ? "   here; the conversation has " : "   here");
		}
		if (own)
			buf_add(&b, value.text, value.size);
		buf_adds(&b, "\n");
	}
	term_text(buf_text(&b), b.size);
	buf_release(&b);
	free(text);
	sink_reply_free(r);
}

static void unknown(const char *name, size_t len)
{
	const char *names[OPTION_COUNT], *near;
	size_t count = 0;

	for (enum option i = 0; i < OPTION_COUNT; i++)
		if (option_rows[i].key)
			names[count++] = option_rows[i].name;
	near = nearest(name, len, names, count);
	term_note("[there is no setting %.*s%s%s]\n", (int)len, name, near ? "; did you mean " : "; /set lists them",
		  near ? near : "");
}

static void set(struct chat *t, enum option which, const char *value)
{
	struct option_value before = t->set.v[which];
	bool flag = option_rows[which].type == OPTION_IS_FLAG, no = strcmp(value, "none") == 0;
	char cause[200];

	if (flag && !no && strcmp(value, "yes") != 0)
		no = strcmp(value, "no") == 0;
	if (no) {
		option_unset(&t->set, which);
		term_note("[%s is the conversation's own]\n", option_rows[which].name);
		return;
	}
	t->set.v[which] = (struct option_value){ 0 };
	if (option_set(&t->set, which, value, cause, sizeof(cause))) {
		free(before.list);
		term_note("[%s is %s here]\n", option_rows[which].name, flag ? "yes" : value);
	} else {
		t->set.v[which] = before;
		term_note("[%s takes %s, not \"%.60s\"]\n", option_rows[which].name,
			  option_rows[which].type == OPTION_IS_INT ? "a whole number" : "a number", value);
	}
}

void compose_set(struct chat *t, const char *rest)
{
	size_t len = strcspn(rest, " \t=");
	const char *value = rest + len + strspn(rest + len, " \t=");
	enum option which = option_named(OPTION_SAMPLING, rest, len);

	if (!*rest) {
		list(t);
	} else if (strcmp(rest, "none") == 0) {
		option_release(&t->set);
		term_note("[all settings are the conversation's own]\n");
	} else if (which == OPTION_COUNT) {
		unknown(rest, len);
	} else if (!*value) {
		term_note("[say what %s is: /set %s VALUE, or none]\n", option_rows[which].name,
			  option_rows[which].name);
	} else {
		set(t, which, value);
	}
}
