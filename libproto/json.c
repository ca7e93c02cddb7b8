/*
 * A reply as JSON. MessagePack says a little more than JSON can: bytes become base64 strings, numbers that are not
 * finite become null. Strings need no check, since the walk in msg.c let only valid UTF-8 in.
 */
#include "reply.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
	char *at;
	size_t size, room;
	bool failed;
};

static void put(struct text *t, const char *s, size_t len)
{
	if (t->failed)
		return;
	if (t->room - t->size < len + 1) {
		size_t room = (t->size + len + 64) * 2;
		char *at = realloc(t->at, room);

		if (!at) {
			t->failed = true;
			return;
		}
		t->at = at;
		t->room = room;
	}
	memcpy(t->at + t->size, s, len);
	t->size += len;
	t->at[t->size] = '\0';
}

static void put_escaped(struct text *t, char c)
{
	static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
	const char *at = c ? strchr(from, c) : NULL;
	char s[8];

	if (at)
		put(t, s, (size_t)snprintf(s, sizeof(s), "\\%c", to[at - from]));
	else
		put(t, s, (size_t)snprintf(s, sizeof(s), "\\u%04x", (unsigned)(unsigned char)c));
}

static void put_string(struct text *t, const char *s, size_t len)
{
	size_t done = 0;

	put(t, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		put(t, s + done, i - done);
		put_escaped(t, s[i]);
		done = i + 1;
	}
	put(t, s + done, len - done);
	put(t, "\"", 1);
}

/* The fewest digits that read back as the same number; a point tells it from an integer. */
static void put_float(struct text *t, double x)
{
	char s[40];
	int len = 0;

	if (!isfinite(x)) {
		put(t, "null", 4);
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		len = snprintf(s, sizeof(s) - 2, "%.*g", digits, x);
		if (strtod(s, NULL) == x)
			break;
	}
	put(t, s, (size_t)len);
	if (!strpbrk(s, ".e"))
		put(t, ".0", 2);
}

static void put_base64(struct text *t, const unsigned char *p, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	put(t, "\"", 1);
	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		unsigned bits = (unsigned)p[i] << 16;
		char four[4];

		if (have > 1)
			bits |= (unsigned)p[i + 1] << 8;
		if (have > 2)
			bits |= p[i + 2];
		for (size_t j = 0; j < 4; j++)
			four[j] = j <= have ? digits[bits >> (18 - 6 * j) & 63] : '=';
		put(t, four, 4);
	}
	put(t, "\"", 1);
}

static void put_value(struct text *t, const struct val *v);

static void put_map(struct text *t, const struct val *map)
{
	put(t, "{", 1);
	for (size_t i = 0; i < val_count(map); i++) {
		const char *key;
		size_t len;
		const struct val *v = val_pair(map, i, &key, &len);

		if (i > 0)
			put(t, ",", 1);
		put_string(t, key, len);
		put(t, ":", 1);
		put_value(t, v);
	}
	put(t, "}", 1);
}

static void put_array(struct text *t, const struct val *array)
{
	put(t, "[", 1);
	for (size_t i = 0; i < val_count(array); i++) {
		if (i > 0)
			put(t, ",", 1);
		put_value(t, val_at(array, i));
	}
	put(t, "]", 1);
}

/* Recursion ends at MSG_DEPTH. */
static void put_value(struct text *t, const struct val *v)
{
	char s[24];
	size_t len = 0;
	const char *p;

	switch (val_type(v)) {
	case VAL_NIL:
		put(t, "null", 4);
		break;
	case VAL_BOOL:
		p = val_bool(v, false) ? "true" : "false";
		put(t, p, strlen(p));
		break;
	case VAL_INT:
		put(t, s, (size_t)snprintf(s, sizeof(s), "%" PRId64, val_int(v, 0)));
		break;
	case VAL_FLOAT:
		put_float(t, val_float(v, 0));
		break;
	case VAL_STR:
		p = val_str(v, &len);
		put_string(t, p, len);
		break;
	case VAL_BIN:
		p = val_bin(v, &len);
		put_base64(t, (const unsigned char *)p, len);
		break;
	case VAL_ARRAY:
		put_array(t, v);
		break;
	case VAL_MAP:
		put_map(t, v);
		break;
	}
}

char *sink_json(const struct sink_reply *r)
{
	struct text t = { 0 };
	locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before;

	if (!c)
		return NULL;
	before = uselocale(c); /* a caller's language may have another decimal point */
	put_value(&t, r ? r->top : NULL);
	uselocale(before);
	freelocale(c);
	if (t.failed) {
		free(t.at);
		return NULL;
	}
	return t.at;
}
