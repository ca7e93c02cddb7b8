/*
 * The list of backends, and the geometry of pages that they share. A new backend is a row here; nobody above asks which
 * one it talks to.
 */
#include "kernels.h"

#include <stdio.h>
#include <string.h>

#include "cpu/backends.h"

const struct backend *const kernels_all[] = {
	&backend_ref,  &backend_scalar,
#ifdef __x86_64__
	&backend_avx2, &backend_avx512,
#endif
#ifdef KERNELS_AMX
	&backend_amx,
#endif
	NULL,
};

static const struct backend *best(void)
{
	const struct backend *found = &backend_scalar;

	for (size_t i = 0; kernels_all[i]; i++)
		if (kernels_all[i] != &backend_ref && kernels_all[i]->probe(NULL) == 0)
			found = kernels_all[i];
	return found;
}

const struct backend *kernels_find(const char *name, struct err *e)
{
	char names[96] = "auto";

	if (strcmp(name, "auto") == 0)
		return best();
	for (size_t i = 0; kernels_all[i]; i++) {
		size_t used = strlen(names);

		if (strcmp(kernels_all[i]->name, name) == 0)
			return kernels_all[i]->probe(e) == 0 ? kernels_all[i] : NULL;
		snprintf(names + used, sizeof(names) - used, ", %s", kernels_all[i]->name);
	}
	err_set(e, SINK_EINVAL, "There are no kernels \"%.40s\"; there are %s.", name, names);
	return NULL;
}

static const enum dtype page_types[] = { DTYPE_F16, DTYPE_Q8_0, DTYPE_F32 };

enum { PAGE_TYPES = sizeof(page_types) / sizeof(page_types[0]) };

int page_shape_check(const struct page_shape *s, struct err *e)
{
	const struct dtype_info *info = NULL;

	for (size_t i = 0; i < PAGE_TYPES; i++)
		if (page_types[i] == s->type)
			info = dtype_find((uint32_t)s->type);
	if (!info)
		return err_set(e, SINK_EINVAL, "There are no pages of type %d.", (int)s->type);
	if (s->head_size % info->block != 0)
		return err_set(e, SINK_EINVAL,
			       "Keys and values of %s have blocks of %zu, and a head here has %zu dimensions.",
			       info->name, info->block, s->head_size);
	return 0;
}

size_t page_head_bytes(const struct page_shape *s)
{
	/* Of 32 elements; what blocks add up to over a page, whose tokens are a multiple of them. */
	const size_t bytes = s->type == DTYPE_F32 ? 32 * 4 : s->type == DTYPE_F16 ? 32 * 2 : 32 + 2;

	return s->head_size * (PAGE_TOKENS / 32) * bytes;
}

size_t page_layer_offset(const struct page_shape *s, size_t layer)
{
	return layer * 2 * s->kv_heads * page_head_bytes(s);
}

size_t page_bytes(const struct page_shape *s)
{
	return page_layer_offset(s, s->layers);
}

int page_type_find(const char *name, enum dtype otherwise, enum dtype *ret, struct err *e)
{
	if (strcmp(name, "auto") == 0) {
		*ret = otherwise;
		return 0;
	}
	for (size_t i = 0; i < PAGE_TYPES; i++)
		if (strcmp(name, dtype_find((uint32_t)page_types[i])->name) == 0) {
			*ret = page_types[i];
			return 0;
		}
	return err_set(e, SINK_EINVAL, "Keys and values are of type auto, f16, q8_0 or f32, not \"%.40s\".", name);
}

static const char *const precisions[] = { "exact", "fast" };

int precision_find(const char *name, enum precision *ret, struct err *e)
{
	for (size_t i = 0; i < sizeof(precisions) / sizeof(precisions[0]); i++) {
		if (strcmp(name, precisions[i]) != 0)
			continue;
		*ret = (enum precision)i;
		return 0;
	}
	return err_set(e, SINK_EINVAL, "The precision is exact or fast, not \"%s\".", name);
}

const char *precision_name(enum precision p)
{
	return precisions[p];
}
