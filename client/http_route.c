/* The table of paths, and finding one in it. */
#include "http_route.h"

#include <stdio.h>
#include <string.h>

#include "buf.h"

const struct http_route http_routes[HTTP_PATHS] = {
	[HTTP_HEALTH] = { "/health", HTTP_GET, true },
	[HTTP_METRICS] = { "/metrics", HTTP_GET, false },
	[HTTP_PROPS] = { "/props", HTTP_GET, false },
	[HTTP_MODELS] = { "/v1/models", HTTP_GET, false },
	[HTTP_MODEL] = { "/v1/models/{id}", HTTP_GET, false },
	[HTTP_CHAT] = { "/v1/chat/completions", HTTP_POST, false },
	[HTTP_COMPLETIONS] = { "/v1/completions", HTTP_POST, false },
	[HTTP_INFILL] = { "/infill", HTTP_POST, false },
	[HTTP_RESPONSES] = { "/v1/responses", HTTP_POST, false },
	[HTTP_RESPONSE] = { "/v1/responses/{id}", HTTP_GET | HTTP_DELETE, false },
	[HTTP_RESPONSE_CANCEL] = { "/v1/responses/{id}/cancel", HTTP_POST, false },
	[HTTP_CONVERSATIONS] = { "/v1/conversations", HTTP_GET | HTTP_POST, false },
	[HTTP_CONVERSATION] = { "/v1/conversations/{id}", HTTP_GET | HTTP_DELETE, false },
	[HTTP_ITEMS] = { "/v1/conversations/{id}/items", HTTP_GET, false },
};

static const struct {
	const char *name;
	enum http_method method;
} methods[] = {
	{ "GET", HTTP_GET },   { "POST", HTTP_POST },	    { "DELETE", HTTP_DELETE },
	{ "HEAD", HTTP_HEAD }, { "OPTIONS", HTTP_OPTIONS },
};

enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

enum http_method http_route_method(const char *name)
{
	for (size_t i = 0; i < METHODS; i++)
		if (strcmp(methods[i].name, name) == 0)
			return methods[i].method;
	return HTTP_OTHER;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One segment of a path; false when it cannot stand for an id. */
static bool take_id(const char *at, size_t len, char id[HTTP_ID_MOST])
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int byte = (unsigned char)at[i];

		if (byte == '%') {
			int high = i + 2 < len ? hex(at[i + 1]) : -1, low = i + 2 < len ? hex(at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			byte = high * 16 + low;
			i += 2;
		}
		if (byte < 0x20 || byte == 0x7f || n + 1 >= HTTP_ID_MOST)
			return false;
		id[n++] = (char)byte;
	}
	id[n] = '\0';
	return n > 0 && buf_utf8(id, n) == n;
}

static bool fits(const char *pattern, const char *path, char id[HTTP_ID_MOST])
{
	static const char place[] = "{id}";
	const char *open = strstr(pattern, place), *rest;
	size_t before, len;

	if (!open)
		return strcmp(pattern, path) == 0;
	before = (size_t)(open - pattern);
	if (strncmp(pattern, path, before) != 0)
		return false;
	rest = open + strlen(place);
	len = strcspn(path + before, "/");
	return strcmp(path + before + len, rest) == 0 && take_id(path + before, len, id);
}

enum http_path http_route_find(const char *path, char id[HTTP_ID_MOST])
{
	static const char version[] = "/v1";

	*id = '\0';
	for (int i = 0; i < HTTP_PATHS; i++) {
		const char *pattern = http_routes[i].pattern;
		bool versioned = strncmp(pattern, version, strlen(version)) == 0;

		if (fits(pattern, path, id) || (versioned && fits(pattern + strlen(version), path, id)))
			return (enum http_path)i;
	}
	return HTTP_PATHS;
}

void http_route_allow(const struct http_route *r, char *ret, size_t size)
{
	unsigned all = r->methods | HTTP_OPTIONS | (r->methods & HTTP_GET ? HTTP_HEAD : 0);
	size_t n = 0;

	*ret = '\0';
	for (size_t i = 0; i < METHODS; i++)
		if (all & methods[i].method && n < size)
			n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? ", " : "", methods[i].name);
}
