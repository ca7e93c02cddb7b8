/*
 * What the files of the CUDA backend share: the device, weights in its layouts, rows as kernels read them. For this
 * room only; what goes out is one table, backend_cuda.
 *
 * Everything lies in a namespace of its own, so that the same sources can be in a program twice: compiled for a card,
 * and for the stand-in of the tests (port.h).
 *
 * Host code returns 0 or a code as everywhere, but in operations, which cannot fail: there ok() keeps the first
 * failure, further work is pointless but harmless, and end() tells it.
 */
#ifndef CUDA_CUDA_H
#define CUDA_CUDA_H

extern "C" {
#include "dtype.h"
#include "kernels.h"
}
#include "port.h"

enum { WARP = 32 };

/* Elements of a block of quantized weights, and of activations. */
enum { BLOCK = 32 };

/*
 * Largest number of rows that go through kernels which read weights as they are stored; more become a product of
 * halves.
 */
enum { FEW_ROWS = 8 };

/* A row of a step as kernels read it. A page is an address in the card's memory. */
struct card_row {
	int64_t first[RUNS], count[RUNS], query[RUNS]; /* as in struct row */
	int32_t ring[RUNS];			       /* 1 for an unused run */
	int32_t table[RUNS];			       /* where its pages begin in card_rows.page */
	uint8_t *goes[2]; /* the page that key and value are written to; NULL: not written */
	int32_t at[2];	  /* the slot in that page */
	int32_t group;	  /* rows of one conversation have one number; they are neighbours */
	int32_t unused;
};

/* All rows of a step, in the card's memory but for the last two. Page i of a run: page[table + i % ring]. */
struct card_rows {
	const struct card_row *row;
	uint8_t *const *page;
	const struct card_row *host; /* the same rows, to be read here */
	int32_t pages_most;	     /* no row sees more pages; rounded up, so that it changes seldom */
};

/*
 * A matrix on the card (pack.cu). The arrays are [rows][cols / BLOCK] where nothing else is said; F32, F16 and BF16
 * have `q` alone, [rows][cols] as in the file.
 */
struct weight {
	enum dtype type;
	size_t rows, cols, bytes;
	uint8_t *memory; /* the arrays, one after the other, each aligned to 256 bytes */
	const uint8_t *q, *high, *scale, *super;
};

/* Scratch memory by use. It only grows, and what became too small is freed with the device: graphs may name it. */
enum scratch {
	SCRATCH_INPUT,	  /* rows of activations, prepared for products (matmul.cu) */
	SCRATCH_TILE,	  /* weights in halves, for cuBLAS */
	SCRATCH_BLAS,	  /* cuBLAS's workspace */
	SCRATCH_PARTIALS, /* attention: results of stretches of pages, before they are merged */
	SCRATCH_COUNTS,	  /* attention: counters, zero between operations */
	SCRATCH_TOP,	  /* candidates before they are merged */
	SCRATCH_EXPERTS,  /* what experts make of rows (experts.cu) */
	SCRATCHES
};

struct graphs;	/* graph.cu */
struct staging; /* stage.cu */
struct saves;	/* pages.cu */
struct blas;	/* blas.cu */

struct device {
	struct device_options o;
	int sms;	      /* multiprocessors */
	size_t shared_most;   /* bytes of shared memory that a block can have */
	cudaStream_t stream;  /* all operations */
	cudaStream_t copying; /* pages on their way to the host */
	struct err failed;    /* code 0: nothing has */
	size_t taken;	      /* bytes of the card's memory */
	void *scratch[SCRATCHES];
	size_t scratch_bytes[SCRATCHES];
	void **outgrown; /* scratch that graphs may still name */
	size_t outgrowns;
	struct staging *staging;
	struct graphs *graphs;
	struct saves *saves;
	struct blas *blas;   /* NULL: there is no cuBLAS, or o.invariant */
	uint8_t *pages;	     /* the device's memory for them, */
	uint8_t *pages_host; /* and the host's, */
	size_t pages_bytes;
};

namespace CUDA_SPACE
{

/* device.cu. Memory of the card, within o.memory: NULL with SINK_ENOMEM, which says how much there is. */
void *memory_new(struct device *d, size_t bytes, const char *what, struct err *e);
void memory_free(struct device *d, void *p, size_t bytes);
/* Whether a call went well; else keeps the first failure, as SINK_EDEVICE. */
bool ok(struct device *d, cudaError_t status, const char *what);
/* At least so many bytes of scratch; NULL after a failure. What an operation needs at most should be asked for when the
 * device or a weight is made, since it lasts. New memory is zeroed. */
void *scratch(struct device *d, enum scratch which, size_t bytes);

/*
 * stage.cu: arrays of the host on the card. Those of the step at hand are there already; others, as tests pass them,
 * are copied now.
 */
const void *staged(struct device *d, const void *host, size_t bytes);
struct card_rows staged_rows(struct device *d, const struct row *rows, size_t n);

/* pack.cu */
int weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e);
void weight_free(struct device *d, struct weight *w);
void embed(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y);
/* Rows first .. first+rows-1 of a matrix as halves, [rows][cols]; F32 and BF16 too. */
void weight_to_halves(struct device *d, const struct weight *w, size_t first, size_t rows, uint16_t *to);

/* matmul.cu. Scratch for products with a matrix like this: SINK_ENOMEM where the card has none. */
int matmul_room(struct device *d, const struct tensor *t, struct err *e);
void matmul(struct device *d, const struct matmul *op);

/* experts.cu */
void experts(struct device *d, const struct experts *op);

/*
 * blas.cu: y[n][rows] (stride y_stride) = alpha * x[n][cols] * w[rows][cols]^T, plus y with `add`. Both F16 or both
 * F32, summed up in F32. blas_open() finds cuBLAS when the program runs; NULL with a reason when there is none.
 */
struct blas *blas_open(struct device *d, struct err *e);
void blas_close(struct blas *b);
void blas_product(struct device *d, enum dtype type, const void *w, size_t rows, size_t cols, const void *x, size_t n,
		  float alpha, float *y, size_t y_stride, bool add);

/* rows.cu */
void angles(struct device *d, const int64_t *position, size_t n, const double *inv_freq, size_t sets, size_t rotated,
	    double scale, float *angle);
void norm(struct device *d, const struct norm *op);
void gather(struct device *d, const float *x, size_t width, const int32_t *index, size_t count, float *y);
void top(struct device *d, const float *logits, size_t n, size_t vocab, struct top *top);

/* store.cu, attend.cu */
void store(struct device *d, const struct store *op);
void attend(struct device *d, const struct attend *op);

} // namespace CUDA_SPACE

#endif
