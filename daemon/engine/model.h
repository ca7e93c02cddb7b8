/*
 * The model: weights on a device, the order of operations of its architecture, and one step for many conversations.
 *
 * A step takes slices, one a conversation, each some new tokens of it; their rows travel through the layers together.
 * What a row yields depends on its conversation alone (DESIGN, section 5): not on the other slices, the cut of the
 * slices, or the number of threads. A step allocates nothing.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "kernels.h"
#include "kv.h"
#include "token.h"
#include "trie.h"
#include "turn.h"

struct model;

struct model_options {
	const char *path;
	const char *device;	       /* kernels_place(); NULL: "cpu" */
	const char *kernels;	       /* "auto", or a backend's name */
	const struct backend *backend; /* for tests: one that has no name; NULL */
	int threads;		       /* 0: as many as kernels_cores() */
	bool pin;
	enum precision precision; /* of activations against quantized weights */
	size_t max_rows;	  /* most tokens of one step over all slices, 1..4096 */
	size_t max_logits;	  /* most rows of one step that want logits */
	size_t gpu_memory;	  /* most bytes of a card; 0: what is free */
	bool invariant;		  /* device_options.invariant */
	size_t cache_bytes;	  /* address space for pages */
	const char *cache_type;	  /* of keys and values: page_type_find(); NULL: "auto" */
	bool vocabulary_only;	  /* no weights, no device: tokenizing only */
	bool outlives;		  /* caches lie in files (arena_open()) */
	struct arena_files adopt; /* with `outlives`: those of an earlier process, or -1; the model's on success */
};

/* What opening a model consists of: the file with its vocabulary, the device and its threads, weights, buffers. */
enum { MODEL_FILE, MODEL_DEVICE, MODEL_WEIGHTS, MODEL_BUFFERS, MODEL_PHASES };

struct model_info {
	char name[64]; /* general.name, or the file's name */
	char path[256];
	const char *arch;	  /* "llama" */
	const char *quantization; /* of most weights: "q4_1" */
	const char *kernels;	  /* the backend chosen */
	char device[16];	  /* "cpu", "cuda:0" */
	char device_note[240];	  /* why a card that was asked for, or is there, is not used; or "" */
	const char *cache_type;	  /* of keys and values: "f16" */
	const char *turns;	  /* the chat family */
	int threads;
	int64_t layers, width, heads, kv_heads, head_size, ff, vocab;
	int64_t context;    /* trained length */
	bool learned_sinks; /* heads have learned logits that do what first tokens do elsewhere (arch.h) */
	uint64_t bytes;	    /* of the file */
	uint64_t parameters;
	size_t token_bytes;			/* of cache, a token */
	uint64_t matrix_elements, matrix_bytes; /* that a step multiplies, the output matrix among them */
	double took[MODEL_PHASES];		/* seconds that opening took */
};

/* SINK_ENOENT, SINK_EFORMAT (names tensor or key), SINK_EINVAL, SINK_ENOMEM, SINK_EDEVICE. */
int model_open(const struct model_options *o, struct model **ret, struct err *e);
void model_close(struct model *m); /* NULL is fine; every kv of it must be gone */

const struct model_info *model_info(const struct model *m);
uint64_t model_fingerprint(struct model *m); /* gguf_fingerprint(), computed once, on first use */
const struct gguf *model_file(const struct model *m);
const struct vocab *model_vocab(const struct model *m);
const struct trie *model_trie(const struct model *m); /* of its vocabulary; NULL with vocabulary_only */
const struct turns *model_turns(const struct model *m);
const char *model_note(const struct model *m); /* a warning to log after loading, or "" */
struct arena *model_arena(struct model *m);
/* Why the files that were to be adopted are not: "" when they are, or there were none. They were closed then. */
const char *model_refusal(const struct model *m);
/* The marks of the vocabulary for policies of this kind (marks.h); none when the vocabulary has no such token. */
const struct tokens *model_marks(const struct model *m, enum marking kind);

enum logits { LOGITS_NONE, LOGITS_LAST, LOGITS_ALL };

struct slice {
	/*
	 * Of this model's arena, in one slice of a step only. SINK_EINVAL for marks at positions of the text under
	 * ALiBi.
	 */
	struct kv *kv;
	const int32_t *token; /* each checked against the vocabulary: SINK_EINVAL */
	size_t count;	      /* 1 .. kv_room(kv) */
	enum logits logits;
	bool hold;  /* the step commits nothing of it: the caller looks at the logits, then calls model_keep() */
	int status; /* out: 0, or why this slice took no part (SINK_EBUSY: no page or no room; SINK_EINVAL) */
	size_t first_logits; /* out: its first row in model_logits() */
};

/*
 * One step. A slice that cannot be served gets its status and is left out, its cache unchanged; the others go on.
 * Returns the number of rows of logits, or a negative code when the device failed (no cache was changed).
 */
int model_step(struct model *m, struct slice *slice, size_t slices, struct err *e);

/*
 * Of a slice that the last step held, the first `count` tokens become part of its cache, as if it had had no others.
 * May be left out: then nothing of it does. Once a slice, before the next step.
 */
void model_keep(const struct slice *slice, size_t count);

/* Row `i` of the last step's logits: [vocab] floats, valid until the next step. From a device that lies apart a row is
 * copied when it is first asked for. */
const float *model_logits(const struct model *m, size_t i);

/* The largest of them, from a device that lies apart; NULL from one that has left all of them here. */
const struct top *model_top(const struct model *m, size_t i);

#endif
