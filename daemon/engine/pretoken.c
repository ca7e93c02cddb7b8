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

/* Letters by case, as o200k and tekken cut words. */
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define WORD_LOWER "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+"
#define WORD_UPPER "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define MARKS_PATHS MARKS_GPT2 "[\\r\\n/]*|[" SPACE "]*[\\r\\n]+"

enum { PASSES = 5 };

/*
 * The passes are made one after the other, each over what the one before made of the text: what an expression finds is
 * a piece, and so is what lies between. The expression of a single pass finds everything.
 */
struct definition {
	const char *names; /* with blanks between them; the first is the one to name */
	const char *pass[PASSES];
	bool whole_first, adds_bos;
};

#define GPT2 WORDS_GPT2 "| ?\\p{N}+|" MARKS_GPT2 "|" SPACES
#define LLAMA3 WORDS_LLAMA "|\\p{N}{1,3}|" MARKS_LLAMA "|" SPACES

static const struct definition rows[] = {
	{ "gpt-2 gpt-neox olmo mpt phi-2 jais trillion gigachat mellum modern-bert", { GPT2 }, false, false },
	/* Digits are cut out first, each alone; the GPT-2 expression then sees the text between two of them. */
	{ "smollm starcoder refact codeshell exaone minerva-7b",
	  { WORDS_GPT2 "|\\p{N}|" MARKS_GPT2 "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+" },
	  false,
	  false },
	{ "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2", { LLAMA3 }, true, true },
	{ "dbrx smaug-bpe", { LLAMA3 }, false, false },
	{ "glm4", { LLAMA3 }, true, false },
	{ "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez",
	  { WORDS_LLAMA "|\\p{N}|" MARKS_LLAMA "|" SPACES },
	  false,
	  false },
	{ "qwen35",
	  { "'(?i:s|t|re|ve|m|ll|d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE
	    "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES },
	  false,
	  false },
	{ "gpt-4o llama4",
	  { WORD_LOWER SUFFIX "|" WORD_UPPER SUFFIX "|\\p{N}{1,3}|" MARKS_PATHS "|" SPACES },
	  false,
	  false },
	{ "tekken", { WORD_LOWER "|" WORD_UPPER "|\\p{N}|" MARKS_PATHS "|" SPACES }, true, true },
	{ "falcon", { "[\\p{P}$+<=>^~|`]+", GPT2, "[0-9]{3}" }, false, false },
	{ "deepseek-coder",
	  { "[\\r\\n]", "[" SPACE "]?\\p{L}+", "[" SPACE "]?\\p{P}+",
	    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}" },
	  false,
	  false },
	{ "deepseek-v3",
	  { "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
	    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|[" SPACE
	    "]*[\\r\\n]+|" SPACES },
	  false,
	  false },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

struct pretoken {
	const struct definition *row;
	pcre2_code *code[PASSES];
	int passes;
};

static int unknown(struct gguf_str name, struct err *e)
{
	char shown[GGUF_SHOWN], list[160] = "";
	size_t at = 0;

	for (size_t i = 0; i < ROWS; i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%.*s", i ? ", " : "",
				       (int)strcspn(rows[i].names, " "), rows[i].names);
	return err_set(e, SINK_EINVAL, "The pre-tokenizer \"%s\" is not supported; these are: %s.",
		       gguf_shown(name, shown), list);
}

static bool has_name(const struct definition *row, struct gguf_str name)
{
	for (const char *at = row->names; *at; at += strspn(at, " ")) {
		size_t len = strcspn(at, " ");

		if (len == name.len && memcmp(at, name.at, len) == 0)
			return true;
		at += len;
	}
	return false;
}

static int compile(struct pretoken *p, const char *pattern, struct err *e)
{
	/* The expression of a single pass leaves nothing between two matches. */
	uint32_t options = PCRE2_UTF | (p->row->pass[1] ? 0 : PCRE2_ANCHORED);
	PCRE2_SIZE at;
	int cause;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &cause, &at, NULL);

	if (!code)
		return err_set(e, SINK_ENOMEM, "The pre-tokenizer %s cannot be compiled (PCRE2 error %d at %zu).",
			       p->row->names, cause, at);
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where the system forbids it, the interpreter serves */
	p->code[p->passes++] = code;
	return 0;
}

int pretoken_new(struct gguf_str name, struct pretoken **ret, struct err *e)
{
	const struct definition *row = NULL;
	struct pretoken *p;
	int code = 0;

	for (size_t i = 0; i < ROWS && !row; i++)
		row = has_name(&rows[i], name) ? &rows[i] : NULL;
	if (!row)
		return unknown(name, e);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a pre-tokenizer.");
	p->row = row;
	for (int i = 0; !code && i < PASSES && row->pass[i]; i++)
		code = compile(p, row->pass[i], e);
	if (code) {
		pretoken_free(p);
		return code;
	}
	*ret = p;
	return 0;
}

void pretoken_free(struct pretoken *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->passes; i++)
		pcre2_code_free(p->code[i]);
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

static int split_pass(const struct splitter *s, int pass, const char *text, size_t len, struct err *e);

/* What a pass made is cut further by the next one; behind the last one it is a piece. */
static int pass_on(const struct splitter *s, int pass, const char *text, size_t len, struct err *e)
{
	if (!len)
		return 0;
	return pass + 1 < s->p->passes ? split_pass(s, pass + 1, text, len, e) : s->piece(s->arg, text, len, e);
}

/* Cuts a run of whole characters. */
static int split_pass(const struct splitter *s, int pass, const char *text, size_t len, struct err *e)
{
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
	size_t begin, end;
	int code = 0;

	for (size_t at = 0; !code && at < len; at = end) {
		int found = pcre2_match(s->p->code[pass], (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, s->match,
					s->limits);

		if (found == PCRE2_ERROR_NOMEMORY)
			return err_set(e, SINK_ENOMEM, "There is no memory left to tokenize a text of %zu bytes.", len);
		if (found < 0 && (found != PCRE2_ERROR_NOMATCH || s->p->passes == 1))
			return err_set(e, SINK_EINVAL, "The pre-tokenizer %s gave up at byte %zu (PCRE2 error %d).",
				       s->p->row->names, at, found);
		begin = found < 0 ? len : range[0]; /* the ranges are overwritten below */
		end = found < 0 ? len : range[1];
		code = pass_on(s, pass, text + at, begin - at, e);
		if (!code)
			code = pass_on(s, pass, text + begin, end - begin, e);
	}
	return code;
}

static int split(const struct splitter *s, const char *text, size_t len, struct err *e)
{
	int code = 0;

	while (!code && len) {
		size_t run = utf8_valid(text, len);

		code = split_pass(s, 0, text, run, e);
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
