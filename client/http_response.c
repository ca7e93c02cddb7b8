/* Objects and events of /v1/responses. */
#include "http_response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_response *http_response_new(struct http *h, struct http_request *q)
{
	struct http_response *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->http = h;
	r->request = q;
	r->after = -1;
	r->status = "in_progress";
	return r;
}

void http_response_free(struct http_response *r)
{
	if (!r)
		return;
	json_decref(r->settings);
	buf_release(&r->text);
	free(r);
}

/* ---- objects ---- */

static json_t *part_of(const struct http_response *r)
{
	return json_pack("{s:s, s:s%, s:[], s:[]}", "type", "output_text", "text", buf_text(&r->text), r->text.size,
			 "annotations", "logprobs");
}

static const char *item_id(const struct http_response *r, char ret[HTTP_RESPONSE_MOST])
{
	snprintf(ret, HTTP_RESPONSE_MOST, "msg_%s", r->text_id + strlen("resp_"));
	return ret;
}

static json_t *item_of(const struct http_response *r, const char *status, bool whole)
{
	json_t *content = json_array();
	char id[HTTP_RESPONSE_MOST];

	if (whole)
		json_array_append_new(content, part_of(r));
	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "type", "message", "id", item_id(r, id), "status", status, "role",
			 "assistant", "content", content);
}

static bool has_ended(const struct http_response *r)
{
	return strcmp(r->status, "in_progress") != 0 && strcmp(r->status, "queued") != 0;
}

static bool is(const struct http_response *r, const char *status)
{
	return strcmp(r->status, status) == 0;
}

static json_t *usage_of(const struct http_response *r)
{
	return json_pack("{s:I, s:{s:I}, s:I, s:{s:i}, s:I}", "input_tokens", (json_int_t)r->prompt,
			 "input_tokens_details", "cached_tokens", (json_int_t)r->cached, "output_tokens",
			 (json_int_t)r->generated, "output_tokens_details", "reasoning_tokens", 0, "total_tokens",
			 (json_int_t)(r->prompt + r->generated));
}

/* What the request said of itself, or what holds when it said nothing. */
static void add_settings(const struct http_response *r, json_t *o)
{
	static const char *const told[] = {
		"instructions", "max_output_tokens", "previous_response_id", "temperature", "top_p", "text", "metadata",
		"user"
	};

	json_object_set_new(o, "text", json_pack("{s:{s:s}}", "format", "type", "text"));
	json_object_set_new(o, "metadata", json_object());
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		json_t *v = json_object_get(r->settings, told[i]);

		if (v && !json_is_null(v))
			json_object_set(o, told[i], v);
		else if (!json_object_get(o, told[i]))
			json_object_set_new(o, told[i], json_null());
	}
}

json_t *http_response_object(const struct http_response *r)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:b, s:[], s:s, s:b, s:s}", "id", r->text_id, "object",
			      "response", "created_at", (json_int_t)r->id.created, "status", r->status, "model",
			      r->http->model, "background", r->background, "parallel_tool_calls", 1, "tools",
			      "tool_choice", "auto", "store", r->id.stored, "truncation", "disabled");
	json_t *output = json_array();

	if (has_ended(r) && !is(r, "failed"))
		json_array_append_new(output, item_of(r, is(r, "completed") ? "completed" : "incomplete", true));
	json_object_set_new(o, "output", output);
	add_settings(r, o);
	json_object_set_new(o, "conversation",
			    http_id_is_hidden(r->id.name) ? json_null() : json_pack("{s:s}", "id", r->id.name));
	json_object_set_new(o, "incomplete_details",
			    is(r, "incomplete") ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null());
	json_object_set_new(o, "error",
			    is(r, "failed") ? json_pack("{s:s, s:s}", "code", "server_error", "message", r->error)
					    : json_null());
	json_object_set_new(o, "usage", r->usage ? usage_of(r) : json_null());
	return o;
}

/* ---- events ---- */

/* The next event of the stream, sent when it is wanted. `data` is given away. */
static void send(struct http_response *r, const char *type, json_t *data)
{
	int64_t number = r->sequence++;

	if (!r->request || !r->streams || number <= r->after) {
		json_decref(data);
		return;
	}
	json_object_set_new(data, "type", json_string(type));
	json_object_set_new(data, "sequence_number", json_integer(number));
	http_request_event(r->request, type, data);
}

/* The fields that say where in the output something is. */
static json_t *place_of(const struct http_response *r, bool content)
{
	char id[HTTP_RESPONSE_MOST];

	if (!content)
		return json_pack("{s:i}", "output_index", 0);
	return json_pack("{s:s, s:i, s:i}", "item_id", item_id(r, id), "output_index", 0, "content_index", 0);
}

static void send_with(struct http_response *r, const char *type, json_t *data, const char *key, json_t *value)
{
	json_object_set_new(data, key, value);
	send(r, type, data);
}

void http_response_begin(struct http_response *r)
{
	if (r->request && r->streams)
		http_request_stream(r->request);
	send(r, "response.created", json_pack("{s:o}", "response", http_response_object(r)));
	send(r, "response.in_progress", json_pack("{s:o}", "response", http_response_object(r)));
	send_with(r, "response.output_item.added", place_of(r, false), "item", item_of(r, "in_progress", false));
	send_with(r, "response.content_part.added", place_of(r, true), "part", part_of(r));
}

void http_response_text(struct http_response *r, const char *text, size_t len)
{
	json_t *data;

	buf_add(&r->text, text, len);
	if (!r->request || !r->streams) {
		r->sequence++;
		return;
	}
	data = place_of(r, true);
	json_object_set_new(data, "logprobs", json_array());
	send_with(r, "response.output_text.delta", data, "delta", json_stringn(text, len));
}

static const char *status_of(const char *finish, const struct http_error *e)
{
	if (e || strcmp(finish, "error") == 0)
		return "failed";
	if (strcmp(finish, "length") == 0)
		return "incomplete";
	return strcmp(finish, "stopped") == 0 ? "cancelled" : "completed";
}

static void end_stream(struct http_response *r)
{
	const char *item = is(r, "completed") ? "completed" : "incomplete";
	json_t *data = place_of(r, true);
	char type[40];

	json_object_set_new(data, "logprobs", json_array());
	send_with(r, "response.output_text.done", data, "text", json_stringn(buf_text(&r->text), r->text.size));
	send_with(r, "response.content_part.done", place_of(r, true), "part", part_of(r));
	send_with(r, "response.output_item.done", place_of(r, false), "item", item_of(r, item, true));
	/* There is no event for one that was cancelled; it is one that is incomplete. */
	snprintf(type, sizeof(type), "response.%s", is(r, "cancelled") ? "incomplete" : r->status);
	send(r, type, json_pack("{s:o}", "response", http_response_object(r)));
	if (r->request)
		http_request_end(r->request);
}

void http_response_end(struct http_response *r, const char *finish, const struct http_error *e)
{
	r->status = status_of(finish, e);
	if (is(r, "failed"))
		snprintf(r->error, sizeof(r->error), "%s", e ? e->text : "The answer could not be finished.");
	if (r->streams)
		end_stream(r);
	else if (r->request)
		http_request_answer(r->request, 200, http_response_object(r));
	r->request = NULL;
}
