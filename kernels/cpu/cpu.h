/*
 * What the files of the CPU's backends share: the device, packed weights, quantized activations, and `struct isa`, the
 * table of inner loops that each instruction set fills in once.
 *
 * device.c serves all CPU backends; fast*.c splits the operations of all but "ref" into pieces and calls the isa; ref.c
 * does its own.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#include "pool.h"

/*
 * Inner functions become part of their callers, and `foreach (i, n)`, for i below n, unrolls loops whose count is then
 * known: so their arrays are registers. Not where a compiler would choke on it: under a sanitizer, which adds a check
 * to each access, and in the emulation of the tests, where each instruction is a function.
 */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KERNELS_SMALL
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(KERNELS_EMULATE_AVX512)
#define KERNELS_SMALL
#endif

#if defined(KERNELS_SMALL)
#define INLINE static inline
#define UNROLL
#elif defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define foreach(i, n) UNROLL for (size_t i = 0; i < (n); i++)

/* Rows of a matrix that lie side by side in a packed weight, and virtual lanes of every sum: never another number. */
enum { LANES = 16 };

/* Elements of a block of quantized weights, and of activations. */
enum { BLOCK = 32 };

/*
 * A block of a row of activations in 8 bits: x[i] is about d * q[i], d = largest |x| / 127, q rounded to the nearest,
 * ties to even. The sums serve weights with an offset, and ds = d * sum those with a minimum. q is aligned to 16 bytes.
 */
struct xbytes {
	int8_t q[BLOCK];
	float d, ds;
	int32_t sum;
	int16_t less[2]; /* where sums are narrow: -16 times those of columns 0 and 1, and 2 and 3, of each four */
};

/*
 * The same in 15 bits, d = largest |x| / WORD_MOST: a product of a block with weights of 13 bits fits in 32. Columns
 * stand in the order in which words come out of a packed block, word_place().
 */
struct xwords {
	int16_t q[BLOCK];
	float d, ds;
	int32_t sum;
	int32_t low; /* the sum of columns 0 to 15 */
};

enum { WORD_MOST = 127 * 128 };

/*
 * A block of sixteen rows of either, as tiles want them: of words the low bytes, -128 to 127, then the high ones, -63
 * to 64, so that a word is 256 * high + low; of bytes the first half alone. Columns stand in their order.
 */
struct xtile {
	_Alignas(64) int8_t q[LANES][2 * BLOCK];
	float d[LANES], ds[LANES];
};

/* Rows of activations from which on it pays to arrange them in tiles. */
enum { XTILE_FROM = 8 };

/*
 * Where column c of a block stands among words. Sixteen bits of a packed block of four-bit weights hold columns 4j + i,
 * 16 + 4j + i, 4j + i + 1, 16 + 4j + i + 1 (i = 0 or 2), so that shifting them down gives words of one column each, and
 * two words of a lane are the columns 4j and 4j + 2, or 4j + 1 and 4j + 3, of one half.
 */
static inline size_t word_place(size_t c)
{
	return c % 16 / 4 * 8 + c % 2 * 4 + c / 16 * 2 + c % 4 / 2;
}

/*
 * A packed matrix: groups of LANES rows, the last padded with zeros; in a group the columns in blocks (types without
 * blocks: column after column), in a block
 *
 *	d[LANES] f16, then m[LANES] f16 for the types with a minimum,
 *	5 bits: 64 bytes of high bits, byte r*4+c: bit j is column 4j+c of row r, bit 4+j column 16+4j+c,
 *	4 and 5 bits: 4 vectors of 64 bytes, byte r*4+c of vector j: column 4j+c of row r low, 16+4j+c high,
 *	8 bits: 8 vectors of 64 bytes, byte r*4+c of vector j: column 4j+c of row r,
 *	F32, F16, BF16: the LANES elements of one column.
 *
 * The K types have superblocks of SUPER blocks: first what the blocks share, then their quants, as above.
 *
 *	Q4_K, Q5_K: d[LANES] f16, -dmin[LANES] f16, then the scales and minima of 6 bits, numbered as they are
 *	unpacked, [scale, minimum][SUPER][LANES], in three vectors of 64 bytes: byte i of vector 0 has the low four
 *	bits of numbers i and 64 + i, vector 1 those of 128 + i and 192 + i, vector 2 the high two of all four, from
 *	the lowest bits up,
 *	Q6_K: d[LANES] f16, then scales of 8 bits, [SUPER][columns 0..15, 16..31][LANES],
 *	6 bits: before the nibbles 2 vectors of 64 bytes, byte r*4+c of vector v, for j = 2v + p: bits 2p and 2p + 1
 *	column 4j+c of row r, bits 4 + 2p and 5 + 2p column 16+4j+c.
 */
struct weight {
	enum dtype type;
	size_t rows, cols;
	size_t groups, group_bytes;
	uint8_t *data; /* page-aligned, `bytes` long */
	size_t bytes;
	struct slab *slab; /* that it lies in (device.c) */
};

/* Whether a type's products are taken in integers, and so its activations quantized. */
static inline bool type_is_blocked(enum dtype type)
{
	return type != DTYPE_F32 && type != DTYPE_F16 && type != DTYPE_BF16;
}

/* Blocks of a superblock, and whether a type has those. Their activations are words in either precision. */
enum { SUPER = 8 };

static inline bool type_is_super(enum dtype type)
{
	return type == DTYPE_Q4_K || type == DTYPE_Q5_K || type == DTYPE_Q6_K;
}

/* Bytes of one packed block or superblock (of LANES rows), or of one column of the types without blocks. */
size_t pack_block_bytes(enum dtype type);
/* Packs one group of rows of `t`, starting at row group * LANES, to `dst`. */
void pack_group(const struct tensor *t, size_t group, uint8_t *dst);
/* A row of the matrix in F32: to the bit what dtype_to_f32() makes of the file. */
void pack_row_to_f32(const struct weight *w, size_t row, float *y);

/* Rows of activations of a piece at most: with a few groups of weights they stay in the second cache. */
enum { TILE_ROWS = 64 };

/* Some rows of x against some groups of one weight; the result's first column is y[.][0]. */
struct tile {
	const struct weight *w;
	size_t group, groups;
	const struct xbytes *xb; /* [n][cols / BLOCK], for blocked types: these, */
	const struct xwords *xw; /* or these */
	const struct xtile *xt;	 /* [n / LANES, rounded up][cols / BLOCK], the same in tiles, or NULL */
	const float *x;		 /* [n][cols], for the others */
	size_t n;		 /* up to TILE_ROWS */
	float *y;		 /* where the first of the groups' rows goes */
	size_t y_stride;
	bool add;
};

/* Queries that one piece of attention takes at most, and floats of a query, rounded up to whole vectors. */
enum { QUERIES = 48 };

static inline size_t round_lanes(size_t n)
{
	return (n + LANES - 1) / LANES * LANES;
}

/* A result that is not yet divided: the maximum score, the sum of exponentials and what follows, the weighted values.
 */
struct partial {
	float max, sum;
};

/*
 * Pages of a run that have one softmax, whose result is merged with others: those whose numbers divided by this are
 * equal, so that the tree of merging does not tell who else was served, nor how many threads there are.
 */
enum { SPAN = 4, SPAN_TOKENS = SPAN * PAGE_TOKENS };

/* A worker's own memory for attention. */
struct attend_scratch {
	_Alignas(64) float q[QUERIES * HEAD_SIZE_MAX];	      /* rotated and scaled */
	_Alignas(64) float o[QUERIES * HEAD_SIZE_MAX];	      /* merged so far */
	_Alignas(64) float span_o[QUERIES * HEAD_SIZE_MAX];   /* of this span */
	_Alignas(64) float s[QUERIES * SPAN_TOKENS];	      /* scores, then probabilities */
	_Alignas(64) float page[HEAD_SIZE_MAX * PAGE_TOKENS]; /* keys or values in F32 */
	struct partial merged[QUERIES], span[QUERIES];	      /* sum 0: nothing yet */
	_Alignas(64) int16_t q16[QUERIES * HEAD_SIZE_MAX];    /* for pages in 8 bits: the queries in whole numbers */
	float q16_scale[QUERIES * (HEAD_SIZE_MAX / BLOCK)];   /* of each block of them */
};

/* The pages that any row of a tile sees, by run. Their spans are numbered in this order, from 0. */
struct page_list {
	int64_t first[RUNS], count[RUNS];
};

static inline size_t list_spans(const struct page_list *l, int run)
{
	int64_t first = l->first[run], last = first + l->count[run] - 1;

	return l->count[run] <= 0 ? 0 : (size_t)(last / SPAN - first / SPAN + 1);
}

/*
 * A piece of attention: queries of one KV head, or of some that follow each other, and of one conversation, on a
 * stretch of the spans that any of them sees. Query i of a KV head and the rows from `row` on is head
 * kv_head * ratio + i % ratio of row row + i / ratio, where ratio is heads / kv_heads.
 */
struct attend_part {
	const struct attend *op;
	size_t row, kv_head, kv_heads;
	size_t query, queries;	 /* of each KV head, counted from `row`'s first; kv_heads * queries <= QUERIES */
	struct page_list pages;	 /* all that the queries see */
	size_t span, span_count; /* the stretch */
	/*
	 * NULL: the stretch is all of them, and the result goes to op->y. Else each span's result is kept, at
	 * [query][span][partial_stride] floats: max, sum, (14 unused), values.
	 */
	float *partials;
	size_t partial_stride, partial_spans;
};

enum { PARTIAL_VALUES = LANES };

/* Rows of one conversation whose attention is planned together (fast_attend.c). */
struct attend_tile {
	size_t row, rows;
	struct page_list pages;
	size_t span_count;
	size_t piece;	 /* its first */
	size_t partials; /* where its partial results begin, in floats */
};

/* Inner loops. All of them work on one piece, in one thread. */
struct isa {
	const char *name;
	size_t groups; /* that `matmul` takes together where there are many rows */
	void (*bytes)(const float *x, size_t cols, struct xbytes *ret);
	void (*words)(const float *x, size_t cols, struct xwords *ret);
	/* Arranges up to LANES rows of one of the two, [rows][blocks]; NULL where `matmul` wants no tiles. */
	void (*tiles)(const struct xbytes *xb, const struct xwords *xw, size_t blocks, size_t rows, struct xtile *ret);
	void (*matmul)(const struct tile *t);
	/* y = norm of x; y may be x. */
	void (*norm)(const struct norm *op, const float *x, float *y);
	/* y[width] of a row by INPUT_GELU or a gate. */
	void (*activate)(enum input input, const float *x, size_t width, float *y);
	/* Row `row` of op, one KV head. */
	void (*store)(const struct store *op, size_t row, size_t kv_head);
	void (*attend)(const struct attend_part *p, struct attend_scratch *s);
	/* Merges the spans' partial results of one query, and its head's sink if any, and writes y[head_size]. */
	void (*merge)(const float *partials, size_t spans, size_t stride, size_t head_size, const float *sink,
		      float *y);
	/* What a core does at best (peak.h): reads `bytes`, a multiple of 512; the others return their operations. */
	void (*read_peak)(const uint8_t *p, size_t bytes);
	double (*f32_peak)(size_t rounds);
	double (*bytes_peak)(size_t rounds);
	double (*words_peak)(size_t rounds);
};

extern const struct isa isa_scalar;
#ifdef __x86_64__
extern const struct isa isa_avx2, isa_avx512, isa_avx512_vnni, isa_amx;
#endif

struct device {
	const struct isa *isa; /* NULL: the reference */
	struct pool *pool;
	size_t max_rows;
	bool fast;	   /* activations in bytes, not words, but for the K types */
	struct xbytes *xb; /* [max_rows][widest / BLOCK]; NULL until a weight wants it, like xw */
	struct xwords *xw;
	float *xf;	  /* [max_rows][widest], what became of the input of weights that are not blocked; or NULL */
	struct xtile *xt; /* [max_rows / LANES, rounded up][widest / BLOCK]; NULL where the isa wants none */
	size_t widest;
	float *row;		       /* [threads][widest], between the steps of preparing a row */
	struct attend_scratch *attend; /* one a thread */
	float *partials;	       /* PARTIAL_FLOATS */
	struct attend_tile *tiles;     /* [max_rows] */
	struct slab *slab;	       /* that has room for more weights, or NULL */
};

/* Room for partial results: 16 MiB of address space, of which only what is used becomes memory. */
enum { PARTIAL_FLOATS = 4 << 20 };

int cpu_open(const struct isa *isa, const struct device_options *o, struct device **ret, struct err *e);
void cpu_close(struct device *d);
/* Zeroed pages of the system's memory; NULL when there is none. */
void *cpu_map(size_t bytes);
void cpu_unmap(void *p, size_t bytes);

int cpu_buffer_new(struct device *d, size_t floats, float **ret, struct err *e);
void cpu_buffer_free(struct device *d, float *b);
void cpu_read(struct device *d, void *host, const void *from, size_t bytes);
void cpu_write(struct device *d, void *to, const void *host, size_t bytes);
int cpu_pages_attach(struct device *d, void *host, size_t bytes, struct err *e);
void cpu_pages_detach(struct device *d);
size_t cpu_pages_room(struct device *d, size_t other);
void cpu_page_copy(struct device *d, void *to, const void *from, size_t bytes);
void cpu_page_load(struct device *d, void *page, size_t bytes);
uint64_t cpu_page_save(struct device *d, void *page, size_t bytes);
bool cpu_page_saved(struct device *d, uint64_t save, bool wait);
void cpu_begin(struct device *d, const struct step *s, size_t *n, size_t *wanted);
int cpu_end(struct device *d, struct err *e);
void cpu_angles(struct device *d, const int64_t *position, size_t n, const double *inv_freq, size_t sets,
		size_t rotated, double scale, float *angle);
void cpu_gather(struct device *d, const float *x, size_t width, const int32_t *index, size_t count, float *y);
void cpu_top(struct device *d, const float *logits, size_t n, size_t vocab, struct top *top);
/* Memory for a weight of w->bytes: sets data and slab. cpu_weight_free() gives it back with the weight. */
int cpu_weight_room(struct device *d, struct weight *w, struct err *e);
void cpu_weight_free(struct device *d, struct weight *w);

/* Experts, by a backend's own norm and products. */
struct cpu_products {
	void (*norm)(struct device *d, const struct norm *op);
	void (*matmul)(struct device *d, const struct matmul *op);
};
void cpu_experts(struct device *d, const struct cpu_products *by, const struct experts *op);

int fast_weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e);
void fast_norm(struct device *d, const struct norm *op);
void fast_matmul(struct device *d, const struct matmul *op);
void fast_experts(struct device *d, const struct experts *op);
void fast_store(struct device *d, const struct store *op);
void fast_attend(struct device *d, const struct attend *op);
void fast_embed(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y);

/* The members of a `struct backend` that all CPU backends share, and those of the ones that have an isa. */
#define CPU_OPS                                                                                                        \
	.close = cpu_close, .weight_free = cpu_weight_free, .buffer_new = cpu_buffer_new,                              \
	.buffer_free = cpu_buffer_free, .read = cpu_read, .write = cpu_write, .pages_attach = cpu_pages_attach,        \
	.pages_detach = cpu_pages_detach, .pages_room = cpu_pages_room, .page_copy = cpu_page_copy,                    \
	.page_load = cpu_page_load, .page_save = cpu_page_save, .page_saved = cpu_page_saved, .begin = cpu_begin,      \
	.end = cpu_end, .angles = cpu_angles, .gather = cpu_gather, .top = cpu_top

#define FAST_OPS                                                                                                       \
	CPU_OPS, .page_type = DTYPE_F16, .weight_new = fast_weight_new, .norm = fast_norm, .matmul = fast_matmul,      \
		 .experts = fast_experts, .store = fast_store, .attend = fast_attend, .embed = fast_embed

/* A stretch of a run as one row sees it: its tokens lo .. hi-1; none when lo >= hi. */
struct sight {
	int64_t lo, hi;
};

static inline struct sight sees_tokens(const struct row *r, int run, int64_t start, int64_t tokens)
{
	int64_t first = r->sees[run].first, end = first + r->sees[run].count;
	struct sight s = { first > start ? first - start : 0, end < start + tokens ? end - start : tokens };

	return s;
}

/* Where the slot's page keeps a layer's keys of one KV head; its values follow page_values() bytes later. */
static inline uint8_t *page_keys(const struct page_table *t, int64_t page, const struct page_shape *s, size_t layer,
				 size_t kv_head)
{
	return (uint8_t *)t->page[page % t->ring] + page_layer_offset(s, layer) + kv_head * page_head_bytes(s);
}

static inline size_t page_values(const struct page_shape *s)
{
	return s->kv_heads * page_head_bytes(s);
}

#endif
