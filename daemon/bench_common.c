/* What the verbs of sinkd-bench share: the model, the text, clocks and quantiles. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "marks.h"
#include "sample.h"

/* Address space for pages; memory is taken as they are used. */
static const size_t cache_bytes = (size_t)32 << 30;

int bench_open(const struct bench *o, size_t max_rows, size_t max_logits, bool vocabulary_only, struct model **ret,
	       struct err *e)
{
	const struct model_options options = { .path = o->model,
					       .device = o->device,
					       .kernels = o->kernels,
					       .gpu_memory = (size_t)o->gpu_memory << 20,
					       .invariant = o->invariant,
					       .threads = (int)o->threads,
					       .precision = o->activations,
					       .max_rows = max_rows,
					       .max_logits = max_logits,
					       .cache_bytes = cache_bytes,
					       .cache_type = o->kv,
					       .vocabulary_only = vocabulary_only };
	int r = model_open(&options, ret, e);

	if (r == SINK_ENOENT || r == SINK_EDEVICE)
		return r;
	return r ? SINK_EFORMAT : 0;
}

int bench_machine(const struct bench *o, bool brief, struct roofline *ret, struct err *e)
{
	const struct device_options options = { .threads = o->threads ? (int)o->threads : kernels_cores(),
						.max_rows = 1,
						.precision = o->activations };

	return kernels_roofline(o->kernels, &options, brief, ret, e);
}

void bench_report(const struct bench *o, const struct model *m, struct report *r)
{
	report_text(r, "model", model_info(m)->name);
	report_text(r, "kernels", model_info(m)->kernels);
	report_text(r, "device", model_info(m)->device);
	report_text(r, "precision", o->precision);
	report_count(r, "threads", model_info(m)->threads);
	report_text(r, "positions", o->positions);
}

/* Token ids as a list, or in a file. */
static int read_ids(const char *text, const struct model *m, struct tokens *ret, struct err *e)
{
	char *content = NULL;
	size_t size;
	FILE *f;
	int r = 0;

	if (*text < '0' || *text > '9') {
		f = fopen(text, "r");
		if (!f)
			return err_set(e, errno == ENOENT ? SINK_ENOENT : SINK_EIO,
				       "The list of token ids \"%s\" cannot be opened: %s.", text, strerror(errno));
		r = bench_read(f, text, &content, &size, e);
		fclose(f);
		if (!r && memchr(content, '\0', size))
			r = err_set(e, SINK_EINVAL, "\"%s\" is no list of token ids.", text);
	}
	if (!r)
		r = marks_parse(content ? content : text, ret, e);
	if (!r)
		r = marks_check(model_vocab(m), ret->id, ret->count, e);
	free(content);
	return r;
}

int bench_cache(const struct bench *o, const struct policy *p, struct model *m, size_t step, int64_t limit,
		struct kv **ret, struct err *e)
{
	const enum marking marking = policy_marking(p);
	const char *list = marking == MARKING_ANCHORS ? o->anchors : o->separator_ids;
	struct tokens own = { 0 };
	struct kv_options options = {
		.policy = *p,
		.step = step,
		.origin = o->start,
		.limit = limit,
		.positions = strcmp(o->positions, "text") == 0 ? POSITIONS_TEXT : POSITIONS_CACHE,
		.mark = model_marks(m, marking)->id,
		.marks = model_marks(m, marking)->count,
	};
	int r = 0;

	if (marking != MARKING_NONE && list) {
		r = read_ids(list, m, &own, e);
		options.mark = own.id;
		options.marks = own.count;
	} else if (marking != MARKING_NONE && options.marks == 0) {
		r = err_set(e, SINK_EINVAL, "The vocabulary has no token for %s; name some with %s.", policy_name(p),
			    marking == MARKING_ANCHORS ? "--anchors" : "--separator-ids");
	}
	if (!r)
		r = kv_new(model_arena(m), &options, ret, e);
	tokens_release(&own);
	return r;
}

const char *bench_note(const struct model *m, const struct policy *p)
{
	if (policy_marking(p) != MARKING_ANCHORS || marks_trained(model_vocab(m)))
		return NULL;
	return "nothing says that this model was trained for anchors; one that was not predicts poorly with them";
}

int bench_read(FILE *f, const char *name, char **ret, size_t *size, struct err *e)
{
	size_t room = 0, used = 0, got;
	char *text = NULL, *more;

	do {
		room = room ? room * 2 : 1 << 16;
		more = realloc(text, room);
		if (!more) {
			free(text);
			return err_set(e, SINK_ENOMEM, "Out of memory for the text of \"%s\".", name);
		}
		text = more;
		got = fread(text + used, 1, room - used, f);
		used += got;
	} while (used == room);
	if (ferror(f)) {
		free(text);
		return err_set(e, SINK_EIO, "Reading \"%s\" failed: %s.", name, strerror(errno));
	}
	text[used] = '\0'; /* there is room, or the loop had gone on */
	*ret = text;
	*size = used;
	return 0;
}

int bench_text(const struct bench *o, const struct model *m, struct tokens *ret, struct err *e)
{
	const struct vocab *v = model_vocab(m);
	FILE *f = fopen(o->text, "rb");
	char *text;
	size_t size;
	int r;

	if (!f)
		return err_set(e, errno == ENOENT ? SINK_ENOENT : SINK_EIO, "The text \"%s\" cannot be opened: %s.",
			       o->text, strerror(errno));
	r = bench_read(f, o->text, &text, &size, e);
	fclose(f);
	if (r)
		return r;
	if (o->sink_token >= 0) {
		const int32_t id = (int32_t)o->sink_token;

		r = marks_check(v, &id, 1, e);
		if (!r)
			r = tokens_add(ret, id, e);
	}
	if (!r && vocab_adds_bos(v) && vocab_bos(v) >= 0)
		r = tokens_add(ret, vocab_bos(v), e);
	if (!r)
		r = vocab_encode(v, text, size, false, ret, e);
	free(text);
	if (!r && ret->count < 2)
		r = err_set(e, SINK_EINVAL, "The text \"%s\" has fewer than two tokens.", o->text);
	return r;
}

int bench_step(struct model *m, struct kv *kv, const int32_t *token, size_t count, enum logits logits, struct err *e)
{
	struct slice s = { .kv = kv, .token = token, .count = count, .logits = logits };
	int r = model_step(m, &s, 1, e);

	if (r < 0)
		return r;
	if (s.status == SINK_EBUSY)
		return err_set(e, s.status, "The cache is full.");
	if (s.status)
		return err_set(e, s.status, "The model refused a step of %zu tokens.", count);
	return 0;
}

int bench_read_to(struct model *m, struct kv *kv, const int32_t *id, int64_t end, size_t chunk, struct err *e)
{
	int r = 0;

	for (int64_t at = kv_aim(kv, end), n; !r && at < end; at += n) {
		n = end - at < (int64_t)chunk ? end - at : (int64_t)chunk;
		r = bench_step(m, kv, id + at, (size_t)n, at + n == end ? LOGITS_LAST : LOGITS_NONE, e);
	}
	return r;
}

int bench_predict(struct model *m, struct kv *kv, const int32_t *id, int64_t t, size_t chunk, double *nll,
		  struct err *e)
{
	int r = bench_read_to(m, kv, id, t + 1, chunk, e);

	if (!r)
		*nll = -logits_logprob(model_logits(m, 0), (size_t)model_info(m)->vocab, id[t + 1]);
	return r;
}

double bench_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t bench_resident_kib(void)
{
	long long all = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f)
		return 0;
	if (fscanf(f, "%lld %lld", &all, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int bench_numbers(size_t n, double **ret, struct err *e)
{
	double *x = malloc((n ? n : 1) * sizeof(*x));

	if (!x)
		return err_set(e, SINK_ENOMEM, "Out of memory for %zu numbers.", n);
	for (size_t i = 0; i < n; i++)
		x[i] = NAN;
	*ret = x;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_mean(const double *x, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i];
	return sum / (double)n;
}

double bench_quantile(const double *x, size_t n, double q)
{
	double *sorted = n ? malloc(n * sizeof(*sorted)) : NULL;
	double ret = 0;

	if (!sorted)
		return 0;
	memcpy(sorted, x, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), ascending);
	ret = sorted[(size_t)(q * (double)(n - 1) + 0.5)];
	free(sorted);
	return ret;
}
