/*
 * POST /v1/completions and /infill: raw text that goes on. Each prompt is a conversation of a moment's life: fed,
 * made to go on, removed.
 */
#include <stdlib.h>
#include <string.h>

#include "http_api.h"
#include "http_logprob.h"
#include "http_say.h"

struct completion;

/* One of the prompts. */
struct part {
	struct http_answer answer; /* the first, so that one is the other */
	struct completion *whole;
	json_t *logprobs; /* of http_logprob_new(); NULL where none are wanted, or a stream has them */
	size_t offset;	  /* characters so far */
	bool over;
};

struct completion {
	struct http *http;
	struct http_request *request; /* NULL: the client has gone */
	struct http_plan plan;
	struct part part[HTTP_PROMPTS_MOST];
	size_t pending;
	bool failed;
	char id[64];
	int64_t created;
};

static void release(struct completion *c)
{
	for (size_t i = 0; i < c->plan.prompts; i++) {
		if (c->part[i].whole)
			http_answer_release(&c->part[i].answer);
		json_decref(c->part[i].logprobs);
	}
	http_plan_release(&c->plan);
	free(c);
}

/* ---- forms ---- */

static json_t *choice_of(size_t index, const char *text, size_t len, const char *finish, json_t *logprobs)
{
	json_t *choice =
		json_pack("{s:I, s:s%, s:s?}", "index", (json_int_t)index, "text", text, len, "finish_reason", finish);

	json_object_set_new(choice, "logprobs", logprobs ? logprobs : json_null());
	return choice;
}

static json_t *object_of(const struct completion *c, json_t *choices, json_t *usage)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", c->id, "object", "text_completion", "created",
			      (json_int_t)c->created, "model", c->http->model, "choices", choices);

	if (usage)
		json_object_set_new(o, "usage", usage);
	return o;
}

static void send(struct completion *c, const char *text, size_t len, const char *finish, json_t *logprobs)
{
	http_request_event(c->request, NULL,
			   object_of(c, json_pack("[o]", choice_of(0, text, len, finish, logprobs)),
				     c->plan.include_usage ? json_null() : NULL));
}

static void begun(struct http_answer *a)
{
	struct completion *c = ((struct part *)a)->whole;

	if (!c->plan.stream || !c->request)
		return;
	http_request_stream(c->request);
	if (c->plan.echo)
		send(c, c->plan.prompt[0].text.at, c->plan.prompt[0].text.len, NULL, NULL);
}

static void text(struct http_answer *a, const struct sink_reply *ev)
{
	struct part *p = (struct part *)a;
	struct completion *c = p->whole;
	size_t len = 0;
	const char *piece = sink_str(ev, "text", &len);
	json_t *logprobs = !c->plan.logprobs ? NULL : c->plan.stream ? http_logprob_new() : p->logprobs;

	if (logprobs)
		http_logprob_completion(logprobs, ev, c->plan.top_logprobs, &p->offset);
	if (c->plan.stream)
		send(c, piece, len, NULL, logprobs);
}

/* ---- the end ---- */

static json_t *usage_of(const struct completion *c)
{
	struct http_answer sum = { 0 };

	for (size_t i = 0; i < c->plan.prompts; i++) {
		sum.prompt += c->part[i].answer.prompt;
		sum.generated += c->part[i].answer.generated;
	}
	return http_answer_usage(&sum);
}

static json_t *whole(struct completion *c)
{
	json_t *choices = json_array();

	for (size_t i = 0; i < c->plan.prompts; i++) {
		struct part *p = &c->part[i];
		struct buf said = { 0 };

		if (c->plan.echo)
			buf_add(&said, c->plan.prompt[i].text.at, c->plan.prompt[i].text.len);
		buf_add(&said, buf_text(&p->answer.text), p->answer.text.size);
		json_array_append_new(choices, choice_of(i, buf_text(&said), said.size, http_answer_finish(&p->answer),
							 json_incref(p->logprobs)));
		buf_release(&said);
	}
	return object_of(c, choices, usage_of(c));
}

/* The form of llama-server's /infill, as far as its clients read it. */
static json_t *infilled(const struct completion *c)
{
	const struct http_answer *a = &c->part[0].answer;

	return json_pack("{s:s%, s:s, s:b, s:s, s:I, s:I, s:I}", "content", buf_text(&a->text), a->text.size, "model",
			 c->http->model, "stop", 1, "stop_type", strcmp(a->finish, "length") == 0 ? "limit" : "eos",
			 "tokens_predicted", (json_int_t)a->generated, "tokens_evaluated", (json_int_t)a->prompt,
			 "tokens_cached", (json_int_t)(a->prompt + a->generated));
}

static void end_stream(struct completion *c)
{
	send(c, "", 0, http_answer_finish(&c->part[0].answer), NULL);
	if (c->plan.include_usage)
		http_request_event(c->request, NULL, object_of(c, json_array(), usage_of(c)));
	http_request_raw(c->request, "data: [DONE]");
	http_request_end(c->request);
}

static void fail(struct completion *c, const struct http_error *e)
{
	struct http_request *q = c->request;

	c->request = NULL;
	if (!q)
		return;
	if (q->streams) {
		http_request_event(q, NULL, http_error_body(e));
		http_request_end(q);
	} else {
		http_request_fail(q, e);
	}
}

/* Nobody wants the others' answers any more: each ends in its own time. */
static void leave(struct completion *c)
{
	c->request = NULL;
	for (size_t i = 0; i < c->plan.prompts; i++)
		if (c->part[i].whole && !c->part[i].over)
			http_answer_leave(&c->part[i].answer);
}

static void gone(void *owner)
{
	leave(owner);
}

static void ended(struct http_answer *a, const struct http_error *e)
{
	struct part *p = (struct part *)a;
	struct completion *c = p->whole;

	p->over = true;
	if (e) {
		fail(c, e);
		leave(c);
	}
	if (--c->pending)
		return;
	if (c->request && c->request->streams)
		end_stream(c);
	else if (c->request)
		http_request_answer(c->request, 200, c->request->path == HTTP_INFILL ? infilled(c) : whole(c));
	release(c);
}

/* ---- what is asked ---- */

static struct sink_args *feed_args(const struct part *p)
{
	return http_ask_args("conversation", p->answer.name);
}

static void feed_text(struct part *p, struct http_text text)
{
	struct sink_args *a = text.len ? feed_args(p) : NULL;

	if (!a)
		return;
	sink_args_strn(a, "text", text.at, text.len);
	http_answer_ask(&p->answer, "feed", a, 0);
}

static void feed_tokens(struct part *p, const json_t *tokens)
{
	struct sink_args *a = feed_args(p);
	const json_t *v;
	size_t i;

	if (a) {
		sink_args_array(a, "tokens");
		json_array_foreach(tokens, i, v) sink_args_int(a, NULL, json_integer_value(v));
		sink_args_end(a);
	}
	http_answer_ask(&p->answer, "feed", a, 0);
}

static void feed_token(struct part *p, int64_t id)
{
	json_t *one = json_pack("[I]", (json_int_t)id);

	feed_tokens(p, one);
	json_decref(one);
}

static int64_t mark_of(const struct http *h, const char *path)
{
	return h->sink ? sink_int(sink_hello(h->sink), path, -1) : -1;
}

/* The marks of a model that was trained to fill in: what is before, what is behind, what comes between. */
static void feed(struct completion *c, struct part *p, const struct http_prompt *prompt)
{
	int64_t bos = mark_of(c->http, "model.bos");

	if (bos >= 0 && !prompt->tokens)
		feed_token(p, bos);
	if (c->plan.suffix.at)
		feed_token(p, mark_of(c->http, "model.fim.prefix"));
	if (prompt->tokens)
		feed_tokens(p, prompt->tokens);
	else
		feed_text(p, prompt->text);
	if (!c->plan.suffix.at)
		return;
	feed_token(p, mark_of(c->http, "model.fim.suffix"));
	feed_text(p, c->plan.suffix);
	feed_token(p, mark_of(c->http, "model.fim.middle"));
}

static void start(struct completion *c, struct part *p, const struct http_prompt *prompt)
{
	static const struct http_form form = { begun, text, ended };
	char name[HTTP_NAME_MOST];
	struct sink_args *a;

	http_id_hidden(false, name);
	http_answer_init(&p->answer, c->request, &form, name);
	p->answer.temporary = true;
	p->whole = c;
	p->logprobs = c->plan.logprobs && !c->plan.stream ? http_logprob_new() : NULL;
	a = http_ask_args("name", name);
	if (a)
		sink_args_str(a, "system", "");
	http_answer_ask(&p->answer, "new", a, 0);
	feed(c, p, prompt);
	http_answer_ask_last(&p->answer, "generate", sink_args_new(), &c->plan);
}

static int check(const struct http_request *q, const struct completion *c, struct http_error *e)
{
	if (!c->plan.suffix.at)
		return 0;
	if (!http_daemon_connected(q->http))
		return http_error_set(e, 503, "econn", NULL, "The daemon does not answer.");
	if (mark_of(q->http, "model.fim.middle") >= 0)
		return 0;
	return http_error_set(e, 501, "fim_unsupported", "suffix",
			      "The model has no tokens for text that is to be filled in, so there can be no suffix.");
}

void http_complete_post(struct http_request *q)
{
	struct completion *c = calloc(1, sizeof(*c));
	int (*parse)(const char *, size_t, struct http_plan *, struct http_error *) =
		q->path == HTTP_INFILL ? http_plan_infill : http_plan_completion;
	struct http_error e;

	if (!c) {
		http_request_answer(q, 500, NULL);
		return;
	}
	c->http = q->http;
	c->request = q;
	c->created = http_say_time();
	http_id_random("cmpl-", c->id, sizeof(c->id));
	if (parse(buf_text(&q->body), q->body.size, &c->plan, &e) || check(q, c, &e)) {
		http_request_fail(q, &e);
		release(c);
		return;
	}
	buf_release(&q->body);
	if (c->plan.warm) { /* nothing is kept of it, so there is nothing to do */
		http_request_answer(q, 200, infilled(c));
		release(c);
		return;
	}
	q->owner = c;
	q->gone = gone;
	c->pending = c->plan.prompts;
	for (size_t i = 0; i < c->plan.prompts; i++)
		start(c, &c->part[i], &c->plan.prompt[i]);
}
