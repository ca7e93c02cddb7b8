/* Numbers as people read them: the footer under an answer, ages and sizes in tables. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* strptime */
#endif
#include "format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *format_age(double seconds, char *ret, size_t size)
{
	static const struct {
		double below, unit;
		char letter;
	} units[] = {
		{ 60, 1, 's' },
		{ 3600, 60, 'm' },
		{ 86400, 3600, 'h' },
		{ 14 * 86400, 86400, 'd' },
	};

	if (!(seconds >= 1)) {
		snprintf(ret, size, "now");
		return ret;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (seconds < units[i].below) {
			snprintf(ret, size, "%.0f%c", (double)(int64_t)(seconds / units[i].unit), units[i].letter);
			return ret;
		}
	}
	snprintf(ret, size, "%.0fw", (double)(int64_t)(seconds / (7 * 86400)));
	return ret;
}

double format_moment(const char *text, double now)
{
	static const char *const forms[] = { "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
					     "%Y-%m-%dT%H:%M:%S" };
	static const char letters[] = "smhdw";
	static const double units[] = { 1, 60, 3600, 86400, 7 * 86400 };
	const char *letter;
	char *end;
	double number = strtod(text, &end);

	if (end != text && number >= 0 && *end && !end[1] && (letter = strchr(letters, *end)))
		return now - number * units[letter - letters];
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = { .tm_isdst = -1 };
		const char *rest = strptime(text, forms[i], &tm);

		if (rest && !*rest)
			return (double)mktime(&tm);
	}
	return -1;
}

const char *format_bytes(double bytes, char *ret, size_t size)
{
	static const char *const units[] = { "kB", "MB", "GB", "TB" };
	size_t i = 0;

	if (bytes < 1000) {
		snprintf(ret, size, "%.0f B", bytes);
		return ret;
	}
	/* 999.95 would be shown as 1000.0 */
	for (bytes /= 1000; bytes >= 999.95 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
		bytes /= 1000;
	snprintf(ret, size, "%.1f %s", bytes, units[i]);
	return ret;
}

const char *format_footer(const struct format_usage *u, char *ret, size_t size)
{
	char window[48] = "", kept[32] = "", speed[32] = "", end[48] = "";

	if (u->capacity > 0)
		snprintf(window, sizeof(window), "/%" PRId64, u->capacity);
	if (u->kept > 0)
		snprintf(kept, sizeof(kept), ", %" PRId64 " kept", u->kept);
	if (u->per_s > 0)
		snprintf(speed, sizeof(speed), " · %.*f t/s", u->per_s < 10 ? 1 : 0, u->per_s);
	if (u->finish && strcmp(u->finish, "length") == 0)
		snprintf(end, sizeof(end), " · cut at its limit");
	else if (u->finish && strcmp(u->finish, "end") != 0 && strcmp(u->finish, "stop") != 0)
		snprintf(end, sizeof(end), " · %s", u->finish);
	snprintf(ret, size,
		 "%" PRId64 " prompt (%" PRId64 " cached) · %" PRId64 " new · window %" PRId64 "%s, %" PRId64
		 " pinned%s, %" PRId64 " evicted%s%s",
		 u->prompt, u->cached, u->generated, u->window, window, u->pinned, kept, u->evicted, speed, end);
	return ret;
}

int64_t format_capacity(const char *policy)
{
	const char *end = strstr(policy, ",token="), *at = end ? end : policy + strlen(policy);
	long long n;

	while (at > policy && at[-1] >= '0' && at[-1] <= '9')
		at--;
	n = strtoll(at, NULL, 10);
	return n > 0 ? n : 0;
}

const char *format_horizon(int64_t kept, const char *policy, char *ret, size_t size)
{
	const char *what = strncmp(policy, "anchor:", 7) == 0 ? "anchor" : "separator";
	char above[64] = "";

	if (kept > 0)
		snprintf(above, sizeof(above), " (and %" PRId64 " %s%s of what is above)", kept, what,
			 kept == 1 ? "" : "s");
	snprintf(ret, size, "── the model's memory begins here%s ──", above);
	return ret;
}
