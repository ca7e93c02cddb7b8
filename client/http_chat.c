/* POST /v1/chat/completions: the form of its answers, whole or as a stream. */
#include "http_api.h"
#include "http_logprob.h"
#include "http_say.h"

static json_t *chunk_of(const struct http_say *s, json_t *choices)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", s->id, "object", "chat.completion.chunk", "created",
			 (json_int_t)s->created, "model", s->answer.http->model, "choices", choices);
}

static void send_chunk(struct http_say *s, json_t *delta, const char *finish, json_t *logprobs)
{
	json_t *choice = json_pack("{s:i, s:o, s:s?}", "index", 0, "delta", delta, "finish_reason", finish);
	json_t *chunk;

	if (logprobs)
		json_object_set_new(choice, "logprobs", json_pack("{s:o}", "content", logprobs));
	chunk = chunk_of(s, json_pack("[o]", choice));
	if (s->plan.include_usage)
		json_object_set_new(chunk, "usage", json_null());
	http_request_event(s->answer.request, NULL, chunk);
}

static void begun(struct http_answer *a)
{
	struct http_say *s = (struct http_say *)a;

	http_request_mark(a->request, "X-Conversation-Id", a->name);
	if (!s->plan.stream)
		return;
	http_request_stream(a->request);
	send_chunk(s, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, NULL);
}

static void text(struct http_answer *a, const struct sink_reply *ev)
{
	struct http_say *s = (struct http_say *)a;
	size_t len = 0;
	const char *piece = sink_str(ev, "text", &len);
	json_t *logprobs = !s->plan.logprobs ? NULL : s->plan.stream ? json_array() : s->logprobs;

	if (logprobs)
		http_logprob_chat(logprobs, ev, s->plan.top_logprobs);
	if (s->plan.stream)
		send_chunk(s, json_pack("{s:s%}", "content", piece, len), NULL, logprobs);
}

static json_t *whole(struct http_say *s)
{
	const struct http_answer *a = &s->answer;
	json_t *message = json_pack("{s:s, s:s%, s:n}", "role", "assistant", "content", buf_text(&a->text),
				    a->text.size, "refusal");
	json_t *choice = json_pack("{s:i, s:o, s:s, s:n}", "index", 0, "message", message, "finish_reason",
				   http_answer_finish(a), "logprobs");

	if (s->plan.logprobs)
		json_object_set_new(choice, "logprobs", json_pack("{s:O}", "content", s->logprobs));
	return json_pack("{s:s, s:s, s:I, s:s, s:[o], s:o}", "id", s->id, "object", "chat.completion", "created",
			 (json_int_t)s->created, "model", a->http->model, "choices", choice, "usage",
			 http_answer_usage(a));
}

static void end_stream(struct http_say *s, const struct http_error *e)
{
	struct http_request *q = s->answer.request;
	json_t *last;

	if (e) {
		http_request_event(q, NULL, http_error_body(e));
	} else {
		send_chunk(s, json_object(), http_answer_finish(&s->answer), NULL);
		if (s->plan.include_usage) {
			last = chunk_of(s, json_array());
			json_object_set_new(last, "usage", http_answer_usage(&s->answer));
			http_request_event(q, NULL, last);
		}
		http_request_raw(q, "data: [DONE]");
	}
	http_request_end(q);
}

static void ended(struct http_answer *a, const struct http_error *e)
{
	struct http_say *s = (struct http_say *)a;

	if (http_say_again(s, e))
		return;
	if (a->request && a->request->streams)
		end_stream(s, e);
	else if (a->request && e)
		http_request_fail(a->request, e);
	else if (a->request)
		http_request_answer(a->request, 200, whole(s));
	http_say_free(s);
}

void http_chat_post(struct http_request *q)
{
	static const struct http_form form = { begun, text, ended };
	struct http_say *s = http_say_new(q, &form, http_plan_chat);

	if (!s)
		return;
	http_id_random("chatcmpl-", s->id, sizeof(s->id));
	s->logprobs = json_array();
	http_say_start(s);
}
