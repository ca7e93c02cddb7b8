/* The verbs about the machine: what it does at best, and how long it takes until a model is ready. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* Most rows of a step, and tokens that are decoded so that a conversation is one. */
enum { ROWS = 512, DECODED = 16 };

static void report_rates(struct report *r, const char *what, double bytes, const char *unit, double scale,
			 const struct rate rate[2])
{
	report_row(r);
	report_text(r, "what", what);
	report_number(r, "kib", 0, bytes / 1024);
	report_text(r, "unit", unit);
	report_number(r, "one", 1, rate[0].best * scale);
	report_number(r, "one_median", 1, rate[0].median * scale);
	report_number(r, "all", 1, rate[1].best * scale);
	report_number(r, "all_median", 1, rate[1].median * scale);
}

int bench_roofline(const struct bench *o, struct err *e)
{
	struct roofline found;
	const struct backend *b;
	struct report r;
	int rc = bench_machine(o, false, &found, e);

	if (rc)
		return rc;
	b = kernels_find(o->kernels, e);
	report_begin(&r, o->json);
	report_text(&r, "kernels", b ? b->name : o->kernels);
	report_count(&r, "threads", o->threads ? o->threads : kernels_cores());
	report_number(&r, "memory_gb_s", 2, found.read[ROOFLINE_MEMORY][1].best * 1e-9);
	report_number(&r, "products8_gop_s", 1, found.products8[1].best * 1e-9);
	report_number(&r, "f32_gop_s", 1, found.f32[1].best * 1e-9);
	report_number(&r, "handover_us", 3, found.handover.best * 1e6);
	report_number(&r, "handover_us_median", 3, found.handover.median * 1e6);
	for (size_t i = 0; i < ROOFLINE_READS; i++)
		report_rates(&r, i == ROOFLINE_MEMORY ? "memory" : "cache", (double)found.bytes[i], "GB/s", 1e-9,
			     found.read[i]);
	report_rates(&r, "f32", 0, "GOP/s", 1e-9, found.f32);
	report_rates(&r, "products8", 0, "GOP/s", 1e-9, found.products8);
	report_rates(&r, "products16", 0, "GOP/s", 1e-9, found.products16);
	report_end(&r);
	return 0;
}

/* What opening took in each round, milliseconds. */
struct loads {
	double *total, *phase[MODEL_PHASES];
	int64_t before_kib, loaded_kib, talked_kib;
	size_t cache_bytes;
};

static int loads_new(struct loads *l, size_t rounds, struct err *e)
{
	int r = bench_numbers(rounds, &l->total, e);

	for (int i = 0; !r && i < MODEL_PHASES; i++)
		r = bench_numbers(rounds, &l->phase[i], e);
	return r;
}

static void loads_free(struct loads *l)
{
	free(l->total);
	for (int i = 0; i < MODEL_PHASES; i++)
		free(l->phase[i]);
}

/* A conversation of --depth tokens, the last of them decoded one by one. */
static int talk(const struct bench *o, struct model *m, size_t *cache_bytes, struct err *e)
{
	struct tokens t = { 0 };
	struct kv_info info;
	struct kv *kv = NULL;
	int r = bench_cache(o, &o->chosen, m, ROWS, o->depth, &kv, e);

	for (int64_t i = 0; !r && i < o->depth; i++)
		r = tokens_add(&t, (int32_t)(i * 7919 % model_info(m)->vocab), e);
	if (!r && o->depth > DECODED)
		r = bench_read_to(m, kv, t.id, o->depth - DECODED, ROWS, e);
	for (int64_t i = o->depth > DECODED ? o->depth - DECODED : 0; !r && i < o->depth; i++)
		r = bench_step(m, kv, t.id + i, 1, LOGITS_LAST, e);
	if (!r) {
		kv_info(kv, &info);
		*cache_bytes = info.bytes;
	}
	kv_free(kv);
	tokens_release(&t);
	return r;
}

static int load_once(const struct bench *o, size_t round, struct loads *l, struct model **last, struct err *e)
{
	double begin = bench_seconds();
	int r = bench_open(o, ROWS, 1, false, last, e);

	if (r)
		return r;
	l->total[round] = (bench_seconds() - begin) * 1000;
	for (int i = 0; i < MODEL_PHASES; i++)
		l->phase[i][round] = model_info(*last)->took[i] * 1000;
	if (round)
		return 0;
	l->loaded_kib = bench_resident_kib();
	r = talk(o, *last, &l->cache_bytes, e);
	l->talked_kib = bench_resident_kib();
	return r;
}

static void report_loads(const struct bench *o, const struct model *m, const struct loads *l)
{
	static const char *const names[] = { "file_ms", "device_ms", "weights_ms", "buffers_ms" };
	const size_t rounds = (size_t)o->repeat;
	struct report r;

	report_begin(&r, o->json);
	bench_report(o, m, &r);
	report_count(&r, "rounds", o->repeat);
	report_number(&r, "load_ms", 2, bench_quantile(l->total, rounds, 0.5));
	report_number(&r, "load_best_ms", 2, bench_quantile(l->total, rounds, 0));
	for (int i = 0; i < MODEL_PHASES; i++)
		report_number(&r, names[i], 2, bench_quantile(l->phase[i], rounds, 0.5));
	report_count(&r, "file_bytes", (int64_t)model_info(m)->bytes);
	report_count(&r, "matrix_bytes", (int64_t)model_info(m)->matrix_bytes);
	report_count(&r, "resident_kib_before", l->before_kib);
	report_count(&r, "resident_kib_loaded", l->loaded_kib);
	report_count(&r, "depth", o->depth);
	report_count(&r, "cache_bytes", (int64_t)l->cache_bytes);
	report_count(&r, "resident_kib_talked", l->talked_kib);
	report_end(&r);
}

int bench_load(const struct bench *o, struct err *e)
{
	struct loads l = { .before_kib = bench_resident_kib() };
	struct model *m = NULL;
	int r = loads_new(&l, (size_t)o->repeat, e);

	for (size_t i = 0; !r && i < (size_t)o->repeat; i++) {
		model_close(m);
		m = NULL;
		r = load_once(o, i, &l, &m, e);
	}
	if (!r)
		report_loads(o, m, &l);
	loads_free(&l);
	model_close(m);
	return r;
}
