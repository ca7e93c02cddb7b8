/*
 * The table of the codes' names, and the one place where an error gets its words. The names are the protocol's: a peer
 * compares them, so they never change.
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = { "ok",  "einval",  "enoent", "eexist", "ebusy", "eformat",	"enomem",
				     "eio", "edevice", "eproto", "egone",  "econn", "etimedout" };

enum { NAMES = sizeof(names) / sizeof(names[0]) };

/* Texts quote what peers and files say: no control character gets into a log, and no character is cut in half. */
static void tidy(char *text)
{
	size_t len = strlen(text), lead = len;

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = ' ';
	while (lead > 0 && len - lead < 3 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80)
		lead--;
	if (lead > 0 && (unsigned char)text[lead - 1] >= 0xc0) {
		unsigned char c = (unsigned char)text[lead - 1];
		size_t whole = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

		if (len - (lead - 1) < whole)
			text[lead - 1] = '\0';
	}
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list args;

	if (!e)
		return code;
	e->code = code;
	va_start(args, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	tidy(e->text);
	return code;
}

const char *err_name(int code)
{
	size_t i = code <= 0 ? (size_t) - (long)code : NAMES;

	return i < NAMES ? names[i] : "unknown";
}

int err_code(const char *name)
{
	for (int i = 1; i < NAMES; i++)
		if (strcmp(names[i], name) == 0)
			return -i;
	return SINK_EINVAL;
}
