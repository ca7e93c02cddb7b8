/*
 * Owns the form of cache files and the order of their writes. README.md has the form, byte by byte.
 *
 * Why two heads: a disk may write any part of a head or none, so nothing that the last generation needs is overwritten.
 * Why a file is made anew after a sync that failed: the system may have dropped what it could not write, and no later
 * sync would tell. Why two threads fill: most of the time goes into the first touch of memory, page after page.
 */
#include "ring.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seal.h"

enum {
	BLOCK = 4096,			/* areas and slots begin at multiples of it */
	AREA_MOST = 32 << 20,		/* holds RING_PARTS */
	SUM = 8,			/* bytes of a head's, behind its parts */
	SLOT_BITS = 2 * RING_PARTS / 8, /* bytes of a bit for each slot */
	ALONE_MOST = 8 << 20,		/* bytes that one thread fills alone */
	PATH_BYTES = 4096 + 8,		/* a path and what is added to it */
};

static const char magic[8] = { 's', 'i', 'n', 'k', 'd', '-', 'k', 'v' };
static const struct ring none;
static const uint32_t nowhere = UINT32_MAX; /* the slot of a page that is still to be written */

/* A head's fixed part, little-endian, and a part behind it. */
struct fixed {
	char magic[8];
	uint32_t version, head_bytes;
	uint64_t generation, store, conversation, fingerprint;
	uint32_t layers, kv_heads, head_size, type, page_tokens, parts;
	uint64_t page_bytes, base, marks_list, tokens, marks, text;
	char policy[POLICY_TEXT];
};
struct packed {
	uint64_t number, sum;
	uint32_t run, slot;
};
enum { FIXED = sizeof(struct fixed), PART = sizeof(struct packed) };
_Static_assert(FIXED == 184 && PART == 24, "a head as README.md has it");

void ring_release(struct ring *r)
{
	free(r->part);
	*r = (struct ring){ 0 };
}

static size_t head_bytes(size_t parts)
{
	return FIXED + parts * PART + SUM;
}

static int64_t slot_at(const struct ring *r, uint32_t slot)
{
	const int64_t bytes = (int64_t)page_bytes(&r->identity.shape);

	return r->base + (int64_t)slot * ((bytes + BLOCK - 1) / BLOCK * BLOCK);
}

/* The end of the last page of a generation in the file. */
static int64_t end_of(const struct ring *r)
{
	int64_t end = r->base;

	for (size_t i = 0; i < r->parts; i++) {
		const int64_t at = slot_at(r, r->part[i].slot) + (int64_t)page_bytes(&r->identity.shape);

		end = at > end ? at : end;
	}
	return end;
}

static int refused(const char *what, const char *path, struct err *e)
{
	const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;

	return err_set(e, full ? SINK_EBUSY : SINK_EIO, "The cache file %s cannot be %s: %s.", path, what,
		       strerror(errno));
}

/* Opens what is there; *bytes is its length. */
static int open_file(const char *path, int flags, int64_t *bytes, struct err *e)
{
	const int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st = { 0 };

	if (fd < 0 && errno == ENOENT)
		return err_set(e, SINK_ENOENT, "There is no cache file %s.", path);
	if (fd < 0 && errno != ELOOP && errno != EISDIR && errno != ENXIO)
		return refused("opened", path, e);
	*bytes = fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
	if (S_ISREG(st.st_mode))
		return fd;
	if (fd >= 0)
		close(fd);
	return err_set(e, SINK_EIO, "%s should be a cache file and is no regular file.", path);
}

/* Reads all of it, or writes it `out`. SINK_EFORMAT when the file ends before. */
static int move(bool out, int fd, const char *path, void *bytes, size_t count, int64_t at, struct err *e)
{
	for (size_t done = 0; done < count;) {
		char *to = (char *)bytes + done;
		const int64_t from = at + (int64_t)done;
		const ssize_t n = out ? pwrite(fd, to, count - done, from) : pread(fd, to, count - done, from);

		if (n < 0 && errno != EINTR)
			return refused(out ? "written" : "read", path, e);
		if (n == 0)
			return err_set(e, SINK_EFORMAT, "The cache file %s ends at byte %lld.", path, (long long)from);
		done += n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

/* The field in which two identities differ, in words; NULL: none. */
static const char *difference(const struct ring_identity *a, const struct ring_identity *b)
{
	if (a->fingerprint != b->fingerprint)
		return "the model's weights";
	if (a->shape.layers != b->shape.layers || a->shape.kv_heads != b->shape.kv_heads ||
	    a->shape.head_size != b->shape.head_size)
		return "the cache's shape";
	if (a->shape.type != b->shape.type)
		return "the type of keys and values";
	if (strncmp(a->policy, b->policy, sizeof(a->policy)) != 0)
		return "the policy";
	if (a->marks != b->marks)
		return "the list of marks";
	if (a->owner.conversation != b->owner.conversation)
		return "the conversation";
	return a->owner.store != b->owner.store ? "the store" : NULL;
}

/* What a head's fixed part claims of sizes, before anything is allocated by them; NULL: it may be. */
static const char *check_sizes(const struct fixed *f, int64_t at, int64_t bytes)
{
	const uint64_t area = le64toh(f->base) / 2, parts = le32toh(f->parts), generation = le64toh(f->generation);

	if (memcmp(f->magic, magic, sizeof(magic)) != 0)
		return "it does not begin as one does";
	if (le32toh(f->version) != RING_VERSION)
		return "it has no version";
	if (area < BLOCK || area > AREA_MOST || (area & (area - 1)) || le64toh(f->base) % 2)
		return "its slots begin nowhere";
	if (parts > RING_PARTS || le32toh(f->head_bytes) != head_bytes(parts) || head_bytes(parts) > area)
		return "it counts its parts wrongly";
	if (at + (int64_t)head_bytes(parts) > bytes)
		return "it is cut off";
	if (generation == 0 || generation >> 62 || at != (generation % 2 ? (int64_t)area : 0))
		return "it lies in the other's place";
	return NULL;
}

static const char *take_fixed(const struct fixed *f, struct ring *r)
{
	const uint64_t layers = le32toh(f->layers), heads = le32toh(f->kv_heads), size = le32toh(f->head_size);
	const uint32_t type = le32toh(f->type);
	struct ring_identity *id = &r->identity;

	if (!layers || !heads || !size || layers >= 1 << 16 || heads >= 1 << 16 || size >= 1 << 16 ||
	    layers * heads * size > RING_PAGE_MOST / (8 * PAGE_TOKENS))
		return "its pages have no possible shape";
	id->shape = (struct page_shape){ layers, heads, size, (enum dtype)type };
	if (page_shape_check(&id->shape, NULL))
		return "its pages are of an unknown type";
	if (le32toh(f->page_tokens) != PAGE_TOKENS || le64toh(f->page_bytes) != page_bytes(&id->shape))
		return "its pages have another size than their shape";
	if (memchr(f->policy, '\0', sizeof(f->policy)) == NULL)
		return "its policy has no end";
	if (le64toh(f->tokens) >> 62 || le64toh(f->marks) > le64toh(f->tokens))
		return "it counts tokens wrongly";
	memcpy(id->policy, f->policy, sizeof(id->policy));
	id->owner = (struct kv_owner){ le64toh(f->store), le64toh(f->conversation) };
	id->fingerprint = le64toh(f->fingerprint);
	id->marks = le64toh(f->marks_list);
	r->state = (struct kv_state){ (int64_t)le64toh(f->tokens), (int64_t)le64toh(f->marks), le64toh(f->text) };
	r->generation = le64toh(f->generation);
	r->base = (int64_t)le64toh(f->base);
	return NULL;
}

/* `seen` has a bit for each slot that there may be, all 0. */
static const char *take_parts(const struct packed *p, size_t parts, uint8_t *seen, struct ring *r)
{
	for (size_t i = 0; i < parts; i++) {
		struct ring_part *part = &r->part[i];
		const uint32_t run = le32toh(p[i].run);

		*part = (struct ring_part){ (int)run, (int64_t)le64toh(p[i].number), le64toh(p[i].sum),
					    le32toh(p[i].slot) };
		if (run >= RUNS || le64toh(p[i].number) >> 56 || part->sum == 0)
			return "it names a page that cannot be";
		if (i && (part->run < part[-1].run || (part->run == part[-1].run && part->number <= part[-1].number)))
			return "its pages are out of order";
		if (part->slot >= 2 * RING_PARTS)
			return "a page lies outside the file";
		if (seen[part->slot / 8] >> part->slot % 8 & 1)
			return "two pages lie in one place";
		seen[part->slot / 8] |= (uint8_t)(1 << part->slot % 8);
	}
	r->parts = parts;
	return end_of(r) > r->bytes && parts ? "a page lies outside the file" : NULL;
}

/* The whole of a head whose sizes are possible. */
static const char *take_head(const uint8_t *head, size_t parts, uint8_t *seen, struct ring *r)
{
	const struct fixed *f = (const struct fixed *)(const void *)head;
	const size_t summed = head_bytes(parts) - SUM;
	uint64_t sum;
	const char *wrong;

	memcpy(&sum, head + summed, SUM);
	if (le64toh(sum) != seal_bytes(head, summed, 0))
		return "its sum differs";
	wrong = take_fixed(f, r);
	return wrong ? wrong : take_parts((const struct packed *)(const void *)(head + FIXED), parts, seen, r);
}

/* Reads the head at a place of the file; codes as in ring_heads. */
static int read_head(int fd, const char *path, int64_t at, int64_t bytes, struct ring *ret, struct err *e)
{
	struct fixed f;
	const char *wrong;
	uint8_t *head = NULL;
	size_t parts;
	int r = move(false, fd, path, &f, sizeof(f), at, e);

	if (r)
		return r;
	if (memcmp(&f, &(struct fixed){ 0 }, sizeof(f)) == 0)
		return err_set(e, SINK_ENOENT, "The cache file %s has no head at byte %lld.", path, (long long)at);
	if (memcmp(f.magic, magic, sizeof(magic)) == 0 && le32toh(f.version) > RING_VERSION)
		return err_set(e, SINK_EPROTO, "The cache file %s is of version %u; this program knows %d.", path,
			       le32toh(f.version), RING_VERSION);
	wrong = check_sizes(&f, at, bytes);
	if (!wrong) {
		parts = le32toh(f.parts);
		ret->bytes = bytes;
		ret->part = calloc(parts + 1, sizeof(*ret->part));
		head = calloc(1, SLOT_BITS + head_bytes(parts));
		if (!ret->part || !head)
			r = err_set(e, SINK_ENOMEM, "Out of memory for the head of the cache file %s.", path);
		if (!r)
			r = move(false, fd, path, head + SLOT_BITS, head_bytes(parts), at, e);
		if (!r && memcmp(head + SLOT_BITS, &f, sizeof(f)) != 0)
			wrong = "it changes while it is read";
		if (!r && !wrong)
			wrong = take_head(head + SLOT_BITS, parts, head, ret);
	}
	if (!r && wrong)
		r = err_set(e, SINK_EFORMAT, "The head at byte %lld of the cache file %s is damaged: %s.",
			    (long long)at, path, wrong);
	if (r)
		ring_release(ret);
	free(head);
	return r;
}

/* The second head, whose place only a head tells: where the first is not whole, wherever it may be. */
static int read_second(int fd, const char *path, int64_t bytes, struct ring_heads *h)
{
	struct err e = { 0 };
	int r = SINK_EFORMAT;

	if (h->code[0] == 0)
		return read_head(fd, path, h->head[0].base / 2, bytes, &h->head[1], &h->why[1]);
	err_set(&h->why[1], r, "The cache file %s has no second head.", path);
	for (int64_t at = BLOCK; at <= AREA_MOST && at + FIXED <= bytes; at *= 2) {
		const int found = read_head(fd, path, at, bytes, &h->head[1], &e);

		if (found == 0 || found == SINK_EPROTO || found == SINK_EIO || found == SINK_ENOMEM) {
			h->why[1] = e;
			return found;
		}
	}
	return r;
}

int ring_heads(const char *path, const struct ring_identity *expected, struct ring_heads *ret, struct err *e)
{
	int64_t bytes = 0;
	const int fd = open_file(path, O_RDONLY, &bytes, e);

	*ret = (struct ring_heads){ .newest = -1 };
	if (fd < 0)
		return fd;
	ret->code[0] = read_head(fd, path, 0, bytes, &ret->head[0], &ret->why[0]);
	ret->code[1] = read_second(fd, path, bytes, ret);
	close(fd);
	for (int i = 0; i < 2; i++) {
		const char *field = !ret->code[i] && expected ? difference(&ret->head[i].identity, expected) : NULL;

		if (ret->code[i] == SINK_EIO || ret->code[i] == SINK_ENOMEM)
			return err_set(e, ret->code[i], "%s", ret->why[i].text);
		if (field)
			ret->code[i] = err_set(&ret->why[i], SINK_EINVAL, "%s differs in %s.", path, field);
		if (ret->code[i] == 0 && (ret->newest < 0 || ret->head[i].generation > ret->head[0].generation))
			ret->newest = i;
	}
	return 0;
}

int ring_read(const char *path, const struct ring_identity *expected, bool skip, struct ring *ret, struct err *e)
{
	struct ring_heads h;
	int r = ring_heads(path, expected, &h, e), take = h.newest;

	if (!r && take < 0) { /* another identity or a later version tells more than damage */
		take = h.code[1] == SINK_EINVAL || h.code[1] == SINK_EPROTO;
		r = h.code[take] == SINK_ENOENT ? SINK_EFORMAT : h.code[take];
		err_set(e, r, "%s", h.why[take].text);
	} else if (!r && skip) {
		take = !take;
		if (h.code[take])
			r = err_set(e, SINK_EFORMAT, "The cache file %s has no earlier generation.", path);
	}
	if (!r) {
		*ret = h.head[take];
		h.head[take] = (struct ring){ 0 };
	}
	ring_release(&h.head[0]);
	ring_release(&h.head[1]);
	return r;
}

/* Pages on their way in; threads take one after the other. */
struct filling {
	int fd;
	const char *path;
	const struct ring *ring;
	void *const *page;
	atomic_size_t next;
	atomic_int code;
	struct err why; /* written by the one that sets the code */
};

static void *fill_parts(void *arg)
{
	struct filling *f = arg;
	const struct page_shape *shape = &f->ring->identity.shape;
	size_t i;

	while (!f->code && (i = atomic_fetch_add(&f->next, 1)) < f->ring->parts) {
		const struct ring_part *p = &f->ring->part[i];
		const int64_t at = slot_at(f->ring, p->slot);
		struct err e = { 0 };
		int r, unset = 0;

		r = move(false, f->fd, f->path, f->page[i], page_bytes(shape), at, &e);
		if (!r && seal_page(shape, f->page[i], p->run, p->number) != p->sum)
			r = err_set(&e, SINK_EFORMAT, "Page %lld of run %d at byte %lld of %s is damaged.",
				    (long long)p->number, p->run, (long long)at, f->path);
		if (r && atomic_compare_exchange_strong(&f->code, &unset, r))
			f->why = e;
	}
	return NULL;
}

int ring_fill(const char *path, const struct ring *r, void *const *page, struct err *e)
{
	struct filling f = { .path = path, .ring = r, .page = page };
	int64_t bytes = 0;
	bool helped = false;
	pthread_t helper;

	f.fd = open_file(path, O_RDONLY, &bytes, e);
	if (f.fd < 0)
		return f.fd;
	if (r->parts > 1 && r->parts > ALONE_MOST / page_bytes(&r->identity.shape))
		helped = pthread_create(&helper, NULL, fill_parts, &f) == 0;
	fill_parts(&f);
	if (helped)
		pthread_join(helper, NULL);
	close(f.fd);
	return f.code ? err_set(e, f.code, "%s", f.why.text) : 0;
}

/* The next generation before its pages have places: those that the last one has keep theirs. */
static int plan_next(const struct ring_identity *identity, const struct kv_state *state, const struct kv_part *part,
		     size_t parts, const struct ring *last, struct ring *next, struct err *e)
{
	const struct ring_part *had = last->part, *end = last->parts ? had + last->parts : had;

	if (parts > RING_PARTS || page_bytes(&identity->shape) > RING_PAGE_MOST)
		return err_set(e, SINK_EINVAL, "A cache of %zu pages does not fit into a file.", parts);
	*next = (struct ring){ .identity = *identity, .state = *state };
	next->part = calloc(parts + 1, sizeof(*next->part));
	if (!next->part)
		return err_set(e, SINK_ENOMEM, "Out of memory for the head of a cache file.");
	next->parts = parts;
	for (size_t i = 0; i < parts; i++) {
		const struct kv_part *p = &part[i];
		uint64_t sum = p->sealed ? p->sum : seal_page(&identity->shape, p->page, p->run, p->number);

		while (had < end && (had->run < p->run || (had->run == p->run && had->number < p->number)))
			had++;
		next->part[i] = (struct ring_part){ p->run, p->number, sum, nowhere };
		if (had < end && had->run == p->run && had->number == p->number && had->sum == sum)
			next->part[i].slot = had->slot;
	}
	return 0;
}

/* Writes the pages that have no place yet into the lowest slots that neither generation uses. */
static int write_pages(int fd, const char *path, const struct kv_part *part, const struct ring *last, struct ring *next,
		       struct err *e)
{
	uint8_t *used = calloc(1, SLOT_BITS);
	uint32_t slot = 0;
	int r = used ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for the slots of a cache file.");

	for (size_t i = 0; !r && i < last->parts; i++)
		used[last->part[i].slot / 8] |= (uint8_t)(1 << last->part[i].slot % 8);
	for (size_t i = 0; !r && i < next->parts; i++) {
		if (next->part[i].slot != nowhere)
			continue;
		while (used[slot / 8] >> slot % 8 & 1)
			slot++;
		next->part[i].slot = slot++;
		r = move(true, fd, path, part[i].page, page_bytes(&next->identity.shape),
			 slot_at(next, next->part[i].slot), e);
	}
	free(used);
	return r;
}

static int write_head(int fd, const char *path, const struct ring *r, struct err *e)
{
	const struct ring_identity *id = &r->identity;
	const size_t bytes = head_bytes(r->parts);
	uint8_t *head = calloc(1, bytes);
	struct fixed *f = (struct fixed *)(void *)head;
	struct packed *p = (struct packed *)(void *)(head + FIXED);
	uint64_t sum;
	int ret;

	if (!head)
		return err_set(e, SINK_ENOMEM, "Out of memory for the head of the cache file %s.", path);
	*f = (struct fixed){ .version = htole32(RING_VERSION),
			     .head_bytes = htole32((uint32_t)bytes),
			     .generation = htole64(r->generation),
			     .store = htole64(id->owner.store),
			     .conversation = htole64(id->owner.conversation),
			     .fingerprint = htole64(id->fingerprint),
			     .layers = htole32((uint32_t)id->shape.layers),
			     .kv_heads = htole32((uint32_t)id->shape.kv_heads),
			     .head_size = htole32((uint32_t)id->shape.head_size),
			     .type = htole32((uint32_t)id->shape.type),
			     .page_tokens = htole32(PAGE_TOKENS),
			     .page_bytes = htole64(page_bytes(&id->shape)),
			     .base = htole64((uint64_t)r->base),
			     .marks_list = htole64(id->marks),
			     .tokens = htole64((uint64_t)r->state.tokens),
			     .marks = htole64((uint64_t)r->state.marks),
			     .text = htole64(r->state.text),
			     .parts = htole32((uint32_t)r->parts) };
	memcpy(f->magic, magic, sizeof(magic));
	memcpy(f->policy, id->policy, strnlen(id->policy, sizeof(f->policy) - 1));
	for (size_t i = 0; i < r->parts; i++)
		p[i] = (struct packed){ htole64((uint64_t)r->part[i].number), htole64(r->part[i].sum),
					htole32((uint32_t)r->part[i].run), htole32(r->part[i].slot) };
	sum = htole64(seal_bytes(head, bytes - SUM, 0));
	memcpy(head + bytes - SUM, &sum, SUM);
	ret = move(true, fd, path, head, bytes, r->generation % 2 ? r->base / 2 : 0, e);
	free(head);
	return ret;
}

static int sync_file(int fd, const char *path, bool *doubtful, struct err *e)
{
	if (fdatasync(fd) == 0)
		return 0;
	*doubtful = true;
	return err_set(e, SINK_EIO, "The cache file %s did not reach the disk: %s.", path, strerror(errno));
}

/* Into the file as it is: only what the last generation does not need is overwritten. */
static int write_into(int fd, const char *path, const struct kv_part *part, bool sync, struct ring *last,
		      struct ring *next, struct err *e)
{
	const int64_t at = next->generation % 2 ? next->base / 2 : 0;
	int64_t end;
	int r = write_pages(fd, path, part, last, next, e);

	if (!r && sync)
		r = sync_file(fd, path, &last->doubtful, e);
	if (!r) {
		r = write_head(fd, path, next, e);
		if (!r && sync)
			r = sync_file(fd, path, &last->doubtful, e);
		if (r) /* the last one is to be the newest that is read */
			last->doubtful |= move(true, fd, path, &(struct fixed){ 0 }, FIXED, at, NULL) != 0;
	}
	if (r) {
		last->doubtful |= ftruncate(fd, last->bytes) < 0;
		return r;
	}
	next->bytes = lseek(fd, 0, SEEK_END);
	end = end_of(next) > end_of(last) ? end_of(next) : end_of(last);
	if (end < next->bytes / 2 && ftruncate(fd, end) == 0)
		next->bytes = end;
	return 0;
}

/* A rename is on the disk when its directory is. */
static int sync_directory(const char *path, bool *doubtful, struct err *e)
{
	char dir[PATH_BYTES];
	int fd, r = 0;

	snprintf(dir, sizeof(dir), "%s", path);
	fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*doubtful = fd < 0 || fsync(fd) < 0;
	if (*doubtful)
		r = refused("put into its directory for good", path, e);
	if (fd >= 0)
		close(fd);
	return r;
}

/* A new file beside the old one, in whose place it comes when it is whole. */
static int write_anew(const char *path, const struct kv_part *part, bool sync, struct ring *last, struct ring *next,
		      struct err *e)
{
	struct ring_heads there;
	char made[PATH_BYTES];
	int fd, r = ring_heads(path, NULL, &there, e);

	if (!r && there.newest < 0 && there.code[0] == SINK_EPROTO)
		r = err_set(e, SINK_EPROTO, "%s", there.why[0].text);
	ring_release(&there.head[0]);
	ring_release(&there.head[1]);
	if (r && r != SINK_ENOENT)
		return r;
	next->base = 2 * BLOCK;
	while (next->base < 2 * AREA_MOST && (size_t)next->base / 2 < head_bytes(next->parts + next->parts / 2))
		next->base *= 2;
	snprintf(made, sizeof(made), "%s.new", path);
	unlink(made); /* what is left of one that was interrupted */
	fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return refused("made", made, e);
	r = ftruncate(fd, next->base) < 0 ? refused("made", made, e) : write_pages(fd, made, part, &none, next, e);
	if (!r)
		r = write_head(fd, made, next, e);
	if (!r && sync)
		r = sync_file(fd, made, &last->doubtful, e);
	if (!r && rename(made, path) < 0)
		r = refused("put in its place", path, e);
	if (r)
		unlink(made);
	else if (sync)
		r = sync_directory(path, &last->doubtful, e);
	next->bytes = lseek(fd, 0, SEEK_END);
	close(fd);
	return r;
}

int ring_write(const char *path, const struct ring_identity *identity, const struct kv_state *state,
	       const struct kv_part *part, size_t parts, bool sync, struct ring *r, struct err *e)
{
	struct ring next = { 0 };
	int64_t bytes = -1;
	int fd = -1, ret = 0;
	bool into;

	if (r->generation && !r->doubtful && parts <= RING_PARTS && head_bytes(parts) <= (size_t)r->base / 2 &&
	    !difference(&r->identity, identity)) {
		fd = open_file(path, O_RDWR, &bytes, e);
		ret = fd < 0 && fd != SINK_ENOENT ? fd : 0;
	}
	into = fd >= 0 && bytes == r->bytes;
	if (!ret)
		ret = plan_next(identity, state, part, parts, into ? r : &none, &next, e);
	next.generation = r->generation + 1;
	next.base = r->base;
	if (!ret)
		ret = into ? write_into(fd, path, part, sync, r, &next, e) : write_anew(path, part, sync, r, &next, e);
	if (fd >= 0)
		close(fd);
	ring_release(ret ? &next : r);
	if (!ret)
		*r = next;
	return ret;
}
