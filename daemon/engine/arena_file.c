/* Owns the identity of an arena's files: how it is written, and what is refused. */
#include "arena_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seal.h"

enum { ARENA_VERSION = 1, BYTE_ORDER_MARK = 0x01020304 };

static const char pages_magic[8] = "sinkpage", records_magic[8] = "sinkrecs";

/* At the beginning of each file. */
struct identity {
	char magic[8];
	uint32_t version, byte_order;
	uint64_t pair; /* drawn by lot, the same in the two files that belong together */
	uint64_t fingerprint;
	uint64_t layers, kv_heads, head_size;
	uint32_t type, page_tokens;
	uint64_t page_bytes;
	uint64_t sum; /* of what stands before it */
};

static struct identity identity_of(const struct page_shape *s, const char magic[8], uint64_t fingerprint, uint64_t pair)
{
	struct identity i = { .version = ARENA_VERSION,
			      .byte_order = BYTE_ORDER_MARK,
			      .pair = pair,
			      .fingerprint = fingerprint,
			      .layers = s->layers,
			      .kv_heads = s->kv_heads,
			      .head_size = s->head_size,
			      .type = (uint32_t)s->type,
			      .page_tokens = PAGE_TOKENS,
			      .page_bytes = page_bytes(s) };

	memcpy(i.magic, magic, sizeof(i.magic));
	i.sum = seal_bytes(&i, offsetof(struct identity, sum), 0);
	return i;
}

static int make_file(const char *name, size_t bytes, const struct identity *i, int *ret, struct err *e)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* Nobody who holds the descriptor may cut the file, which would take mapped memory from under us. */
	if (fd >= 0 && !ftruncate(fd, (off_t)bytes) && pwrite(fd, i, sizeof(*i), 0) == (ssize_t)sizeof(*i) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		*ret = fd;
		return 0;
	}
	err_set(e, SINK_ENOMEM, "The system refused a file in memory for the cache: %s.", strerror(errno));
	if (fd >= 0)
		close(fd);
	return SINK_ENOMEM;
}

int arena_files_make(const struct page_shape *shape, uint64_t fingerprint, size_t pages, size_t records,
		     struct arena_files *ret, struct err *e)
{
	struct identity of_pages, of_records;
	uint64_t pair;
	int r;

	if (getrandom(&pair, sizeof(pair), 0) != (ssize_t)sizeof(pair))
		return err_set(e, SINK_EIO, "The system has no random numbers: %s.", strerror(errno));
	of_pages = identity_of(shape, pages_magic, fingerprint, pair);
	of_records = identity_of(shape, records_magic, fingerprint, pair);
	r = make_file("sinkd-pages", pages, &of_pages, &ret->pages, e);
	if (!r)
		r = make_file("sinkd-records", records, &of_records, &ret->records, e);
	return r;
}

/* Reads the identity of a file that is to be adopted, and compares it with ours. */
static int check_file(const struct page_shape *s, int fd, const char magic[8], uint64_t fingerprint, struct identity *i,
		      size_t *bytes, struct err *e)
{
	const char *what = magic == pages_magic ? "pages" : "records";
	struct identity ours;
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || pread(fd, i, sizeof(*i), 0) != (ssize_t)sizeof(*i) ||
	    memcmp(i->magic, magic, sizeof(i->magic)) != 0)
		return err_set(e, SINK_EFORMAT, "The file of %s that was left is none of ours.", what);
	*bytes = (size_t)st.st_size;
	if (i->byte_order != BYTE_ORDER_MARK)
		return err_set(e, SINK_EFORMAT, "The file of %s was left by a machine of another byte order.", what);
	if (i->version != ARENA_VERSION)
		return err_set(e, SINK_EFORMAT, "The file of %s is of version %u; this is version %d.", what,
			       i->version, ARENA_VERSION);
	ours = identity_of(s, magic, fingerprint, i->pair);
	if (i->sum != seal_bytes(i, offsetof(struct identity, sum), 0))
		return err_set(e, SINK_EFORMAT, "The identity of the file of %s is damaged.", what);
	if (i->fingerprint != fingerprint)
		return err_set(e, SINK_EFORMAT, "The file of %s is of another model.", what);
	if (memcmp(i, &ours, sizeof(ours)) != 0)
		return err_set(e, SINK_EFORMAT, "The file of %s holds pages of another shape.", what);
	return 0;
}

int arena_files_check(const struct arena_files *from, const struct page_shape *shape, uint64_t fingerprint,
		      size_t *pages, size_t *records, struct err *e)
{
	struct identity of_pages, of_records;
	int r = check_file(shape, from->pages, pages_magic, fingerprint, &of_pages, pages, e);

	if (!r)
		r = check_file(shape, from->records, records_magic, fingerprint, &of_records, records, e);
	if (!r && of_pages.pair != of_records.pair)
		r = err_set(e, SINK_EFORMAT, "The files of pages and of records do not belong together.");
	return r;
}
