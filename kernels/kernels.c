/*
 * The list of backends, and the geometry of pages that they share. A new backend is a row here; nobody above asks which
 * one it talks to.
 */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/backends.h"
#ifdef HAVE_CUDA
#include "cuda/backend.h"
#endif

const struct backend *const kernels_all[] = {
	&backend_ref,  &backend_scalar,
#ifdef __x86_64__
	&backend_avx2, &backend_avx512,
#endif
#ifdef KERNELS_AMX
	&backend_amx,
#endif
#ifdef HAVE_CUDA
	&backend_cuda,
#endif
	NULL,
};

static const struct backend *best(void)
{
	const struct backend *found = &backend_scalar;

	for (size_t i = 0; kernels_all[i]; i++)
		if (kernels_all[i] != &backend_ref && !kernels_all[i]->apart && kernels_all[i]->probe(NULL) == 0)
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

/* The backend of cards, if the program has one. */
static const struct backend *of_cards(void)
{
	for (size_t i = 0; kernels_all[i]; i++)
		if (kernels_all[i]->apart)
			return kernels_all[i];
	return NULL;
}

#ifdef HAVE_CUDA
bool kernels_card(int card, char *ret, size_t size)
{
	if (card >= cuda_cards(NULL))
		return false;
	cuda_card_about(card, ret, size);
	return true;
}
#else
bool kernels_card(int card, char *ret, size_t size)
{
	(void)card;
	(void)ret;
	(void)size;
	return false;
}
#endif

/* The number behind "cuda:"; 0 when there is none, -1 when it is no number. */
static int card_of(const char *device)
{
	char *end;
	long n;

	if (device[4] == '\0')
		return 0;
	if (device[4] != ':' || device[5] < '0' || device[5] > '9')
		return -1;
	n = strtol(device + 5, &end, 10);
	return *end || n > 255 ? -1 : (int)n;
}

static int place_on_card(int card, struct kernels_place *ret, struct err *e)
{
	const struct backend *b = of_cards();
	char about[160];
	int r;

	if (!b)
		return err_set(e, SINK_EDEVICE, "This program was built without kernels for cards.");
	r = b->probe(e);
	if (!r && card > 0 && !kernels_card(card, about, sizeof(about)))
		r = err_set(e, SINK_EDEVICE, "There is no card %d; sinkd -t lists those that there are.", card);
	if (r)
		return r;
	ret->b = b;
	ret->card = card;
	snprintf(ret->name, sizeof(ret->name), "cuda:%d", card);
	return 0;
}

int kernels_place(const char *device, const char *kernels, struct kernels_place *ret, struct err *e)
{
	const bool any = strcmp(device, "auto") == 0 && strcmp(kernels, "auto") == 0;
	struct err why;
	int card = 0;

	*ret = (struct kernels_place){ .name = "cpu" };
	if (strncmp(device, "cuda", 4) == 0 && (card = card_of(device)) >= 0)
		return place_on_card(card, ret, e);
	if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0)
		return err_set(e, SINK_EINVAL, "The device is auto, cpu, cuda or cuda:N, not \"%.40s\".", device);
	if (any && of_cards()) {
		if (place_on_card(0, ret, &why) == 0)
			return 0;
		snprintf(ret->note, sizeof(ret->note), "%s", why.text);
	}
	ret->b = kernels_find(kernels, &why);
	if (!ret->b)
		return err_set(e, why.code, "%s", why.text);
	if (ret->b->apart)
		return place_on_card(0, ret, e);
	return 0;
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
