/* Finds, checks and packs the tensors of a model file. */
#include "weights.h"

#include <math.h>
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

/* What a backend finds in a matrix's bytes is told with the tensor's name. */
static int pack(struct weights *w, const char *name, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct err why = { 0 };
	int r = w->b->weight_new(w->d, t, ret, &why);

	return r ? err_set(e, r, "Tensor \"%s\": %s", name, why.text) : 0;
}

int weights_matrix(struct weights *w, const char *name, size_t rows, size_t cols, struct weight **ret, struct err *e)
{
	struct tensor t;
	int r = weights_tensor(w, name, rows, cols, &t, e);

	if (!r)
		r = pack(w, name, &t, ret, e);
	if (r)
		return r;
	w->elements += (uint64_t)rows * cols;
	w->bytes += tensor_bytes(&t);
	let_go(&t);
	return 0;
}

int weights_stack(struct weights *w, const char *name, size_t count, size_t used, size_t rows, size_t cols,
		  struct weight **ret, struct err *e)
{
	struct tensor all;
	int r = weights_tensor(w, name, count * rows, cols, &all, e);

	if (r)
		return r;
	for (size_t i = 0; !r && i < count; i++) {
		const size_t bytes = tensor_bytes(&all) / count;
		const struct tensor one = { all.type, rows, cols, (const char *)all.data + i * bytes };

		r = pack(w, name, &one, &ret[i], e);
		if (!r)
			let_go(&one);
	}
	w->elements += (uint64_t)used * rows * cols;
	w->bytes += tensor_bytes(&all) / count * used;
	return r;
}

int weights_finite(const char *name, const float *x, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return err_set(e, SINK_EFORMAT, "Tensor \"%s\": element %zu is not finite.", name, i);
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
	dtype_to_f32(t.type, t.data, size, host);
	r = weights_finite(name, host, size, e);
	if (!r)
		r = w->b->buffer_new(w->d, size, ret, e);
	if (!r)
		w->b->write(w->d, *ret, host, size * sizeof(*host));
	free(host);
	return r;
}
