/* Finds, checks and packs the tensors of a model file. */
#include "weights.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int weights_init(struct weights *w, const struct gguf *g, const struct backend *b, struct device *d, struct err *e)
{
	const void **used = calloc(gguf_tensors(g) + 1, sizeof(*used));

	if (!used)
		return err_set(e, SINK_ENOMEM, "Out of memory for a list of %zu tensors.", gguf_tensors(g));
	*w = (struct weights){ g, b, d, used, 0, 0, 0 };
	return 0;
}

void weights_release(struct weights *w)
{
	free(w->used);
	w->used = NULL;
}

static bool is_used(const struct weights *w, const void *data)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->used[i] == data)
			return true;
	return false;
}

int weights_all_used(const struct weights *w, struct err *e)
{
	if (w->count == gguf_tensors(w->g))
		return 0;
	for (size_t i = 0; i < gguf_tensors(w->g); i++) {
		struct gguf_str s = gguf_tensor_name(w->g, i);
		struct tensor t = { .data = NULL };
		char name[128];

		snprintf(name, sizeof(name), "%.*s", s.len < sizeof(name) ? (int)s.len : (int)sizeof(name) - 1, s.at);
		if (gguf_tensor(w->g, name, &t, NULL) || !is_used(w, t.data))
			return err_set(e, SINK_EFORMAT,
				       "The model has a tensor \"%s\" that its architecture does not use.", name);
	}
	return 0;
}

static size_t tensor_bytes(const struct tensor *t)
{
	const struct dtype_info *info = dtype_find(t->type);

	return t->rows * (t->cols / info->block) * info->bytes;
}

/*
 * Takes the tensor's whole pages out of this process's resident memory; they stay in the system's cache of the file.
 * The map is of a file and read only, so nothing can be lost.
 */
static void let_go(const struct tensor *t)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = ((uintptr_t)t->data + page - 1) / page * page;
	uintptr_t to = ((uintptr_t)t->data + tensor_bytes(t)) / page * page;

	if (to > from)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

int weights_tensor(struct weights *w, const char *name, size_t rows, size_t cols, struct tensor *ret, struct err *e)
{
	struct tensor t;
	int r = gguf_tensor(w->g, name, &t, e);

	if (r == SINK_ENOENT)
		return err_set(e, SINK_EFORMAT, "The model has no tensor \"%s\".", name);
	if (r)
		return r;
	if (t.rows != rows || t.cols != cols)
		return err_set(e, SINK_EFORMAT, "Tensor \"%s\" is %zu x %zu; the model's shape asks for %zu x %zu.",
			       name, t.rows, t.cols, rows, cols);
	if (!is_used(w, t.data))
		w->used[w->count++] = t.data;
	*ret = t;
	return 0;
}

int weights_matrix(struct weights *w, const char *name, size_t rows, size_t cols, struct weight **ret, struct err *e)
{
	struct tensor t;
	int r = weights_tensor(w, name, rows, cols, &t, e);

	if (!r)
		r = w->b->weight_new(w->d, &t, ret, e);
	if (r)
		return r;
	w->elements += (uint64_t)rows * cols;
	w->bytes += tensor_bytes(&t);
	let_go(&t);
	return 0;
}

int weights_vector(struct weights *w, const char *name, size_t size, float **ret, struct err *e)
{
	struct tensor t;
	float *host;
	int r = weights_tensor(w, name, 1, size, &t, e);

	if (r)
		return r;
	host = malloc(size * sizeof(*host));
	if (!host)
		return err_set(e, SINK_ENOMEM, "Out of memory for tensor \"%s\".", name);
	r = w->b->buffer_new(w->d, size, ret, e);
	if (!r) {
		dtype_to_f32(t.type, t.data, size, host);
		w->b->write(w->d, *ret, host, size * sizeof(*host));
	}
	free(host);
	return r;
}
