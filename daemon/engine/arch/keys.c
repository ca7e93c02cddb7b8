/* Owns the names of a family's keys. */
#include "keys.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME = 96 };

static const char *full(const struct keys *k, const char *name, char text[NAME])
{
	snprintf(text, NAME, "%s.%s", k->arch, name);
	return text;
}

bool key_has(const struct keys *k, const char *name)
{
	char text[NAME];

	return gguf_has(k->g, full(k, name, text));
}

int key_int(const struct keys *k, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *e)
{
	char text[NAME];

	return gguf_int(k->g, full(k, name, text), least, most, ret, e);
}

int key_int_or(const struct keys *k, const char *name, int64_t least, int64_t most, int64_t otherwise, int64_t *ret,
	       struct err *e)
{
	char text[NAME];

	return gguf_int_or(k->g, full(k, name, text), least, most, otherwise, ret, e);
}

int key_float_or(const struct keys *k, const char *name, double least, double most, double otherwise, double *ret,
		 struct err *e)
{
	char text[NAME];
	int r = gguf_float_or(k->g, full(k, name, text), otherwise, ret, e);

	if (!r && !(*ret >= least && *ret <= most))
		r = err_set(e, SINK_EFORMAT, "Key \"%s\" is not within %g and %g.", text, least, most);
	return r;
}

int key_float(const struct keys *k, const char *name, double least, double most, double *ret, struct err *e)
{
	return key_has(k, name) ? key_float_or(k, name, least, most, 0, ret, e)
				: key_fail(k, name, e, "it is missing.");
}

int key_bool_or(const struct keys *k, const char *name, bool otherwise, bool *ret, struct err *e)
{
	char text[NAME];

	return gguf_bool_or(k->g, full(k, name, text), otherwise, ret, e);
}

int key_string_or(const struct keys *k, const char *name, struct gguf_str *ret, struct err *e)
{
	char text[NAME];

	*ret = (struct gguf_str){ "", 0 };
	return key_has(k, name) ? gguf_string(k->g, full(k, name, text), ret, e) : 0;
}

int64_t key_numbers(const struct keys *k, const char *name)
{
	char text[NAME];

	return gguf_numbers(k->g, full(k, name, text));
}

double key_number_at(const struct keys *k, const char *name, size_t i)
{
	char text[NAME];

	return gguf_number_at(k->g, full(k, name, text), i);
}

int key_fail(const struct keys *k, const char *name, struct err *e, const char *fmt, ...)
{
	char text[NAME], what[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return err_set(e, SINK_EFORMAT, "Key \"%s\": %s", full(k, name, text), what);
}
