/*
 * The pre-tokenizers, one row each. Two things are written out here that the published expressions leave to the regex
 * engine: white space is Unicode's White_Space (PCRE2's \s has one character more), and "not followed by a non-space"
 * sees the end of a piece where a definition has two passes (smollm).
 */
#include "pretoken.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "utf8.h"

/* The inside of a character class. */
#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

#define WORDS_GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+"
#define MARKS_GPT2 " ?[^" SPACE "\\p{L}\\p{N}]+"
#define WORDS_LLAMA "'(?i:s|t|re|ve|m|ll|d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS_LLAMA MARKS_GPT2 "[\\r\\n]*|[" SPACE "]*[\\r\\n]+"
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

struct definition {
	const char *name;
	const char *pattern;
	bool whole_first, adds_bos;
};

static const struct definition rows[] = {
	{ "gpt-2", WORDS_GPT2 "| ?\\p{N}+|" MARKS_GPT2 "|" SPACES, false, false },
	/* Digits are cut out first, each alone; the GPT-2 expression then sees the text between two of them. */
	{ "smollm", WORDS_GPT2 "|\\p{N}|" MARKS_GPT2 "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+", false, false },
	{ "llama-bpe", WORDS_LLAMA "|\\p{N}{1,3}|" MARKS_LLAMA "|" SPACES, true, true },
	{ "qwen2", WORDS_LLAMA "|\\p{N}|" MARKS_LLAMA "|" SPACES, false, false },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

struct pretoken {
	const struct definition *row;
	pcre2_code *code;
};

static int unknown(struct gguf_str name, struct err *e)
{
	char shown[GGUF_SHOWN], list[80] = "";
	size_t at = 0;

	for (size_t i = 0; i < ROWS; i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", rows[i].name);
	return err_set(e, SINK_EINVAL, "The pre-tokenizer \"%s\" is not supported; these are: %s.",
		       gguf_shown(name, shown), list);
}

int pretoken_new(struct gguf_str name, struct pretoken **ret, struct err *e)
{
	const struct definition *row = NULL;
	struct pretoken *p;
	PCRE2_SIZE at;
	int cause;

	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == name.len && memcmp(rows[i].name, name.at, name.len) == 0)
			row = &rows[i];
	if (!row)
		return unknown(name, e);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a pre-tokenizer.");
	p->row = row;
	p->code = pcre2_compile((PCRE2_SPTR)row->pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_ANCHORED, &cause,
				&at, NULL);
	if (!p->code) {
		free(p);
		return err_set(e, SINK_ENOMEM, "The pre-tokenizer %s cannot be compiled (PCRE2 error %d at %zu).",
			       row->name, cause, at);
	}
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where the system forbids it, the interpreter serves */
	*ret = p;
	return 0;
}

void pretoken_free(struct pretoken *p)
{
	if (!p)
		return;
	pcre2_code_free(p->code);
	free(p);
}

bool pretoken_whole_first(const struct pretoken *p)
{
	return p->row->whole_first;
}

bool pretoken_adds_bos(const struct pretoken *p)
{
	return p->row->adds_bos;
}

/* What one call of pretoken_split() needs. */
struct splitter {
	const struct pretoken *p;
	pcre2_match_data *match;
	pcre2_match_context *limits;
	int (*piece)(void *arg, const char *at, size_t len, struct err *e);
	void *arg;
};

/* Cuts a run of whole characters. */
static int split_valid(const struct splitter *s, const char *text, size_t len, struct err *e)
{
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);

	for (size_t at = 0; at < len; at = range[1]) {
		int found = pcre2_match(s->p->code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, s->match, s->limits);
		int code;

		if (found == PCRE2_ERROR_NOMEMORY)
			return err_set(e, SINK_ENOMEM, "There is no memory left to tokenize a text of %zu bytes.", len);
		if (found < 0)
			return err_set(e, SINK_EINVAL, "The pre-tokenizer %s gave up at byte %zu (PCRE2 error %d).",
				       s->p->row->name, at, found);
		code = s->piece(s->arg, text + at, range[1] - at, e);
		if (code)
			return code;
	}
	return 0;
}

static int split(const struct splitter *s, const char *text, size_t len, struct err *e)
{
	int code = 0;

	while (!code && len) {
		size_t run = utf8_valid(text, len);

		code = split_valid(s, text, run, e);
		if (!code && run < len)
			code = s->piece(s->arg, text + run++, 1, e);
		text += run;
		len -= run;
	}
	return code;
}

int pretoken_split(const struct pretoken *p, const char *text, size_t len,
		   int (*piece)(void *arg, const char *at, size_t len, struct err *e), void *arg, struct err *e)
{
	struct splitter s = { p, pcre2_match_data_create(1, NULL), pcre2_match_context_create(NULL), piece, arg };
	int code = SINK_ENOMEM;

	if (s.match && s.limits) {
		/* The expressions step back over a run of spaces at most, once a match: a few steps a byte. */
		size_t steps = len < UINT32_MAX / 16 ? 1000 + 16 * len : UINT32_MAX;

		pcre2_set_match_limit(s.limits, (uint32_t)steps);
		code = split(&s, text, len, e);
	} else {
		err_set(e, SINK_ENOMEM, "There is no memory left to tokenize a text.");
	}
	pcre2_match_data_free(s.match);
	pcre2_match_context_free(s.limits);
	return code;
}
