/* The verbs that change a conversation or the daemon, and `wait`, which waits for such a change to be over. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "follow.h"
#include "input.h"
#include "json.h"
#include "log.h"
#include "render.h"
#include "spawn.h"
#include "target.h"
#include "term.h"

enum { END_MS = 30000 }; /* how long a daemon that was told to end may take */

static struct sink_args *about(const char *name)
{
	struct sink_args *a = sink_args_new();

	sink_args_str(a, "conversation", name);
	return a;
}

/* Calls a verb about one conversation; with --json its answer is printed. */
static int change(struct cli *c, const char *op, struct sink_args *a)
{
	int code;
	struct sink_reply *r = verb_call(c, op, a, &code);

	if (r && c->o.v[OPTION_JSON].given)
		code = verb_json(r, "conversation");
	sink_reply_free(r);
	return code;
}

int change_new(struct cli *c)
{
	struct sink_args *a = sink_args_new();
	struct buf schema = { 0 };
	int code = input_making(c, a);
	struct sink_reply *r;
	const char *name;

	if (!code)
		code = input_schema(&c->o, &schema);
	if (code) {
		buf_release(&schema);
		sink_args_free(a);
		return code;
	}
	if (c->o.count)
		sink_args_str(a, "name", c->o.args[0]);
	option_sampling(&c->o, buf_text(&schema), schema.size, a);
	buf_release(&schema);
	r = verb_call(c, "new", a, &code);
	if (!r)
		return code;
	name = sink_str(r, "conversation.name", NULL);
	if (c->o.v[OPTION_JSON].given)
		code = verb_json(r, "conversation");
	else if (name)
		printf("%s\n", name);
	sink_reply_free(r);
	return code;
}

int change_stop(struct cli *c)
{
	char name[TARGET_SIZE];
	int code = target_find(c, c->o.count ? c->o.args[0] : NULL, TARGET_NEAR, name);
	struct sink_reply *r = code ? NULL : verb_call(c, "stop", about(name), &code);

	if (!r)
		return code;
	if (c->o.v[OPTION_JSON].given)
		code = verb_json(r, NULL);
	else
		term_hint(sink_bool(r, "stopped", false) ? "[%s was stopped]\n" : "[%s was not answering]\n", name);
	sink_reply_free(r);
	return code;
}

/* How an answer that is over has ended: the last message says. */
static int last_finish(struct cli *c, const char *name, const struct log_info *info, bool strict)
{
	struct sink_args *a = about(name);
	struct sink_reply *r;
	const char *finish;
	int code;

	if (!info->messages) {
		sink_args_free(a);
		return 0;
	}
	sink_args_int(a, "from", info->messages - 1);
	sink_args_int(a, "count", 1);
	r = verb_call(c, "log", a, &code);
	if (!r)
		return code;
	finish = sink_str(r, "messages.0.finish", NULL);
	if (c->o.v[OPTION_JSON].given)
		code = verb_json_lines(r, "messages");
	if (!code && finish)
		code = render_finish_code(finish, strict);
	sink_reply_free(r);
	return code;
}

/* Takes one event while waiting; true when the wait is over. */
static bool wait_event(struct cli *c, const struct sink_reply *ev, const char *name, int *code)
{
	const char *kind = sink_str(ev, "ev", NULL), *finish = sink_str(ev, "finish", NULL);

	if (kind && strcmp(kind, "removed") == 0) {
		*code = fail(FAIL_ABSENT, "%s was removed.", name);
		return true;
	}
	if (kind && strcmp(kind, "error") == 0)
		fail(FAIL_FAILED, "%s: %s", name, sink_str(ev, "text", NULL));
	if (!kind || strcmp(kind, "done") != 0)
		return false;
	if (c->o.v[OPTION_JSON].given)
		verb_json(ev, NULL);
	*code = render_finish_code(finish ? finish : "", c->o.v[OPTION_STRICT].given);
	return true;
}

static int wait_done(struct cli *c, const char *name)
{
	struct follow f;
	struct sink_reply *ev;
	bool over = false;
	int code = 0, sig = 0;

	follow_open(&f, c->sink, c->endpoint, c->o.v[OPTION_TIMEOUT].real);
	while (!over) {
		switch (follow_next(&f, -1, &ev, &sig)) {
		case FOLLOW_EVENT:
			over = wait_event(c, ev, name, &code);
			sink_reply_free(ev);
			break;
		case FOLLOW_SIGNAL:
			over = sig != SIGWINCH;
			code = over ? 128 + sig : 0;
			break;
		case FOLLOW_TIMEOUT:
			over = true;
			code = fail(FAIL_TIMEOUT, "The time is over; %s goes on answering.", name);
			break;
		case FOLLOW_LOST:
			over = true;
			code = follow_lost(&f);
			break;
		case FOLLOW_AWAY:
			term_note("[the daemon does not answer; waiting for it]\n");
			break;
		case FOLLOW_INPUT:
			break;
		}
	}
	follow_close(&f);
	return code;
}

int change_wait(struct cli *c)
{
	char name[TARGET_SIZE];
	struct log_info info;
	int code = target_find(c, c->o.count ? c->o.args[0] : NULL, TARGET_NEAR, name);

	if (!code)
		code = log_info(c, name, &info);
	if (code)
		return code;
	if (!log_busy(&info))
		return last_finish(c, name, &info, c->o.v[OPTION_STRICT].given);
	if (sink_attach(c->sink, name, info.seq, 30000))
		return fail_sink(c->sink);
	return wait_done(c, name);
}

static bool agrees(size_t count, const char *first)
{
	char line[32];

	if (count == 1)
		fprintf(stderr, "Remove %s for good? [y/N] ", first);
	else
		fprintf(stderr, "Remove %zu conversations for good? [y/N] ", count);
	fflush(stderr);
	return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static int remove_one(struct cli *c, const char *word)
{
	char name[TARGET_SIZE];
	struct buf line = { 0 };
	int code = target_find(c, word, TARGET_EXACT, name);
	struct sink_reply *r = code ? NULL : verb_call(c, "remove", about(name), &code);

	if (r && c->o.v[OPTION_JSON].given) {
		buf_adds(&line, "{\"removed\":");
		json_quote(&line, name);
		buf_adds(&line, "}\n");
		term_raw(buf_text(&line), line.size);
		buf_release(&line);
	}
	sink_reply_free(r);
	return code;
}

int change_rm(struct cli *c)
{
	bool ask = !c->o.v[OPTION_FORCE].given && term_is(STDIN_FILENO) && term_is(STDERR_FILENO);
	char name[TARGET_SIZE];
	struct log_info info;
	int first = ask ? target_find(c, c->o.args[0], TARGET_EXACT, name) : 0;

	if (ask && !first)
		first = log_info(c, name, &info); /* nobody is asked about what is not there */
	if (first)
		return first;
	if (ask && !agrees(c->o.count, name))
		return fail(FAIL_FAILED, "Nothing was removed.");
	for (size_t i = 0; i < c->o.count; i++) {
		int code = remove_one(c, c->o.args[i]);

		if (code && !first)
			first = code;
	}
	return first;
}

int change_mv(struct cli *c)
{
	char from[TARGET_SIZE];
	struct sink_args *a;
	int code = target_find(c, c->o.args[0], TARGET_EXACT, from);

	if (code)
		return code;
	a = about(from);
	sink_args_str(a, "to", c->o.args[1]);
	return change(c, "rename", a);
}

int change_fork(struct cli *c)
{
	char word[TARGET_SIZE], from[TARGET_SIZE];
	struct sink_args *a;
	int64_t message;
	int code = target_split(c->o.args[0], word, &message);

	if (!code)
		code = target_find(c, word, TARGET_NEAR, from);
	if (code)
		return code;
	a = about(from);
	sink_args_str(a, "to", c->o.args[1]);
	if (message >= 0)
		sink_args_int(a, "message", message);
	return change(c, "fork", a);
}

int change_rewind_to(struct cli *c, const char *name, int64_t message)
{
	struct sink_args *a = about(name);
	struct sink_reply *r;
	const char *by;
	int code;

	sink_args_int(a, "message", message);
	r = verb_call(c, "rewind", a, &code);
	by = r ? sink_str(r, "by", NULL) : NULL;
	if (r && c->o.v[OPTION_JSON].given)
		code = verb_json(r, "conversation");
	else if (by && strcmp(by, "replay") == 0)
		term_hint("[by replay: what is left of %s is read anew]\n", name);
	sink_reply_free(r);
	return code;
}

int change_rewind(struct cli *c)
{
	char word[TARGET_SIZE], name[TARGET_SIZE];
	int64_t message;
	int code = target_split(c->o.args[0], word, &message);

	if (!code && message < 0)
		code = fail(FAIL_USAGE,
			    "Say from which message on: sink rewind %s@MESSAGE (`sink log` shows the numbers).", word);
	if (!code)
		code = target_find(c, word, TARGET_EXACT, name);
	if (code)
		return code;
	return change_rewind_to(c, name, message);
}

int change_pin_one(struct cli *c, const char *name, bool pin)
{
	struct sink_args *a = about(name);
	int code;

	sink_args_bool(a, "pin", pin);
	code = change(c, "pin", a);
	if (!code)
		term_hint(pin ? "[%s is the last to leave memory]\n" : "[%s leaves memory like others]\n", name);
	return code;
}

/* All of them are tried; the first failure is the exit code. */
static int pin_all(struct cli *c, bool pin)
{
	char name[TARGET_SIZE];
	int first = 0;

	for (size_t i = 0; i < c->o.count; i++) {
		int code = target_find(c, c->o.args[i], TARGET_NEAR, name);

		if (!code)
			code = change_pin_one(c, name, pin);
		first = first ? first : code;
	}
	return first;
}

int change_pin(struct cli *c)
{
	return pin_all(c, true);
}

int change_unpin(struct cli *c)
{
	return pin_all(c, false);
}

/* Waits for a local daemon's process to be gone, so that the next one finds its socket free. */
static int wait_end(int process)
{
	struct pollfd p = { .fd = process, .events = POLLIN };

	if (process >= 0 && poll(&p, 1, END_MS) == 0)
		return fail(FAIL_TIMEOUT, "The daemon was told to end and has not ended yet.");
	return 0;
}

int change_shutdown(struct cli *c)
{
	bool local = strncmp(c->endpoint, "ipc://", 6) == 0;
	int process = local ? spawn_watch((pid_t)sink_int(sink_hello(c->sink), "pid", 0)) : -1, code;
	struct sink_reply *r = verb_call(c, "shutdown", NULL, &code);

	if (r && c->o.v[OPTION_JSON].given)
		code = verb_json(r, NULL);
	sink_reply_free(r);
	if (!code)
		code = wait_end(process);
	if (process >= 0)
		close(process);
	return code;
}
