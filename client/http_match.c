/* Chains of hashes, and the search among them: there are few conversations, so it looks at each. */
#include "http_match.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

void http_match_init(struct http_match *m)
{
	TAILQ_INIT(&m->chains);
}

void http_match_drop(struct http_match *m, struct http_chain *c)
{
	TAILQ_REMOVE(&m->chains, c, link);
	free(c->hash);
	free(c);
}

void http_match_release(struct http_match *m)
{
	while (!TAILQ_EMPTY(&m->chains))
		http_match_drop(m, TAILQ_FIRST(&m->chains));
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

struct http_hash http_match_next(struct http_hash before, const char *role, const char *text, size_t len)
{
	XXH128_hash_t h;

	while (len && is_blank(*text)) {
		text++;
		len--;
	}
	while (len && is_blank(text[len - 1]))
		len--;
	h = XXH3_128bits_withSeed(text, len, before.low ^ (unsigned char)*role);
	/* Both halves of what was before count, and the order of everything. */
	h = XXH3_128bits_withSeed(&h, sizeof(h), before.high);
	return (struct http_hash){ h.low64, h.high64 | 1 };
}

struct http_hash http_match_root(const char *system, size_t len)
{
	static const struct http_hash given = { 1, 1 }, absent = { 2, 1 };

	return system ? http_match_next(given, "system", system, len) : absent;
}

static bool same(struct http_hash a, struct http_hash b)
{
	return a.low == b.low && a.high == b.high;
}

static size_t common_of(const struct http_chain *c, const struct http_hash *want, size_t count)
{
	size_t n = c->count < count ? c->count : count;

	while (n && !same(c->hash[n - 1], want[n - 1]))
		n--;
	return n;
}

struct http_chain *http_match_best(struct http_match *m, struct http_hash root, const struct http_hash *want,
				   size_t count, size_t *common)
{
	struct http_chain *c, *best = NULL;
	bool best_ends = false;

	*common = 0;
	TAILQ_FOREACH(c, &m->chains, link)
	{
		size_t n = same(c->root, root) ? common_of(c, want, count) : 0;
		bool ends = n == c->count && !c->busy;

		if (!c->made || !same(c->root, root) ||
		    (best && (n < *common || (n == *common && (best_ends || !ends)))))
			continue;
		best = c;
		best_ends = ends;
		*common = n;
	}
	return best;
}

struct http_chain *http_match_add(struct http_match *m, const char *name, struct http_hash root,
				  const struct http_chain *like, size_t count)
{
	struct http_chain *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	memcpy(c->name, name, strlen(name) + 1);
	c->root = root;
	c->first = like ? like->first : -1;
	for (size_t i = 0; like && i < count; i++)
		http_match_push(c, like->hash[i]);
	TAILQ_INSERT_HEAD(&m->chains, c, link);
	return c;
}

void http_match_push(struct http_chain *c, struct http_hash h)
{
	struct http_hash *more;
	size_t room = c->room ? 2 * c->room : 8;

	if (c->count == c->room) {
		more = realloc(c->hash, room * sizeof(*more));
		if (!more) {
			if (c->count)
				c->hash[c->count - 1] = (struct http_hash){ 0 };
			return;
		}
		c->hash = more;
		c->room = room;
	}
	c->hash[c->count++] = h;
}

void http_match_cut(struct http_chain *c, size_t count)
{
	c->count = c->count < count ? c->count : count;
}

void http_match_use(struct http_match *m, struct http_chain *c)
{
	TAILQ_REMOVE(&m->chains, c, link);
	TAILQ_INSERT_HEAD(&m->chains, c, link);
}

struct http_chain *http_match_named(struct http_match *m, const char *name)
{
	struct http_chain *c;

	TAILQ_FOREACH(c, &m->chains, link)
	if (strcmp(c->name, name) == 0)
		return c;
	return NULL;
}

struct http_chain *http_match_oldest(struct http_match *m, size_t most)
{
	struct http_chain *c, *oldest = NULL;
	size_t idle = 0;

	TAILQ_FOREACH(c, &m->chains, link)
	if (!c->busy && !c->held) {
		oldest = c;
		idle++;
	}
	return idle > most ? oldest : NULL;
}
