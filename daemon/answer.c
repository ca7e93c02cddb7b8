/*
 * Owns what is held back of an answer. The held text is short: a stop string has at most 256 bytes, a character four.
 */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

enum { ANSWER_MOST = 32768 }; /* tokens under a constraint, where there is no limit: it ends */

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

int text_add(struct text *t, const char *bytes, size_t len, struct err *e)
{
	if (t->room - t->len <= len) {
		size_t room = (t->len + len + 1) / 2 * 3 + 32;
		char *more = realloc(t->at, room);

		if (!more)
			return err_set(e, SINK_ENOMEM, "There is no memory for a text of %zu bytes.", room);
		t->at = more;
		t->room = room;
	}
	if (len)
		memcpy(t->at + t->len, bytes, len);
	t->len += len;
	t->at[t->len] = '\0';
	return 0;
}

void text_cut(struct text *t, size_t from, size_t count)
{
	if (!count)
		return;
	memmove(t->at + from, t->at + from + count, t->len - from - count + 1);
	t->len -= count;
}

void text_release(struct text *t)
{
	free(t->at);
	*t = (struct text){ 0 };
}

int text_add_valid(struct text *t, const char *bytes, size_t len, struct err *e)
{
	while (len) {
		size_t good = utf8_valid(bytes, len);

		if (text_add(t, bytes, good, e) < 0)
			return SINK_ENOMEM;
		bytes += good;
		len -= good;
		if (!len)
			break;
		if (text_add(t, replacement, sizeof(replacement) - 1, e) < 0)
			return SINK_ENOMEM;
		bytes++;
		len--;
	}
	return 0;
}

void answer_init(struct answer *a, const struct settings *s)
{
	*a = (struct answer){ 0 };
	settings_copy(&a->settings, s);
	if (s->constraint)
		a->settings.stops = 0;
}

int64_t answer_left(const struct answer *a, int64_t written)
{
	return (a->settings.max_tokens ? a->settings.max_tokens : ANSWER_MOST) - written;
}

int answer_guide(struct answer *a, const struct trie *t, struct err *e)
{
	const struct grammar *g;
	int64_t least;
	int rc;

	if (!a->settings.constraint)
		return 0;
	rc = constraint_grammar(a->settings.constraint, &g, e);
	if (rc == 0)
		rc = guide_new(g, t, &a->guide, e);
	if (rc < 0)
		return rc;
	least = guide_least(a->guide);
	if (least <= answer_left(a, 0))
		return 0;
	guide_free(a->guide);
	a->guide = NULL;
	return err_set(e, SINK_EINVAL, "What the answer must be takes %lld tokens; max_tokens is %lld.",
		       (long long)least, (long long)answer_left(a, 0));
}

int answer_prepare(struct answer *a, struct err *e)
{
	if (a->explained || !a->settings.top_logprobs)
		return 0;
	a->explained = calloc(1 + DRAFT_MOST, sizeof(*a->explained));
	return a->explained ? 0 : err_set(e, SINK_ENOMEM, "There is no memory for the likeliest tokens.");
}

void answer_release(struct answer *a)
{
	text_release(&a->held);
	guide_free(a->guide);
	settings_release(&a->settings);
	free(a->id);
	free(a->logprob);
	free(a->likeliest);
	free(a->explained);
	*a = (struct answer){ 0 };
}

void answer_sent(struct answer *a)
{
	a->tokens = 0;
}

static int make_room(struct answer *a, struct err *e)
{
	const size_t room = a->room ? 2 * a->room : 16;
	int32_t *ids = realloc(a->id, room * sizeof(*ids));
	double *logprobs;
	struct likeliest *likeliest = NULL;

	if (ids)
		a->id = ids;
	logprobs = realloc(a->logprob, room * sizeof(*logprobs));
	if (logprobs)
		a->logprob = logprobs;
	if (a->settings.top_logprobs)
		likeliest = realloc(a->likeliest, room * sizeof(*likeliest));
	if (likeliest)
		a->likeliest = likeliest;
	if (!ids || !logprobs || (a->settings.top_logprobs && !likeliest))
		return err_set(e, SINK_ENOMEM, "There is no memory for the tokens of an answer.");
	a->room = room;
	return 0;
}

static int keep_token(struct answer *a, const struct drawn *d, struct err *e)
{
	static const struct likeliest none;

	if (a->tokens == a->room && make_room(a, e) < 0)
		return SINK_ENOMEM;
	a->id[a->tokens] = d->id;
	a->logprob[a->tokens] = d->logprob;
	if (a->likeliest)
		a->likeliest[a->tokens] = d->likeliest ? *d->likeliest : none;
	a->tokens++;
	return 0;
}

/* Where the first of the stop strings begins in the held text, or `len` when none is there. */
static size_t find_stop(const struct answer *a, size_t len)
{
	size_t first = len;

	for (size_t i = 0; i < a->settings.stops; i++) {
		const char *at = memmem(a->held.at, len, a->settings.stop[i].text, a->settings.stop[i].len);

		if (at && (size_t)(at - a->held.at) < first)
			first = (size_t)(at - a->held.at);
	}
	return first;
}

/* Length of the part that no stop string can begin in any more. */
static size_t settled(const struct answer *a, size_t len)
{
	size_t least = len;

	for (size_t i = 0; i < a->settings.stops; i++) {
		size_t longest = a->settings.stop[i].len - 1;
		size_t from = len > longest ? len - longest : 0;

		for (; from < least; from++)
			if (memcmp(a->held.at + from, a->settings.stop[i].text, len - from) == 0)
				least = from;
	}
	return least;
}

struct gguf_str answer_piece(struct answer *a, const struct vocab *v, int32_t id)
{
	return a->guide ? vocab_piece(v, id, false) : vocab_next_piece(v, id, false, &a->front);
}

int answer_take(struct answer *a, const struct drawn *d, const char *bytes, size_t len, struct text *out, bool *stopped,
		struct err *e)
{
	size_t whole, stop, ready;
	int rc;

	*stopped = false;
	if ((rc = keep_token(a, d, e)) < 0 || (rc = text_add(&a->held, bytes, len, e)) < 0)
		return rc;
	whole = utf8_whole(a->held.at, a->held.len);
	stop = find_stop(a, whole);
	*stopped = stop < whole;
	ready = *stopped ? stop : settled(a, whole);
	rc = text_add_valid(out, a->held.at, ready, e);
	if (rc < 0)
		return rc;
	text_cut(&a->held, 0, *stopped ? a->held.len : ready);
	return 0;
}

size_t answer_foresees(const struct answer *a, const struct vocab *v, const int32_t *id, size_t count)
{
	struct answer ahead = { .settings = a->settings, .guide = a->guide, .front = a->front };
	size_t n = 0;

	if (a->guide)
		guide_look(a->guide);
	if (a->settings.stops && text_add(&ahead.held, a->held.at, a->held.len, NULL) < 0)
		return 0;
	for (; n < count && !vocab_is_end(v, id[n]); n++) {
		const struct gguf_str piece = answer_piece(&ahead, v, id[n]);
		size_t whole;

		if (a->guide && (!guide_see(a->guide, id[n]) || guide_sees_end(a->guide)))
			break;
		if (!a->settings.stops)
			continue;
		if (text_add(&ahead.held, piece.at, piece.len, NULL) < 0)
			break;
		whole = utf8_whole(ahead.held.at, ahead.held.len);
		if (find_stop(&ahead, whole) < whole)
			break;
	}
	text_release(&ahead.held);
	return n;
}

int answer_end(struct answer *a, struct text *out, struct err *e)
{
	int rc = text_add_valid(out, a->held.at, a->held.len, e);

	text_cut(&a->held, 0, a->held.len);
	return rc;
}
