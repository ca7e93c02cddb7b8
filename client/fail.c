/*
 * Exit codes and the words that go with them. The table is read by the help text, by sink(1)'s test and by scripts, so
 * that a code never means two things; codes of the protocol travel as names, which outlive their numbers.
 */
#include "fail.h"

#include <stdio.h>
#include <string.h>

#include "term.h"

static const struct fail_row rows[] = {
	{ FAIL_NOT, "all went well" },
	{ FAIL_FAILED, "something failed; the message says what" },
	{ FAIL_USAGE, "wrong usage, or a value that is out of its range" },
	{ FAIL_UNREACHABLE, "no daemon answers" },
	{ FAIL_ABSENT, "no such conversation, message or event" },
	{ FAIL_BUSY, "busy: the conversation is answering, or a limit of the daemon is reached" },
	{ FAIL_MODEL, "no model is known, or it cannot be loaded" },
	{ FAIL_CUT, "the answer was cut by its length and --strict was given" },
	{ FAIL_TIMEOUT, "the time given by --timeout is over" },
	{ FAIL_INTERRUPTED, "interrupted, or the answer was stopped" },
};

static const struct {
	const char *name;
	enum fail_code code;
} names[] = {
	{ "einval", FAIL_USAGE }, { "enoent", FAIL_ABSENT },	 { "egone", FAIL_ABSENT },
	{ "ebusy", FAIL_BUSY },	  { "econn", FAIL_UNREACHABLE }, { "etimedout", FAIL_TIMEOUT },
};

const struct fail_row *fail_rows(size_t *count)
{
	*count = sizeof(rows) / sizeof(rows[0]);
	return rows;
}

int fail(enum fail_code code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	term_complain(fmt, args);
	va_end(args);
	return (int)code;
}

enum fail_code fail_of(const char *error_name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].name, error_name) == 0)
			return names[i].code;
	return FAIL_FAILED;
}

int fail_sink(const struct sink *s)
{
	return fail(fail_of(sink_error_name(sink_error(s))), "%s", sink_error_text(s));
}
