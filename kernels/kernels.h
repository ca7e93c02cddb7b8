/*
 * The arithmetic that the engine stands on: one table of operations a backend, none optional.
 *
 * A `struct backend` is a row of the list in kernels.c ("ref", "scalar", "avx2", "avx512", "amx"; "cuda" later).
 * Opening one gives a `struct device`: its threads or its card, its scratch memory. All operations of a device are
 * called by one thread, in order; each is complete for the caller when it returns or when the next operation reads its
 * result. Buffers (`float *` below unless said otherwise) come from buffer_new() and may lie where the caller cannot
 * read them; read() and write() copy. Arrays in the op structs that are marked "host" are read before the call returns.
 *
 * Numbers that repeat: the result of a row never depends on how many rows travel with it, on the number of threads, or
 * on the order of calls. "scalar", "avx2", "avx512" and "amx" give the same bits; "ref" computes in F32 with the plain
 * definition (libm's exp, activations not quantized) and is the oracle of the others.
 *
 * Matrices are row-major. `n` counts the rows (tokens) of a step, at most device_options.max_rows.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Element types by their GGUF (ggml) numbers. */
enum dtype {
	DTYPE_F32 = 0,
	DTYPE_F16 = 1,
	DTYPE_Q4_0 = 2,
	DTYPE_Q4_1 = 3,
	DTYPE_Q5_0 = 6,
	DTYPE_Q5_1 = 7,
	DTYPE_Q8_0 = 8,
	DTYPE_Q4_K = 12,
	DTYPE_Q5_K = 13,
	DTYPE_Q6_K = 14,
	DTYPE_BF16 = 30,
	DTYPE_MXFP4 = 39, /* packed as Q5_0, in which its numbers are the same */
};

/* A type's name ("q4_1") and geometry: `block` elements lie in `bytes` bytes. NULL for a type that is not supported. */
struct dtype_info {
	enum dtype type;
	const char *name;
	size_t block, bytes;
};
const struct dtype_info *dtype_find(uint32_t gguf_type);

/* Dequantizes `cols` elements (a multiple of the type's block) of one row to F32: the definition of each format. */
void dtype_to_f32(enum dtype type, const void *src, size_t cols, float *dst);

/* A matrix as the model file holds it: `rows` outputs of `cols` inputs, cols contiguous. The memory stays the owner's.
 */
struct tensor {
	enum dtype type;
	size_t rows, cols;
	const void *data;
};

struct device;
struct weight; /* a matrix in the device's own layout */

/*
 * How activations meet quantized weights: as integers of 15 bits, which moves the log-probability of a token by less
 * than 0.001, or of 8, which moves it by 0.06 and reads prompts faster.
 */
enum precision { PRECISION_EXACT, PRECISION_FAST };

struct device_options {
	int threads;		  /* 1 and up; the CPU backends' workers, the caller among them */
	bool pin;		  /* bind each worker to a core */
	size_t max_rows;	  /* most rows of one step; scratch is sized by it */
	size_t max_logits;	  /* most of them that want logits; 0: unknown, for tests of single operations */
	enum precision precision; /* of the fast backends; the reference has but one */
	int card;		  /* for a backend of cards: which of them, from 0 on */
	size_t memory;		  /* for these: most bytes of the card that are taken; 0: what is free */
	bool invariant;		  /* for these: a row's result shall not depend on the rows that travel with it */
};

/* What becomes of the rows of a product's input first, in the pass that quantizes them. */
enum input {
	INPUT_PLAIN,
	INPUT_NORM,	    /* x / sqrt(mean(x^2) + eps) * norm (RMSNorm) */
	INPUT_LAYER_NORM,   /* (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * norm + shift (LayerNorm) */
	INPUT_GELU,	    /* x * P(x), P the normal distribution's (GELU) */
	INPUT_GATE,	    /* silu(g) * u, where a row of x is [2 * cols], g then u (SwiGLU) */
	INPUT_GATE_GELU,    /* gelu(g) * u by the approximation with tanh (GeGLU) */
	INPUT_GATE_CLAMPED, /* g * sigmoid(1.702 * g) * (u + 1), of g at most 7 and u within -7 and 7 (gpt-oss) */
};

static inline bool input_is_gate(enum input input)
{
	return input >= INPUT_GATE;
}

/*
 * y[n][sum of rows] (+)= input(x)[n][cols] * W^T + bias for matrices that share their input (such as q, k and v);
 * y_stride in floats; y and x do not overlap.
 */
struct matmul {
	const struct weight *const *w; /* host; all of equal cols; their rows stand side by side in y */
	size_t weights;
	const float *x; /* [n][cols], dense; [n][2 * cols] with a gate */
	size_t n;
	float *y;
	size_t y_stride;
	bool add; /* y += instead of y = */
	enum input input;
	const float *norm;  /* [cols], with a norm */
	const float *shift; /* [cols], with INPUT_LAYER_NORM, or NULL: none */
	float eps;
	const float *bias; /* [sum of rows], or NULL: none */
	float clip;	   /* above 0: y is brought within -clip and clip at last */
};

/*
 * y (+)= a norm of x, as INPUT_NORM or INPUT_LAYER_NORM have it, where no product follows. A row has `parts` stretches
 * of `width` floats side by side, each normed by itself with the same weights; rows are `stride` floats apart. y may be
 * x, unless `add`.
 */
struct norm {
	const float *x;
	float *y;
	size_t n, parts, width, stride; /* one stride for x and y */
	const float *w, *shift;		/* [width]; shift: NULL: none */
	float eps;
	bool layer; /* LayerNorm, else RMSNorm */
	bool add;
};

/*
 * A feed-forward part of many, of which each row takes the `used` that its router gives the largest logits (of equals
 * the lowest number), added up by the softmax of these: y += sum of share * (down * activation(gate * h, up * h)),
 * where h = x / sqrt(mean(x^2) + eps) * norm. y may be x.
 */
struct experts {
	const struct weight *router;		      /* [experts][cols] */
	const struct weight *const *gate, *const *up; /* host; [experts], each [ff][cols] */
	const struct weight *const *down;	      /* host; [experts], each [cols][ff] */
	const float *router_bias, *bias, *down_bias;  /* [experts], [experts][gate, up][ff], [experts][cols]; or NULL */
	size_t used;
	enum input activation; /* a gate */
	const float *x;	       /* [n][cols], dense */
	size_t n;
	const float *norm;
	float eps;
	float *y;    /* [n][cols] */
	float *work; /* a buffer of [n][experts_work()] */
};

/* Floats that a row of the operation needs meanwhile. */
static inline size_t experts_work(size_t experts, size_t used, size_t cols, size_t ff)
{
	return 3 * cols + experts + 2 * used + 2 * used * ff;
}

/*
 * Pages. A page holds the keys and values of PAGE_TOKENS tokens in all layers: layer after layer, in each the keys of
 * all KV heads, then their values. With `type` F16 or F32 the keys of a head are [head_size][PAGE_TOKENS] (one
 * dimension of all tokens side by side: a score needs no sum across lanes) and its values [PAGE_TOKENS][head_size].
 *
 * With Q8_0 a head's keys are blocks of 32 dimensions of one token: a scale d as F16, d = largest / 127 rounded up, and
 * whole numbers q of 8 bits, an element being d * q. The scales come first, [head_size / 32][PAGE_TOKENS], then the
 * whole numbers, in words of four dimensions: of (dimension 4j + c, token t) it is byte (j * PAGE_TOKENS + t) * 4 + c.
 * Values have the same scales, and words of four tokens: (token 4j + c, dimension i) is byte (j * head_size + i) * 4 +
 * c.
 */
enum { PAGE_TOKENS = 64 };

struct page_shape {
	size_t layers, kv_heads, head_size;
	enum dtype type;
};
/* Whether pages can be like this: SINK_EINVAL for another type, or blocks that a head does not fill. */
int page_shape_check(const struct page_shape *s, struct err *e);
size_t page_bytes(const struct page_shape *s);
/* Bytes of the keys of one KV head in one layer; its values have as many. */
size_t page_head_bytes(const struct page_shape *s);
/* Offset in bytes of a layer's keys in a page; its values follow them after kv_heads * page_head_bytes() bytes. */
size_t page_layer_offset(const struct page_shape *s, size_t layer);

/* The runs of rows that a token may see (policy.h), in the order in which their partial results are merged. */
enum run { RUN_PINNED, RUN_KEPT, RUN_WINDOW, RUNS };

/* Slot s of a run lies in page[(s / PAGE_TOKENS) % ring], at s % PAGE_TOKENS. An unused run has ring 0. */
struct page_table {
	void *const *page; /* host; addresses of pages in the device's memory */
	int64_t ring;
};

/* One row of a step: a token of some conversation, where its key and value go and what its query sees. */
struct row {
	const struct page_table *tables; /* host; [RUNS], its conversation's */
	struct {
		int64_t first, count; /* slots of the run that the row sees; count 0: none */
		int64_t query;	      /* the slot that the row itself has in it: what distances are taken from */
	} sees[RUNS];
	struct {
		int run; /* the run that the key and value are written to, -1: not written */
		int64_t slot;
	} goes[2]; /* second: the copy that a mark leaves among the kept */
};

/* Largest head_size that the backends take; whoever loads a model checks it. */
enum { HEAD_SIZE_MAX = 256 };

/* How heads are laid out and rotated; the same for all layers of a model. heads is a multiple of kv_heads. */
struct head_shape {
	size_t heads, kv_heads, head_size;
	size_t rotated;	  /* first dimensions of a head that RoPE turns; even */
	bool interleaved; /* pairs (2i, 2i+1) as in llama-type GGUF files; else (i, i + rotated/2) */
	float scale;	  /* of the scores, such as 1/sqrt(head_size) */
};

/*
 * Writes rotated keys, and values, of n rows to their pages. qkv is [n][(heads + 2*kv_heads) * head_size]. `angles` is
 * [n][2][rotated] as angles() makes them, one for each place in row.goes.
 */
struct store {
	const struct head_shape *shape;
	const struct page_shape *pages;
	size_t layer;
	const float *qkv;
	const float *angles;
	const struct row *rows; /* host */
	size_t n;
};

/*
 * y[n][heads * head_size] = attention of each row over its runs. The query is rotated once a run by `angles`
 * [n][RUNS][rotated] (DESIGN: a key is rotated once, when it is written; a query for each run that it reads). Each page
 * gives a partial softmax (maximum, sum, weighted values); they are merged run by run, page by page, in ascending
 * order, and last of all the head's learned sink, if there is one: a logit that joins the denominator and has no value
 * (StreamingLLM's "sink token" without a token, as gpt-oss has it). A row that sees nothing gives zeros.
 *
 * With `slopes` a score is less by its head's slope times the distance, row.sees[run].query - slot (ALiBi: distances
 * inside the cache).
 */
struct attend {
	const struct head_shape *shape;
	const struct page_shape *pages;
	size_t layer;
	const float *qkv;
	const float *angles;
	const struct row *rows; /* host */
	size_t n;
	float *y;
	const float *sinks;  /* [heads], or NULL */
	const float *slopes; /* [heads], or NULL */
};

/*
 * What the operations of a step are about, told before them: a device that lies apart takes all of it over at once. The
 * operations get the same arrays, which live until end().
 */
struct step {
	size_t n, wanted;	 /* rows, and those of them that want logits */
	const struct row *rows;	 /* [n] */
	const struct row *near;	 /* [n], the same rows as some layers see them: less; NULL: no layer does */
	const int32_t *token;	 /* [n] */
	const int64_t *key_at;	 /* [n][2] */
	const int64_t *query_at; /* [n][RUNS] */
	const int32_t *wants;	 /* [wanted] */
};

/* The largest logits of a row, and what a probability needs of all of them. */
enum { TOP_MOST = 64 };

struct top {
	double sum; /* of e^(logit - max) over the row */
	float max;
	int32_t count;	       /* of those below: TOP_MOST, or the width of a narrower row */
	float logit[TOP_MOST]; /* descending; of equals the lowest id first */
	int32_t id[TOP_MOST];
};

struct backend {
	const char *name;     /* as --kernels takes it */
	const char *about;    /* one line for `sinkd -t` */
	enum dtype page_type; /* of the pages that it prefers: F16, or F32 for the oracle; all must take all three */

	/* 0 when this machine can run it; else SINK_EDEVICE and why not. */
	int (*probe)(struct err *e);

	int (*open)(const struct device_options *o, struct device **ret, struct err *e);
	void (*close)(struct device *d); /* NULL is fine */

	/* Packs a matrix; t->data is not needed afterwards. The weight is the caller's, freed before the device. */
	int (*weight_new)(struct device *d, const struct tensor *t, struct weight **ret, struct err *e);
	void (*weight_free)(struct device *d, struct weight *w); /* NULL is fine */

	/* Zeroed floats, aligned to 64 bytes. */
	int (*buffer_new)(struct device *d, size_t floats, float **ret, struct err *e);
	void (*buffer_free)(struct device *d, float *b); /* NULL is fine */
	void (*read)(struct device *d, void *host, const void *from, size_t bytes);
	void (*write)(struct device *d, void *to, const void *host, size_t bytes);

	/*
	 * Memory of pages that the host has mapped at `host`: one stretch a device, until it is detached. Everywhere a
	 * page goes by its address there. Where `apart`, the device has memory of its own for it, and the host's is a
	 * copy that is as old as its last page_save(): SINK_ENOMEM when the device has not as much.
	 */
	bool apart;
	int (*pages_attach)(struct device *d, void *host, size_t bytes, struct err *e);
	void (*pages_detach)(struct device *d);
	/* Bytes of pages that the device has room for, with `other` bytes left over; SIZE_MAX where not apart. */
	size_t (*pages_room)(struct device *d, size_t other);
	void (*page_copy)(struct device *d, void *to, const void *from, size_t bytes);
	/* Between the host's copy of a page and the device's; nothing where not apart. A load is complete for the next
	 * operation. A save is of what the operations before it left, lasts while others go on, and is complete when
	 * page_saved() says so of the number that it returned (with `wait`: true, unless the device failed). */
	void (*page_load)(struct device *d, void *page, size_t bytes);
	uint64_t (*page_save)(struct device *d, void *page, size_t bytes);
	bool (*page_saved)(struct device *d, uint64_t save, bool wait);

	/*
	 * Before and after the operations of a step. begin() says with how many rows, and rows of logits, they are to
	 * go on: as many or more (the further ones see nothing and go nowhere; buffers have room for max_rows), or 0
	 * rows: the device knows these operations from an earlier step and does them by itself, so that only end()
	 * follows. SINK_EDEVICE from end(): the device failed since begin(), and what the step wrote is void.
	 */
	void (*begin)(struct device *d, const struct step *s, size_t *n, size_t *wanted);
	int (*end)(struct device *d, struct err *e);

	/*
	 * angle[i][2k], [2k+1] = cos, sin of position[i] * inv_freq[0][k], taken in double, times scale; host:
	 * position, inv_freq[sets][rotated / 2]. A position below 0 means ~position[i], and of two sets the second.
	 */
	void (*angles)(struct device *d, const int64_t *position, size_t n, const double *inv_freq, size_t sets,
		       size_t rotated, double scale, float *angle);
	/* y[n][cols] = rows `token` (host, each < rows) of the matrix that was packed, dequantized, times scale. */
	void (*embed)(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y);
	void (*norm)(struct device *d, const struct norm *op);
	void (*matmul)(struct device *d, const struct matmul *op);
	void (*experts)(struct device *d, const struct experts *op);
	void (*store)(struct device *d, const struct store *op);
	void (*attend)(struct device *d, const struct attend *op);
	/* y[i] = x[index[i]], i < count; host: index. */
	void (*gather)(struct device *d, const float *x, size_t width, const int32_t *index, size_t count, float *y);
	/* top[i], in a buffer, of the logits [i][vocab]. NaN counts as negative infinity, which adds nothing. */
	void (*top)(struct device *d, const float *logits, size_t n, size_t vocab, struct top *top);
};

/* The backends compiled in, best last of those that "auto" may choose; NULL-terminated. Cards are at the end. */
extern const struct backend *const kernels_all[];

/* "exact" or "fast"; SINK_EINVAL for another word. */
int precision_find(const char *name, enum precision *ret, struct err *e);
const char *precision_name(enum precision p);

/* The type of pages by name: "f16", "q8_0", "f32", or "auto" for `otherwise`; SINK_EINVAL for another word. */
int page_type_find(const char *name, enum dtype otherwise, enum dtype *ret, struct err *e);

/* The backend of this name, or for "auto" the best that this machine runs; NULL with SINK_EINVAL or SINK_EDEVICE. */
const struct backend *kernels_find(const char *name, struct err *e);

/* Where a model computes. */
struct kernels_place {
	const struct backend *b;
	int card;	/* of a backend of cards */
	char name[16];	/* "cpu", "cuda:0" */
	char note[240]; /* why it is the processor though the program knows cards, or "" */
};

/*
 * `device` is "cpu", and then `kernels` says which of its backends; "cuda" or "cuda:N", the card of this number; or
 * "auto": the first card if it can be used and `kernels` is "auto" too, else the processor. SINK_EINVAL for another
 * word; SINK_EDEVICE for a card that cannot be used.
 */
int kernels_place(const char *device, const char *kernels, struct kernels_place *ret, struct err *e);

/* What a device is, in one line: "NVIDIA H200, 139.8 GiB (139.2 free), …"; false: there is no card of this number. */
bool kernels_card(int card, char *ret, size_t size);

/*
 * What this machine does at best with a backend's instruction set, to compare the kernels with: [0] on one thread, [1]
 * on all of the options' threads together. Bytes a second of loads and sums alone; operations a second of products that
 * stay in registers, a multiplication and its addition counting as two.
 */
enum { ROOFLINE_READS = 6, ROOFLINE_MEMORY = ROOFLINE_READS - 1 };

struct rate {
	double best, median; /* of several passes; 0: not measured */
};

struct roofline {
	size_t bytes[ROOFLINE_READS]; /* that each thread reads again and again; the last is shared out, from memory */
	struct rate read[ROOFLINE_READS][2];
	struct rate f32[2], products8[2], products16[2];
	struct rate handover; /* seconds of a run in which all threads come together and do nothing else */
};

/*
 * Measures for a second or two; with `brief` only memory and the products on all threads, in 0.3 s. SINK_EINVAL or
 * SINK_EDEVICE as kernels_find() and a backend's open() have them; SINK_EDEVICE for a backend that is no processor.
 */
int kernels_roofline(const char *name, const struct device_options *o, bool brief, struct roofline *ret, struct err *e);

/* Threads worth starting: the cores that affinity and the cgroup's quota leave to this process; at least 1. */
int kernels_cores(void);

#endif
