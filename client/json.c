/*
 * A scanner that only knows where values begin and end: strings with their escapes, and brackets that nest. It builds
 * nothing, because the client never needs the inside of a value that it prints.
 */
#include "json.h"

#include <string.h>

static size_t skip_blanks(struct json text, size_t at)
{
	while (at < text.size && strchr(" \t\r\n", text.text[at]) && text.text[at])
		at++;
	return at;
}

/* Behind the string that begins at `at`. */
static size_t skip_string(struct json text, size_t at)
{
	for (at++; at < text.size && text.text[at] != '"'; at++)
		if (text.text[at] == '\\' && at + 1 < text.size)
			at++;
	return at < text.size ? at + 1 : at;
}

/* Behind the value that begins at `at`. */
static size_t skip_value(struct json text, size_t at)
{
	size_t depth = 0;

	while (at < text.size) {
		char c = text.text[at];

		if (!depth && (c == ',' || c == ']' || c == '}'))
			break;
		if (c == '"') {
			at = skip_string(text, at);
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		if (c == '}' || c == ']')
			depth--;
		at++;
	}
	return at;
}

static struct json piece(struct json text, size_t from, size_t to)
{
	while (to > from && strchr(" \t\r\n", text.text[to - 1]) && text.text[to - 1])
		to--;
	return (struct json){ text.text + from, to - from };
}

/* Behind a comma, when one stands at `at`. */
static size_t skip_comma(struct json text, size_t at)
{
	at = skip_blanks(text, at);
	return at < text.size && text.text[at] == ',' ? at + 1 : at;
}

bool json_member(struct json text, const char *key, struct json *ret)
{
	size_t at = skip_blanks(text, 0) + 1, len = strlen(key);

	for (;;) {
		size_t from, to;

		from = skip_blanks(text, at);
		if (from >= text.size || text.text[from] != '"')
			return false;
		to = skip_string(text, from);
		at = skip_blanks(text, to);
		if (at >= text.size || text.text[at] != ':')
			return false;
		at = skip_blanks(text, at + 1);
		if (to - from == len + 2 && memcmp(text.text + from + 1, key, len) == 0) {
			*ret = piece(text, at, skip_value(text, at));
			return true;
		}
		at = skip_comma(text, skip_value(text, at));
	}
}

bool json_next(struct json array, size_t *at, struct json *ret)
{
	size_t from = *at ? *at : skip_blanks(array, 0) + 1, to;

	from = skip_blanks(array, from);
	if (from >= array.size || array.text[from] == ']')
		return false;
	to = skip_value(array, from);
	*ret = piece(array, from, to);
	*at = skip_comma(array, to);
	return true;
}

void json_quote(struct buf *b, const char *text)
{
	buf_adds(b, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_addf(b, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			buf_addf(b, "\\u%04x", (unsigned)(unsigned char)*text);
		else
			buf_add(b, text, 1);
	}
	buf_adds(b, "\"");
}
