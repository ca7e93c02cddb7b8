/*
 * Owns the level and the form of a line. A line is built whole and written by one call, so that lines of several
 * threads or processes on one terminal never mix.
 */
#include "log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int priority; /* of syslog(3), as the journal reads it */
} levels[LOG_LEVELS] = {
	[LOG_ERROR] = { "error", 3 },
	[LOG_WARNING] = { "warning", 4 },
	[LOG_INFO] = { "info", 6 },
	[LOG_DEBUG] = { "debug", 7 },
};

static enum log_level shown = LOG_INFO;

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

int log_level_find(const char *name)
{
	for (int i = 0; i < LOG_LEVELS; i++)
		if (strcmp(levels[i].name, name) == 0)
			return i;
	return -1;
}

void log_set_level(enum log_level most)
{
	shown = most;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list args;
	int n;
	size_t len;

	if (level > shown)
		return;
	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, sizeof(line), "<%d>", levels[level].priority);
	else
		n = snprintf(line, sizeof(line), "sinkd: %s: ", levels[level].name);
	va_start(args, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
	va_end(args);
	len = strlen(line);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nobody is left to tell */
}
