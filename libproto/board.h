/*
 * The board: a segment of POSIX shared memory in which the daemon shows its state, so that it can be looked at without
 * a message to it, also while it is stopped or busy. The layout is in README.md, field by field; the tables below are
 * the same for programs.
 *
 * A header that stays as it is, then two slots. The daemon writes them in turns, the one that is not the latest, under
 * a lock that is odd while it writes, and says then which is the latest: so whatever moment it is stopped at, there is
 * a whole slot to be read. All bytes go over as words of 32 bits by atomic operations, which makes it well defined for
 * a compiler and for a machine with a weak order of memory: a reader who meets a word of a later writing finds the lock
 * changed.
 *
 * The daemon holds a write lock (F_OFD_SETLK) on the segment as long as it lives: one without is left from a dead one.
 */
#ifndef SINK_BOARD_H
#define SINK_BOARD_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum {
	BOARD_VERSION = 1,
	BOARD_ROWS = 256, /* conversations that a slot has room for */
	BOARD_BUCKETS = 24,
	BOARD_PERIOD_MS = 1000, /* the longest time between two writings, unless the daemon is stopped or dead */
	BOARD_NAME = 32,
	BOARD_ENDPOINT = 256,
};

#define BOARD_MAGIC "sinkdbrd"

/* Written before the first slot, all but `latest`. */
struct board_header {
	char magic[8]; /* written last */
	uint32_t version;
	uint32_t header_bytes, slot_bytes, state_bytes, row_bytes; /* the layout's own sizes: they may grow */
	uint32_t rows;
	uint32_t period_ms, reserved;
	int64_t pid;
	int64_t started; /* of the process: field 22 of /proc/PID/stat */
	int64_t instance;
	char server[32];
	char endpoint[BOARD_ENDPOINT]; /* as board_name() has it */
	uint32_t latest;	       /* counts the writings; the latest is in slot latest % 2; 0: there is none yet */
	uint32_t unused[39];
};

enum board_phase { BOARD_LOADING, BOARD_READY, BOARD_STOPPING };
enum board_store { BOARD_OFF, BOARD_SAVING, BOARD_STOPPED };

/* The beginning of a slot. */
struct board_state {
	uint32_t lock; /* odd while the slot is written */
	uint32_t rows; /* so many follow */
	double time;   /* when it was written: Unix seconds, and ... */
	double clock;  /* ms of CLOCK_MONOTONIC */
	double uptime;
	uint32_t phase, reserved;
	int64_t conversations, answering, queued, waiting, clients, attachments;
	int64_t pages, pages_free, page_bytes, resident_bytes;
	int64_t tokens_read, tokens_written;
	double read_per_s, written_per_s;
	int64_t drafted, accepted;
	int64_t steps;
	double step_median, step_p99, step_max, step_sum; /* ms; the last of all steps there were */
	uint64_t step_buckets[BOARD_BUCKETS]; /* of all steps: number i counts those below 2^(i - 4) ms and no less than
						 half of that; the last one all that are longer */
	uint32_t store, store_reserved;
	int64_t store_bytes, store_caches, store_cache_bytes, store_free_bytes;
	char store_text[240];
	char model_name[64], model_arch[32], model_device[16], model_kernels[32];
	int64_t model_threads, model_bytes, model_context;
	char unused[176];
};

/* A conversation. */
struct board_row {
	char name[72];
	char policy[64];
	uint32_t state; /* idle, queued, reading, answering, failed */
	uint32_t tier;	/* none, memory, disk, replay */
	uint32_t pin, place;
	int64_t clients;
	int64_t messages, tokens, waiting, pinned, kept, window, evicted, cache_bytes, generated;
	float read_per_s, written_per_s;
	double created, used;
};

enum board_type { BOARD_U32, BOARD_I64, BOARD_F32, BOARD_F64, BOARD_TEXT, BOARD_COUNTS, BOARD_BOOL, BOARD_WORD };

/* A field: its name in the map that sink_board() makes (NULL: it is not in it) and its place. */
struct board_field {
	const char *name; /* as README.md has it; with a dot in front where the map has no such key */
	enum board_type type;
	uint32_t offset, size;
	const char *const *words; /* of a BOARD_WORD: what its numbers mean, ended by NULL */
};

/* Each ends with a field without a name. */
extern const struct board_field board_header_fields[], board_state_fields[], board_row_fields[];

/*
 * The endpoint as the daemon and its clients both write it (a unix socket's directory without links), and the name of
 * its segment for shm_open(3). SINK_EINVAL: it is too long.
 */
int board_name(const char *endpoint, char canonical[BOARD_ENDPOINT], char name[BOARD_NAME], struct err *e);

/* Bytes of a segment. */
size_t board_size(void);

/* Begins a segment of zeros; what `h` says of sizes, `magic` and `latest` is filled in here. */
void board_begin(void *segment, const struct board_header *h);

/* Writes the next slot: `s`, whose lock does not matter, and s->rows rows. One thread. */
void board_write(void *segment, const struct board_state *s, const struct board_row *row);

/*
 * Reads the header and, into `s` and `row` (BOARD_ROWS of them), the latest slot; more rows than fit are left out.
 * SINK_EFORMAT: this is no segment or not yet; SINK_EPROTO: of another version; SINK_EBUSY: it changed too fast.
 */
int board_read(const void *segment, size_t size, struct board_header *h, struct board_state *s, struct board_row *row,
	       struct err *e);

#endif
