/* From a history to a conversation. */
#include "http_say.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t http_say_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

/* The chain that is forked stays until that is done. */
static void release_source(struct http_say *s)
{
	struct http_chain *c = *s->source ? http_match_named(&s->answer.http->match, s->source) : NULL;

	if (c && c->held)
		c->held--;
	*s->source = '\0';
}

void http_say_free(struct http_say *s)
{
	http_ask_forget(s->answer.http, s);
	http_ask_forget(s->answer.http, &s->reading);
	release_source(s);
	http_answer_release(&s->answer);
	http_match_release(&s->match);
	http_plan_release(&s->plan);
	json_decref(s->logprobs);
	http_response_free(s->response);
	free(s->want);
	free(s);
}

static void gone(void *owner)
{
	struct http_say *s = owner;

	if (!s->decided || http_answer_leave(&s->answer))
		http_say_free(s);
}

/* What a client may call its conversation by, the most definite first. */
static int find_name(struct http_say *s, struct http_error *e)
{
	static const char *const headers[] = { "X-OpenWebUI-Chat-Id", "X-Session-Id", "X-Thread-Id" };
	const struct http_request *q = s->answer.request;
	const char *name = http_request_header(q, "X-Conversation-Id");

	name = name && *name ? name : s->plan.conversation;
	if (name) {
		if (strlen(name) >= sizeof(s->named))
			return http_error_set(e, 400, "invalid_value", "conversation",
					      "The name of a conversation has at most %d bytes.", HTTP_NAME_MOST - 1);
		s->explicit = true;
		memcpy(s->named, name, strlen(name) + 1);
		return 0;
	}
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		name = http_request_header(q, headers[i]);
		if (name && http_id_name(name, s->named))
			return 0;
	}
	if (s->plan.hint)
		http_id_name(s->plan.hint, s->named);
	return 0;
}

static int number_messages(struct http_say *s, struct http_error *e)
{
	const struct http_plan *p = &s->plan;
	struct http_hash h = s->root = http_match_root(p->system.at, p->system.len);

	s->want = calloc(p->count, sizeof(*s->want));
	if (!s->want)
		return http_error_set(e, 500, NULL, NULL, "There is no memory for the request.");
	for (size_t i = 0; i < p->count; i++) {
		const struct http_message *m = &p->message[i];

		h = s->want[i] = http_match_next(h, m->role, m->text.at, m->text.len);
	}
	return 0;
}

struct http_say *http_say_new(struct http_request *q, const struct http_form *form,
			      int (*parse)(const char *body, size_t size, struct http_plan *p, struct http_error *e))
{
	struct http_say *s = calloc(1, sizeof(*s));
	struct http_error e = { 0 };

	if (!s) {
		http_request_answer(q, 500, NULL);
		return NULL;
	}
	http_answer_init(&s->answer, q, form, "");
	http_match_init(&s->match);
	s->created = http_say_time();
	if (parse(buf_text(&q->body), q->body.size, &s->plan, &e) || find_name(s, &e) || number_messages(s, &e)) {
		http_request_fail(q, &e);
		http_say_free(s);
		return NULL;
	}
	buf_release(&q->body);
	q->owner = s;
	q->gone = gone;
	return s;
}

/* ---- saying ---- */

static struct sink_args *message_args(const struct http_say *s, size_t i)
{
	const struct http_message *m = &s->plan.message[i];
	struct sink_args *a = sink_args_new();

	if (a) {
		sink_args_str(a, "role", m->role);
		sink_args_strn(a, "text", m->text.at, m->text.len);
	}
	return a;
}

/* Says the messages from `first` on. */
static void say_from(struct http_say *s, size_t first)
{
	struct http_answer *a = &s->answer;

	for (size_t i = first; i < s->plan.count; i++) {
		struct sink_args *args = message_args(s, i);

		if (a->chain)
			http_match_push(a->chain, s->follows ? (struct http_hash){ 0 } : s->want[i]);
		if (i + 1 == s->plan.count) {
			http_answer_ask_last(a, "say", args, &s->plan);
			return;
		}
		if (args) {
			sink_args_str(args, "conversation", a->name);
			sink_args_bool(args, "answer", false);
		}
		http_answer_ask(a, "say", args, 0);
	}
}

static void set_name(struct http_say *s, const char *name)
{
	snprintf(s->answer.name, sizeof(s->answer.name), "%s", name);
}

/* The answer writes into this chain, of which it knows so much. */
static void set_chain(struct http_say *s, struct http_chain *c, size_t known)
{
	s->answer.chain = c;
	s->answer.known = known;
	if (c)
		c->busy = true;
}

static void make(struct http_say *s, int bear)
{
	struct sink_args *args = http_ask_args("name", s->answer.name);

	if (args && s->plan.system.at)
		sink_args_strn(args, "system", s->plan.system.at, s->plan.system.len);
	http_answer_ask(&s->answer, "new", args, bear);
}

static void say_hidden(struct http_say *s)
{
	struct http *h = s->answer.http;
	char name[HTTP_NAME_MOST];

	http_id_hidden(s->plan.system.at != NULL, name);
	set_name(s, name);
	set_chain(s, http_match_add(&h->match, name, s->root, NULL, 0), 0);
	make(s, 0);
	say_from(s, 0);
}

static void say_system(struct http_say *s)
{
	struct sink_args *args = http_ask_args("role", "system");

	if (args) {
		sink_args_str(args, "conversation", s->answer.name);
		sink_args_strn(args, "text", s->plan.system.at, s->plan.system.len);
		sink_args_bool(args, "answer", false);
	}
	http_answer_ask(&s->answer, "say", args, 0);
}

static void forked(struct http_answer *a)
{
	struct http_say *s = (struct http_say *)a;

	release_source(s);
	if (s->other_system)
		say_system(s);
	say_from(s, s->known);
}

/*
 * Forks a conversation before the message of this number, under a name of the client's or one of ours, and says there
 * what is behind the `known` messages.
 */
static void fork_at(struct http_say *s, struct http_chain *from, int64_t message, size_t known)
{
	struct http *h = s->answer.http;
	struct sink_args *args = http_ask_args("conversation", from->name);
	const bool to_named = *s->named && s->answer.goes_on;
	char name[HTTP_NAME_MOST];

	from->held++;
	s->known = known;
	snprintf(s->source, sizeof(s->source), "%s", from->name);
	if (to_named)
		snprintf(name, sizeof(name), "%s", s->named);
	else
		http_id_hidden(s->plan.system.at != NULL, name);
	set_name(s, name);
	if (!to_named)
		set_chain(s, http_match_add(&h->match, name, from->root, from, known), known);
	if (args) {
		sink_args_str(args, "to", name);
		sink_args_int(args, "message", message);
	}
	s->answer.reused = true;
	http_answer_ask_then(&s->answer, "fork", args, forked);
}

static void say_in(struct http_say *s, struct http_chain *c, size_t known)
{
	set_name(s, c->name);
	set_chain(s, c, known);
	http_match_use(&s->answer.http->match, c);
	s->answer.reused = true;
	say_from(s, known);
}

/* ---- choosing ---- */

/* The best of the gateway's own. */
static void choose_own(struct http_say *s)
{
	struct http *h = s->answer.http;
	size_t known = 0;
	struct http_chain *c = http_match_best(&h->match, s->root, s->want, s->plan.count - 1, &known);

	if (c && known == c->count && !c->busy && c->first >= 0 && known) {
		say_in(s, c, known);
		return;
	}
	if (c && c->first + (int64_t)known > 0 && c->first >= 0) {
		http_match_use(&h->match, c);
		fork_at(s, c, c->first + (int64_t)known, known);
		return;
	}
	if (*s->named && s->answer.goes_on) { /* a name that is new */
		set_name(s, s->named);
		make(s, SINK_EEXIST);
		say_from(s, 0);
		return;
	}
	say_hidden(s);
}

/* The conversation that the client names has been read, or is none yet. */
static void choose_named(struct http_say *s, bool exists)
{
	struct http *h = s->answer.http;
	size_t known = 0, own = 0;
	struct http_chain *c = http_match_best(&s->match, s->root, s->want, s->plan.count - 1, &known);

	http_match_best(&h->match, s->root, s->want, s->plan.count - 1, &own);
	if (!exists) {
		s->answer.goes_on = true;
		choose_own(s);
	} else if (c && known == c->count && known >= own) {
		s->answer.goes_on = true;
		set_name(s, s->named);
		say_from(s, known);
	} else if (c && known > own) { /* its history is another one from there on */
		fork_at(s, c, c->first + (int64_t)known, known);
	} else {
		choose_own(s);
	}
}

static void named_read(void *owner, int code, const char *text)
{
	struct http_say *s = owner;
	struct http_error e;

	if (code && code != SINK_ENOENT) {
		http_error_sink(&e, code, text);
		s->answer.form->ended(&s->answer, &e);
		return;
	}
	/* One that has another system prompt than the client says has nothing in common with its history. */
	if (!code && s->plan.system.at && s->reading.chain &&
	    memcmp(&s->reading.system, &s->root, sizeof(s->root)) != 0)
		s->reading.chain->root = (struct http_hash){ 0 };
	s->decided = true;
	choose_named(s, !code);
}

static void read_named(struct http_say *s)
{
	s->reading = (struct http_reading){ .http = s->answer.http,
					    .into = &s->match,
					    .seed = s->root,
					    .seeded = true,
					    .done = named_read,
					    .owner = s };
	snprintf(s->reading.name, sizeof(s->reading.name), "%s", s->named);
	http_store_read(&s->reading);
}

/* A client that keeps no history: what it sends is new. */
static bool says_only(const struct http_plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (strcmp(p->message[i].role, "assistant") == 0)
			return false;
	return true;
}

static void say_named(struct http_say *s)
{
	s->decided = true;
	s->answer.goes_on = true;
	set_name(s, s->named);
	make(s, SINK_EEXIST);
	say_from(s, 0);
}

/* ---- behind another response ---- */

static void say_after(struct http_say *s, bool last)
{
	struct http *h = s->answer.http;
	struct http_chain *c = http_match_named(&h->match, s->after.name), alone = { .first = 0 };

	s->decided = true;
	if (last && !(c && c->busy)) {
		set_name(s, s->after.name);
		if (c)
			set_chain(s, c, c->count);
		s->answer.goes_on = !http_id_is_hidden(s->after.name);
		if (s->other_system)
			say_system(s);
		say_from(s, 0);
	} else {
		snprintf(alone.name, sizeof(alone.name), "%s", s->after.name);
		fork_at(s, &alone, s->after.message + 1, 0);
	}
}

static void fail_after(struct http_say *s, int code, const char *text)
{
	struct http_error e;

	http_error_sink(&e, code, text);
	if (code == SINK_ENOENT)
		http_error_set(&e, 404, "not_found", "previous_response_id", "There is no such response any more.");
	s->answer.form->ended(&s->answer, &e);
}

static void after_system(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_say *s = owner;
	const char *role = code ? NULL : sink_str(r, "messages.0.role", NULL), *said;
	size_t len = 0;

	if (code) {
		fail_after(s, code, text);
		return;
	}
	said = sink_str(r, "messages.0.text", &len);
	s->other_system =
		s->plan.system.at && !(role && strcmp(role, "system") == 0 && said && len == s->plan.system.len &&
				       memcmp(said, s->plan.system.at, len) == 0);
	say_after(s, s->messages == s->after.message + 1);
}

static void after_shown(void *owner, const struct sink_reply *r, int code, const char *text)
{
	struct http_say *s = owner;
	struct sink_args *a;

	if (code) {
		fail_after(s, code, text);
		return;
	}
	s->messages = sink_int(r, "conversation.messages", 0);
	if (s->messages <= s->after.message) {
		fail_after(s, SINK_ENOENT, NULL);
		return;
	}
	a = http_ask_args("conversation", s->after.name);
	if (a)
		sink_args_int(a, "count", 1);
	http_ask(s->answer.http, "log", a, after_system, s);
}

void http_say_start(struct http_say *s)
{
	if (s->follows) {
		http_ask(s->answer.http, "show", http_ask_args("conversation", s->after.name), after_shown, s);
	} else if (*s->named && s->explicit && says_only(&s->plan)) {
		say_named(s);
	} else if (*s->named) {
		read_named(s);
	} else {
		s->decided = true;
		choose_own(s);
	}
}

bool http_say_again(struct http_say *s, const struct http_error *e)
{
	struct http *h = s->answer.http;
	struct http_request *q = s->answer.request;
	const struct http_form *form = s->answer.form;
	struct http_chain *c;

	if (!e || e->status != 404 || !s->answer.reused || s->retried || !q || s->follows || s->answer.last)
		return false;
	c = http_match_named(&h->match, s->source);
	release_source(s);
	if (c && !c->busy && !c->held)
		http_match_drop(&h->match, c);
	http_answer_release(&s->answer);
	http_answer_init(&s->answer, q, form, "");
	http_match_release(&s->match);
	http_match_init(&s->match);
	s->retried = true;
	http_say_start(s);
	return true;
}
