/* Fields that the endpoints share: how the next token is chosen, when it ends, which conversation, in which form. */
#include "http_plan.h"

#include "http_logprob.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 64 }; /* of a body; schemas nest, and nothing needs more */

/* A field of a request, and what it is called in the protocol's map `sampling`. */
struct setting {
	const char *key, *name;
	bool real;
};

static const struct setting settings[] = {
	{ "temperature", "temperature", true },
	{ "top_p", "top_p", true },
	{ "min_p", "min_p", true },
	{ "top_k", "top_k", false },
	{ "presence_penalty", "presence_penalty", true },
	{ "frequency_penalty", "frequency_penalty", true },
	{ "repetition_penalty", "repetition_penalty", true },
	{ "repeat_penalty", "repetition_penalty", true },
};

/* The nesting of a value, or `most` when it is deeper. Only as deep as `most`, whatever the value. */
static int depth(const json_t *v, int most)
{
	const char *key;
	int deepest = 0;
	json_t *inner;
	size_t i;

	if (most == 0 || !(json_is_object(v) || json_is_array(v)))
		return 0;
	json_array_foreach(v, i, inner)
	{
		int d = depth(inner, most - 1);

		deepest = d > deepest ? d : deepest;
	}
	json_object_foreach((json_t *)v, key, inner)
	{
		int d = depth(inner, most - 1);

		deepest = d > deepest ? d : deepest;
	}
	return deepest + 1;
}

int http_plan_open(const char *body, size_t size, struct http_plan *p, struct http_error *e)
{
	json_error_t why;

	*p = (struct http_plan){ .store = true };
	p->root = json_loadb(size ? body : "", size, 0, &why);
	if (!p->root)
		return http_error_set(e, 400, "invalid_json", NULL, "The body is no JSON: line %d, column %d: %.160s.",
				      why.line, why.column, why.text);
	if (!json_is_object(p->root))
		return http_error_set(e, 400, "invalid_type", NULL, "The body must be a JSON object.");
	if (depth(p->root, DEPTH_MOST + 1) > DEPTH_MOST)
		return http_error_set(e, 400, "invalid_value", NULL, "The body nests deeper than %d.", DEPTH_MOST);
	p->made = json_array();
	p->sampling = json_object();
	if (!p->made || !p->sampling)
		return http_error_set(e, 500, NULL, NULL, "There is no memory for the request.");
	return 0;
}

void http_plan_release(struct http_plan *p)
{
	json_decref(p->root);
	json_decref(p->made);
	json_decref(p->sampling);
	free(p->message);
	*p = (struct http_plan){ 0 };
}

static int wrong_type(const char *key, const char *wanted, struct http_error *e)
{
	return http_error_set(e, 400, "invalid_type", key, "\"%s\" must be %s.", key, wanted);
}

int http_plan_bool(const json_t *o, const char *key, bool *ret, struct http_error *e)
{
	const json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return wrong_type(key, "true or false", e);
	*ret = json_is_true(v);
	return 0;
}

int http_plan_text(const json_t *o, const char *key, struct http_text *ret, struct http_error *e)
{
	const json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return wrong_type(key, "a string", e);
	*ret = (struct http_text){ json_string_value(v), json_string_length(v) };
	return 0;
}

int http_plan_string(const json_t *o, const char *key, const char **ret, struct http_error *e)
{
	struct http_text text = { 0 };

	if (http_plan_text(o, key, &text, e))
		return -1;
	*ret = text.at && text.len ? text.at : *ret;
	return 0;
}

/* How many tokens: the first of the names that is given. -1 is what some clients say for no limit. */
static int read_most(struct http_plan *p, const char *const *keys, struct http_error *e)
{
	for (; *keys; keys++) {
		const json_t *v = json_object_get(p->root, *keys);
		json_int_t n = json_integer_value(v);

		if (!v || json_is_null(v))
			continue;
		if (!json_is_integer(v))
			return wrong_type(*keys, "a whole number", e);
		if (n == 0 || n < -1 || n > INT32_MAX)
			return http_error_set(e, 400, "invalid_value", *keys,
					      "\"%s\" must be 1 to %d, or -1 for no limit.", *keys, INT32_MAX);
		json_object_set_new(p->sampling, "max_tokens", json_integer(n < 0 ? 0 : n));
		return 0;
	}
	return 0;
}

static int read_stop(struct http_plan *p, struct http_error *e)
{
	json_t *v = json_object_get(p->root, "stop"), *inner;
	size_t i;

	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v)) {
		json_object_set_new(p->sampling, "stop", json_pack("[O]", v));
		return 0;
	}
	if (!json_is_array(v))
		return wrong_type("stop", "a string or a list of strings", e);
	json_array_foreach(v, i, inner)
	{
		if (!json_is_string(inner))
			return wrong_type("stop", "a string or a list of strings", e);
	}
	if (json_array_size(v))
		json_object_set(p->sampling, "stop", v);
	return 0;
}

static int read_logprobs(struct http_plan *p, struct http_error *e)
{
	const json_t *v = json_object_get(p->root, "logprobs"), *top = json_object_get(p->root, "top_logprobs");
	json_int_t n;

	if (v && !json_is_null(v) && !json_is_boolean(v) && !json_is_integer(v))
		return wrong_type("logprobs", "true or false, or a number", e);
	if (top && !json_is_null(top) && !json_is_integer(top))
		return wrong_type("top_logprobs", "a whole number", e);
	/* Completions ask for a number of alternatives, where 0 means the chosen token alone. */
	n = json_is_integer(v) ? json_integer_value(v) : json_integer_value(top);
	if (n < 0 || n > HTTP_TOP_MOST)
		return http_error_set(e, 400, "invalid_value", json_is_integer(v) ? "logprobs" : "top_logprobs",
				      "At most %d alternatives of a token are told.", HTTP_TOP_MOST);
	p->logprobs = json_is_true(v) || json_is_integer(v);
	if (!p->logprobs)
		return 0;
	p->top_logprobs = (size_t)n;
	json_object_set_new(p->sampling, "logprobs", json_true());
	json_object_set_new(p->sampling, "top_logprobs", json_integer(n));
	/* A piece of text is then one token, but for characters of several. */
	json_object_set_new(p->sampling, "speculation", json_false());
	return 0;
}

static int read_numbers(struct http_plan *p, struct http_error *e)
{
	const json_t *seed = json_object_get(p->root, "seed");

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		const struct setting *s = &settings[i];
		json_t *v = json_object_get(p->root, s->key);

		if (!v || json_is_null(v))
			continue;
		if (s->real ? !json_is_number(v) : !json_is_integer(v))
			return wrong_type(s->key, s->real ? "a number" : "a whole number", e);
		json_object_set(p->sampling, s->name, v);
	}
	if (!seed || json_is_null(seed))
		return 0;
	if (!json_is_integer(seed))
		return wrong_type("seed", "a whole number", e);
	json_object_set_new(p->sampling, "seed", json_integer(json_integer_value(seed) & (INT64_MAX >> 1)));
	return 0;
}

static int refuse_many(const struct http_plan *p, const char *key, struct http_error *e)
{
	const json_t *v = json_object_get(p->root, key);

	if (!v || json_is_null(v) || (json_is_integer(v) && json_integer_value(v) == 1))
		return 0;
	return http_error_set(e, 400, "unsupported_value", key, "\"%s\" must be 1: one answer is written to a request.",
			      key);
}

static int read_stream(struct http_plan *p, struct http_error *e)
{
	const json_t *options = json_object_get(p->root, "stream_options");

	if (options && !json_is_null(options) && !json_is_object(options))
		return wrong_type("stream_options", "an object", e);
	return http_plan_bool(p->root, "stream", &p->stream, e) ||
			       http_plan_bool(options, "include_usage", &p->include_usage, e)
		       ? -1
		       : 0;
}

/* A conversation is named, or given as an object with its id. */
static int read_conversation(struct http_plan *p, struct http_error *e)
{
	const json_t *v = json_object_get(p->root, "conversation");

	if (json_is_object(v))
		return http_plan_string(v, "id", &p->conversation, e);
	return http_plan_string(p->root, "conversation", &p->conversation, e);
}

int http_plan_sampling(struct http_plan *p, const char *const *most_keys, struct http_error *e)
{
	const char *regex = NULL, *model = NULL;

	if (http_plan_string(p->root, "model", &model, e) || read_conversation(p, e) ||
	    http_plan_string(p->root, "prompt_cache_key", &p->hint, e) || read_stream(p, e) || refuse_many(p, "n", e) ||
	    read_most(p, most_keys, e) || read_numbers(p, e) || read_stop(p, e) || read_logprobs(p, e) ||
	    http_plan_string(p->root, "guided_regex", &regex, e))
		return -1;
	if (regex)
		json_object_set_new(p->sampling, "regex", json_string(regex));
	return 0;
}

int http_plan_format(struct http_plan *p, const json_t *format, const char *param, const json_t *inner,
		     struct http_error *e)
{
	const char *type = NULL;
	json_t *schema;

	if (!format || json_is_null(format))
		return 0;
	if (!json_is_object(format))
		return wrong_type(param, "an object", e);
	if (http_plan_string(format, "type", &type, e))
		return -1;
	if (type && strcmp(type, "text") == 0)
		return 0;
	if (type && strcmp(type, "json_object") == 0) {
		json_object_set_new(p->sampling, "schema", json_pack("{s:s}", "type", "object"));
		return 0;
	}
	if (!type || strcmp(type, "json_schema") != 0)
		return http_error_set(e, 400, "invalid_value", param,
				      "The type of \"%s\" must be text, json_object or json_schema.", param);
	schema = json_object_get(inner, "schema");
	if (!json_is_object(schema))
		return http_error_set(e, 400, "invalid_value", param, "\"%s\" has no object \"schema\".", param);
	json_object_set(p->sampling, "schema", schema);
	return 0;
}
