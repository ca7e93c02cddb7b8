/* Ids: random ones, and those of responses, which are numbers and the conversation's name in hexadecimal digits. */
#include "http_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "buf.h"

static uint64_t draw(void)
{
	uint64_t n = 0;

	/* Eight bytes are given as a whole, or not at all before the system has any. */
	if (getrandom(&n, sizeof(n), 0) != sizeof(n))
		n = (uint64_t)(uintptr_t)&n;
	return n;
}

void http_id_hidden(bool system, char ret[HTTP_NAME_MOST])
{
	snprintf(ret, HTTP_NAME_MOST, HTTP_HIDDEN "%c%016" PRIx64, system ? 's' : 'd', draw());
}

bool http_id_is_hidden(const char *name)
{
	return strncmp(name, HTTP_HIDDEN, strlen(HTTP_HIDDEN)) == 0 &&
	       strspn(name + strlen(HTTP_HIDDEN) + 1, "0123456789abcdef") == 16 &&
	       strlen(name) == strlen(HTTP_HIDDEN) + 17;
}

bool http_id_has_system(const char *name)
{
	return name[strlen(HTTP_HIDDEN)] == 's';
}

void http_id_random(const char *prefix, char *ret, size_t size)
{
	snprintf(ret, size, "%s%016" PRIx64 "%08" PRIx32, prefix, draw(), (uint32_t)draw());
}

void http_id_write(const struct http_response_id *id, char ret[HTTP_RESPONSE_MOST])
{
	int n = snprintf(ret, HTTP_RESPONSE_MOST, "resp_%c%" PRId64 "_%" PRId64 "_%" PRId64 "_%" PRId64 "_",
			 id->stored ? 's' : 't', id->message, id->seq, id->created, id->cached);

	for (const char *c = id->name; *c && n + 3 < HTTP_RESPONSE_MOST; c++)
		n += snprintf(ret + n, (size_t)(HTTP_RESPONSE_MOST - n), "%02x", (unsigned char)*c);
}

/* One number and the underscore behind it. */
static bool take_number(const char **at, int64_t *ret)
{
	int64_t n = 0;
	int digits = 0;

	for (; **at >= '0' && **at <= '9' && digits < 18; digits++)
		n = n * 10 + *(*at)++ - '0';
	*ret = n;
	return digits > 0 && *(*at)++ == '_';
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_id_read(const char *text, struct http_response_id *ret)
{
	const char *at = text + 6;
	size_t n = 0;

	if (strncmp(text, "resp_s", 6) != 0 && strncmp(text, "resp_t", 6) != 0)
		return false;
	*ret = (struct http_response_id){ .stored = text[5] == 's' };
	if (!take_number(&at, &ret->message) || !take_number(&at, &ret->seq) || !take_number(&at, &ret->created) ||
	    !take_number(&at, &ret->cached))
		return false;
	for (; at[0] && at[1]; at += 2) {
		int high = digit(at[0]), low = digit(at[1]);

		if (high < 0 || low < 0 || (high | low) == 0 || n + 1 >= HTTP_NAME_MOST)
			return false;
		ret->name[n++] = (char)(high * 16 + low);
	}
	return !*at && n > 0 && ret->seq > 0 && buf_utf8(ret->name, n) == n;
}

bool http_id_name(const char *text, char ret[HTTP_NAME_MOST])
{
	size_t n = 0;

	while (*text == '.' || *text == '-' || *text == ' ')
		text++;
	for (; *text && n + 1 < HTTP_NAME_MOST; text++) {
		unsigned char c = (unsigned char)*text;

		ret[n++] = c < 0x20 || c == 0x7f || strchr("/@=", c) ? '-' : (char)c;
	}
	while (n && (ret[n - 1] == ' ' || (n + 1 == HTTP_NAME_MOST && (ret[n - 1] & 0xc0) == 0x80)))
		n--; /* a character that was cut goes as a whole, with its first byte below */
	if (n && buf_utf8(ret, n) != n)
		n = buf_utf8(ret, n);
	ret[n] = '\0';
	return n > 0;
}
