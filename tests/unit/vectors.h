/*
 * Reads the vectors of tests/golden: one a line, fields separated by tabs, texts in hexadecimal, lists of numbers
 * separated by spaces. What is wrong with a file fails the test.
 */
#ifndef TESTS_VECTORS_H
#define TESTS_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { FIELDS = 4, FIELD_BYTES = 1 << 16 };

struct vectors {
	FILE *file;
	size_t lines;
	char line[FIELD_BYTES];
	char *field[FIELDS]; /* of the line that was read last; NULL behind the last one */
};

/* Opens tests/golden/NAME of the source tree, which $top_srcdir names, else the working directory. */
void vectors_open(struct vectors *v, const char *name);
int vectors_next(struct vectors *v); /* 0 at the end, after closing the file */

/* Bytes of a text in hexadecimal; returns their count. */
size_t vectors_text(const char *hex, char *to, size_t room);
/* The numbers of a list; returns their count. */
size_t vectors_numbers(const char *list, int32_t *to, size_t room);

#endif
