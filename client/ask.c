/*
 * One question from a shell or a script, and the answer made anew. Text alone goes to standard output; a disconnect is
 * no stop, so a closed pipe or a killed client leaves a named conversation answering. Only Ctrl-C and --timeout stop
 * it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "follow.h"
#include "input.h"
#include "render.h"
#include "target.h"
#include "term.h"
#include "verb.h"

enum {
	REQUEST_ROOM = 16384, /* of a message for all that is not the prompt */
	STOP_SECONDS = 5,     /* how long the end of a stopped answer is waited for */
};

struct ask {
	struct cli *c;
	const char *op;
	char name[TARGET_SIZE];
	struct buf schema; /* what the answer must be */
	bool invented;	   /* the daemon chose the name */
	bool temporary;	   /* removed at the end */
};

/* The words, the files, standard input; each of them may be absent, not all. */
static int read_prompt(struct cli *c, struct buf *prompt)
{
	const struct option_value *files = &c->o.v[OPTION_FILE];
	bool alone = c->o.count == 1 && strcmp(c->o.args[0], "-") == 0, from_stdin = alone || !term_is(STDIN_FILENO);
	int code = 0;

	buf_adds(prompt, buf_text(&c->prefix));
	for (size_t i = 0; i < c->o.count && !alone; i++)
		buf_addf(prompt, "%s%s", i ? " " : prompt->size ? "\n\n" : "", c->o.args[i]);
	for (size_t i = 0; i < files->count && !code; i++) {
		from_stdin &= strcmp(files->list[i], "-") != 0;
		code = input_file(prompt, files->list[i]);
	}
	if (from_stdin && !code)
		code = input_file(prompt, "-");
	if (code)
		return code;
	if (prompt->failed)
		return fail(FAIL_FAILED, "There is not enough memory.");
	if (!prompt->size)
		return fail(FAIL_USAGE, "There is nothing to ask. Try: sink ask 'Name three rivers.'");
	return 0;
}

static int check_prompt(struct cli *c, const struct buf *prompt)
{
	int64_t most = sink_int(sink_hello(c->sink), "limits.message_bytes", 4 << 20);

	if (buf_utf8(buf_text(prompt), prompt->size) < prompt->size)
		term_note("sink: the prompt has bytes that are no UTF-8; they are replaced\n");
	if ((int64_t)prompt->size + REQUEST_ROOM > most)
		return fail(FAIL_USAGE, "The prompt has %zu bytes; the daemon takes messages of at most %lld.",
			    prompt->size, (long long)most);
	return 0;
}

/* Makes the conversation `name` (NULL: the daemon invents one). *exists: it was there before, which is no failure. */
static int make(struct ask *k, const char *name, bool *exists)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	const char *made;
	int code = input_making(k->c, a);

	if (code) {
		sink_args_free(a);
		return code;
	}
	if (name)
		sink_args_str(a, "name", name);
	if (k->c->o.v[OPTION_TEMPLATE].given)
		option_sampling(&k->c->o, buf_text(&k->schema), k->schema.size, a);
	r = sink_call(k->c->sink, "new", a, 30000);
	*exists = !r && strcmp(sink_error_name(sink_error(k->c->sink)), "eexist") == 0;
	if (!r)
		return *exists && name ? 0 : fail_sink(k->c->sink);
	verb_note(r);
	made = sink_str(r, "conversation.name", NULL);
	snprintf(k->name, sizeof(k->name), "%s", made ? made : "");
	sink_reply_free(r);
	return 0;
}

/* Which conversation is asked, and made before when it must be. */
static int choose(struct ask *k)
{
	const struct option_value *v = k->c->o.v;
	const char *word = v[OPTION_CONVERSATION].text;
	bool exists = false;
	int code;

	if (v[OPTION_TEMPORARY].given && (word || v[OPTION_DETACH].given))
		return fail(FAIL_USAGE, "Option --temp goes neither with -c nor with -d.");
	if (!word && !v[OPTION_TEMPORARY].given && (word = getenv("SINK_CONVERSATION")) && !*word)
		word = NULL;
	if (!word) {
		k->invented = true;
		k->temporary = !v[OPTION_DETACH].given;
		return make(k, NULL, &exists);
	}
	code = target_or_new(k->c, word, k->name);
	if (code ||
	    !(v[OPTION_TEMPLATE].given || v[OPTION_SYSTEM].given || v[OPTION_POLICY].given || v[OPTION_MARKS].given))
		return code;
	code = make(k, k->name, &exists);
	if (exists && !v[OPTION_TEMPLATE].given)
		term_note("sink: %s exists; its system prompt and policy stay as they were made\n", k->name);
	return code;
}

static void remove_temporary(struct ask *k)
{
	struct sink_args *a;

	if (!k->temporary || !sink_connected(k->c->sink))
		return;
	a = sink_args_new();
	sink_args_str(a, "conversation", k->name);
	sink_reply_free(sink_call(k->c->sink, "remove", a, 5000));
}

static void stop(struct ask *k)
{
	struct sink_args *a = sink_args_new();

	sink_args_str(a, "conversation", k->name);
	sink_reply_free(sink_call(k->c->sink, "stop", a, 5000));
}

/* Stops the answer and lets what was written of it arrive. Another signal ends the wait. */
static int stop_and_drain(struct ask *k, struct render *r, int code)
{
	struct follow f;
	struct sink_reply *ev;
	enum render_end end = RENDER_MORE;
	int sig;

	stop(k);
	follow_open(&f, k->c->sink, k->c->endpoint, STOP_SECONDS);
	while (end == RENDER_MORE && follow_next(&f, -1, &ev, &sig) == FOLLOW_EVENT) {
		end = render_event(r, ev);
		sink_reply_free(ev);
	}
	follow_close(&f);
	render_newline(r);
	return code;
}

static int one_event(struct render *r, struct sink_reply *ev, bool strict, bool *over)
{
	enum render_end end = render_event(r, ev);
	int code = 0;

	*over = end == RENDER_DONE || end == RENDER_GONE || term_broken();
	if (end == RENDER_DONE)
		code = render_code(r, strict);
	if (end == RENDER_GONE)
		code = fail(FAIL_ABSENT, "%s was removed while it was answering.", r->name);
	sink_reply_free(ev);
	return code;
}

/* Shows the answer until its end. */
static int show_answer(struct ask *k, const char *policy)
{
	const struct option_value *v = k->c->o.v;
	struct render r;
	struct follow f;
	struct sink_reply *ev;
	bool over = false;
	int code = 0, sig = 0;

	render_init(&r, v[OPTION_JSON].given ? RENDER_JSON : RENDER_TEXT, k->name, policy);
	follow_open(&f, k->c->sink, k->c->endpoint, v[OPTION_TIMEOUT].real);
	while (!over) {
		switch (follow_next(&f, -1, &ev, &sig)) {
		case FOLLOW_EVENT:
			code = one_event(&r, ev, v[OPTION_STRICT].given, &over);
			break;
		case FOLLOW_SIGNAL:
			if (sig == SIGWINCH)
				break;
			over = true;
			code = sig == SIGINT ? stop_and_drain(k, &r, FAIL_INTERRUPTED) : 128 + sig;
			break;
		case FOLLOW_TIMEOUT:
			over = true;
			stop_and_drain(k, &r, 0);
			code = fail(FAIL_TIMEOUT, "The time is over; the answer was stopped.");
			break;
		case FOLLOW_LOST:
			over = true;
			render_newline(&r);
			code = follow_lost(&f);
			break;
		case FOLLOW_AWAY:
			render_away(&r);
			break;
		case FOLLOW_INPUT:
			break;
		}
	}
	follow_close(&f);
	return code;
}

/* Sends the request and shows what comes of it. */
static int answer(struct ask *k, struct sink_args *a)
{
	const struct option_value *v = k->c->o.v;
	struct sink_reply *r;
	char policy[64];
	const char *text;
	int code;

	sink_args_str(a, "conversation", k->name);
	option_sampling(&k->c->o, buf_text(&k->schema), k->schema.size, a);
	if (!v[OPTION_DETACH].given)
		sink_args_bool(a, "attach", true);
	r = verb_call(k->c, k->op, a, &code);
	if (!r)
		return code;
	text = sink_str(r, "conversation.policy", NULL);
	snprintf(policy, sizeof(policy), "%s", text ? text : "");
	if (v[OPTION_DETACH].given && v[OPTION_JSON].given)
		code = verb_json(r, NULL);
	sink_reply_free(r);
	return v[OPTION_DETACH].given ? code : show_answer(k, policy);
}

int ask_run(struct cli *c)
{
	struct ask k = { .c = c, .op = "say" };
	const struct option_value *v = c->o.v;
	struct buf prompt = { 0 };
	struct sink_args *a;
	int code = read_prompt(c, &prompt);

	if (!code)
		code = check_prompt(c, &prompt);
	if (!code)
		code = input_schema(&c->o, &k.schema);
	if (!code)
		code = choose(&k);
	if (code)
		goto out;
	a = sink_args_new();
	sink_args_strn(a, "text", buf_text(&prompt), prompt.size);
	sink_args_bool(a, "create", true);
	code = answer(&k, a);
	if (!code && k.invented && v[OPTION_DETACH].given && !v[OPTION_JSON].given)
		printf("%s\n", k.name);
	if (!code && v[OPTION_DETACH].given)
		term_hint("[%s answers by itself]   sink wait %s   sink log -f %s\n", k.name, k.name, k.name);
	remove_temporary(&k);
out:
	buf_release(&k.schema);
	buf_release(&prompt);
	return code;
}

int ask_regen(struct cli *c)
{
	struct ask k = { .c = c, .op = "regenerate" };
	int code = target_find(c, c->o.count ? c->o.args[0] : NULL, TARGET_NEAR, k.name);

	if (!code)
		code = input_schema(&c->o, &k.schema);
	if (!code)
		code = answer(&k, sink_args_new());
	buf_release(&k.schema);
	return code;
}
