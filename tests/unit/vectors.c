/* Vectors are read line by line, each parsed where it is used. */
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void vectors_open(struct vectors *v, const char *name)
{
	const char *top = getenv("top_srcdir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top && *top ? top : ".", name);
	v->lines = 0;
	v->file = fopen(path, "r");
	if (!v->file)
		fail_msg("cannot open %s", path);
}

int vectors_next(struct vectors *v)
{
	char *rest = v->line;

	if (!fgets(v->line, sizeof(v->line), v->file)) {
		fclose(v->file);
		return 0;
	}
	v->lines++;
	v->line[strcspn(v->line, "\n")] = '\0';
	for (int i = 0; i < FIELDS; i++)
		v->field[i] = strsep(&rest, "\t");
	return 1;
}

size_t vectors_text(const char *hex, char *to, size_t room)
{
	size_t len = strlen(hex) / 2;
	char digits[3] = "";

	assert_true(len <= room);
	for (size_t i = 0; i < len; i++) {
		memcpy(digits, hex + 2 * i, 2);
		to[i] = (char)strtol(digits, NULL, 16);
	}
	return len;
}

size_t vectors_numbers(const char *list, int32_t *to, size_t room)
{
	size_t count = 0;
	char *end;

	for (; *list; list = end + (*end == ' ')) {
		assert_true(count < room);
		to[count++] = (int32_t)strtol(list, &end, 10);
		assert_true(end > list);
	}
	return count;
}
