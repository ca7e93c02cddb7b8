/* Who may ask, for what, and who answers. */
#include "http_api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	void (*get)(struct http_request *q);
	void (*post)(struct http_request *q);
	void (*delete)(struct http_request *q);
} answers[HTTP_PATHS] = {
	[HTTP_HEALTH] = { .get = http_see_get },
	[HTTP_METRICS] = { .get = http_see_get },
	[HTTP_PROPS] = { .get = http_see_get },
	[HTTP_MODELS] = { .get = http_see_get },
	[HTTP_MODEL] = { .get = http_see_get },
	[HTTP_CHAT] = { .post = http_chat_post },
	[HTTP_COMPLETIONS] = { .post = http_complete_post },
	[HTTP_INFILL] = { .post = http_complete_post },
	[HTTP_RESPONSES] = { .post = http_response_post },
	[HTTP_RESPONSE] = { .get = http_response_get, .delete = http_response_delete },
	[HTTP_RESPONSE_CANCEL] = { .post = http_response_cancel },
	[HTTP_CONVERSATIONS] = { .get = http_talk_get, .post = http_talk_post },
	[HTTP_CONVERSATION] = { .get = http_talk_get, .delete = http_talk_delete },
	[HTTP_ITEMS] = { .get = http_talk_get },
};

/* Whether a header Host names this machine: a page that was given another name for it must not reach us by that. */
static bool is_here(const char *host)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "[::1]" };

	for (size_t i = 0; host && i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i]);

		if (strncasecmp(host, names[i], len) == 0 && (!host[len] || host[len] == ':'))
			return true;
	}
	return !host;
}

/* A web page in a browser on this machine can send requests, too, which the user knows nothing of. */
static int refuse_pages(const struct http_request *q, struct http_error *e)
{
	if (http_request_header(q, "Origin"))
		return http_error_set(e, 403, "forbidden_origin", NULL,
				      "Requests of web pages are refused while no key is asked for.");
	if (!is_here(http_request_header(q, "Host")))
		return http_error_set(e, 403, "forbidden_host", NULL,
				      "While no key is asked for, the header Host must say localhost.");
	return 0;
}

int http_api_admit(struct http_request *q, bool tcp, struct http_error *e)
{
	const struct http_route *r = q->path < HTTP_PATHS ? &http_routes[q->path] : NULL;
	enum http_method method = q->method == HTTP_HEAD ? HTTP_GET : q->method;
	const struct http_keys *keys = &q->http->keys;
	char allow[64];

	if (keys->count && !(r && r->open)) {
		const char *given = http_request_header(q, "Authorization");

		if (!http_key_fits(keys, given))
			return http_error_set(
				e, 401, "invalid_api_key", NULL,
				given ? "The key in the header Authorization is not known here."
				      : "The header Authorization is missing: it must be Bearer and a key.");
	}
	if (!keys->count && tcp && refuse_pages(q, e))
		return -1;
	if (!r)
		return http_error_set(e, 404, "unknown_path", NULL,
				      "There is no such path here; sinkd-http(8) lists them.");
	if (!(method & (r->methods | HTTP_OPTIONS))) {
		http_route_allow(r, allow, sizeof(allow));
		http_request_mark(q, "Allow", allow);
		return http_error_set(e, 405, "method_not_allowed", NULL, "This path has the methods %s.", allow);
	}
	return 0;
}

void http_api_handle(struct http_request *q)
{
	char allow[64];

	switch (q->method) {
	case HTTP_GET:
	case HTTP_HEAD:
		answers[q->path].get(q);
		break;
	case HTTP_POST:
		answers[q->path].post(q);
		break;
	case HTTP_DELETE:
		answers[q->path].delete(q);
		break;
	default:
		http_route_allow(&http_routes[q->path], allow, sizeof(allow));
		http_request_mark(q, "Allow", allow);
		http_request_text(q, "text/plain", "", 0);
	}
}
