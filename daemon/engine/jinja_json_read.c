/* JSON read into values: what a caller gives of tools and settings. Its texts have the origin that the caller says. */
#include "jinja_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct jinja_run *r;
	const char *at, *end;
	uint8_t origin;
};

static _Noreturn void bad(struct reader *j)
{
	jinja_fail(j->r, SINK_EINVAL, "The values that were given are no JSON.");
}

static void skip_blanks(struct reader *j)
{
	while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r'))
		j->at++;
}

static bool skip(struct reader *j, char c)
{
	skip_blanks(j);
	if (j->at == j->end || *j->at != c)
		return false;
	j->at++;
	return true;
}

static uint32_t hex4(struct reader *j)
{
	uint32_t code = 0;

	for (int i = 0; i < 4; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *d = j->at < j->end && *j->at ? strchr(digits, *j->at | 32) : NULL;

		if (!d || (*j->at < '0'))
			bad(j);
		code = code << 4 | (uint32_t)(d - digits);
		j->at++;
	}
	return code;
}

static size_t escaped(struct reader *j, char *to)
{
	static const char escapes[] = "n\nt\tr\rb\bf\f\"\"\\\\//";
	uint32_t code;

	if (j->at == j->end)
		bad(j);
	if (*j->at != 'u') {
		const char *e = escapes;

		while (*e && *e != *j->at)
			e += 2;
		if (!*e)
			bad(j);
		j->at++;
		*to = e[1];
		return 1;
	}
	j->at++;
	code = hex4(j);
	if (code >= 0xd800 && code < 0xdc00 && j->end - j->at > 1 && j->at[0] == '\\' && j->at[1] == 'u') {
		j->at += 2;
		code = 0x10000 + ((code - 0xd800) << 10) + ((hex4(j) - 0xdc00) & 0x3ff);
	}
	return jinja_put_utf8(to, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
}

static struct jinja_value text(struct reader *j, uint8_t origin)
{
	const char *end = j->at;
	uint8_t *from = NULL;
	size_t len = 0;
	char *to;

	for (; end < j->end && *end != '"'; end++)
		end += *end == '\\';
	if (end >= j->end)
		bad(j);
	to = jinja_take(j->r, (size_t)(end - j->at) + 1);
	while (j->at < end) {
		if (*j->at == '\\') {
			j->at++;
			len += escaped(j, to + len);
		} else {
			to[len++] = *j->at++;
		}
	}
	j->at = end + 1;
	if (origin) {
		from = jinja_take(j->r, len + 1);
		memset(from, origin, len);
	}
	return jinja_string((struct jinja_text){ to, from, len });
}

static struct jinja_value number(struct reader *j)
{
	char digits[64], *end;
	size_t n = 0;
	bool whole = true;
	struct jinja_value v;

	for (; j->at < j->end && n < sizeof(digits) - 1 && strchr("+-.0123456789eE", *j->at) && *j->at; j->at++) {
		whole = whole && !strchr(".eE", *j->at);
		digits[n++] = *j->at;
	}
	digits[n] = '\0';
	errno = 0;
	v = whole ? jinja_int(strtoll(digits, &end, 10)) : jinja_float(strtod(digits, &end));
	if (!n || *end || (whole && errno))
		bad(j);
	return v;
}

static struct jinja_value value(struct reader *j);

static struct jinja_value list(struct reader *j)
{
	struct jinja_value v = jinja_list_new(j->r, JINJA_LIST);

	while (!skip(j, ']')) {
		if (v.list->count && !skip(j, ','))
			bad(j);
		jinja_push(j->r, v.list, value(j));
	}
	return v;
}

static struct jinja_value dict(struct reader *j)
{
	struct jinja_value v = jinja_dict_new(j->r, JINJA_DICT), key;

	while (!skip(j, '}')) {
		if ((v.dict->count && !skip(j, ',')) || !skip(j, '"'))
			bad(j);
		key = text(j, 0);
		if (!skip(j, ':'))
			bad(j);
		jinja_put(j->r, v.dict, key, value(j));
	}
	return v;
}

static struct jinja_value value(struct reader *j)
{
	static const struct {
		const char *text;
		struct jinja_value value;
	} words[] = { { "null", { .kind = JINJA_NONE } },
		      { "true", { .kind = JINJA_BOOL, .b = true } },
		      { "false", { .kind = JINJA_BOOL, .b = false } } };
	struct jinja_value v;

	jinja_down(j->r);
	if (skip(j, '"')) {
		v = text(j, j->origin);
	} else if (skip(j, '[')) {
		v = list(j);
	} else if (skip(j, '{')) {
		v = dict(j);
	} else {
		size_t i = 0, count = sizeof(words) / sizeof(words[0]);

		while (i < count && ((size_t)(j->end - j->at) < strlen(words[i].text) ||
				     memcmp(j->at, words[i].text, strlen(words[i].text)) != 0))
			i++;
		j->at += i < count ? strlen(words[i].text) : 0;
		v = i < count ? words[i].value : number(j);
	}
	jinja_up(j->r);
	return v;
}

struct jinja_value jinja_from_json(struct jinja_run *r, const char *at, size_t len, uint8_t origin)
{
	struct reader j = { r, at, at + len, origin };
	struct jinja_value v = value(&j);

	skip_blanks(&j);
	if (j.at != j.end)
		bad(&j);
	return v;
}
