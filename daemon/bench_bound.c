/*
 * What throughput is compared with: a step must read the packed weights once and what each conversation has in sight,
 * and each token costs its products. The machine's own figures (kernels_roofline()) make a bound of either.
 */
#include "bench.h"

#include <math.h>
#include <string.h>

/* Rows that a token sees on the average, of `tokens` that follow what the cache holds. */
static double mean_in_sight(const struct bench *o, const struct kv *kv, int64_t tokens)
{
	const int64_t most = policy_budget(&o->chosen);
	struct kv_info info;
	double sum = 0;
	int64_t sees;

	kv_info(kv, &info);
	sees = info.pinned + info.kept + info.window;
	for (int64_t i = 0; i < tokens; i++) {
		sees += sees < most;
		sum += (double)sees;
	}
	return sum / (double)tokens;
}

struct demand bench_demand(const struct bench *o, const struct model *m, const struct kv *kv, int64_t tokens,
			   int64_t step)
{
	const struct model_info *info = model_info(m);
	const double sight = mean_in_sight(o, kv, tokens), output = (double)info->vocab * (double)info->width;
	const double layers = (double)info->matrix_elements - output;
	const double heads = (double)(info->layers * info->heads * info->head_size);
	const bool prompt = step > 1;
	const int64_t rows = prompt ? (step < tokens * o->batch ? step : tokens * o->batch) : o->batch;
	const double conversations = prompt ? fmax(1, (double)rows / (double)tokens) : (double)o->batch;

	return (struct demand){
		.tokens = (double)rows,
		.bytes = (double)info->matrix_bytes + conversations * sight * (double)info->token_bytes,
		.operations = 2 * (layers + output / (prompt ? (double)tokens : 1)) + 4 * heads * sight,
	};
}

/* The peak of the arithmetic that meets the weights. */
static double peak_for(const struct bench *o, const struct model *m, const struct roofline *found)
{
	const char *type = model_info(m)->quantization;
	const bool whole = *type == 'q' && strcmp(model_info(m)->kernels, "ref") != 0;

	if (!whole)
		return found->f32[1].best;
	return (o->activations == PRECISION_EXACT ? found->products16 : found->products8)[1].best;
}

int bench_limits(const struct bench *o, const struct model *m, struct limits *l, struct err *e)
{
	struct roofline found;
	double memory;
	int r;

	if (strcmp(model_info(m)->device, "cpu") != 0) { /* of a card it is known what the caller says */
		l->before = l->after = (double)o->bandwidth * 1e9;
		return 0;
	}
	r = bench_machine(o, true, &found, e);
	if (r)
		return r;
	memory = o->bandwidth ? (double)o->bandwidth * 1e9 : found.read[ROOFLINE_MEMORY][1].best;
	if (l->before == 0)
		l->before = memory;
	l->after = memory;
	l->peak = fmax(l->peak, peak_for(o, m, &found));
	return 0;
}

void report_limits(struct report *r, const struct limits *l)
{
	report_number(r, "memory_before_gb_s", 2, l->before * 1e-9);
	report_number(r, "memory_after_gb_s", 2, l->after * 1e-9);
	report_number(r, "peak_gop_s", 1, l->peak * 1e-9);
}

void report_bound(struct report *r, const struct limits *l, const struct demand *d, double per_s)
{
	const double most = fmax(l->before, l->after);
	const double memory = most > 0 ? d->tokens * most / d->bytes : INFINITY;
	const double products = l->peak > 0 ? l->peak / d->operations : INFINITY, bound = fmin(memory, products);

	report_number(r, "mib_a_step", 1, d->bytes / 0x1p20);
	report_number(r, "gb_s", 2, per_s / d->tokens * d->bytes * 1e-9);
	report_number(r, "gop_a_token", 4, d->operations * 1e-9);
	report_number(r, "gop_s", 1, per_s * d->operations * 1e-9);
	report_text(r, "bound", isinf(bound) ? "unknown" : memory < products ? "memory" : "products");
	report_number(r, "bound_per_s", 1, isinf(bound) ? 0 : bound);
	report_number(r, "of_bound", 3, isinf(bound) ? 0 : per_s / bound);
}
