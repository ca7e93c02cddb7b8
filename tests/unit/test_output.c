/* output.c over a plain backend, and over the same one as if it lay apart: what is copied, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "output.h"

enum { VOCAB = 200, MOST = 5 };

static const struct backend *plain;
static size_t reads, bytes_read;

static void read_counted(struct device *d, void *host, const void *from, size_t bytes)
{
	reads++;
	bytes_read += bytes;
	plain->read(d, host, from, bytes);
}

/* Logits of a step, whose likeliest token is that of the row's number and of the step's. */
static void make_logits(struct output *o, int32_t step, float logits[MOST][VOCAB])
{
	for (int32_t i = 0; i < MOST; i++)
		for (int32_t k = 0; k < VOCAB; k++)
			logits[i][k] = (float)((k + i + step) % VOCAB);
	o->b->write(o->d, o->logits, logits, MOST * VOCAB * sizeof(float));
	output_rank(o, MOST);
}

static void run_step(struct output *o, int32_t step, float logits[MOST][VOCAB])
{
	make_logits(o, step, logits);
	reads = bytes_read = 0;
	output_take(o, MOST);
}

static struct output open_output(const struct backend *b)
{
	const struct device_options options = { .threads = 1, .max_rows = MOST };
	struct output o = { 0 };
	struct device *d;

	assert_int_equal(b->open(&options, &d, NULL), 0);
	assert_int_equal(output_init(&o, b, d, MOST, VOCAB, NULL), 0);
	return o;
}

static void close_output(struct output *o)
{
	output_free(o);
	o->b->close(o->d);
}

static void all_rows_are_here_at_once(void **state)
{
	struct backend near = *plain;
	float logits[MOST][VOCAB];
	struct output o;

	(void)state;
	near.read = read_counted;
	o = open_output(&near);
	for (int32_t step = 0; step < 3; step++) {
		run_step(&o, step, logits);
		for (size_t i = 0; i < MOST; i++) {
			assert_memory_equal(output_row(&o, i), logits[i], sizeof(logits[i]));
			assert_null(output_top(&o, i));
		}
		assert_int_equal(reads, 1);
	}
	close_output(&o);
}

static void rows_that_lie_apart_come_when_they_are_asked_for(void **state)
{
	struct backend far = *plain;
	float logits[MOST][VOCAB];
	struct output o;

	(void)state;
	far.apart = true;
	far.read = read_counted;
	o = open_output(&far);
	for (int32_t step = 0; step < 3; step++) {
		run_step(&o, step, logits);
		assert_int_equal(bytes_read, MOST * sizeof(struct top));
		for (int32_t i = 0; i < MOST; i++) {
			const struct top *top = output_top(&o, (size_t)i);

			assert_int_equal(top->count, TOP_MOST);
			assert_true(top->max == VOCAB - 1);
			assert_int_equal(top->id[0], VOCAB - 1 - i - step);
		}
		assert_int_equal(reads, 1);
		for (int again = 0; again < 2; again++) {
			assert_memory_equal(output_row(&o, 3), logits[3], sizeof(logits[3]));
			assert_memory_equal(output_row(&o, 1), logits[1], sizeof(logits[1]));
		}
		assert_int_equal(reads, 3);
		assert_int_equal(bytes_read, MOST * sizeof(struct top) + 2 * sizeof(logits[0]));
	}
	close_output(&o);
}

static void nothing_is_left_of_an_output_that_was_never_made(void **state)
{
	struct output o = { 0 };

	(void)state;
	output_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_rows_are_here_at_once),
		cmocka_unit_test(rows_that_lie_apart_come_when_they_are_asked_for),
		cmocka_unit_test(nothing_is_left_of_an_output_that_was_never_made),
	};

	plain = kernels_find("scalar", NULL);
	return plain ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
