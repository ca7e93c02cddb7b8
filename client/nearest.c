/* Optimal string alignment over three rows; words longer than WORD_MAX are never near anything. */
#include "nearest.h"

#include <string.h>

enum { WORD_MAX = 40 };

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

static size_t distance(const char *a, size_t alen, const char *b, size_t blen)
{
	size_t rows[3][WORD_MAX + 1];

	for (size_t j = 0; j <= blen; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= alen; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= blen; j++) {
			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < row[j])
				row[j] = two[j - 2] + 1;
		}
	}
	return rows[alen % 3][blen];
}

const char *nearest(const char *word, size_t len, const char *const *words, size_t count)
{
	const char *best = NULL;
	size_t least = WORD_MAX;

	if (len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t other = strlen(words[i]), longer = other > len ? other : len, d;

		if (other > WORD_MAX)
			continue;
		d = distance(word, len, words[i], other);
		if (d < least && d <= (longer < 3 ? 1 : longer / 3)) {
			least = d;
			best = words[i];
		}
	}
	return best;
}
