/* Owns the definition of separators and anchors by their text, and the reading of lists of ids. */
#include "marks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char anchor_token[] = "<AC>";

static bool is_separator(struct gguf_str s)
{
	return (s.len == 1 && memchr(".,;:?!", s.at[0], 6)) || (s.len > 0 && s.at[s.len - 1] == '\n');
}

static bool ends_sentence(struct gguf_str s)
{
	return s.len == 1 && memchr(".?!", s.at[0], 3);
}

bool marks_trained(const struct vocab *v)
{
	return vocab_find(v, anchor_token) >= 0;
}

int marks_of_vocab(const struct vocab *v, enum marking kind, struct tokens *ret, struct err *e)
{
	int r = 0;

	if (kind == MARKING_NONE)
		return 0;
	if (kind == MARKING_ANCHORS && marks_trained(v))
		return tokens_add(ret, vocab_find(v, anchor_token), e);
	for (size_t i = 0; !r && i < vocab_size(v); i++) {
		const struct gguf_str s = vocab_piece(v, (int32_t)i, false);

		if (kind == MARKING_ANCHORS ? ends_sentence(s) : is_separator(s))
			r = tokens_add(ret, (int32_t)i, e);
	}
	return r;
}

int marks_check(const struct vocab *v, const int32_t *id, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++)
		if (id[i] < 0 || (size_t)id[i] >= vocab_size(v))
			return err_set(e, SINK_EINVAL, "There is no token %d: the vocabulary has %zu.", id[i],
				       vocab_size(v));
	return 0;
}

int marks_parse(const char *text, struct tokens *ret, struct err *e)
{
	static const char between[] = ", \t\r\n[]";
	const size_t before = ret->count;
	int r = 0;

	for (const char *at = text + strspn(text, between); !r && *at; at += strspn(at, between)) {
		char *end;
		long n;

		errno = 0;
		n = strtol(at, &end, 10);
		if (*at < '0' || *at > '9' || errno || n >= INT32_MAX || (*end && !strchr(between, *end)))
			r = err_set(e, SINK_EINVAL, "\"%.20s\" is no token id in a list of them.", at);
		else
			r = tokens_add(ret, (int32_t)n, e);
		at = end > at ? end : at + 1;
	}
	if (!r && ret->count == before)
		r = err_set(e, SINK_EINVAL, "A list of token ids is empty.");
	if (r)
		ret->count = before;
	return r;
}
