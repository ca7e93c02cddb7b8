/*
 * Owns what is held back of an answer. The held text is short: a stop string has at most 256 bytes, a character four.
 */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

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
	*a = (struct answer){ .settings = *s };
}

void answer_release(struct answer *a)
{
	text_release(&a->held);
	free(a->id);
	free(a->logprob);
	*a = (struct answer){ 0 };
}

void answer_sent(struct answer *a)
{
	a->tokens = 0;
}

static int keep_token(struct answer *a, int32_t id, double logprob, struct err *e)
{
	if (a->tokens == a->room) {
		size_t room = a->room ? 2 * a->room : 16;
		int32_t *ids = realloc(a->id, room * sizeof(*ids));
		double *logprobs;

		if (ids)
			a->id = ids;
		logprobs = realloc(a->logprob, room * sizeof(*logprobs));
		if (logprobs)
			a->logprob = logprobs;
		if (!ids || !logprobs)
			return err_set(e, SINK_ENOMEM, "There is no memory for the tokens of an answer.");
		a->room = room;
	}
	a->id[a->tokens] = id;
	a->logprob[a->tokens++] = logprob;
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

int answer_take(struct answer *a, int32_t id, double logprob, const char *bytes, size_t len, struct text *out,
		bool *stopped, struct err *e)
{
	size_t whole, stop, ready;
	int rc;

	*stopped = false;
	if ((rc = keep_token(a, id, logprob, e)) < 0 || (rc = text_add(&a->held, bytes, len, e)) < 0)
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
	struct answer ahead = { .settings = a->settings };
	size_t n = 0;

	if (a->settings.stops && text_add(&ahead.held, a->held.at, a->held.len, NULL) < 0)
		return 0;
	for (; n < count && !vocab_is_end(v, id[n]); n++) {
		const struct gguf_str piece = vocab_piece(v, id[n], false);
		size_t whole;

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
