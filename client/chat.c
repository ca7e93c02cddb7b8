/*
 * The conversation on a terminal. All that is shown comes from the event log, also what this client says itself, so
 * that several terminals on one conversation show the same. While an answer streams the prompt is away; while a line is
 * typed and another client speaks, the prompt steps aside and comes back with the line.
 */
#include "chat.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "input.h"
#include "log.h"
#include "term.h"

enum {
	TAIL_MESSAGES = 4, /* shown when attaching */
	TAIL_LINES = 24,   /* of each of them */
	MAKE_MS = 30000,
};

static const char block_mark[] = "\"\"\"";

/* The answer goes on where it was when the daemon comes back. */
static void away(struct chat *t)
{
	edit_hide(t->edit);
	term_clear();
	render_newline(&t->r);
	t->r.answering = false;
	term_note("[the daemon does not answer%s%s; waiting for it, Ctrl-D leaves]\n", *t->bye ? ": " : "", t->bye);
	t->bye[0] = '\0';
}

/* Shows one event; sets t->next when nothing more is to come. */
static void take_event(struct chat *t, struct sink_reply *ev)
{
	const char *reason;

	if (!ev) {
		away(t);
		return;
	}
	switch (render_event(&t->r, ev)) {
	case RENDER_GONE:
		t->next = CHAT_ENDED;
		break;
	case RENDER_BYE:
		reason = sink_str(ev, "reason", NULL);
		snprintf(t->bye, sizeof(t->bye), "%s", reason ? reason : "");
		break;
	case RENDER_MORE:
	case RENDER_DONE:
		t->bye[0] = '\0'; /* it has come back */
		break;
	}
	sink_reply_free(ev);
}

static void stop(struct chat *t)
{
	struct sink_args *a = sink_args_new();
	int code;

	sink_args_str(a, "conversation", t->r.name);
	sink_reply_free(verb_call(t->c, "stop", a, &code));
}

static void leave(struct chat *t)
{
	bool answering = t->r.answering;

	term_clear();
	render_newline(&t->r);
	t->next = CHAT_LEAVE;
	if (answering)
		term_note("[detached from %s; it goes on answering]   sink attach %s\n", t->r.name, t->r.name);
	else
		term_note("[detached from %s; it is kept]   sink attach %s\n", t->r.name, t->r.name);
}

static void lost(struct chat *t)
{
	term_clear();
	render_newline(&t->r);
	t->code = follow_lost(&t->follow);
	t->next = CHAT_ENDED;
}

/* One step of watching: an event or a key. */
static void watch_one(struct chat *t)
{
	struct sink_reply *ev = NULL;

	switch (edit_wait(t->edit, &ev)) {
	case EDIT_EVENT:
		take_event(t, ev);
		break;
	case EDIT_INTERRUPT:
		if (t->read_only)
			leave(t);
		else
			stop(t);
		break;
	case EDIT_LEAVE:
		leave(t);
		break;
	case EDIT_LOST:
		lost(t);
		break;
	case EDIT_LINE:
	case EDIT_OVER:
		break;
	}
}

/* Shows an answer to its end, unless the person leaves. */
static void watch(struct chat *t)
{
	while (t->next == CHAT_STAY && (t->r.answering || t->read_only))
		watch_one(t);
}

/* An event while a line is being typed: only what shows anything disturbs the prompt. */
static bool at_prompt(void *arg, struct sink_reply *ev)
{
	struct chat *t = arg;

	if (ev && render_shows(&t->r, ev))
		edit_hide(t->edit);
	take_event(t, ev);
	watch(t);
	return t->next == CHAT_STAY;
}

/* Whether the daemon answers now, or does within the time that a restart takes. */
static bool reachable(struct chat *t)
{
	if (!sink_connected(t->c->sink))
		sink_reply_free(sink_call(t->c->sink, "list", NULL, FOLLOW_SILENCE_MS));
	return sink_connected(t->c->sink);
}

void chat_say(struct chat *t, const char *op, const char *text, size_t len)
{
	struct buf schema = { 0 };
	struct sink_args *a;
	struct sink_reply *r;
	int code;

	if (!reachable(t)) {
		term_note("[there is no connection to the daemon now; nothing was sent]\n");
		return;
	}
	if (input_schema(&t->set, &schema)) {
		buf_release(&schema);
		return;
	}
	a = sink_args_new();
	sink_args_str(a, "conversation", t->r.name);
	if (text)
		sink_args_strn(a, "text", text, len);
	option_sampling(&t->set, buf_text(&schema), schema.size, a);
	buf_release(&schema);
	r = verb_call(t->c, op, a, &code);
	if (!r)
		return;
	t->r.own = text ? sink_int(r, "message", -1) : -1;
	t->r.answering = true;
	sink_reply_free(r);
}

static bool ends_with(const struct buf *b, const char *text)
{
	size_t len = strlen(text);

	return b->size >= len && memcmp(b->data + b->size - len, text, len) == 0;
}

/*
 * Adds a line to the message; true when the message is whole. A block between two marks goes over many lines, and so
 * does a line whose last character is a backslash.
 */
static bool add_line(struct buf *message, const struct buf *line, bool *block)
{
	const char *text = buf_text(line);

	if (!message->size && !*block && strncmp(text, block_mark, 3) == 0) {
		*block = true;
		text += 3;
		if (!*text)
			return false;
	}
	buf_adds(message, text);
	if (*block && ends_with(message, block_mark)) {
		buf_cut(message, message->size - 3);
		*block = false;
		return true;
	}
	if (!*block && !ends_with(message, "\\"))
		return true;
	if (!*block)
		buf_cut(message, message->size - 1);
	buf_adds(message, "\n");
	return false;
}

/* Reads a whole message; false when there is none to send. */
static bool read_message(struct chat *t, struct buf *message)
{
	struct buf line = { 0 };
	bool block = false, whole = false;
	enum edit_result got = EDIT_LINE;
	char prompt[TARGET_SIZE + 4];

	buf_clear(message);
	snprintf(prompt, sizeof(prompt), "%s> ", t->r.name);
	while (!whole && got == EDIT_LINE) {
		got = edit_line(t->edit, message->size || block ? "... " : prompt, &line);
		if (got == EDIT_LINE)
			whole = add_line(message, &line, &block);
	}
	buf_release(&line);
	if (got == EDIT_LEAVE)
		leave(t);
	if (got == EDIT_LOST)
		lost(t);
	return whole && !message->failed;
}

static bool blank(const char *text)
{
	return text[strspn(text, " \t\n")] == '\0';
}

static void take_message(struct chat *t, const struct buf *message)
{
	const char *text = buf_text(message);

	if (blank(text))
		return;
	edit_remember(t->edit, text);
	if (text[0] == '/' && text[1] != '/')
		slash_run(t, text);
	else
		compose_send(t, text + (text[0] == '/'), message->size - (text[0] == '/'));
}

/* What the person finds: the last messages, and an answer that is being written from its beginning. */
static int enter(struct chat *t, const char *name)
{
	struct log_info info;
	char note[64] = "";
	int code = log_info(t->c, name, &info);

	if (code)
		return code;
	render_init(&t->r, RENDER_CHAT, name, info.policy);
	t->r.footer = !term_quiet();
	t->next = CHAT_STAY;
	if (info.messages > TAIL_MESSAGES)
		snprintf(note, sizeof(note), ": %" PRId64 " messages, the last %d", info.messages, TAIL_MESSAGES);
	term_note("[attached to %s%s]   /help   %s\n", name, note,
		  t->read_only ? "Ctrl-D leaves" : "Ctrl-C stops an answer, Ctrl-D detaches");
	code = log_messages(t->c, name, &info, TAIL_MESSAGES, &t->r, TAIL_LINES);
	if (!code)
		code = log_attach(t->c, name, &info);
	t->r.answering = strcmp(info.state, "answering") == 0; /* what is only read may have no answer to end it */
	return code;
}

static int talk(struct chat *t)
{
	struct buf message = { 0 };

	while (t->next == CHAT_STAY) {
		watch(t);
		if (t->next == CHAT_STAY && read_message(t, &message))
			take_message(t, &message);
	}
	buf_release(&message);
	return t->code;
}

/* Talks in one conversation after the other until the person leaves. */
static int talk_on(struct chat *t, char name[TARGET_SIZE])
{
	int code;

	follow_open(&t->follow, t->c->sink, t->c->endpoint, 0);
	t->edit = edit_new(&t->follow, at_prompt, t);
	if (!t->edit)
		code = fail(FAIL_FAILED, "There is not enough memory.");
	else
		code = enter(t, name);
	if (t->edit)
		edit_complete(t->edit, slash_words);
	while (!code) {
		code = talk(t);
		if (t->next != CHAT_SWITCH)
			break;
		sink_detach(t->c->sink, t->r.name);
		strcpy(name, t->other);
		option_release(&t->set);
		code = enter(t, name);
	}
	edit_free(t->edit);
	option_release(&t->set);
	buf_release(&t->files);
	follow_close(&t->follow);
	return code;
}

/* The conversation that `sink` alone means: the last used, or a first one. */
static int first_one(struct cli *c, char name[TARGET_SIZE])
{
	const char *first = getenv("SINK_CONVERSATION");
	int code;
	struct sink_reply *r = verb_call(c, "list", NULL, &code);
	size_t count = r ? sink_count(r, "conversations") : 0;
	struct sink_args *a;

	sink_reply_free(r);
	if (code || count)
		return code ? code : target_find(c, NULL, TARGET_NEAR, name);
	a = sink_args_new();
	sink_args_str(a, "name", first && *first ? first : "main");
	sink_reply_free(verb_call(c, "new", a, &code));
	return code ? code : target_find(c, NULL, TARGET_NEAR, name);
}

/* With a template: the conversation of that name, made of the template when there is none; without a name a new one. */
static int templated(struct cli *c, const char *word, char name[TARGET_SIZE])
{
	struct sink_args *a = sink_args_new();
	int code = word ? target_or_new(c, word, name) : 0;
	struct buf schema = { 0 };
	struct sink_reply *r;
	const char *made;

	if (!code)
		code = input_making(c, a);
	if (!code)
		code = input_schema(&c->o, &schema);
	if (code) {
		buf_release(&schema);
		sink_args_free(a);
		return code;
	}
	if (word)
		sink_args_str(a, "name", name);
	option_sampling(&c->o, buf_text(&schema), schema.size, a);
	buf_release(&schema);
	r = sink_call(c->sink, "new", a, MAKE_MS);
	if (!r && word && strcmp(sink_error_name(sink_error(c->sink)), "eexist") == 0)
		return 0;
	made = r ? sink_str(r, "conversation.name", NULL) : NULL;
	if (!made)
		code = fail_sink(c->sink);
	else
		snprintf(name, TARGET_SIZE, "%s", made);
	if (r)
		verb_note(r);
	sink_reply_free(r);
	return code;
}

int chat_run(struct cli *c)
{
	struct chat t = { .c = c, .read_only = c->o.v[OPTION_READ_ONLY].given };
	char name[TARGET_SIZE];
	const char *word = c->o.count ? c->o.args[0] : NULL;
	int code = c->o.v[OPTION_TEMPLATE].given ? templated(c, word, name)
		   : word			 ? target_find(c, word, TARGET_NEAR, name)
						 : first_one(c, name);

	if (code)
		return code;
	if (!term_is(STDIN_FILENO) || !term_is(STDOUT_FILENO))
		return log_watch(c, name);
	return talk_on(&t, name);
}
