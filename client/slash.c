/* The slash commands of the chat: a table, and one small function each. They say what they did on the terminal. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "chat.h"
#include "log.h"
#include "nearest.h"
#include "term.h"

struct slash {
	const char *name, *args, *help;
	void (*run)(struct chat *t, const char *rest);
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

static void do_new(struct chat *t, const char *rest)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	const char *name;
	int code;

	if (*rest)
		sink_args_str(a, "name", rest);
	r = verb_call(t->c, "new", a, &code);
	name = r ? sink_str(r, "conversation.name", NULL) : NULL;
	if (name)
		go_to(t, name);
	sink_reply_free(r);
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

static void do_rewind(struct chat *t, const char *rest)
{
	long long message;

	if (sscanf(rest, "%lld", &message) != 1)
		term_note("[say from which message on: /rewind MESSAGE; /log shows the numbers]\n");
	else
		change_rewind_to(t->c, t->r.name, message);
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

static void do_fork(struct chat *t, const char *rest)
{
	struct sink_args *a;
	struct sink_reply *r;
	int code;

	if (!*rest) {
		term_note("[say how the copy is called: /fork NAME]\n");
		return;
	}
	a = sink_args_new();
	sink_args_str(a, "conversation", t->r.name);
	sink_args_str(a, "to", rest);
	r = verb_call(t->c, "fork", a, &code);
	if (r)
		go_to(t, rest);
	sink_reply_free(r);
}

static const struct slash rows[] = {
	{ "help", "", "this list", do_help },
	{ "new", "[NAME]", "begin another conversation and go there", do_new },
	{ "switch", "NAME", "go to another conversation", do_switch },
	{ "fork", "NAME", "copy this conversation and go to the copy", do_fork },
	{ "regen", "", "make the last answer anew", do_regen },
	{ "rewind", "MESSAGE", "forget the messages from this number on", do_rewind },
	{ "grep", "TEXT", "find messages of this conversation that hold a text", do_grep },
	{ "export", "FILE", "write this conversation to a file", do_export },
	{ "pin", "[off]", "let this conversation be the last to leave memory", do_pin },
	{ "stop", "", "stop the answer; Ctrl-C does the same", do_stop },
	{ "log", "[N]", "the last N messages", do_log },
	{ "show", "", "this conversation's figures", do_show },
	{ "ls", "", "the conversations", do_ls },
	{ "stat", "", "the daemon's figures", do_stat },
	{ "detach", "", "leave; the conversation is kept; Ctrl-D does the same", do_detach },
	{ "quit", "", "the same", do_detach },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static void do_help(struct chat *t, const char *rest)
{
	(void)t;
	(void)rest;
	for (size_t i = 0; i < ROWS; i++) {
		char left[40];

		snprintf(left, sizeof(left), "/%s %s", rows[i].name, rows[i].args);
		printf("  %-20s %s\n", left, rows[i].help);
	}
	printf("  A line that ends in \\ goes on, and so does what stands between two lines of \"\"\".\n"
	       "  Alt-Enter begins a new line; // at the beginning sends a slash.\n");
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
	size_t len = strcspn(line + 1, " \t\n");
	const char *rest = line + 1 + len;

	rest += strspn(rest, " \t\n");
	for (size_t i = 0; i < ROWS; i++) {
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, line + 1, len) == 0) {
			rows[i].run(t, rest);
			return;
		}
	}
	unknown(line + 1, len);
}
