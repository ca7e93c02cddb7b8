/* Errors of the gateway, and of the daemon as seen through it. */
#include "http_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sink.h"

static const struct {
	unsigned status;
	const char *type;
} types[] = {
	{ 401, "authentication_error" }, { 403, "permission_error" }, { 429, "rate_limit_error" },
	{ 500, "server_error" },	 { 501, "not_implemented" },  { 503, "unavailable_error" },
};

static const struct {
	int code;
	unsigned status;
} codes[] = {
	{ SINK_EINVAL, 400 }, { SINK_EFORMAT, 400 }, { SINK_ENOENT, 404 },
	{ SINK_EGONE, 404 },  { SINK_EEXIST, 409 },  { SINK_EBUSY, 429 },
	{ SINK_ECONN, 503 },  { SINK_EPROTO, 503 },  { SINK_ETIMEDOUT, 503 },
};

int http_error_set(struct http_error *e, unsigned status, const char *code, const char *param, const char *fmt, ...)
{
	va_list args;

	e->status = status;
	e->code = code;
	e->param = param;
	va_start(args, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	return -1;
}

int http_error_sink(struct http_error *e, int code, const char *text)
{
	unsigned status = 500;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].code == code)
			status = codes[i].status;
	return http_error_set(e, status, sink_error_name(code), NULL, "%s",
			      text && *text ? text : "The daemon gave no reason.");
}

json_t *http_error_body(const struct http_error *e)
{
	const char *type = "invalid_request_error";

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].status == e->status)
			type = types[i].type;
	/* A sentence that was cut may end inside a character, which is no JSON: it is left out then. */
	json_t *text = json_string(e->text);

	return json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", text ? text : json_string("Bad request."),
			 "type", type, "param", e->param, "code", e->code);
}

int http_error_retry(const struct http_error *e)
{
	return e->status == 429 || e->status == 503 ? 1 : 0;
}
