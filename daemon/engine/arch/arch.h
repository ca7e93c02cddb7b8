/*
 * Families of models: one small file each, one row in the table of arch.c.
 *
 * A family describes its layers by `struct arch` and, where its file has keys of its own, reads them into the shape.
 * What a description may say is computed in one place for all: shape.c reads the keys, rotary.c makes frequencies,
 * layer.c loads a layer's weights, run.c runs the layers over the operations of kernels.h. What every family shares
 * around its layers (embedding, last norm, output matrix, buffers, the cache) is model.c's.
 */
#ifndef ENGINE_ARCH_H
#define ENGINE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"
#include "kernels.h"
#include "weights.h"

/*
 * What a layer sees of a conversation: all that its policy leaves, or of that what lies within the layer's own window
 * (sliding-window attention): tokens fewer than `window` places of the text back.
 */
enum sight { SIGHT_FULL, SIGHT_NEAR, SIGHTS };

/* How the layers of one sight rotate. */
struct rotary {
	double *inv_freq; /* [sets][head.rotated / 2]: radians a position, scaling included; from malloc() */
	size_t sets;	  /* 2: the second is for caches that reach beyond shape.original (LongRoPE) */
	double scale;	  /* of cosines and sines, for models stretched to longer texts (YaRN, LongRoPE); else 1 */
};

/* Hyperparameters, each within the range that its reader checked; sizes in elements. */
struct shape {
	int64_t layers, width, ff, context;
	struct head_shape head;
	double base[SIGHTS]; /* of the rotation, before it is scaled */
	struct rotary rotary[SIGHTS];
	int64_t original;  /* rows that the first set of frequencies is for; 0: there is no second */
	float *slopes;	   /* [head.heads] of ALiBi, from malloc(); NULL: positions are rotations */
	int64_t window;	   /* of the layers that have one; 0: none has */
	int64_t period;	   /* of such a model each layer of this number, counted from 1, sees all; 0: none does */
	int64_t experts;   /* of a layer; 0: there is one feed-forward part for all */
	int64_t used;	   /* of them by a token */
	bool parallel;	   /* attention and feed-forward part read the same x, and both are added to it */
	float eps;	   /* of the norms */
	float embed_scale; /* of the embedding's rows */
	float clip;	   /* of q, k and v; 0: none */
};

enum sight shape_sight(const struct shape *s, int64_t layer);

/* Biases that a file of the family must have. Those that it has beyond that are added too. */
enum { BIAS_QKV = 1, BIAS_OUTPUT = 2, BIAS_FF = 4, BIAS_NORM = 8, BIAS_ALL = 15 };

struct arch {
	const char *name;      /* as general.architecture has it */
	enum input norm;       /* INPUT_NORM or INPUT_LAYER_NORM */
	enum input activation; /* of the feed-forward part; a gate or not */
	const char *ffn_norm;  /* the tensor before the feed-forward part; NULL: "ffn_norm" */
	unsigned biases;
	bool interleaved; /* rotation of neighbours, else of the two halves of what is rotated */
	bool fused_qkv;	  /* one matrix attn_qkv */
	bool fused_gate;  /* ffn_up has the gate's rows before its own */
	bool qk_norm;	  /* a norm of each head of q and k */
	bool post_norms;  /* norms of what attention and the feed-forward part yield */
	bool sinks;	  /* learned sinks must be there; they are taken wherever a file has them */
	bool experts;	  /* the feed-forward part is a mixture */
	bool near_plain;  /* layers with a window rotate without scaling */
	bool yarn_exact;  /* the bounds of YaRN's ramp are not rounded */

	/*
	 * Reads further keys into a shape whose sizes are known, and changes what the family has otherwise; may be
	 * NULL.
	 */
	int (*keys)(const struct gguf *g, struct shape *s, struct err *e);
};

extern const struct arch arch_llama, arch_qwen2, arch_qwen3, arch_gptneox, arch_falcon, arch_mpt, arch_gemma3,
	arch_phi3, arch_gpt_oss;

/* The family of this name; NULL with SINK_EFORMAT listing those that there are. */
const struct arch *arch_find(struct gguf_str name, struct err *e);

/* SINK_EFORMAT names the key that is missing or out of its range. */
int shape_read(const struct arch *a, const struct gguf *g, struct shape *ret, struct err *e);
void shape_release(struct shape *s); /* all zeros is fine */

/* unserved.c: SINK_EFORMAT names a key of the file that asks for what is not computed here. */
int unserved_check(const struct arch *a, const struct gguf *g, const struct shape *s, struct err *e);

/* rotary.c: the frequencies of a shape that is read otherwise. */
int rotary_read(const struct arch *a, const struct gguf *g, struct shape *s, struct err *e);
/* Marks the tensors that it has read as used. */
void rotary_used(const struct shape *s, struct weights *w);

/* A norm's weights; shift is NULL where there is none. */
struct norm_weights {
	float *w, *shift;
};

/* The norm "NAME.weight" and, where the file has it or `a` asks for it, "NAME.bias". */
int norm_load(struct weights *w, const struct arch *a, const char *name, size_t size, struct norm_weights *ret,
	      struct err *e);

/* One step through the layers: buffers of the device, [n] rows each. */
struct pass {
	const struct arch *arch;
	const struct shape *shape;
	const struct page_shape *pages;
	const struct row *rows[SIGHTS]; /* host */
	size_t n;
	const float *key_angles[SIGHTS], *query_angles[SIGHTS]; /* [n][2][rotated], [n][RUNS][rotated] */
	const float *slopes;					/* [heads], or NULL */
	float *x;      /* [n][width]: in, the embedded tokens; out, what the last layer left */
	float *qkv;    /* [n][(heads + 2 * kv_heads) * head_size] */
	float *att;    /* [n][heads * head_size] */
	float *pair;   /* [n][2 * ff], or [n][ff] without a gate */
	float *branch; /* [n][width] with post norms, else NULL */
	float *work;   /* [n][experts_work()] with experts, else NULL */
};

struct layer;

/* Packs the weights of all layers, [layers]; on failure nothing is left. */
int layers_load(struct weights *w, const struct arch *a, const struct shape *s, struct layer **ret, struct err *e);
void layers_unload(struct weights *w, const struct shape *s, struct layer *l); /* NULL is fine */
void layers_run(const struct weights *w, const struct layer *l, const struct pass *p);

#endif
