/*
 * Owns the layout of the board: the tables of its fields, its name, and the words' way in and out. It opens nothing:
 * the segment is the caller's.
 */
#include "board.h"

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 100 };

typedef _Atomic uint32_t word;

static_assert(sizeof(struct board_header) == 512 && offsetof(struct board_header, latest) == 352, "the header");
static_assert(sizeof(struct board_state) == 1024, "a slot's beginning");
static_assert(sizeof(struct board_row) == 256, "a row");

static const char *const phases[] = { "loading", "ready", "stopping", NULL };
static const char *const stores[] = { "off", "saving", "stopped", NULL };
static const char *const states[] = { "idle", "queued", "reading", "answering", "failed", NULL };
static const char *const tiers[] = { "none", "memory", "disk", "replay", NULL };

#define AT(s, f) offsetof(struct s, f), sizeof(((struct s *)0)->f)
#define HEADER(name, type, f)                                                                                          \
	{                                                                                                              \
		name, type, AT(board_header, f), NULL                                                                  \
	}
#define STATE(name, type, f)                                                                                           \
	{                                                                                                              \
		name, type, AT(board_state, f), NULL                                                                   \
	}
#define ROW(name, type, f)                                                                                             \
	{                                                                                                              \
		name, type, AT(board_row, f), NULL                                                                     \
	}

const struct board_field board_header_fields[] = {
	HEADER(".magic", BOARD_TEXT, magic),
	HEADER(".version", BOARD_U32, version),
	HEADER(".header_bytes", BOARD_U32, header_bytes),
	HEADER(".slot_bytes", BOARD_U32, slot_bytes),
	HEADER(".state_bytes", BOARD_U32, state_bytes),
	HEADER(".row_bytes", BOARD_U32, row_bytes),
	HEADER(".rows", BOARD_U32, rows),
	HEADER("period_ms", BOARD_U32, period_ms),
	HEADER("pid", BOARD_I64, pid),
	HEADER(".started", BOARD_I64, started),
	HEADER("instance", BOARD_I64, instance),
	HEADER("server", BOARD_TEXT, server),
	HEADER("endpoint", BOARD_TEXT, endpoint),
	HEADER(".latest", BOARD_U32, latest),
	{ 0 },
};

const struct board_field board_state_fields[] = {
	STATE(".lock", BOARD_U32, lock),
	STATE(".rows", BOARD_U32, rows),
	STATE("time", BOARD_F64, time),
	STATE(".clock", BOARD_F64, clock),
	STATE("uptime", BOARD_F64, uptime),
	{ "state", BOARD_WORD, AT(board_state, phase), phases },
	STATE("conversations", BOARD_I64, conversations),
	STATE("answering", BOARD_I64, answering),
	STATE("queued", BOARD_I64, queued),
	STATE("waiting", BOARD_I64, waiting),
	STATE("clients", BOARD_I64, clients),
	STATE("attachments", BOARD_I64, attachments),
	STATE("pages", BOARD_I64, pages),
	STATE("pages_free", BOARD_I64, pages_free),
	STATE("page_bytes", BOARD_I64, page_bytes),
	STATE("resident_bytes", BOARD_I64, resident_bytes),
	STATE("tokens_read", BOARD_I64, tokens_read),
	STATE("tokens_written", BOARD_I64, tokens_written),
	STATE("read_per_s", BOARD_F64, read_per_s),
	STATE("written_per_s", BOARD_F64, written_per_s),
	STATE("drafted", BOARD_I64, drafted),
	STATE("accepted", BOARD_I64, accepted),
	STATE("steps", BOARD_I64, steps),
	STATE("step_ms.median", BOARD_F64, step_median),
	STATE("step_ms.p99", BOARD_F64, step_p99),
	STATE("step_ms.max", BOARD_F64, step_max),
	STATE("step_ms.sum", BOARD_F64, step_sum),
	STATE("step_ms.buckets", BOARD_COUNTS, step_buckets),
	{ "store.state", BOARD_WORD, AT(board_state, store), stores },
	STATE("store.bytes", BOARD_I64, store_bytes),
	STATE("store.caches", BOARD_I64, store_caches),
	STATE("store.cache_bytes", BOARD_I64, store_cache_bytes),
	STATE("store.free_bytes", BOARD_I64, store_free_bytes),
	STATE("store.text", BOARD_TEXT, store_text),
	STATE("model.name", BOARD_TEXT, model_name),
	STATE("model.arch", BOARD_TEXT, model_arch),
	STATE("model.device", BOARD_TEXT, model_device),
	STATE("model.kernels", BOARD_TEXT, model_kernels),
	STATE("model.threads", BOARD_I64, model_threads),
	STATE("model.bytes", BOARD_I64, model_bytes),
	STATE("model.context", BOARD_I64, model_context),
	{ 0 },
};

const struct board_field board_row_fields[] = {
	ROW("name", BOARD_TEXT, name),
	ROW("policy", BOARD_TEXT, policy),
	{ "state", BOARD_WORD, AT(board_row, state), states },
	{ "tier", BOARD_WORD, AT(board_row, tier), tiers },
	ROW("pin", BOARD_BOOL, pin),
	ROW("place", BOARD_U32, place),
	ROW("clients", BOARD_I64, clients),
	ROW("messages", BOARD_I64, messages),
	ROW("tokens", BOARD_I64, tokens),
	ROW("waiting", BOARD_I64, waiting),
	ROW("pinned", BOARD_I64, pinned),
	ROW("kept", BOARD_I64, kept),
	ROW("window", BOARD_I64, window),
	ROW("evicted", BOARD_I64, evicted),
	ROW("cache_bytes", BOARD_I64, cache_bytes),
	ROW("generated", BOARD_I64, generated),
	ROW("read_per_s", BOARD_F32, read_per_s),
	ROW("written_per_s", BOARD_F32, written_per_s),
	ROW("created", BOARD_F64, created),
	ROW("used", BOARD_F64, used),
	{ 0 },
};

/* FNV-1a, 64 bits: a name must be made alike in any language, and the segment says whose it is. */
static uint64_t hash(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

int board_name(const char *endpoint, char canonical[BOARD_ENDPOINT], char name[BOARD_NAME], struct err *e)
{
	const char *path = strncmp(endpoint, "ipc:///", 7) == 0 ? endpoint + 6 : NULL;
	const char *slash = path ? strrchr(path, '/') : NULL;
	char directory[PATH_MAX], real[PATH_MAX];
	int n;

	if (path && (size_t)(slash - path) < sizeof(directory)) {
		snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
		if (realpath(*directory ? directory : "/", real) && strcmp(real, "/") == 0)
			*real = '\0';
		else if (*directory && !realpath(directory, real))
			snprintf(real, sizeof(real), "%s", directory);
		n = snprintf(canonical, BOARD_ENDPOINT, "ipc://%.*s%s", PATH_MAX - 1, real, slash);
	} else {
		n = snprintf(canonical, BOARD_ENDPOINT, "%s", endpoint);
	}
	if (n < 0 || n >= BOARD_ENDPOINT)
		return err_set(e, SINK_EINVAL, "The endpoint is too long for a status segment.");
	snprintf(name, BOARD_NAME, "/sinkd-%016llx", (unsigned long long)hash(canonical));
	return 0;
}

size_t board_size(void)
{
	return sizeof(struct board_header) + 2 * (sizeof(struct board_state) + BOARD_ROWS * sizeof(struct board_row));
}

/* Both ways in words of 32 bits; no structure has another alignment than that. */

static void put(word *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(uint32_t); i++) {
		uint32_t w;

		memcpy(&w, (const char *)from + i * sizeof(w), sizeof(w));
		atomic_store_explicit(&to[i], w, memory_order_release);
	}
}

static void get(void *to, const word *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(uint32_t); i++) {
		const uint32_t w = atomic_load_explicit(&from[i], memory_order_acquire);

		memcpy((char *)to + i * sizeof(w), &w, sizeof(w));
	}
}

void board_begin(void *segment, const struct board_header *h)
{
	struct board_header own = *h;
	const size_t magic = sizeof(own.magic);

	own.version = BOARD_VERSION;
	own.header_bytes = sizeof(own);
	own.state_bytes = sizeof(struct board_state);
	own.row_bytes = sizeof(struct board_row);
	own.slot_bytes = own.state_bytes + BOARD_ROWS * own.row_bytes;
	own.rows = BOARD_ROWS;
	own.period_ms = BOARD_PERIOD_MS;
	own.latest = 0;
	put((word *)segment + magic / sizeof(word), (const char *)&own + magic, sizeof(own) - magic);
	put(segment, BOARD_MAGIC, magic);
}

static word *latest_of(const void *segment)
{
	return (word *)segment + offsetof(struct board_header, latest) / sizeof(word);
}

void board_write(void *segment, const struct board_state *s, const struct board_row *row)
{
	const size_t slot_bytes = sizeof(*s) + BOARD_ROWS * sizeof(*row), lock = sizeof(s->lock);
	const uint32_t next = atomic_load_explicit(latest_of(segment), memory_order_relaxed) + 1;
	word *slot = (word *)((char *)segment + sizeof(struct board_header) + next % 2 * slot_bytes);
	const uint32_t before = atomic_load_explicit(slot, memory_order_relaxed);

	assert(s->rows <= BOARD_ROWS);
	atomic_store_explicit(slot, before + 1, memory_order_relaxed);
	put(slot + 1, (const char *)s + lock, sizeof(*s) - lock);
	put(slot + sizeof(*s) / sizeof(word), row, s->rows * sizeof(*row));
	atomic_store_explicit(slot, before + 2, memory_order_release);
	atomic_store_explicit(latest_of(segment), next, memory_order_release);
}

/* The sizes are the writer's word, and a reader must not leave the segment for it. */
static int check_header(const struct board_header *h, size_t size, struct err *e)
{
	const uint64_t slot = (uint64_t)h->state_bytes + (uint64_t)h->rows * h->row_bytes;

	if (memcmp(h->magic, BOARD_MAGIC, sizeof(h->magic)) != 0)
		return err_set(e, SINK_EFORMAT, "The status segment is none, or not written yet.");
	if (h->version != BOARD_VERSION)
		return err_set(e, SINK_EPROTO, "The status segment is of version %u, not %d.", h->version,
			       BOARD_VERSION);
	if (h->header_bytes < sizeof(*h) || h->state_bytes < sizeof(struct board_state) ||
	    h->row_bytes < sizeof(struct board_row) || h->slot_bytes < slot ||
	    (h->header_bytes | h->state_bytes | h->row_bytes | h->slot_bytes) % 8 ||
	    (uint64_t)h->header_bytes + 2 * (uint64_t)h->slot_bytes > size)
		return err_set(e, SINK_EFORMAT, "The status segment is damaged: its sizes do not fit.");
	return 0;
}

/* False: it was written meanwhile. */
static bool read_slot(const struct board_header *h, const char *at, struct board_state *s, struct board_row *row)
{
	const word *lock = (const word *)at;
	const uint32_t before = atomic_load_explicit(lock, memory_order_acquire);

	if (before % 2)
		return false;
	get(s, (const word *)at, sizeof(*s));
	s->rows = s->rows < h->rows ? s->rows : h->rows;
	s->rows = s->rows < BOARD_ROWS ? s->rows : BOARD_ROWS;
	for (uint32_t i = 0; i < s->rows; i++)
		get(&row[i], (const word *)(at + h->state_bytes + (size_t)i * h->row_bytes), sizeof(*row));
	return atomic_load_explicit(lock, memory_order_relaxed) == before;
}

int board_read(const void *segment, size_t size, struct board_header *h, struct board_state *s, struct board_row *row,
	       struct err *e)
{
	int rc;

	if (size < sizeof(*h))
		return err_set(e, SINK_EFORMAT, "The status segment is too small.");
	get(h, segment, sizeof(*h));
	rc = check_header(h, size, e);
	if (rc < 0)
		return rc;
	for (int i = 0; i < TRIES; i++) {
		const uint32_t latest = atomic_load_explicit(latest_of(segment), memory_order_acquire);
		const char *slot = (const char *)segment + h->header_bytes + latest % 2 * (size_t)h->slot_bytes;

		if (!latest)
			return err_set(e, SINK_EFORMAT, "The status segment has not been written yet.");
		if (read_slot(h, slot, s, row)) {
			h->latest = latest;
			return 0;
		}
	}
	return err_set(e, SINK_EBUSY, "The status segment changes faster than it can be read.");
}
