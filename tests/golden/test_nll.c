/*
 * The real models (SINKD_MODEL, SINKD_GEMMA) against values that an independent program computed: see the heads of the
 * nll-*.txt files. The oracle "ref" must agree to the accuracy of F32; the fast kernels to what f16 pages and
 * activations of 16 bits cost, or of 8 where they are asked for.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model.h"
#include "sample.h"

enum { LINES = 640, CHUNK = 64 };

/* Reads the numbers of a file beside this test, without its head, `each` a line; returns how many. */
static size_t read_numbers_of(const char *name, double *ret, size_t most, size_t each)
{
	const char *top = getenv("top_srcdir");
	char path[512], line[256], *at;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top ? top : ".", name);
	f = fopen(path, "r");
	assert_non_null(f);
	while (n < most && (at = fgets(line, sizeof(line), f)))
		for (size_t i = 0; i < each && line[0] != '#'; i++)
			ret[n++] = strtod(at, &at);
	fclose(f);
	return n;
}

static size_t read_numbers(const char *name, double *ret, size_t most)
{
	return read_numbers_of(name, ret, most, 1);
}

/* Whose values the files are; the type is that of most of its weights. */
struct golden {
	const char *variable, *name, *quantization, *ids;
};

static const struct golden smollm2 = { "SINKD_MODEL", "Smollm2 135M", "q4_1", "persuasion-ids.txt" };
static const struct golden gemma3 = { "SINKD_GEMMA", "Gemma 3 270m", "q8_0", "persuasion-ids-gemma3.txt" };

/* The model, or NULL when there is none here or it is another one. */
static struct model *open_model(const struct golden *g, const char *kernels, enum precision precision)
{
	const struct model_options o = { .path = getenv(g->variable),
					 .kernels = kernels,
					 .precision = precision,
					 .max_rows = CHUNK,
					 .max_logits = CHUNK,
					 .cache_bytes = (size_t)1 << 30 };
	struct model *m = NULL;
	struct err e = { 0 };

	if (!o.path || !*o.path)
		return NULL;
	if (model_open(&o, &m, &e))
		fail_msg("%s", e.text);
	if (strncmp(model_info(m)->name, g->name, strlen(g->name)) == 0 &&
	    strcmp(model_info(m)->quantization, g->quantization) == 0)
		return m;
	print_message("The golden values are of %s %s, not of %s %s.\n", g->name, g->quantization, model_info(m)->name,
		      model_info(m)->quantization);
	model_close(m);
	return NULL;
}

static struct kv *open_cache(struct model *m, const char *policy, enum positions positions)
{
	struct kv_options o = { .positions = positions, .step = CHUNK };
	const struct tokens *marks;
	struct kv *kv = NULL;

	assert_int_equal(policy_parse(policy, &o.policy, NULL), 0);
	marks = model_marks(m, policy_marking(&o.policy));
	o.mark = marks->id;
	o.marks = marks->count;
	assert_int_equal(kv_new(model_arena(m), &o, &kv, NULL), 0);
	return kv;
}

/* Mean absolute and mean difference of the NLL of `lines` predictions. */
static void compare(struct model *m, const struct golden *g, const char *policy, enum positions positions,
		    const char *name, size_t lines, double *absolute, double *difference)
{
	struct kv *kv = open_cache(m, policy, positions);
	double want[LINES], id[LINES + 1];
	int32_t token[CHUNK];

	assert_int_equal(read_numbers(name, want, LINES), LINES);
	assert_int_equal(read_numbers(g->ids, id, LINES + 1), LINES + 1);
	*absolute = *difference = 0;
	for (size_t at = 0, n; at < lines; at += n) {
		struct slice s = { .kv = kv, .token = token, .logits = LOGITS_ALL };

		n = s.count = lines - at < CHUNK ? lines - at : CHUNK;
		for (size_t i = 0; i < n; i++)
			token[i] = (int32_t)id[at + i];
		assert_int_equal(model_step(m, &s, 1, NULL), n);
		for (size_t i = 0; i < n; i++) {
			double d = -logits_logprob(model_logits(m, i), (size_t)model_info(m)->vocab,
						   (int32_t)id[at + i + 1]) -
				   want[at + i];

			*absolute += fabs(d) / (double)lines;
			*difference += d / (double)lines;
		}
	}
	kv_free(kv);
	print_message("%s, %s: mean absolute difference %.6f, mean %.6f\n", model_info(m)->kernels, policy, *absolute,
		      *difference);
}

/* The same for a window that is computed anew for each prediction: those of the recorded lines, "t nll". */
static void compare_anew(struct model *m, int64_t window, const char *name, double *absolute)
{
	double want[2 * LINES], id[LINES + 1];
	struct kv *kv = open_cache(m, "recompute:256", POSITIONS_CACHE);
	const size_t lines = read_numbers_of(name, want, 2 * LINES, 2) / 2;

	assert_int_equal(read_numbers(smollm2.ids, id, LINES + 1), LINES + 1);
	*absolute = 0;
	for (size_t line = 0; line < lines; line++) {
		const int64_t t = (int64_t)want[2 * line];
		int64_t at = kv_aim(kv, t + 1);
		int32_t token[CHUNK];

		assert_int_equal(at, t + 1 - window);
		for (int64_t n; at <= t; at += n) {
			struct slice s = { .kv = kv, .token = token, .logits = LOGITS_LAST };

			n = t + 1 - at < CHUNK ? t + 1 - at : CHUNK;
			s.count = (size_t)n;
			for (int64_t i = 0; i < n; i++)
				token[i] = (int32_t)id[at + i];
			assert_int_equal(model_step(m, &s, 1, NULL), 1);
		}
		*absolute +=
			fabs(-logits_logprob(model_logits(m, 0), (size_t)model_info(m)->vocab, (int32_t)id[t + 1]) -
			     want[2 * line + 1]) /
			(double)lines;
	}
	assert_true(lines >= 9);
	kv_free(kv);
	print_message("%s, recompute: mean absolute difference %.6f\n", model_info(m)->kernels, *absolute);
}

static void the_oracle_agrees(void **state)
{
	struct model *m = open_model(&smollm2, "ref", PRECISION_EXACT);
	double absolute, difference;

	(void)state;
	if (!m)
		skip();
	compare(m, &smollm2, "sink:4,252", POSITIONS_CACHE, "nll-sink-4-252.txt", 290, &absolute, &difference);
	assert_true(absolute <= 0.0005);
	compare(m, &smollm2, "window:512", POSITIONS_CACHE, "nll-sink-0-512.txt", 540, &absolute, &difference);
	assert_true(absolute <= 0.0005);
	compare(m, &smollm2, "separator:4,256,252", POSITIONS_CACHE, "nll-separator-4-256-252.txt", 400, &absolute,
		&difference);
	assert_true(absolute <= 0.0005);
	compare(m, &smollm2, "anchor:0,400,400", POSITIONS_CACHE, "nll-anchor-0.txt", 250, &absolute, &difference);
	assert_true(absolute <= 0.0005);
	compare(m, &smollm2, "anchor:4,400,400", POSITIONS_CACHE, "nll-anchor-4.txt", 250, &absolute, &difference);
	assert_true(absolute <= 0.0005);
	model_close(m);
}

/*
 * In eight bits: 0.06 with sinks. A window without them shakes the model (0.067), anchors without them more (0.1), and
 * anchors behind them a little (0.066).
 */
static void are_close(enum precision precision, double absolute_most, double difference_most)
{
	static const struct {
		const char *policy;
		enum positions positions;
		const char *name;
		double more; /* allowed of the difference */
	} runs[] = {
		{ "dense", POSITIONS_CACHE, "nll-dense.txt", 1 },
		{ "sink:4,252", POSITIONS_CACHE, "nll-sink-4-252.txt", 1 },
		{ "sink:4,508", POSITIONS_TEXT, "nll-sink-4-508-text.txt", 1 },
		{ "window:512", POSITIONS_CACHE, "nll-sink-0-512.txt", 1.1 },
		{ "separator:4,256,252", POSITIONS_CACHE, "nll-separator-4-256-252.txt", 1 },
		{ "anchor:0,400,400", POSITIONS_CACHE, "nll-anchor-0.txt", 1.8 },
		{ "anchor:4,400,400", POSITIONS_CACHE, "nll-anchor-4.txt", 1.1 },
	};
	struct model *m = open_model(&smollm2, "auto", precision);
	double absolute, difference;

	if (!m)
		skip();
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		compare(m, &smollm2, runs[i].policy, runs[i].positions, runs[i].name, LINES, &absolute, &difference);
		assert_true(absolute <= absolute_most * runs[i].more);
		assert_true(fabs(difference) <= difference_most);
	}
	compare_anew(m, 256, "nll-recompute-256.txt", &absolute);
	assert_true(absolute <= absolute_most);
	model_close(m);
}

static void fifteen_bits_are_nearly_exact(void **state)
{
	(void)state;
	are_close(PRECISION_EXACT, 0.005, 0.001);
}

static void eight_bits_are_close(void **state)
{
	(void)state;
	are_close(PRECISION_FAST, 0.065, 0.012);
}

static void gemma_is_close(enum precision precision, double absolute_most, double difference_most)
{
	struct model *m = open_model(&gemma3, "auto", precision);
	double absolute, difference;

	if (!m)
		skip();
	compare(m, &gemma3, "dense", POSITIONS_CACHE, "nll-gemma3.txt", LINES, &absolute, &difference);
	assert_true(absolute <= absolute_most);
	assert_true(fabs(difference) <= difference_most);
	model_close(m);
}

static void gemma_is_nearly_exact(void **state)
{
	(void)state;
	gemma_is_close(PRECISION_EXACT, 0.01, 0.001);
}

static void gemma_is_close_in_eight_bits(void **state)
{
	(void)state;
	gemma_is_close(PRECISION_FAST, 0.075, 0.012);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_oracle_agrees),
		cmocka_unit_test(fifteen_bits_are_nearly_exact),
		cmocka_unit_test(eight_bits_are_close),
		cmocka_unit_test(gemma_is_nearly_exact),
		cmocka_unit_test(gemma_is_close_in_eight_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
