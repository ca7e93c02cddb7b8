/*
 * Owns the doubts about a bundle. The map is ours if its sum is, but sums can be made by anybody: every number is
 * checked against what it is used for. Rows of a cache are worth only what their origin is: a bundle is for those who
 * trust the one who made it, as with any file that says what was said.
 */
#include "bundle_take.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "marks.h"
#include "resume.h"
#include "seal.h"

static int damaged(struct err *e, const char *what)
{
	return err_set(e, SINK_EFORMAT, "This is no bundle of sinkd, or a damaged one: %s.", what);
}

static int read_at(int fd, void *to, size_t size, int64_t at, struct err *e)
{
	char *into = to;

	while (size) {
		ssize_t n = pread(fd, into, size, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, SINK_EIO, "The bundle cannot be read: %s.", strerror(errno));
		if (n == 0)
			return damaged(e, "it ends too early");
		into += n;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_head(int fd, int64_t bytes, struct bundle_head *h, struct err *e)
{
	int rc;

	if (bytes < (int64_t)sizeof(*h))
		return damaged(e, "it is too short");
	rc = read_at(fd, h, sizeof(*h), 0, e);
	if (rc < 0)
		return rc;
	if (memcmp(h->magic, BUNDLE_MAGIC, sizeof(h->magic)) != 0)
		return damaged(e, "it does not begin like one");
	if (h->version > 1)
		return err_set(e, SINK_EPROTO, "The bundle is of version %u; this sinkd knows version 1.", h->version);
	if (seal_bytes(h, offsetof(struct bundle_head, sum), 0) != h->sum)
		return damaged(e, "the sum of its head is wrong");
	if (h->map_bytes > BUNDLE_MAP_MOST || h->cache_bytes > (uint64_t)bytes ||
	    sizeof(*h) + h->map_bytes + h->cache_bytes != (uint64_t)bytes)
		return damaged(e, "its parts do not add up to its length");
	return 0;
}

static int read_map(int fd, const struct bundle_head *h, struct bundle_taken *t, struct err *e)
{
	void *map = malloc(h->map_bytes + 1);
	const char *name;
	size_t len;
	int rc;

	if (!map)
		return err_set(e, SINK_ENOMEM, "There is no memory for the bundle.");
	rc = read_at(fd, map, h->map_bytes, sizeof(*h), e);
	if (rc == 0 && seal_bytes(map, h->map_bytes, 0) != h->map_sum)
		rc = damaged(e, "the sum of its text is wrong");
	if (rc == 0)
		rc = msg_parse(map, h->map_bytes, &t->map, e);
	free(map);
	if (rc < 0)
		return rc;
	name = val_str(val_get(msg_root(t->map), "name"), &len);
	if (!name || len > STREAM_NAME)
		return damaged(e, "it has no name");
	memcpy(t->name, name, len);
	return 0;
}

/* The state of a conversation, which is read twice: here for what its cache must be like, later for good. */
static int read_identity(const struct bundle_taken *t, struct ring_identity *i, struct ring_identity *old,
			 struct err *e)
{
	struct conversation v = { 0 };
	const struct val *root = msg_root(t->map);
	size_t size;
	const void *state = val_bin(val_get(root, "state"), &size);
	int rc = state ? resume_read(&v, state, size, e) : damaged(e, "it has no settings");

	if (rc == 0 && v.model.vocab && v.model.vocab != t->vocab)
		rc = err_set(e, SINK_EINVAL,
			     "The bundle is of another model, %s, whose tokens mean nothing to this one.",
			     v.model.name);
	policy_format(&v.keeps.policy, i->policy, sizeof(i->policy));
	i->marks = v.keeps.marks.count ? kv_text(0, v.keeps.marks.id, v.keeps.marks.count) : i->marks;
	*old = *i;
	old->owner.store = (uint64_t)val_int(val_get(root, "store"), 0);
	old->owner.conversation = (uint64_t)val_int(val_get(root, "conversation"), 0);
	retention_release(&v.keeps);
	answer_release(&v.work.answer);
	settings_release(&v.settings);
	return rc;
}

/* The bytes of the cache as a file of their own. */
static int unpack(int fd, const struct bundle_head *h, const char *path, struct err *e)
{
	FILE *to = fopen(path, "wxe");
	char piece[65536];
	int64_t at = (int64_t)(sizeof(*h) + h->map_bytes);
	uint64_t left = h->cache_bytes;
	int rc = to ? 0 : err_set(e, SINK_EIO, "%s cannot be made: %s.", path, strerror(errno));

	while (rc == 0 && left) {
		size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);

		rc = read_at(fd, piece, n, at, e);
		if (rc == 0 && fwrite(piece, 1, n, to) != n)
			rc = err_set(e, SINK_EBUSY, "%s cannot be written: %s.", path, strerror(errno));
		at += (int64_t)n;
		left -= n;
	}
	if (to && fclose(to) != 0 && rc == 0)
		rc = err_set(e, SINK_EBUSY, "%s cannot be written: %s.", path, strerror(errno));
	return rc;
}

/* All pages are read, which proves them, and written again under the new owner. */
static int rewrite(const char *from, const struct ring_identity *old, const char *path, const struct ring_identity *i,
		   int64_t *bytes, struct err *e)
{
	const size_t page = page_bytes(&i->shape);
	struct ring was = { 0 }, is = { 0 };
	struct kv_part *part = NULL;
	void **pages = NULL;
	char *memory = NULL;
	int rc = ring_read(from, old, false, &was, e);

	if (rc < 0)
		return rc;
	part = calloc(was.parts + 1, sizeof(*part));
	pages = calloc(was.parts + 1, sizeof(*pages));
	memory = malloc(was.parts * page + 1);
	if (!part || !pages || !memory)
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a cache of %zu pages.", was.parts);
	for (size_t k = 0; rc == 0 && k < was.parts; k++) {
		pages[k] = memory + k * page;
		part[k] = (struct kv_part){ .run = was.part[k].run,
					    .number = was.part[k].number,
					    .page = pages[k],
					    .sealed = true,
					    .sum = was.part[k].sum };
	}
	if (rc == 0)
		rc = ring_fill(from, &was, pages, e);
	if (rc == 0)
		rc = ring_write(path, i, &was.state, part, was.parts, true, &is, e);
	*bytes = is.bytes;
	ring_release(&was);
	ring_release(&is);
	free(part);
	free(pages);
	free(memory);
	return rc;
}

/* A cache that is no good is no reason to refuse the text. */
static void take_cache(int fd, const struct bundle_head *h, const struct ring_identity *old, const char *path,
		       const struct ring_identity *i, struct bundle_taken *t)
{
	char part[4096 + 16];
	struct err e;
	int rc;

	snprintf(part, sizeof(part), "%s.import", path);
	unlink(part);
	rc = unpack(fd, h, part, &e);
	if (rc == 0)
		rc = rewrite(part, old, path, i, &t->cache_bytes, &e);
	unlink(part);
	if (rc == 0)
		return;
	unlink(path);
	t->cache_bytes = 0;
	snprintf(t->note, sizeof(t->note), "%s", e.text);
}

int bundle_take(int fd, int64_t bytes, struct ring_identity *identity, const char *path, struct bundle_taken *ret,
		struct err *e)
{
	struct ring_identity old;
	struct bundle_head h;
	int rc = read_head(fd, bytes, &h, e);

	if (rc == 0)
		rc = read_map(fd, &h, ret, e);
	if (rc == 0)
		rc = read_identity(ret, identity, &old, e);
	if (rc == 0 && h.cache_bytes)
		take_cache(fd, &h, &old, path, identity, ret);
	return rc;
}

void bundle_taken_release(struct bundle_taken *t)
{
	msg_free(t->map);
	t->map = NULL;
}

static int fill_tokens(struct core *c, struct conversation *v, const struct val *root, struct err *e)
{
	size_t size;
	const int32_t *id = val_bin(val_get(root, "tokens"), &size);

	if (!id || size % sizeof(*id) || size / sizeof(*id) > (size_t)c->conf.log_tokens)
		return damaged(e, "its tokens are none");
	for (size_t i = 0; i < size / sizeof(*id); i++) {
		int32_t one;

		memcpy(&one, id + i, sizeof(one));
		if (one < 0 || one >= model_info(c->model)->vocab)
			return damaged(e, "a token of it is none of the vocabulary's");
		if (tokens_add(&v->log, one, e) < 0)
			return SINK_ENOMEM;
	}
	return 0;
}

static int fill_message(struct conversation *v, const struct val *m, int64_t *least, struct err *e)
{
	const int64_t all = (int64_t)v->log.count;
	int64_t first = val_int(val_get(m, "first_token"), -1), tokens = val_int(val_get(m, "tokens"), -1);
	const char *text, *role = val_str(val_get(m, "role"), NULL);
	struct message *made;
	enum role is;
	size_t len;

	text = val_str(val_get(m, "text"), &len);
	if (!text || !role || role_find(role, &is, NULL) < 0 || first < *least || first > all || tokens < 0 ||
	    tokens > all - first)
		return damaged(e, "a message of it is none");
	if (conversation_add(v, is, text, len, e) < 0)
		return SINK_ENOMEM;
	*least = first;
	made = &v->message[v->messages - 1];
	made->first_token = first;
	made->tokens = tokens;
	made->time = val_float(val_get(m, "time"), 0);
	made->finish = conversation_finish(val_str(val_get(m, "finish"), NULL));
	made->raw = val_bool(val_get(m, "raw"), false);
	return 0;
}

int bundle_fill(struct core *c, struct conversation *v, const struct bundle_taken *t, struct err *e)
{
	const struct val *root = msg_root(t->map), *messages = val_get(root, "messages");
	struct kv *kv;
	size_t size;
	const void *state = val_bin(val_get(root, "state"), &size);
	int64_t least = 0;
	int rc = resume_read(v, state, size, e);

	if (rc == 0)
		rc = marks_check(model_vocab(c->model), v->keeps.marks.id, v->keeps.marks.count, e);
	if (rc == 0)
		rc = fill_tokens(c, v, root, e);
	for (size_t i = 0; i < val_count(messages) && rc == 0; i++)
		rc = fill_message(v, val_at(messages, i), &least, e);
	if (rc == 0)
		rc = retention_cache(&v->keeps, c->model, (size_t)c->conf.batch, &kv, e);
	if (rc < 0)
		return rc;
	kv_free(kv);
	answer_release(&v->work.answer);
	v->work = (struct work){ 0 };
	conversation_set_state(v, STATE_IDLE);
	v->model.vocab = c->vocab;
	v->created = val_float(val_get(root, "created"), v->created);
	if (v->left.tokens > (int64_t)v->log.count)
		v->left.tokens = (int64_t)v->log.count;
	return 0;
}
