/*
 * What is done with cache files beside reading and writing them: their names, and the check of one by itself. It reads
 * page after page, so it needs memory for one.
 */
#include "ring.h"

#include <stdio.h>
#include <stdlib.h>

void ring_path(const char *dir, int64_t conversation, char *path, size_t size)
{
	snprintf(path, size, "%s/%lld.kv", dir, (long long)conversation);
}

void ring_set_aside(const char *path)
{
	char bad[4096 + 8];

	snprintf(bad, sizeof(bad), "%s.bad", path);
	rename(path, bad);
}

/* The pages of a generation, one by one; adds to *findings. */
static int check_pages(const char *path, const struct ring *r, void (*tell)(void *arg, const char *text), void *arg,
		       int *findings, struct err *e)
{
	struct ring one = *r;
	struct err why = { 0 };
	void *page = malloc(page_bytes(&r->identity.shape));
	int ret = page ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for a page of the cache file %s.", path);

	one.parts = 1;
	for (size_t i = 0; !ret && i < r->parts; i++) {
		one.part = &r->part[i];
		ret = ring_fill(path, &one, &page, &why);
		if (ret == SINK_EFORMAT) {
			tell(arg, why.text);
			++*findings;
			ret = 0;
		} else if (ret) {
			err_set(e, ret, "%s", why.text);
		}
	}
	free(page);
	return ret;
}

int ring_check(const char *path, struct ring_identity *identity, void (*tell)(void *arg, const char *text), void *arg,
	       struct err *e)
{
	struct ring_heads h;
	int findings = 0, r = ring_heads(path, NULL, &h, e);

	*identity = (struct ring_identity){ 0 };
	for (int i = 0; !r && i < 2; i++) {
		/* A head that was never written is none, unless the other is no good either. */
		if (h.code[i] == SINK_EFORMAT || (h.code[i] == SINK_ENOENT && h.newest < 0)) {
			tell(arg, h.why[i].text);
			findings++;
		} else if (h.code[i] == SINK_EPROTO && h.newest < 0) {
			r = err_set(e, SINK_EPROTO, "%s", h.why[i].text);
		}
	}
	if (!r && h.newest >= 0) {
		*identity = h.head[h.newest].identity;
		r = check_pages(path, &h.head[h.newest], tell, arg, &findings, e);
	}
	ring_release(&h.head[0]);
	ring_release(&h.head[1]);
	return r ? r : findings;
}
