/*
 * UTF-8 as Unicode defines it (table 3-7 of its core specification): shortest forms only, no surrogates, nothing above
 * U+10FFFF.
 */
#ifndef ENGINE_UTF8_H
#define ENGINE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of the character at `text`, 1 to 4; 0 when none begins there; -1 when the `len` bytes are the beginning of one
 * that more bytes could complete (also when len is 0).
 */
int utf8_character(const char *text, size_t len);

/* The code point of a character of `bytes` bytes that utf8_character() found. */
uint32_t utf8_code(const char *text, int bytes);

/* Length of the longest prefix that consists of whole characters. */
size_t utf8_valid(const char *text, size_t len);

#endif
