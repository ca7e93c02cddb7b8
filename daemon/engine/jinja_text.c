/*
 * Texts: cutting, joining and changing them, each byte with its origin. Characters are those of UTF-8; a byte that
 * belongs to none is a character of its own. Letters beyond ASCII have no other case here.
 */
#include "jinja_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

struct jinja_value jinja_word(const char *text)
{
	return jinja_string((struct jinja_text){ text, NULL, strlen(text) });
}

struct jinja_text jinja_cut(struct jinja_text s, size_t begin, size_t end)
{
	return (struct jinja_text){ s.at + begin, s.from ? s.from + begin : NULL, end - begin };
}

bool jinja_same(struct jinja_text a, struct jinja_text b)
{
	return a.len == b.len && (!a.len || memcmp(a.at, b.at, a.len) == 0);
}

size_t jinja_character(struct jinja_text s, size_t at)
{
	int bytes = utf8_character(s.at + at, s.len - at);

	return bytes > 0 ? (size_t)bytes : 1;
}

bool jinja_is_space(struct jinja_text s, size_t at, size_t bytes)
{
	uint32_t c = bytes > 1 ? utf8_code(s.at + at, (int)bytes) : (unsigned char)s.at[at];

	if (bytes == 1)
		return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
	return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool is_one_of(struct jinja_text s, size_t at, size_t bytes, const struct jinja_text *of)
{
	if (!of)
		return jinja_is_space(s, at, bytes);
	for (size_t i = 0, n; i < of->len; i += n) {
		n = jinja_character(*of, i);
		if (n == bytes && memcmp(of->at + i, s.at + at, n) == 0)
			return true;
	}
	return false;
}

/* Where the character begins that ends at `end`. */
static size_t before(struct jinja_text s, size_t end)
{
	for (size_t n = 2; n <= 4 && n <= end; n++)
		if (jinja_character(jinja_cut(s, 0, end), end - n) == n)
			return end - n;
	return end - 1;
}

struct jinja_text jinja_strip(struct jinja_text s, const struct jinja_text *of, int ends)
{
	size_t begin = 0, end = s.len;

	while (ends & 1 && begin < end) {
		size_t bytes = jinja_character(s, begin);

		if (!is_one_of(s, begin, bytes, of))
			break;
		begin += bytes;
	}
	while (ends & 2 && begin < end) {
		size_t last = before(s, end);

		if (last < begin || !is_one_of(s, last, end - last, of))
			break;
		end = last;
	}
	return jinja_cut(s, begin, end);
}

const char *jinja_find(struct jinja_run *r, struct jinja_text in, struct jinja_text what)
{
	jinja_steps(r, 1 + in.len / 16);
	return what.len ? (in.len ? memmem(in.at, in.len, what.at, what.len) : NULL) : in.at;
}

size_t jinja_put_utf8(char *to, uint32_t code)
{
	size_t bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	for (size_t i = bytes; i-- > 0; code >>= 6)
		to[i] = (char)(i ? 0x80 | (code & 0x3f) : lead[bytes] | code);
	return bytes;
}

/* ---- writing ---- */

static void make_room(struct jinja_run *r, struct jinja_buffer *b, size_t len)
{
	size_t room = b->room ? b->room : 64;
	char *at;

	if (len <= b->room - b->len)
		return;
	if (len > r->bytes_most)
		jinja_fail(r, SINK_EBUSY, "It takes more than %zu bytes of memory.", r->bytes_most);
	while (room - b->len < len)
		room *= 2;
	at = jinja_take(r, room);
	if (b->len)
		memcpy(at, b->at, b->len);
	if (b->from) {
		uint8_t *from = jinja_take(r, room);

		memcpy(from, b->from, b->len);
		b->from = from;
	}
	b->at = at;
	b->room = room;
}

void jinja_write(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text s)
{
	if (!s.len)
		return;
	make_room(r, b, s.len);
	if (s.from && !b->from)
		b->from = jinja_take(r, b->room);
	memcpy(b->at + b->len, s.at, s.len);
	if (s.from)
		memcpy(b->from + b->len, s.from, s.len);
	else if (b->from)
		memset(b->from + b->len, 0, s.len);
	b->len += s.len;
}

void jinja_write_word(struct jinja_run *r, struct jinja_buffer *b, const char *s)
{
	jinja_write(r, b, (struct jinja_text){ s, NULL, strlen(s) });
}

struct jinja_text jinja_written(const struct jinja_buffer *b)
{
	return (struct jinja_text){ b->at ? b->at : "", b->from, b->len };
}

/* Python's repr of a float: the shortest text that is read as the same number. */
void jinja_write_float(struct jinja_run *r, struct jinja_buffer *b, double d)
{
	char text[40], digits[64];
	int exponent = 0, precision = 1;

	if (d != d || d - d != 0) {
		jinja_write_word(r, b, d != d ? "nan" : d < 0 ? "-inf" : "inf");
		return;
	}
	do {
		snprintf(text, sizeof(text), "%.*e", precision - 1, d);
	} while (strtod(text, NULL) != d && ++precision <= 17);
	exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
	if (exponent < -4 || exponent >= 16) {
		*strchr(text, 'e') = '\0';
		snprintf(digits, sizeof(digits), "%se%c%02d", text, exponent < 0 ? '-' : '+', abs(exponent));
	} else {
		int places = precision - 1 - exponent;

		snprintf(digits, sizeof(digits), "%.*f", places > 1 ? places : 1, d);
	}
	jinja_write_word(r, b, digits);
}

/* ---- changing ---- */

struct jinja_text jinja_replace(struct jinja_run *r, struct jinja_text s, struct jinja_text what, struct jinja_text by,
				int64_t most)
{
	struct jinja_buffer b = { 0 };
	size_t at = 0;

	for (; most != 0; most--) {
		const char *next = jinja_find(r, jinja_cut(s, at, s.len), what);
		size_t to = next ? (size_t)(next - s.at) : s.len;

		if (!next)
			break;
		if (!what.len) { /* between all characters, and at both ends */
			jinja_write(r, &b, by);
			if (at == s.len)
				return jinja_written(&b);
			to = at + jinja_character(s, at);
		}
		jinja_write(r, &b, jinja_cut(s, at, to));
		if (what.len)
			jinja_write(r, &b, by);
		at = to + what.len;
	}
	jinja_write(r, &b, jinja_cut(s, at, s.len));
	return jinja_written(&b);
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c & 0x80;
}

static char change_case(char c, bool upper)
{
	if (upper)
		return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

struct jinja_text jinja_case(struct jinja_run *r, struct jinja_text s, char how)
{
	char *to = jinja_take(r, s.len + 1);

	for (size_t i = 0; i < s.len; i++) {
		bool first = how == 'c' ? i == 0 : how == 't' ? i == 0 || !is_letter(s.at[i - 1]) : how == 'u';

		to[i] = change_case(s.at[i], first);
	}
	return (struct jinja_text){ to, s.from, s.len };
}
