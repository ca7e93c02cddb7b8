/*
 * Fuzz target: a request of the gateway, up to the point where the daemon would be asked. The first line is the path,
 * the second the header Authorization, the rest the body, which each of the parsers is given.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_id.h"
#include "http_key.h"
#include "http_match.h"
#include "http_plan.h"
#include "http_route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line as a string of its own; what is behind it remains. */
static char *take_line(const char **at, size_t *left)
{
	const char *end = memchr(*at, '\n', *left);
	size_t len = end ? (size_t)(end - *at) : *left;
	char *line = malloc(len + 1);

	if (!line)
		abort();
	memcpy(line, *at, len);
	line[len] = '\0';
	*at += len + (end != NULL);
	*left -= len + (end != NULL);
	return line;
}

static void use_path(const char *path)
{
	char id[HTTP_ID_MOST], name[HTTP_NAME_MOST], text[HTTP_RESPONSE_MOST];
	struct http_response_id response, again;

	if (http_route_find(path, id) == HTTP_PATHS)
		return;
	if (strlen(id) >= HTTP_ID_MOST)
		abort();
	if (http_id_name(id, name) && !*name)
		abort();
	if (!http_id_read(id, &response))
		return;
	http_id_write(&response, text);
	if (!http_id_read(text, &again) || strcmp(again.name, response.name) != 0 ||
	    again.message != response.message || again.seq != response.seq)
		abort();
}

/* What the header of the plan promises. */
static void use_plan(const struct http_plan *p)
{
	struct http_hash h = http_match_root(p->system.at, p->system.len);
	size_t common;
	struct http_match m;
	struct http_chain *c;

	http_match_init(&m);
	c = http_match_add(&m, "c", h, NULL, 0);
	if (!c || p->prompts > HTTP_PROMPTS_MOST)
		abort();
	c->made = true;
	for (size_t i = 0; i < p->count; i++) {
		if (!p->message[i].role || !p->message[i].text.at)
			abort();
		h = http_match_next(h, p->message[i].role, p->message[i].text.at, p->message[i].text.len);
		http_match_push(c, h);
	}
	if (http_match_best(&m, c->root, c->hash, c->count, &common) != c || common != p->count)
		abort();
	http_match_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const parse[])(const char *, size_t, struct http_plan *,
				    struct http_error *) = { http_plan_chat, http_plan_response, http_plan_completion,
							     http_plan_infill };
	char room[HTTP_KEY_MOST] = "key";
	struct http_keys keys = { 1, &room };
	const char *at = (const char *)data;
	char *path = take_line(&at, &size), *header = take_line(&at, &size);

	use_path(path);
	if (http_key_fits(&keys, header) && !strstr(header, "key"))
		abort();
	for (size_t i = 0; i < sizeof(parse) / sizeof(parse[0]); i++) {
		struct http_plan p;
		struct http_error e = { 0 };

		if (parse[i](at, size, &p, &e) == 0)
			use_plan(&p);
		else if (e.status < 400 || !*e.text)
			abort();
		else
			json_decref(http_error_body(&e));
		http_plan_release(&p);
	}
	free(path);
	free(header);
	return 0;
}
