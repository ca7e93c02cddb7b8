/*
 * How `sink` fails: one table of exit codes, one way to say why.
 *
 * A function of the client that may fail returns one of these codes, 0 when all went well, and has told the person the
 * reason already, on stderr, in the form "sink: …". Only main() ends the process with it.
 */
#ifndef CLIENT_FAIL_H
#define CLIENT_FAIL_H

#include <stdarg.h>
#include <stddef.h>

#include "sink.h"

enum fail_code {
	FAIL_NOT = 0,
	FAIL_FAILED = 1,
	FAIL_USAGE = 2,
	FAIL_UNREACHABLE = 3,
	FAIL_ABSENT = 4,
	FAIL_BUSY = 5,
	FAIL_MODEL = 6,
	FAIL_CUT = 7,
	FAIL_TIMEOUT = 124,
	FAIL_INTERRUPTED = 130,
};

struct fail_row {
	enum fail_code code;
	const char *meaning;
};

/* All codes with their meanings, for the help text. */
const struct fail_row *fail_rows(size_t *count);

/* Says why and returns `code`: `return fail(FAIL_USAGE, "…", …);`. */
int fail(enum fail_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The exit code for an error of the protocol by its name, such as "enoent"; FAIL_FAILED for one that is not known. */
enum fail_code fail_of(const char *error_name);

/* Says the last error of a connection (`s` may be NULL: of the attempt to connect) and returns its exit code. */
int fail_sink(const struct sink *s);

#endif
