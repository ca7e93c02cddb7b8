/* The bodies of completions and of what is to be filled in: raw text, no turns. */
#include "http_plan.h"

#include <string.h>

static int bad_prompt(struct http_error *e)
{
	return http_error_set(
		e, 400, "invalid_type", "prompt",
		"\"prompt\" must be a string, a list of strings, a list of token ids, or a list of such lists.");
}

static bool are_tokens(const json_t *list)
{
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
	{
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
			return false;
	}
	return json_is_array(list) && json_array_size(list) > 0;
}

static int add_prompt(struct http_plan *p, json_t *v, struct http_error *e)
{
	if (p->prompts == HTTP_PROMPTS_MOST)
		return http_error_set(e, 400, "invalid_value", "prompt", "A request has at most %d prompts.",
				      HTTP_PROMPTS_MOST);
	if (json_is_string(v))
		p->prompt[p->prompts++].text = (struct http_text){ json_string_value(v), json_string_length(v) };
	else if (are_tokens(v))
		p->prompt[p->prompts++].tokens = v;
	else
		return bad_prompt(e);
	return 0;
}

static int read_prompts(struct http_plan *p, struct http_error *e)
{
	json_t *v = json_object_get(p->root, "prompt"), *inner;
	size_t i;

	if (json_is_string(v) || are_tokens(v))
		return add_prompt(p, v, e);
	if (!json_is_array(v) || !json_array_size(v))
		return bad_prompt(e);
	json_array_foreach(v, i, inner)
	{
		if (add_prompt(p, inner, e))
			return -1;
	}
	return 0;
}

static int check_completion(const struct http_plan *p, struct http_error *e)
{
	if (p->suffix.at && (p->prompts != 1 || !p->prompt[0].text.at))
		return http_error_set(e, 400, "invalid_value", "suffix",
				      "With \"suffix\" there is one prompt, of text.");
	if (p->stream && p->prompts != 1)
		return http_error_set(e, 400, "unsupported_value", "stream", "A stream has one prompt.");
	if (p->echo && (p->logprobs || !p->prompt[0].text.at || p->suffix.at))
		return http_error_set(e, 400, "unsupported_value", "echo",
				      "\"echo\" is for prompts of text, without logprobs and suffix.");
	for (size_t i = 0; i < p->prompts; i++)
		if (p->prompt[i].text.at && !p->prompt[i].text.len && !p->suffix.at)
			return http_error_set(e, 400, "invalid_value", "prompt",
					      "An empty prompt cannot be completed.");
	return 0;
}

int http_plan_completion(const char *body, size_t size, struct http_plan *p, struct http_error *e)
{
	static const char *const most[] = { "max_tokens", NULL };
	const json_t *best, *format;

	if (http_plan_open(body, size, p, e) || http_plan_sampling(p, most, e) || read_prompts(p, e) ||
	    http_plan_text(p->root, "suffix", &p->suffix, e) || http_plan_bool(p->root, "echo", &p->echo, e))
		return -1;
	best = json_object_get(p->root, "best_of");
	if (best && !json_is_null(best) && json_integer_value(best) != 1)
		return http_error_set(e, 400, "unsupported_value", "best_of", "\"best_of\" must be 1.");
	format = json_object_get(p->root, "response_format");
	if (http_plan_format(p, format, "response_format", json_object_get(format, "json_schema"), e))
		return -1;
	if (p->suffix.at && !p->suffix.len)
		p->suffix.at = NULL;
	if (!json_object_get(p->sampling, "max_tokens"))
		json_object_set_new(p->sampling, "max_tokens", json_integer(16)); /* as the API says */
	return check_completion(p, e);
}

int http_plan_infill(const char *body, size_t size, struct http_plan *p, struct http_error *e)
{
	static const char *const most[] = { "max_tokens", NULL };
	const json_t *predict;
	struct http_text before = { "", 0 };

	p->suffix = (struct http_text){ 0 };
	if (http_plan_open(body, size, p, e) || http_plan_sampling(p, most, e) ||
	    http_plan_text(p->root, "input_prefix", &before, e))
		return -1;
	p->suffix = (struct http_text){ "", 0 };
	if (http_plan_text(p->root, "input_suffix", &p->suffix, e))
		return -1;
	p->prompt[p->prompts++].text = before;
	predict = json_object_get(p->root, "n_predict");
	if (predict && !json_is_integer(predict))
		return http_error_set(e, 400, "invalid_type", "n_predict", "\"n_predict\" must be a whole number.");
	p->warm = predict && json_integer_value(predict) == 0;
	if (predict && !p->warm)
		json_object_set_new(p->sampling, "max_tokens",
				    json_integer(json_integer_value(predict) < 0 ? 0 : json_integer_value(predict)));
	return 0;
}
