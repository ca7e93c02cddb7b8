/* Inside a model, for model.c and model_step.c alone. */
#ifndef ENGINE_MODEL_PARTS_H
#define ENGINE_MODEL_PARTS_H

#include "arch/arch.h"
#include "marks.h"
#include "model.h"
#include "output.h"

/* Where the rows of a step are described; [max_rows] each. */
struct batch {
	int32_t *token;
	struct row *rows, *near; /* as layers with a window of their own see it; NULL: there are none */
	int64_t (*key_at)[2];
	int64_t (*query_at)[RUNS];
	int32_t *wants; /* rows that want logits */
	size_t n, wanted;
};

struct model {
	struct model_options o;
	struct model_info info;
	struct gguf *g;
	struct vocab *v;
	struct turns *turns;
	struct trie *trie; /* NULL: tokens are not picked here */
	struct tokens separators, anchors;
	char note[240];
	struct err refusal; /* of the files that were to be adopted */
	uint64_t fingerprint;
	const struct arch *arch;
	const struct backend *b;
	struct device *d;
	struct shape shape;
	struct page_shape pages;
	struct weights w;
	struct layer *layers;
	struct norm_weights output_norm;
	struct weight *output, *embedding; /* often one and the same */
	struct arena *arena;
	struct pass pass;
	float *key_angles[SIGHTS], *query_angles[SIGHTS]; /* near: NULL where no layer has a window */
	float *slopes;
	float *last; /* [max_logits][width]: what the last layer left of the rows that want logits */
	struct output out;
	struct batch batch;
};

#endif
