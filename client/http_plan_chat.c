/* The bodies of chats and responses: messages with their roles, whatever form their content has. */
#include "http_plan.h"

#include <stdlib.h>
#include <string.h>

enum { MESSAGES_MOST = 4096 };

static const struct {
	const char *name, *role;
} roles[] = {
	{ "system", "system" }, { "developer", "system" }, { "user", "user" },
	{ "tool", "user" },	{ "function", "user" },	   { "assistant", "assistant" },
};

/* A text that the plan keeps, put together of three. */
static int make_text(struct http_plan *p, struct http_text a, const char *between, struct http_text b,
		     struct http_text *ret, struct http_error *e)
{
	size_t middle = strlen(between), size = a.len + middle + b.len;
	char *room = malloc(size + 1);
	json_t *made;

	if (room) {
		memcpy(room, a.at ? a.at : "", a.len);
		memcpy(room + a.len, between, middle);
		memcpy(room + a.len + middle, b.at ? b.at : "", b.len);
	}
	made = room ? json_stringn(room, size) : NULL;
	free(room);
	if (!made || json_array_append_new(p->made, made))
		return http_error_set(e, 500, NULL, NULL, "There is no memory for the request.");
	*ret = (struct http_text){ json_string_value(made), size };
	return 0;
}

static int read_part(struct http_plan *p, const json_t *part, const char *param, struct http_text *ret,
		     struct http_error *e)
{
	static const char *const known[] = { "text", "input_text", "output_text", "refusal" };
	const char *type = json_string_value(json_object_get(part, "type"));
	struct http_text text = { 0 };
	bool is_text = false;

	for (size_t i = 0; type && i < sizeof(known) / sizeof(known[0]); i++)
		is_text |= strcmp(type, known[i]) == 0;
	if (!is_text)
		return http_error_set(e, 400, "unsupported_value", param,
				      "A part of a message's content must be text; \"%.40s\" is not.",
				      type ? type : "(no type)");
	if (http_plan_text(part, strcmp(type, "refusal") == 0 ? "refusal" : "text", &text, e))
		return -1;
	if (!text.at)
		return http_error_set(e, 400, "invalid_value", param, "A part of a message's content has no text.");
	if (!ret->at) {
		*ret = text;
		return 0;
	}
	return make_text(p, *ret, "", text, ret, e);
}

static int read_content(struct http_plan *p, const json_t *message, const char *param, struct http_text *ret,
			struct http_error *e)
{
	const json_t *content = json_object_get(message, "content"), *part;
	size_t i;

	if (json_is_array(content) && json_array_size(content) <= MESSAGES_MOST) {
		json_array_foreach(content, i, part)
		{
			if (read_part(p, part, param, ret, e))
				return -1;
		}
	} else if (json_is_string(content)) {
		*ret = (struct http_text){ json_string_value(content), json_string_length(content) };
	} else if (content && !json_is_null(content)) {
		return http_error_set(e, 400, "invalid_type", param,
				      "The content of a message must be a string or a list of parts.");
	}
	if (!ret->at)
		*ret = (struct http_text){ "", 0 };
	return 0;
}

/* What a tool said is given to the model as the user's words, in the marks that most models were trained with. */
static int wrap_tool(struct http_plan *p, struct http_text *text, struct http_error *e)
{
	static const char open[] = "<tool_response>\n", close[] = "\n</tool_response>";

	return make_text(p, (struct http_text){ open, strlen(open) }, "", *text, text, e) ||
			       make_text(p, *text, "", (struct http_text){ close, strlen(close) }, text, e)
		       ? -1
		       : 0;
}

/* An assistant's message that calls tools has them as its text, in the same marks. */
static int add_calls(struct http_plan *p, const json_t *message, struct http_text *text, struct http_error *e)
{
	const json_t *calls = json_object_get(message, "tool_calls"), *call;
	size_t i;

	json_array_foreach(calls, i, call)
	{
		char *said = json_dumps(json_object_get(call, "function"), JSON_COMPACT);
		struct http_text t = { said, said ? strlen(said) : 0 };
		int rc = said ? make_text(p, *text, text->len ? "\n<tool_call>\n" : "<tool_call>\n", t, text, e) : 0;

		free(said);
		if (rc || make_text(p, *text, "\n</tool_call>", (struct http_text){ "", 0 }, text, e))
			return -1;
	}
	return 0;
}

static int read_message(struct http_plan *p, const json_t *item, const char *param, struct http_message *ret,
			struct http_error *e)
{
	const char *name = NULL, *type = NULL;

	if (!json_is_object(item))
		return http_error_set(e, 400, "invalid_type", param, "Each of \"%s\" must be an object.", param);
	if (http_plan_string(item, "type", &type, e) || http_plan_string(item, "role", &name, e))
		return -1;
	if (type && strcmp(type, "message") != 0)
		return http_error_set(e, 400, "unsupported_value", param, "\"%s\" takes messages, no \"%.40s\".", param,
				      type);
	for (size_t i = 0; name && i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strcmp(roles[i].name, name) == 0)
			ret->role = roles[i].role;
	if (!ret->role)
		return http_error_set(e, 400, "invalid_value", param,
				      "A message's role must be system, developer, user, assistant or tool.");
	if (read_content(p, item, param, &ret->text, e))
		return -1;
	if (strcmp(name, "tool") == 0 || strcmp(name, "function") == 0)
		return wrap_tool(p, &ret->text, e);
	return add_calls(p, item, &ret->text, e);
}

/* Takes the system messages off the front; when there is nothing else, the last one stays and is said. */
static int gather_system(struct http_plan *p, struct http_error *e)
{
	size_t n = 0;

	while (n + 1 < p->count && strcmp(p->message[n].role, "system") == 0)
		n++;
	for (size_t i = 0; i < n; i++) {
		if (!p->system.at)
			p->system = p->message[i].text;
		else if (make_text(p, p->system, "\n\n", p->message[i].text, &p->system, e))
			return -1;
	}
	p->count -= n;
	memmove(p->message, p->message + n, p->count * sizeof(*p->message));
	return 0;
}

int http_plan_messages(struct http_plan *p, const json_t *list, const char *param, struct http_error *e)
{
	size_t i, count = json_array_size(list);
	const json_t *item;

	if (!json_is_array(list))
		return http_error_set(e, 400, "invalid_type", param, "\"%s\" must be a list of messages.", param);
	if (count == 0 || count > MESSAGES_MOST)
		return http_error_set(e, 400, "invalid_value", param, "\"%s\" must have 1 to %d messages.", param,
				      MESSAGES_MOST);
	p->message = calloc(count, sizeof(*p->message));
	if (!p->message)
		return http_error_set(e, 500, NULL, NULL, "There is no memory for the request.");
	json_array_foreach(list, i, item)
	{
		if (read_message(p, item, param, &p->message[i], e))
			return -1;
	}
	p->count = count;
	if (strcmp(p->message[count - 1].role, "assistant") == 0)
		return http_error_set(e, 400, "unsupported_value", param,
				      "The last message must not be the assistant's: nothing is left to be answered.");
	return gather_system(p, e);
}

/* Tools are the client's matter, and no model here was asked whether it knows them. */
static int refuse_tools(const struct http_plan *p, struct http_error *e)
{
	static const char *const keys[] = { "tools", "functions" };
	const char *choice = json_string_value(json_object_get(p->root, "tool_choice"));

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_array_size(json_object_get(p->root, keys[i])) && !(choice && strcmp(choice, "none") == 0))
			return http_error_set(e, 400, "unsupported_value", keys[i],
					      "Tools are not supported: leave out \"%s\", or set tool_choice to none.",
					      keys[i]);
	return 0;
}

int http_plan_chat(const char *body, size_t size, struct http_plan *p, struct http_error *e)
{
	static const char *const most[] = { "max_completion_tokens", "max_tokens", NULL };
	const json_t *format;

	if (http_plan_open(body, size, p, e) || http_plan_sampling(p, most, e) || refuse_tools(p, e))
		return -1;
	format = json_object_get(p->root, "response_format");
	if (http_plan_format(p, format, "response_format", json_object_get(format, "json_schema"), e))
		return -1;
	return http_plan_messages(p, json_object_get(p->root, "messages"), "messages", e);
}

/* What stands for the messages of a response: a text is one of the user's. */
static int read_input(struct http_plan *p, struct http_error *e)
{
	json_t *input = json_object_get(p->root, "input"), *list = NULL;

	if (json_is_string(input)) {
		list = json_pack("[{s:s, s:O}]", "role", "user", "content", input);
		if (!list || json_array_append_new(p->made, list))
			return http_error_set(e, 500, NULL, NULL, "There is no memory for the request.");
	}
	return http_plan_messages(p, list ? list : input, "input", e);
}

int http_plan_response(const char *body, size_t size, struct http_plan *p, struct http_error *e)
{
	static const char *const most[] = { "max_output_tokens", NULL };
	struct http_text instructions = { 0 };
	const json_t *text, *format;

	if (http_plan_open(body, size, p, e) || http_plan_sampling(p, most, e) || refuse_tools(p, e) ||
	    http_plan_string(p->root, "previous_response_id", &p->previous, e) ||
	    http_plan_bool(p->root, "store", &p->store, e) ||
	    http_plan_bool(p->root, "background", &p->background, e) ||
	    http_plan_text(p->root, "instructions", &instructions, e))
		return -1;
	text = json_object_get(p->root, "text");
	format = json_object_get(text, "format");
	if (http_plan_format(p, format, "text.format", format, e) || read_input(p, e))
		return -1;
	if (p->previous && p->conversation)
		return http_error_set(e, 400, "invalid_value", "previous_response_id",
				      "A response follows another one or stands in a conversation, not both.");
	if (p->background && !p->store)
		return http_error_set(e, 400, "invalid_value", "background", "A response in the background is stored.");
	if (instructions.at && p->system.at)
		return make_text(p, instructions, "\n\n", p->system, &p->system, e);
	if (instructions.at)
		p->system = instructions;
	return 0;
}
