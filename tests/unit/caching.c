/* Owns the models of these tests and their device. */
#include "caching.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "apart.h"
#include "make_gguf.h"
#include "reading.h"
#include "sample.h"

struct model *m;
const struct backend *backend;
struct device *device;

void options(const char *policy, struct kv_options *o)
{
	const struct tokens *marks;

	*o = (struct kv_options){ .step = STEP, .limit = 1000 };
	assert_int_equal(policy_parse(policy, &o->policy, NULL), 0);
	marks = model_marks(m, policy_marking(&o->policy));
	o->mark = marks->id;
	o->marks = marks->count < MOST_MARKS ? marks->count : MOST_MARKS;
}

struct kv *cache(struct arena *a, const char *policy)
{
	struct kv_options o;
	struct kv *kv = NULL;
	struct err e = { 0 };

	options(policy, &o);
	if (kv_new(a, &o, &kv, &e))
		fail_msg("%s", e.text);
	return kv;
}

int verify(struct kv *kv, const char *policy, const int32_t *log, size_t count, struct err *e)
{
	struct kv_options o;

	options(policy, &o);
	return kv_verify(kv, &o, log, count, e);
}

int64_t tokens_of(const struct kv *kv)
{
	struct kv_state s;

	kv_state(kv, &s);
	return s.tokens;
}

uint64_t read_to(struct kv *kv, const int32_t *log, int64_t to, bool all)
{
	const size_t vocab = (size_t)model_info(m)->vocab;
	uint64_t sum = 0;

	for (int64_t at = tokens_of(kv); at < to; at = tokens_of(kv)) {
		struct slice s = { .kv = kv,
				   .token = log + at,
				   .count = to - at < STEP ? (size_t)(to - at) : STEP,
				   .logits = all ? LOGITS_ALL : LOGITS_LAST };

		assert_true(model_step(m, &s, 1, NULL) > 0);
		for (size_t i = 0; i < (all ? s.count : 1); i++)
			sum = logits_checksum(model_logits(m, s.first_logits + i), vocab, all ? sum : 0);
	}
	return sum;
}

uint64_t reference(const char *policy, const int32_t *log, int64_t from, int64_t to)
{
	struct kv *kv = cache(model_arena(m), policy);
	uint64_t sum;

	read_to(kv, log, from, false);
	sum = read_to(kv, log, to, true);
	kv_free(kv);
	return sum;
}

void goes_on_as_if_alone(struct kv *kv, const char *policy, const int32_t *log, int64_t count)
{
	const int64_t at = tokens_of(kv), to = at + AHEAD < count ? at + AHEAD : count;
	struct kv *fork = NULL;

	assert_int_equal(kv_fork(kv, &fork, NULL), 0);
	assert_int_equal(read_to(fork, log, to, true), reference(policy, log, at, to));
	kv_free(fork);
}

size_t bytes_of(size_t pages)
{
	return pages * page_bytes(arena_shape(model_arena(m)));
}

static struct model *usual, *eight, *apart;
static struct device *usual_device, *apart_device;

/* A model in a file that is gone when it is open. */
static int random_model(uint32_t head_size, const char *cache_type, const struct backend *b, struct model **ret,
			struct err *e)
{
	const struct make_tiny tiny = { .seed = 7, .heads = 2, .kv_heads = 1, .head_size = head_size, .ff = 32 };
	char path[] = "test_caching.XXXXXX";
	const struct model_options o = { .path = path,
					 .backend = b,
					 .threads = 1,
					 .max_rows = ROWS,
					 .max_logits = ROWS,
					 .cache_bytes = b ? 16 << 20 : 1 << 30,
					 .cache_type = cache_type };
	int fd = mkstemp(path), r = SINK_EIO;

	if (fd < 0)
		return r;
	close(fd);
	if (make_tiny_model(path, &tiny) == 0)
		r = model_open(&o, ret, e);
	unlink(path);
	return r;
}

int caching_model(struct model **ret, struct err *e)
{
	return random_model(16, "auto", apart_backend(), ret, e);
}

int caching_open(void)
{
	const struct device_options o = { .threads = 1, .max_rows = STEP };

	backend = kernels_find("auto", NULL);
	if (random_model(16, "auto", NULL, &usual, NULL) || random_model(32, "q8_0", NULL, &eight, NULL) ||
	    caching_model(&apart, NULL) || apart_backend()->open(&o, &apart_device, NULL) ||
	    backend->open(&o, &usual_device, NULL))
		return -1;
	return as_usual(NULL);
}

void caching_close(void)
{
	apart_backend()->close(apart_device);
	backend->close(usual_device);
	model_close(usual);
	model_close(eight);
	model_close(apart);
}

int in_8_bits(void **state)
{
	(void)state;
	m = eight;
	return 0;
}

int on_a_device_apart(void **state)
{
	(void)state;
	m = apart;
	backend = apart_backend();
	device = apart_device;
	return 0;
}

int as_usual(void **state)
{
	(void)state;
	m = usual;
	backend = kernels_find("auto", NULL);
	device = usual_device;
	return 0;
}
