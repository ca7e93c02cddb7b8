/* The slash commands of the chat: a table, and one small function each. They say what they did on the terminal. */
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "log.h"
#include "nearest.h"
#include "term.h"

enum { WORDS_MS = 1000, COPIES = 100 };

/* What Tab makes of what stands behind a command. */
enum words { WORDS_NONE, WORDS_NAMES, WORDS_FILES, WORDS_SETTINGS };

struct slash {
	const char *name, *args, *help;
	void (*run)(struct chat *t, const char *rest);
	enum words words;
};

static void do_help(struct chat *t, const char *rest);

static void do_detach(struct chat *t, const char *rest)
{
	(void)rest;
	term_note("[detached from %s; it is kept]   sink attach %s\n", t->r.name, t->r.name);
	t->next = CHAT_LEAVE;
}

static void do_stop(struct chat *t, const char *rest)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	int code;

	(void)rest;
	sink_args_str(a, "conversation", t->r.name);
	r = verb_call(t->c, "stop", a, &code);
	if (r)
		term_note(sink_bool(r, "stopped", false) ? "[stopped]\n" : "[nothing is being answered]\n");
	sink_reply_free(r);
}

static void go_to(struct chat *t, const char *name)
{
	snprintf(t->other, sizeof(t->other), "%s", name);
	t->next = CHAT_SWITCH;
}

static void make(struct chat *t, struct sink_args *a)
{
	int code;
	struct sink_reply *r = verb_call(t->c, "new", a, &code);
	const char *name = r ? sink_str(r, "conversation.name", NULL) : NULL;

	if (name)
		go_to(t, name);
	sink_reply_free(r);
}

static void do_new(struct chat *t, const char *rest)
{
	struct sink_args *a = sink_args_new();

	if (*rest)
		sink_args_str(a, "name", rest);
	make(t, a);
}

static void do_system(struct chat *t, const char *rest)
{
	struct sink_args *a;

	if (!*rest) {
		term_note("[say what the system prompt of the new conversation is: /system TEXT]\n");
		return;
	}
	a = sink_args_new();
	sink_args_str(a, "system", rest);
	make(t, a);
}

static void do_switch(struct chat *t, const char *rest)
{
	char name[TARGET_SIZE];

	if (!*rest)
		term_note("[say where to: /switch NAME; /ls lists them]\n");
	else if (!target_find(t->c, rest, TARGET_NEAR, name))
		go_to(t, name);
}

static void do_ls(struct chat *t, const char *rest)
{
	(void)rest;
	see_ls(t->c);
	fflush(stdout);
}

static void do_show(struct chat *t, const char *rest)
{
	(void)rest;
	see_info(t->c, t->r.name);
	fflush(stdout);
}

static void do_stat(struct chat *t, const char *rest)
{
	(void)t;
	(void)rest;
	see_status(t->c);
	fflush(stdout);
}

static void do_log(struct chat *t, const char *rest)
{
	struct log_info info;
	struct render r;
	int count = 10;

	if (*rest && (sscanf(rest, "%d", &count) != 1 || count < 0)) {
		term_note("[/log takes how many messages to show]\n");
		return;
	}
	if (log_info(t->c, t->r.name, &info))
		return;
	render_init(&r, RENDER_LOG, t->r.name, info.policy);
	log_messages(t->c, t->r.name, &info, count, &r, 0);
}

static void do_regen(struct chat *t, const char *rest)
{
	(void)rest;
	chat_say(t, "regenerate", NULL, 0);
}

static void do_continue(struct chat *t, const char *rest)
{
	(void)rest;
	chat_say(t, "generate", NULL, 0);
}

/* The number of the last message that a person said; -1: none. */
static int64_t last_said(struct chat *t)
{
	struct log_info info;
	int64_t found = -1;
	int code = log_info(t->c, t->r.name, &info);

	for (int64_t at = code ? -1 : info.messages - 1; at >= 0 && found < 0; at--) {
		struct sink_args *a = sink_args_new();
		struct sink_reply *r;
		const char *role;

		sink_args_str(a, "conversation", t->r.name);
		sink_args_int(a, "from", at);
		sink_args_int(a, "count", 1);
		r = verb_call(t->c, "log", a, &code);
		role = r ? sink_str(r, "messages.0.role", NULL) : NULL;
		if (role && strcmp(role, "user") == 0)
			found = at;
		if (!role)
			at = 0;
		sink_reply_free(r);
	}
	return found;
}

static void do_rewind(struct chat *t, const char *rest)
{
	long long message;
	char more;

	if (!*rest)
		message = last_said(t);
	else if (sscanf(rest, "%lld %c", &message, &more) != 1 || message < 0)
		message = -2;
	if (message == -2)
		term_note("[say from which message on: /rewind MESSAGE; /log shows the numbers]\n");
	else if (message == -1)
		term_note("[nothing has been said here yet]\n");
	else
		change_rewind_to(t->c, t->r.name, message);
}

static void do_raw(struct chat *t, const char *rest)
{
	(void)t;
	(void)rest;
	if (term_markdown_set(term_markdown()))
		term_note("[answers are styled]\n");
	else
		term_note("[answers are shown as they are]\n");
}

static void do_pin(struct chat *t, const char *rest)
{
	if (*rest && strcmp(rest, "off") != 0)
		term_note("[/pin keeps this conversation in memory, /pin off no longer]\n");
	else
		change_pin_one(t->c, t->r.name, !*rest);
}

static void do_grep(struct chat *t, const char *rest)
{
	if (*rest)
		grep_text(t->c, t->r.name, rest, 0);
	else
		term_note("[say what to look for: /grep TEXT]\n");
}

static void do_export(struct chat *t, const char *rest)
{
	if (!*rest)
		term_note("[say which file to write: /export FILE; JSON when it ends in .json, else Markdown]\n");
	else if (!bundle_export_to(t->c, t->r.name, rest))
		term_note("[%s is written to %s]\n", t->r.name, rest);
}

/* Copies to a name. False when that is taken; any other failure is said, and counts as done. */
static bool fork_to(struct chat *t, const char *name, int64_t message, bool must)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	bool taken;

	sink_args_str(a, "conversation", t->r.name);
	sink_args_str(a, "to", name);
	if (message >= 0)
		sink_args_int(a, "message", message);
	r = sink_call(t->c->sink, "fork", a, 30000);
	taken = !r && strcmp(sink_error_name(sink_error(t->c->sink)), "eexist") == 0;
	if (r)
		go_to(t, name);
	else if (must || !taken)
		fail_sink(t->c->sink);
	sink_reply_free(r);
	return must || !taken;
}

static void do_fork(struct chat *t, const char *rest)
{
	char name[TARGET_SIZE];
	int64_t message;
	bool done = false;

	if (target_split(rest, name, &message))
		return;
	if (*name) {
		fork_to(t, name, message, true);
		return;
	}
	for (int i = 2; i < COPIES && !done; i++) {
		char copy[TARGET_SIZE + 16];

		snprintf(copy, sizeof(copy), "%s-%d", t->r.name, i);
		done = fork_to(t, copy, message, i == COPIES - 1);
	}
}

static const struct slash rows[] = {
	{ "help", "", "this list", do_help, WORDS_NONE },
	{ "new", "[NAME]", "begin another conversation and go there", do_new, WORDS_NONE },
	{ "system", "TEXT", "begin another one with this system prompt, and go there", do_system, WORDS_NONE },
	{ "switch", "NAME", "go to another conversation", do_switch, WORDS_NAMES },
	{ "fork", "[NAME][@MESSAGE]", "copy this one (the messages before MESSAGE) and go there", do_fork, WORDS_NONE },
	{ "edit", "[TEXT]", "write a message in $EDITOR; Ctrl-X Ctrl-E does it to the line", compose_edit, WORDS_NONE },
	{ "file", "PATH", "send a file's text with the next message; alone: forget them", compose_file, WORDS_FILES },
	{ "set", "[KEY VALUE]", "how answers are made here; none for VALUE or alone: as before", compose_set,
	  WORDS_SETTINGS },
	{ "regen", "", "make the last answer anew", do_regen, WORDS_NONE },
	{ "continue", "", "go on where the last answer ended", do_continue, WORDS_NONE },
	{ "rewind", "[MESSAGE]", "forget from this number on; alone: the last question and answer", do_rewind,
	  WORDS_NONE },
	{ "grep", "TEXT", "find messages of this conversation that hold a text", do_grep, WORDS_NONE },
	{ "save", "FILE", "write this conversation to a file", do_export, WORDS_FILES },
	{ "export", "FILE", "the same", do_export, WORDS_FILES },
	{ "pin", "[off]", "let this conversation be the last to leave memory", do_pin, WORDS_NONE },
	{ "stop", "", "stop the answer; Ctrl-C does the same", do_stop, WORDS_NONE },
	{ "log", "[N]", "the last N messages", do_log, WORDS_NONE },
	{ "raw", "", "show Markdown as it is, or styled again", do_raw, WORDS_NONE },
	{ "show", "", "this conversation's figures", do_show, WORDS_NONE },
	{ "ls", "", "the conversations", do_ls, WORDS_NONE },
	{ "stat", "", "the daemon's figures", do_stat, WORDS_NONE },
	{ "detach", "", "leave; the conversation is kept; Ctrl-D does the same", do_detach, WORDS_NONE },
	{ "quit", "", "the same", do_detach, WORDS_NONE },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static void do_help(struct chat *t, const char *rest)
{
	(void)t;
	(void)rest;
	for (size_t i = 0; i < ROWS; i++) {
		char left[40];

		snprintf(left, sizeof(left), "/%s %s", rows[i].name, rows[i].args);
		printf("  %-22s %s\n", left, rows[i].help);
	}
	printf("  A line that ends in \\ goes on, and so does what stands between two lines of \"\"\".\n"
	       "  Alt-Enter begins a new line; // at the beginning sends a slash; Tab completes commands.\n");
	fflush(stdout);
}

static void unknown(const char *name, size_t len)
{
	const char *names[ROWS], *near;

	for (size_t i = 0; i < ROWS; i++)
		names[i] = rows[i].name;
	near = nearest(name, len, names, ROWS);
	if (near)
		term_note("[there is no /%.*s; did you mean /%s?]\n", (int)len, name, near);
	else
		term_note("[there is no /%.*s; /help lists them, // at the beginning sends a slash]\n", (int)len, name);
}

void slash_run(struct chat *t, const char *line)
{
	size_t len = strcspn(line + 1, " \t\n"), end = strlen(line);
	struct buf rest = { 0 };
	const struct slash *row = NULL;

	while (end > len + 1 && strchr(" \t\n", line[end - 1])) /* Tab leaves a blank behind a name */
		end--;
	line++;
	end--;
	buf_add(&rest, line, end);
	buf_drop(&rest, len + strspn(buf_text(&rest) + len, " \t\n"));
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, line, len) == 0)
			row = &rows[i];
	if (row)
		row->run(t, buf_text(&rest));
	else
		unknown(line, len);
	buf_release(&rest);
}

/* ---- Tab ---- */

static void offer(struct buf *found, const char *word, const char *typed)
{
	if (strncmp(word, typed, strlen(typed)) == 0)
		buf_addf(found, "%s\n", word);
}

static void offer_names(struct chat *t, const char *typed, struct buf *found)
{
	struct sink_reply *r = sink_connected(t->c->sink) ? sink_call(t->c->sink, "list", NULL, WORDS_MS) : NULL;
	size_t count = r ? sink_count(r, "conversations") : 0;

	for (size_t i = 0; i < count; i++) {
		char path[64];
		const char *name;

		snprintf(path, sizeof(path), "conversations.%zu.name", i);
		name = sink_str(r, path, NULL);
		if (name)
			offer(found, name, typed);
	}
	sink_reply_free(r);
}

static void offer_files(const char *typed, struct buf *found)
{
	struct buf path = { 0 }, pattern = { 0 };
	glob_t g = { 0 };

	compose_path(typed, &path);
	for (const char *at = buf_text(&path); *at; at++)
		buf_addf(&pattern, "%s%c", strchr("*?[]\\", *at) ? "\\" : "", *at);
	buf_adds(&pattern, "*");
	if (glob(buf_text(&pattern), GLOB_MARK, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			if (!strchr(g.gl_pathv[i], '\n'))
				buf_addf(found, "%s%s\n", typed, g.gl_pathv[i] + path.size);
	globfree(&g);
	buf_release(&path);
	buf_release(&pattern);
}

static void offer_settings(const char *typed, struct buf *found)
{
	for (enum option i = 0; i < OPTION_COUNT; i++)
		if (option_rows[i].key)
			offer(found, option_rows[i].name, typed);
}

static void offer_rest(struct chat *t, enum words words, const char *typed, struct buf *found)
{
	if (words == WORDS_NAMES)
		offer_names(t, typed, found);
	else if (words == WORDS_FILES)
		offer_files(typed, found);
	else if (words == WORDS_SETTINGS)
		offer_settings(typed, found);
}

bool slash_words(void *arg, const char *line, size_t *from, struct buf *found)
{
	struct chat *t = arg;
	size_t len = strcspn(line, " \t\n");

	if (line[0] != '/' || line[1] == '/')
		return false;
	if (!line[len]) {
		*from = 1;
		for (size_t i = 0; i < ROWS; i++)
			offer(found, rows[i].name, line + 1);
		return true;
	}
	*from = len + strspn(line + len, " \t");
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == len - 1 && memcmp(rows[i].name, line + 1, len - 1) == 0)
			offer_rest(t, rows[i].words, line + *from, found);
	return true;
}
