/* Owns the form of `sampling` on the wire: one table of its numbers, with the range that the protocol states for each.
 */
#include "settings.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#define SEED_MOST (INT64_MAX - 1) /* a larger number of the wire is read as INT64_MAX, and so refused */

static const struct {
	const char *key;
	size_t offset;
} floats[] = {
	{ "temperature", offsetof(struct settings, how.temperature) },
	{ "top_p", offsetof(struct settings, how.top_p) },
	{ "min_p", offsetof(struct settings, how.min_p) },
	{ "repetition_penalty", offsetof(struct settings, how.repetition_penalty) },
	{ "presence_penalty", offsetof(struct settings, how.presence_penalty) },
	{ "frequency_penalty", offsetof(struct settings, how.frequency_penalty) },
};

static const struct {
	const char *key;
	size_t offset;
	int64_t most;
} integers[] = {
	{ "top_k", offsetof(struct settings, how.top_k), INT32_MAX },
	{ "penalty_last", offsetof(struct settings, how.penalty_last), 8192 },
	{ "max_tokens", offsetof(struct settings, max_tokens), INT32_MAX },
	{ "top_logprobs", offsetof(struct settings, top_logprobs), LIKELIEST_MOST },
};

enum { FLOATS = sizeof(floats) / sizeof(floats[0]), INTEGERS = sizeof(integers) / sizeof(integers[0]) };

static int read_numbers(const struct val *map, struct settings *s, struct err *e)
{
	for (size_t i = 0; i < FLOATS; i++)
		if (msg_float_or(map, floats[i].key, (double *)((char *)s + floats[i].offset), e) < 0)
			return SINK_EINVAL;
	for (size_t i = 0; i < INTEGERS; i++) {
		int64_t *field = (int64_t *)((char *)s + integers[i].offset);

		if (msg_int_or(map, integers[i].key, 0, integers[i].most, field, e) < 0)
			return SINK_EINVAL;
	}
	return 0;
}

static int read_stops(const struct val *map, struct settings *s, struct err *e)
{
	const struct val *list = val_get(map, "stop");

	if (!list)
		return 0;
	if (val_type(list) != VAL_ARRAY || val_count(list) > STOP_MAX)
		return err_set(e, SINK_EINVAL, "\"stop\" must be a list of at most %d strings.", STOP_MAX);
	for (size_t i = 0; i < val_count(list); i++) {
		size_t len;
		const char *text = val_str(val_at(list, i), &len);

		if (!text || len == 0 || len > STOP_BYTES)
			return err_set(e, SINK_EINVAL, "Each string of \"stop\" must have 1 to %d bytes.", STOP_BYTES);
		memcpy(s->stop[i].text, text, len);
		s->stop[i].text[len] = '\0';
		s->stop[i].len = len;
	}
	s->stops = val_count(list);
	return 0;
}

void settings_copy(struct settings *to, const struct settings *from)
{
	*to = *from;
	constraint_hold(to->constraint);
}

void settings_release(struct settings *s)
{
	constraint_drop(s->constraint);
	s->constraint = NULL;
}

/* The constraint of `map`, instead of the one that is there. */
static int read_constraint(const struct val *map, struct settings *s, bool looks, struct err *e)
{
	const struct grammar *g;
	struct constraint *c;
	bool given;
	int rc = constraint_read(map, &c, &given, e);

	if (rc == 0 && c && looks)
		rc = constraint_grammar(c, &g, e);
	if (rc < 0) {
		constraint_drop(c);
		return rc;
	}
	if (given) {
		constraint_drop(s->constraint);
		s->constraint = c;
	}
	return 0;
}

static int read_map(const struct val *map, struct settings *s, bool *seeded, bool looks, struct err *e)
{
	struct settings fresh = *s;
	bool drafted = !fresh.undrafted;
	int64_t seed = -1;
	int rc;

	if (map && val_type(map) != VAL_MAP)
		return err_set(e, SINK_EINVAL, "\"sampling\" must be a map.");
	if (read_numbers(map, &fresh, e) < 0 || read_stops(map, &fresh, e) < 0 ||
	    msg_bool_or(map, "logprobs", &fresh.logprobs, e) < 0 || msg_bool_or(map, "speculation", &drafted, e) < 0 ||
	    msg_bool_or(map, "no_thinking", &fresh.unthinking, e) < 0 ||
	    msg_int_or(map, "seed", 0, SEED_MOST, &seed, e) < 0)
		return SINK_EINVAL;
	if (seed >= 0)
		fresh.how.seed = (uint64_t)seed;
	fresh.undrafted = !drafted;
	if (sampling_check(&fresh.how, e) < 0)
		return SINK_EINVAL;
	rc = read_constraint(map, &fresh, looks, e);
	if (rc < 0)
		return rc;
	if (seeded)
		*seeded = seed >= 0;
	*s = fresh;
	return 0;
}

int settings_read(const struct val *map, struct settings *s, bool *seeded, struct err *e)
{
	return read_map(map, s, seeded, true, e);
}

int settings_restore(const struct val *map, struct settings *s, struct err *e)
{
	return read_map(map, s, NULL, false, e);
}

void settings_write(const struct settings *s, struct out *o, const char *key, bool whole)
{
	out_map(o, key);
	for (size_t i = 0; i < FLOATS; i++)
		out_float(o, floats[i].key, *(const double *)((const char *)s + floats[i].offset));
	for (size_t i = 0; i < INTEGERS; i++)
		out_int(o, integers[i].key, *(const int64_t *)((const char *)s + integers[i].offset));
	out_int(o, "seed", (int64_t)s->how.seed);
	out_bool(o, "logprobs", s->logprobs);
	out_bool(o, "speculation", !s->undrafted);
	out_bool(o, "no_thinking", s->unthinking);
	out_array(o, "stop");
	for (size_t i = 0; i < s->stops; i++)
		out_strn(o, NULL, s->stop[i].text, s->stop[i].len);
	out_end(o);
	if (whole)
		constraint_write(s->constraint, o);
	out_end(o);
}

uint64_t settings_random_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u; /* before the pool is filled: early in a boot */
	return seed % SEED_MOST;
}
