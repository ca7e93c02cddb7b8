/*
 * Owns the open bundles and their form: a head of 48 bytes, a MessagePack map of the conversation, and the bytes of its
 * cache file. Reading and writing is done in the store's thread; what is built or taken apart belongs to the loop.
 */
#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bundle_take.h"
#include "keep.h"
#include "log.h"
#include "marks.h"
#include "resume.h"
#include "seal.h"
#include "tier.h"

struct bundle {
	LIST_ENTRY(bundle) link;
	uint64_t peer;
	int64_t id, bytes;
	int fd;
	int64_t written; /* of one that is being written */
	bool busy;	 /* a job has it */
};

struct bundles {
	LIST_HEAD(, bundle) list;
	size_t count;
	int64_t ids;
};

/* A job for one request about a bundle. */
struct carry {
	struct job job;
	struct bundle *b;
	struct request *request;
	struct err err;
	int rc;

	char dir[4096], path[4096]; /* of the store; of the cache file, "" for none */
	void *data;		    /* the map, or a piece */
	size_t size;
	int64_t offset;
	bool reads;

	struct bundle_taken taken; /* of an import */
	char name[STREAM_NAME + 1];
	struct ring_identity identity; /* of the new conversation's file */
};

int bundles_new(struct bundles **ret, struct err *e)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return err_set(e, SINK_ENOMEM, "There is no memory for bundles.");
	LIST_INIT(&(*ret)->list);
	return 0;
}

static void end_bundle(struct bundles *all, struct bundle *b)
{
	LIST_REMOVE(b, link);
	all->count--;
	if (b->fd >= 0)
		close(b->fd);
	free(b);
}

void bundles_free(struct bundles *all)
{
	if (!all)
		return;
	while (!LIST_EMPTY(&all->list))
		end_bundle(all, LIST_FIRST(&all->list));
	free(all);
}

void bundles_sweep(struct core *c)
{
	struct bundle *b, *after;

	for (b = LIST_FIRST(&c->bundles->list); b; b = after) {
		after = LIST_NEXT(b, link);
		if (!b->busy && !peer_by_serial(&c->peers, b->peer))
			end_bundle(c->bundles, b);
	}
}

static int find(struct core *c, const struct request *r, int64_t id, struct bundle **ret, struct err *e)
{
	struct bundle *b;

	LIST_FOREACH(b, &c->bundles->list, link)
	if (b->id == id && b->peer == r->peer) {
		*ret = b;
		return b->busy ? err_set(e, SINK_EBUSY, "Bundle %lld is in use.", (long long)id) : 0;
	}
	return err_set(e, SINK_ENOENT, "The client has no bundle %lld.", (long long)id);
}

static int begin(struct core *c, const struct request *r, struct bundle **ret, struct err *e)
{
	struct bundle *b;

	if (!keep_is_on(c))
		return err_set(e, SINK_EINVAL, "Nothing is kept here (state = none), and no bundles are made.");
	if (c->bundles->count >= BUNDLES_MOST)
		return err_set(e, SINK_EBUSY, "There are %d bundles open already; try again later.", BUNDLES_MOST);
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, SINK_ENOMEM, "There is no memory for a bundle.");
	b->fd = -1;
	b->peer = r->peer;
	b->id = ++c->bundles->ids;
	LIST_INSERT_HEAD(&c->bundles->list, b, link);
	c->bundles->count++;
	*ret = b;
	return 0;
}

/* Work in the store's thread. */

static int open_nameless(const char *dir, struct err *e)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : err_set(e, SINK_EIO, "No file can be made in %s: %s.", dir, strerror(errno));
}

static int write_all(int fd, const void *data, size_t size, int64_t at, struct err *e)
{
	const char *from = data;

	while (size) {
		ssize_t n = pwrite(fd, from, size, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, errno == ENOSPC || errno == EDQUOT ? SINK_EBUSY : SINK_EIO,
				       "The bundle cannot be written: %s.", strerror(errno));
		from += n;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static int copy_cache(int to, int64_t at, const char *path, int64_t *bytes, struct err *e)
{
	char piece[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	ssize_t n;

	*bytes = 0;
	if (fd < 0)
		return err_set(e, SINK_EIO, "%s cannot be read: %s.", path, strerror(errno));
	while (rc == 0 && (n = read(fd, piece, sizeof(piece))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		rc = n < 0 ? err_set(e, SINK_EIO, "%s cannot be read: %s.", path, strerror(errno))
			   : write_all(to, piece, (size_t)n, at + *bytes, e);
		*bytes += n > 0 ? n : 0;
	}
	close(fd);
	return rc;
}

static void make_run(struct job *j)
{
	struct carry *t = (struct carry *)j;
	struct bundle_head h = { .version = BUNDLE_VERSION, .map_bytes = t->size };
	int64_t cache = 0;

	memcpy(h.magic, BUNDLE_MAGIC, sizeof(h.magic));
	t->b->fd = t->rc = open_nameless(t->dir, &t->err);
	if (t->rc < 0)
		return;
	t->rc = write_all(t->b->fd, t->data, t->size, sizeof(h), &t->err);
	if (t->rc == 0 && *t->path)
		t->rc = copy_cache(t->b->fd, (int64_t)(sizeof(h) + t->size), t->path, &cache, &t->err);
	h.cache_bytes = (uint64_t)cache;
	h.map_sum = seal_bytes(t->data, t->size, 0);
	h.sum = seal_bytes(&h, offsetof(struct bundle_head, sum), 0);
	if (t->rc == 0)
		t->rc = write_all(t->b->fd, &h, sizeof(h), 0, &t->err);
	t->b->bytes = (int64_t)(sizeof(h) + t->size) + cache;
}

static void begin_run(struct job *j)
{
	struct carry *t = (struct carry *)j;
	struct statvfs s;

	if (statvfs(t->dir, &s) == 0 && (int64_t)s.f_bavail * (int64_t)s.f_frsize < t->b->bytes) {
		t->rc = err_set(&t->err, SINK_EBUSY, "The disk has no room for a bundle of %lld bytes.",
				(long long)t->b->bytes);
		return;
	}
	t->b->fd = t->rc = open_nameless(t->dir, &t->err);
}

static void piece_run(struct job *j)
{
	struct carry *t = (struct carry *)j;
	size_t got = 0;

	if (!t->reads) {
		t->rc = write_all(t->b->fd, t->data, t->size, t->offset, &t->err);
		return;
	}
	while (got < t->size) {
		ssize_t n = pread(t->b->fd, (char *)t->data + got, t->size - got, t->offset + (int64_t)got);

		if (n < 0 && errno != EINTR)
			t->rc = err_set(&t->err, SINK_EIO, "The bundle cannot be read: %s.", strerror(errno));
		if (n == 0 || t->rc < 0)
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	t->size = got;
}

static void import_run(struct job *j)
{
	struct carry *t = (struct carry *)j;

	t->rc = bundle_take(t->b->fd, t->b->bytes, &t->identity, t->path, &t->taken, &t->err);
}

/* In the loop. */

static void carry_free(struct carry *t)
{
	bundle_taken_release(&t->taken);
	free(t->data);
	free(t);
}

static int carry(struct core *c, struct carry *t, struct bundle *b, struct request *r, struct err *e)
{
	int rc = core_hold(c, r, e);

	t->b = b;
	t->request = r;
	snprintf(t->dir, sizeof(t->dir), "%s", c->conf.state);
	if (rc == 0)
		rc = keep_give(c, &t->job, e);
	b->busy = rc == 0;
	return rc;
}

/* The job is back: false when it failed, and all is over. */
static bool is_back(struct core *c, struct carry *t, bool ends)
{
	keep_home(c);
	t->b->busy = false;
	if (t->rc >= 0)
		return true;
	core_refuse(c, t->request, &t->err);
	if (ends)
		end_bundle(c->bundles, t->b);
	carry_free(t);
	return false;
}

static void made_done(struct job *j, void *owner)
{
	struct carry *t = (struct carry *)j;
	struct core *c = owner;
	struct out *o;

	if (!is_back(c, t, true))
		return;
	o = core_reply_begin(c, t->request);
	out_int(o, "bundle", t->b->id);
	out_int(o, "bytes", t->b->bytes);
	core_reply(c, t->request);
	carry_free(t);
}

static void piece_done(struct job *j, void *owner)
{
	struct carry *t = (struct carry *)j;
	struct core *c = owner;
	struct out *o;

	if (!is_back(c, t, false))
		return;
	o = core_reply_begin(c, t->request);
	if (t->reads)
		out_bin(o, "data", t->data, t->size);
	else
		out_int(o, "bytes", t->b->written = t->offset + (int64_t)t->size);
	core_reply(c, t->request);
	carry_free(t);
}

static void write_messages(const struct conversation *v, struct out *o)
{
	out_array(o, "messages");
	for (size_t i = 0; i < v->messages; i++) {
		const struct message *m = &v->message[i];

		out_map(o, NULL);
		out_str(o, "role", role_name(m->role));
		out_strn(o, "text", m->text.at ? m->text.at : "", m->text.len);
		out_int(o, "first_token", m->first_token);
		out_int(o, "tokens", m->tokens);
		out_float(o, "time", m->time);
		out_str(o, "finish", m->finish);
		out_bool(o, "raw", m->raw);
		out_end(o);
	}
	out_end(o);
}

static int build_map(struct core *c, const struct conversation *v, struct carry *t, struct err *e)
{
	const void *data;
	void *state;
	size_t size;
	struct out *o;
	int rc = resume_write(c, v, &state, &size, e);

	if (rc < 0 || (rc = out_new(&o, e)) < 0)
		return rc;
	out_map(o, NULL);
	out_str(o, "name", v->name);
	out_float(o, "created", v->created);
	out_bin(o, "state", state, size);
	out_int(o, "store", (int64_t)keep_id(c));
	out_int(o, "conversation", v->kept.id);
	out_bin(o, "tokens", v->log.id, v->log.count * sizeof(int32_t));
	write_messages(v, o);
	out_end(o);
	free(state);
	rc = out_check(o, e);
	data = rc == 0 ? out_data(o, &t->size) : NULL;
	t->data = data ? malloc(t->size) : NULL;
	if (t->data)
		memcpy(t->data, data, t->size);
	else if (rc == 0)
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a bundle of \"%s\".", v->name);
	out_free(o);
	return rc;
}

static struct carry *carry_new(void (*run)(struct job *j), void (*done)(struct job *j, void *owner), struct err *e)
{
	struct carry *t = calloc(1, sizeof(*t));

	if (t)
		t->job = (struct job){ run, done };
	else
		err_set(e, SINK_ENOMEM, "There is no memory for a bundle.");
	return t;
}

/* What began with begin() and failed. */
static int abandon(struct core *c, struct bundle *b, struct carry *t, int rc)
{
	if (t)
		carry_free(t);
	end_bundle(c->bundles, b);
	return rc;
}

int bundle_make(struct core *c, struct request *r, struct conversation *v, bool cache, struct err *e)
{
	struct carry *t;
	struct bundle *b;
	int rc = begin(c, r, &b, e);

	if (rc < 0)
		return rc;
	t = carry_new(make_run, made_done, e);
	if (!t)
		return abandon(c, b, t, SINK_ENOMEM);
	if (cache && v->file_bytes)
		tier_path(c, v, t->path, sizeof(t->path));
	rc = build_map(c, v, t, e);
	if (rc == 0)
		rc = carry(c, t, b, r, e);
	return rc < 0 ? abandon(c, b, t, rc) : 0;
}

int bundle_begin(struct core *c, struct request *r, int64_t bytes, struct err *e)
{
	struct carry *t;
	struct bundle *b;
	int rc = begin(c, r, &b, e);

	if (rc < 0)
		return rc;
	b->bytes = bytes;
	t = carry_new(begin_run, made_done, e);
	rc = t ? carry(c, t, b, r, e) : SINK_ENOMEM;
	return rc < 0 ? abandon(c, b, t, rc) : 0;
}

static int carry_piece(struct core *c, struct request *r, struct bundle *b, int64_t offset, const void *data,
		       size_t size, struct err *e)
{
	struct carry *t = carry_new(piece_run, piece_done, e);
	int rc = SINK_ENOMEM;

	if (!t)
		return rc;
	t->reads = !data;
	t->offset = offset;
	t->size = size;
	t->data = malloc(size + 1);
	if (!t->data)
		err_set(e, SINK_ENOMEM, "There is no memory for a piece of a bundle.");
	else if (data)
		memcpy(t->data, data, size);
	if (t->data)
		rc = carry(c, t, b, r, e);
	if (rc < 0)
		carry_free(t);
	return rc;
}

int bundle_read(struct core *c, struct request *r, int64_t bundle, int64_t offset, int64_t count, struct err *e)
{
	struct bundle *b;
	int rc = find(c, r, bundle, &b, e);

	if (rc < 0)
		return rc;
	if (offset > b->bytes)
		return err_set(e, SINK_EINVAL, "\"offset\" is %lld, but the bundle has %lld bytes.", (long long)offset,
			       (long long)b->bytes);
	return carry_piece(c, r, b, offset, NULL, (size_t)count, e);
}

int bundle_write(struct core *c, struct request *r, int64_t bundle, int64_t offset, const void *data, size_t size,
		 struct err *e)
{
	struct bundle *b;
	int rc = find(c, r, bundle, &b, e);

	if (rc < 0)
		return rc;
	if (offset != b->written || (int64_t)size > b->bytes - offset)
		return err_set(e, SINK_EINVAL, "Piece %lld..%lld does not go on from %lld within %lld bytes.",
			       (long long)offset, (long long)offset + (long long)size, (long long)b->written,
			       (long long)b->bytes);
	return carry_piece(c, r, b, offset, data, size, e);
}

int bundle_close(struct core *c, struct request *r, int64_t bundle, struct err *e)
{
	struct bundle *b;
	int rc = find(c, r, bundle, &b, e);

	if (rc < 0)
		return rc;
	end_bundle(c->bundles, b);
	core_reply_begin(c, r);
	core_reply(c, r);
	return 0;
}

/* Import. */

/* The conversation of what was taken. */
static int give_birth(struct core *c, struct carry *t, struct conversation **ret, struct err *e)
{
	const char *name = *t->name ? t->name : t->taken.name;
	struct conversation *v;
	int rc;

	if (c->table.count >= (size_t)c->conf.conversations)
		return err_set(e, SINK_EBUSY, "There are %zu conversations already (option conversations).",
			       c->table.count);
	rc = conversation_new(&c->table, name, strlen(name), (size_t)c->conf.log_bytes, &v, e);
	if (rc < 0)
		return rc;
	rc = bundle_fill(c, v, &t->taken, e);
	if (rc < 0) {
		conversation_remove(&c->table, v);
		return rc;
	}
	v->kept = (struct kept){ .id = (int64_t)t->identity.owner.conversation,
				 .segment = keep_number(c),
				 .begins = true,
				 .seq = 1,
				 .safe_seq = 1,
				 .ends = true };
	stream_keep(v->stream, 1, 1);
	conversation_changed(v, true);
	if (t->taken.cache_bytes)
		tier_found_file(c, v, t->taken.cache_bytes);
	else
		v->tier = v->left.tokens ? TIER_REPLAY : TIER_NONE;
	*ret = v;
	return 0;
}

static void import_done(struct job *j, void *owner)
{
	struct carry *t = (struct carry *)j;
	struct core *c = owner;
	struct conversation *v = NULL;
	struct out *o;

	if (!is_back(c, t, false))
		return;
	if (give_birth(c, t, &v, &t->err) < 0) {
		unlink(t->path);
		core_refuse(c, t->request, &t->err);
		carry_free(t);
		return;
	}
	for (size_t i = 0; i < v->messages; i++)
		event_message(c->events, v, i);
	o = core_reply_begin(c, t->request);
	conversation_info(v, o, "conversation");
	out_str(o, "cache", t->taken.cache_bytes ? "taken" : *t->taken.note ? "refused" : "none");
	if (*t->taken.note)
		out_str(o, "note", t->taken.note);
	core_reply(c, t->request);
	end_bundle(c->bundles, t->b);
	carry_free(t);
}

int bundle_import(struct core *c, struct request *r, int64_t bundle, const char *name, size_t len, struct err *e)
{
	struct carry *t;
	struct bundle *b;
	int rc = find(c, r, bundle, &b, e);

	if (rc < 0 || (name && (rc = conversation_check_name(name, len, e)) < 0))
		return rc;
	if (b->written != b->bytes)
		return err_set(e, SINK_EINVAL, "The bundle has %lld bytes, of which %lld were written.",
			       (long long)b->bytes, (long long)b->written);
	t = carry_new(import_run, import_done, e);
	if (!t)
		return SINK_ENOMEM;
	if (name)
		memcpy(t->name, name, len);
	t->taken.vocab = c->vocab;
	t->identity = (struct ring_identity){ .owner = { keep_id(c), (uint64_t)keep_number(c) },
					      .fingerprint = c->fingerprint,
					      .shape = *arena_shape(model_arena(c->model)) };
	tier_number_path(c, (int64_t)t->identity.owner.conversation, t->path, sizeof(t->path));
	rc = carry(c, t, b, r, e);
	if (rc < 0)
		carry_free(t);
	return rc;
}
