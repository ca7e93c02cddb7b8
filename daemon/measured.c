/*
 * Owns the form of the file that sinkd-bench leaves beside a model. Who reads it and who writes it are two programs, so
 * what the one may write stands next to what the other believes.
 */
#include "measured.h"

#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int measured_path(const char *model, char *path, struct err *e)
{
	char *real = realpath(model, NULL);
	int n;

	if (!real)
		return err_set(e, SINK_ENOENT, "\"%s\" is not there: %s.", model, strerror(errno));
	n = snprintf(path, MEASURED_PATH, "%s.sinks", real);
	free(real);
	return n < MEASURED_PATH ? 0 : err_set(e, SINK_ENOENT, "The path of \"%s\" is too long.", model);
}

enum { HAS_FINGERPRINT = 1, HAS_SINKS = 2, HAS_TOKEN = 4 };

struct reading {
	struct measured m;
	unsigned has;
	char bad[64]; /* the name of what is wrong, or "" */
};

/* A whole number within 0..most in this base, all of the text; a sign or a blank before it is none. */
static bool read_number(const char *text, int base, uint64_t most, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, base);
	return (base == 16 ? strlen(text) == 16 : *text >= '0' && *text <= '9') &&
	       strspn(text, "0123456789abcdef") == strlen(text) && !*end && !errno && *ret <= most;
}

static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	unsigned is = 0;
	uint64_t n = 0;
	bool good = true;

	if (strcmp(section, "sinks") != 0) {
		return 1;
	} else if (strcmp(name, "fingerprint") == 0) {
		is = HAS_FINGERPRINT;
		good = read_number(value, 16, UINT64_MAX, &n);
		r->m.fingerprint = n;
	} else if (strcmp(name, "sinks") == 0) {
		is = HAS_SINKS;
		good = read_number(value, 10, MEASURED_MOST, &n);
		r->m.sinks = (int32_t)n;
	} else if (strcmp(name, "token") == 0) {
		is = HAS_TOKEN;
		good = read_number(value, 10, INT32_MAX - 1, &n);
		r->m.token = (int32_t)n;
	}
	if ((!good || (r->has & is)) && !*r->bad)
		snprintf(r->bad, sizeof(r->bad), "%s", name);
	r->has |= is;
	return 1;
}

int measured_read(const char *path, struct measured *ret, struct err *e)
{
	struct reading r = { .m.token = -1 };
	FILE *f = fopen(path, "re");
	int line, trouble;

	if (!f && (errno == ENOENT || errno == ENOTDIR))
		return err_set(e, SINK_ENOENT, "%s is not there.", path);
	if (!f)
		return err_set(e, SINK_EIO, "%s cannot be read: %s.", path, strerror(errno));
	errno = 0;
	line = ini_parse_file(f, take_line, &r);
	trouble = ferror(f) ? errno : 0;
	fclose(f);
	if (trouble)
		return err_set(e, SINK_EIO, "%s cannot be read: %s.", path, strerror(trouble));
	if (line)
		return err_set(e, SINK_EFORMAT, "%s is damaged: line %d is no `name = value`.", path, line);
	if (*r.bad)
		return err_set(e, SINK_EFORMAT, "%s is damaged: %s is given twice, or is no number that it may be.",
			       path, r.bad);
	if ((r.has & (HAS_FINGERPRINT | HAS_SINKS)) != (HAS_FINGERPRINT | HAS_SINKS))
		return err_set(e, SINK_EFORMAT, "%s is damaged: %s is missing.", path,
			       r.has & HAS_FINGERPRINT ? "sinks" : "fingerprint");
	*ret = r.m;
	return 0;
}

/* All of it, on the disk. */
static bool write_all(FILE *f, const struct measured *m, const char *how)
{
	fprintf(f, "; %s\n; Made by sinkd-bench sinks, and followed by sinkd where nobody names a policy.\n\n", how);
	fprintf(f, "[sinks]\nfingerprint = %016" PRIx64 "\nsinks = %" PRId32 "\n", m->fingerprint, m->sinks);
	if (m->token >= 0)
		fprintf(f, "token = %" PRId32 "\n", m->token);
	return fflush(f) == 0 && !ferror(f) && fsync(fileno(f)) == 0;
}

int measured_write(const char *path, const struct measured *m, const char *how, struct err *e)
{
	char made[MEASURED_PATH + 8];
	bool good;
	FILE *f;
	int why;

	snprintf(made, sizeof(made), "%s.new", path);
	f = fopen(made, "we");
	if (!f)
		return err_set(e, SINK_EIO, "%s cannot be written: %s.", path, strerror(errno));
	good = write_all(f, m, how);
	why = errno;
	if (fclose(f) && good) {
		good = false;
		why = errno;
	}
	if (good && rename(made, path)) {
		good = false;
		why = errno;
	}
	if (good)
		return 0;
	unlink(made);
	return err_set(e, SINK_EIO, "%s cannot be written: %s.", path, strerror(why));
}
