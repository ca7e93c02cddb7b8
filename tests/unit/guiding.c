/* Owns the vocabulary and the slow matcher of the tests of grammars. */
#include "guiding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "make_gguf.h"
#include "regex.h"

static void *file;
static struct gguf *gguf;
struct vocab *vocab;
struct trie *trie;

int make_vocabulary(void **state)
{
	struct make_gguf *m = make_gguf_new();
	struct err e;
	size_t size;

	(void)state;
	make_tiny_vocab(m);
	file = make_gguf_finish(m, &size);
	assert_int_equal(gguf_parse(file, size, &gguf, &e), 0);
	assert_int_equal(vocab_new(gguf, &vocab, &e), 0);
	assert_int_equal(trie_new(vocab, &trie, &e), 0);
	return 0;
}

int free_vocabulary(void **state)
{
	(void)state;
	trie_free(trie);
	vocab_free(vocab);
	gguf_close(gguf);
	free(file);
	return 0;
}

/* ---- a matcher that is slow and plainly right ---- */

/* Calls `then` with each end of what matches from `at` on; true as soon as it says true. */
typedef bool follow(const char *at, void *arg);

struct pattern {
	const char *at, *end;
};

static bool match_choice(struct pattern p, const char *at, follow *then, void *arg);

/* The end of the atom that the pattern begins with. */
static const char *atom_end(struct pattern p)
{
	int depth = 0;

	if (*p.at == '\\')
		return p.at + 2;
	if (*p.at == '[')
		return strchr(p.at + 2, ']') + 1;
	if (*p.at != '(')
		return p.at + 1;
	do {
		depth += *p.at == '(';
		depth -= *p.at == ')';
		p.at++;
	} while (depth);
	return p.at;
}

static bool in_class(const char *class, char c)
{
	const bool inverted = class[1] == '^';
	bool found = false;

	for (const char *p = class + 1 + inverted; *p != ']'; p++) {
		if (p[1] == '-' && p[2] != ']') {
			found = found || (c >= p[0] && c <= p[2]);
			p += 2;
		} else {
			found = found || c == *p;
		}
	}
	return found != inverted;
}

static bool match_atom(struct pattern p, const char *at, follow *then, void *arg)
{
	if (*p.at == '(')
		return match_choice((struct pattern){ p.at + (p.at[1] == '?' ? 3 : 1), atom_end(p) - 1 }, at, then,
				    arg);
	if (!*at)
		return false;
	if (*p.at == '[' ? !in_class(p.at, *at) : *p.at == '.' ? *at == '\n' : *at != *(p.at + (*p.at == '\\')))
		return false;
	return then(at + 1, arg);
}

struct repetition {
	struct pattern atom, rest;
	int least, most, done;
	const char *from;
	follow *then;
	void *arg;
};

static bool match_sequence(struct pattern p, const char *at, follow *then, void *arg);

static bool again(const char *at, void *arg)
{
	struct repetition r = *(struct repetition *)arg;
	const bool empty = at == r.from;

	if (r.done >= r.least && match_sequence(r.rest, at, r.then, r.arg))
		return true;
	if (r.done >= r.most || (empty && r.done > r.least))
		return false;
	r.done++;
	r.from = at;
	return match_atom(r.atom, at, again, &r);
}

static bool match_sequence(struct pattern p, const char *at, follow *then, void *arg)
{
	struct repetition r = { .least = 1, .most = 1, .then = then, .arg = arg };

	if (p.at == p.end)
		return then(at, arg);
	r.atom = (struct pattern){ p.at, atom_end(p) };
	p.at = r.atom.end;
	if (p.at < p.end && strchr("*+?", *p.at)) {
		r.least = *p.at == '+';
		r.most = *p.at == '?' ? 1 : 99;
		p.at++;
	} else if (p.at < p.end && *p.at == '{') {
		char *end;

		r.least = r.most = (int)strtol(p.at + 1, &end, 10);
		if (*end == ',') {
			r.most = end[1] == '}' ? 99 : (int)strtol(end + 1, NULL, 10);
		}
		p.at = strchr(p.at, '}') + 1;
	}
	r.rest = p;
	return again(at, &r);
}

static bool match_choice(struct pattern p, const char *at, follow *then, void *arg)
{
	struct pattern one = p;
	int depth = 0;

	for (one.end = p.at; one.end < p.end; one.end++) {
		if (*one.end == '\\') {
			one.end++;
			continue;
		}
		depth += *one.end == '(';
		depth -= *one.end == ')';
		if (*one.end != '|' || depth)
			continue;
		if (match_sequence(one, at, then, arg))
			return true;
		one.at = one.end + 1;
	}
	return match_sequence(one, at, then, arg);
}

static bool at_end(const char *at, void *arg)
{
	(void)arg;
	return !*at;
}

bool matches(const char *pattern, const char *text)
{
	return match_choice((struct pattern){ pattern, pattern + strlen(pattern) }, text, at_end, NULL);
}

/* ---- guides ---- */

struct grammar *grammar_of(const char *pattern)
{
	struct grammar *g;
	struct regex r;
	struct err e;

	assert_int_equal(grammar_new(&g, &e), 0);
	if (regex_parse(g, pattern, strlen(pattern), FORM_PLAIN, &r, &e) || grammar_finish(g, r.expr, &e))
		fail_msg("%s: %s", pattern, e.text);
	return g;
}

int32_t letter(char c)
{
	return vocab_find(vocab, (const char[]){ c, '\0' });
}

bool accepts(const struct grammar *g, const char *text)
{
	struct guide *q;
	bool good = true;

	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	for (; *text && good; text++)
		good = guide_take(q, letter(*text), NULL) == 0;
	good = good && guide_is_complete(q);
	guide_free(q);
	return good;
}

uint32_t roll(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

const char *const patterns[PATTERNS] = {
	"a",
	"ab|ba",
	"a*",
	"(ab)*",
	"(a|b)*abb",
	"a{2,3}",
	"(a{1,2}b){2}",
	"[ab]c?",
	"[^a]b*",
	"(a|ab)(c|bc)",
	"(a*)*",
	"(a*b*){2,3}",
	"(|a)(b|)",
	"a?b?c?",
	"((a|b)c){1,2}",
	"(?:ab){2,}",
	"a(b(c|)){0,2}",
	"(a?){3}b",
	"(aa|aab|b)+",
	".b.",
	"\\.a",
	"abc|abd|ab|b",
	"(ab|a)*(b|c)",
	"(a{0,2}){2}",
	"a+b+|b+a+",
	"()",
	"(a|b|c){3}",
	"[a-c]{2}[^a-b]",
	"[a-z ]{1,30}",
	"(a|the|n.){2,9}q?",
};
