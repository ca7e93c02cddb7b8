/* What goes wrong, as the OpenAI clients read it: a status, and a body {"error": {message, type, param, code}}. */
#ifndef CLIENT_HTTP_ERROR_H
#define CLIENT_HTTP_ERROR_H

#include <jansson.h>

struct http_error {
	unsigned status;
	const char *code;  /* static, such as "invalid_value"; NULL is null */
	const char *param; /* static: the field that is wrong; NULL is null */
	char text[320];
};

/* Fills `e` and returns -1: `return http_error_set(e, 400, "invalid_type", "stop", "A full sentence.");`. */
int http_error_set(struct http_error *e, unsigned status, const char *code, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The same from an error of the protocol: a code of sink_code.h and its sentence. */
int http_error_sink(struct http_error *e, int code, const char *text);

json_t *http_error_body(const struct http_error *e);

/* Seconds after which it is worth trying again; 0: it is not. */
int http_error_retry(const struct http_error *e);

#endif
