/* UTF-8, told by the first byte and the range that it leaves to the second: all else that could go wrong is a length.
 */
#include "utf8.h"

#include "token.h"

/* Length of a character by its first byte, and the range of its second; 0 for a byte that begins none. */
static int begins(uint8_t first, uint8_t *least, uint8_t *most)
{
	*least = 0x80;
	*most = 0xbf;
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	if (first < 0xe0)
		return 2;
	if (first == 0xe0)
		*least = 0xa0; /* shorter forms exist below */
	if (first == 0xed)
		*most = 0x9f; /* surrogates */
	if (first == 0xf0)
		*least = 0x90;
	if (first == 0xf4)
		*most = 0x8f; /* beyond U+10FFFF */
	return first < 0xf0 ? 3 : 4;
}

int utf8_character(const char *text, size_t len)
{
	uint8_t least, most;
	int bytes;

	if (len == 0)
		return -1;
	bytes = begins((uint8_t)text[0], &least, &most);
	for (int i = 1; i < bytes; i++) {
		uint8_t c;

		if ((size_t)i == len)
			return -1;
		c = (uint8_t)text[i];
		if (c < least || c > most)
			return 0;
		least = 0x80;
		most = 0xbf;
	}
	return bytes;
}

uint32_t utf8_code(const char *text, int bytes)
{
	static const uint8_t lead[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t code = (uint8_t)text[0] & lead[bytes];

	for (int i = 1; i < bytes; i++)
		code = code << 6 | ((uint8_t)text[i] & 0x3f);
	return code;
}

size_t utf8_valid(const char *text, size_t len)
{
	size_t at = 0;
	int bytes;

	while (at < len && (bytes = utf8_character(text + at, len - at)) > 0)
		at += (size_t)bytes;
	return at;
}

size_t utf8_whole(const char *text, size_t len)
{
	for (size_t back = 1; back <= 3 && back <= len; back++)
		if (utf8_character(text + len - back, back) < 0)
			return len - back;
	return len;
}
