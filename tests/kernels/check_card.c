/*
 * The CUDA backend over the stand-in, as a device: steps that become graphs, pages that come and go, a card that is
 * missing, small, or breaks at any call. Its operations have the tests of all backends (check_kernels.c).
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "standin_hooks.h"

/* A model of one layer, if it may be called so; ROWS rows a step, all of one conversation. */
enum { VOCAB = 70, COLS = 64, HEADS = 4, KV_HEADS = 2, HEAD = 16, ROWS = 3, WANTED = 2, MOST = 16 };
enum { QKV = (HEADS + 2 * KV_HEADS) * HEAD, STEPS = 6 };

struct model {
	struct device *d;
	struct weight *embedding, *qkv, *output;
	float *x, *norm, *y, *key_angles, *query_angles, *logits;
	struct top *top;
};

/* What a step says, and what came of it. */
struct decoding {
	struct kit_scene scene;
	struct row rows[ROWS], near[ROWS]; /* the latter see some of the window */
	int64_t seen;			   /* slots of the window that are seen before the first step */
	int32_t token[ROWS], wants[WANTED];
	int64_t key_at[ROWS * 2], query_at[ROWS * RUNS];
	double inv_freq[HEAD / 2];
	struct top top[WANTED];
};

/* 0, or the code of what could not be made. */
static int make_model(const struct backend *b, struct device *d, struct model *m, struct err *e)
{
	static const struct {
		enum dtype type;
		size_t rows, cols;
	} shapes[] = { { DTYPE_Q4_0, VOCAB, COLS }, { DTYPE_Q8_0, QKV, COLS }, { DTYPE_F16, VOCAB, COLS } };
	struct weight **const weights[] = { &m->embedding, &m->qkv, &m->output };
	const struct {
		float **at;
		size_t floats;
	} buffers[] = { { &m->x, MOST * COLS },
			{ &m->norm, COLS },
			{ &m->y, MOST * QKV },
			{ &m->key_angles, MOST * 2 * HEAD },
			{ &m->query_angles, MOST * RUNS * HEAD },
			{ &m->logits, MOST * VOCAB },
			{ (float **)&m->top, MOST * sizeof(struct top) / sizeof(float) } };
	struct kit_random r = { 11 };
	float ones[COLS];
	int rc = 0;

	*m = (struct model){ .d = d };
	for (size_t i = 0; i < 3 && !rc; i++) {
		struct tensor t = kit_tensor(&r, shapes[i].type, shapes[i].rows, shapes[i].cols);

		rc = b->weight_new(d, &t, weights[i], e);
		free((void *)t.data);
	}
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]) && !rc; i++)
		rc = b->buffer_new(d, buffers[i].floats, buffers[i].at, e);
	for (int i = 0; i < COLS; i++)
		ones[i] = 1;
	if (!rc)
		b->write(d, m->norm, ones, sizeof(ones));
	return rc;
}

static void free_model(const struct backend *b, struct model *m)
{
	float *const buffers[] = { m->x, m->norm, m->y, m->key_angles, m->query_angles, m->logits, (float *)m->top };
	struct weight *const weights[] = { m->embedding, m->qkv, m->output };

	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		b->buffer_free(m->d, buffers[i]);
	for (size_t i = 0; i < 3; i++)
		b->weight_free(m->d, weights[i]);
}

static void make_decoding(struct decoding *c)
{
	static const struct kit_shape shape = { HEADS, KV_HEADS, HEAD, HEAD, true };
	struct kit_random r = { 21 };

	memset(c, 0, sizeof(*c));
	kit_scene_make(&r, &shape, DTYPE_F16, 1, &c->scene);
	assert_true(c->scene.rows[0].sees[RUN_WINDOW].count > 0);
	c->seen = c->scene.rows[0].sees[RUN_WINDOW].count;
	for (int i = 0; i < HEAD / 2; i++)
		c->inv_freq[i] = 1.0 / (1 + i);
}

/* Tokens that follow each other: each row is written behind the window of the one before, and sees itself. */
static void describe(struct decoding *c, int step)
{
	for (int i = 0; i < ROWS; i++) {
		struct row *row = &c->rows[i];
		const int64_t at = step * ROWS + i;

		*row = c->scene.rows[0];
		row->goes[0].run = RUN_WINDOW;
		row->goes[0].slot = row->sees[RUN_WINDOW].first + c->seen + at;
		row->goes[1].run = -1;
		row->sees[RUN_WINDOW].count = c->seen + at + 1;
		c->near[i] = *row;
		c->near[i].sees[RUN_WINDOW].count = c->seen < 30 ? c->seen : 30;
		c->near[i].sees[RUN_WINDOW].first += row->sees[RUN_WINDOW].count - c->near[i].sees[RUN_WINDOW].count;
		c->token[i] = (int32_t)((at * 7 + 3) % VOCAB);
		for (int place = 0; place < 2; place++)
			c->key_at[2 * i + place] = 100 + at;
		for (int run = 0; run < RUNS; run++)
			c->query_at[RUNS * i + run] = 100 + at + run;
	}
	c->wants[0] = 2;
	c->wants[1] = 0;
}

static void multiply(const struct backend *b, struct model *m, const struct weight *w, size_t n, float *x, float *y,
		     size_t width, bool add)
{
	const struct matmul op = { .w = &w,
				   .weights = 1,
				   .x = x,
				   .n = n,
				   .y = y,
				   .y_stride = width,
				   .add = add,
				   .input = INPUT_NORM,
				   .norm = m->norm,
				   .eps = 1e-5f };

	b->matmul(m->d, &op);
}

static void operate(const struct backend *b, struct model *m, const struct decoding *c, size_t n, size_t wanted)
{
	const struct store store = { &c->scene.heads, &c->scene.pages, 1, m->y, m->key_angles, c->rows, n };
	const struct attend attend = {
		&c->scene.heads, &c->scene.pages, 1, m->y, m->query_angles, c->rows, n, m->x, NULL, NULL
	};
	const struct attend near = {
		&c->scene.heads, &c->scene.pages, 1, m->y, m->query_angles, c->near, n, m->x, NULL, NULL
	};

	b->embed(m->d, m->embedding, c->token, n, 1, m->x);
	b->angles(m->d, c->key_at, 2 * n, c->inv_freq, 1, HEAD, 1, m->key_angles);
	b->angles(m->d, c->query_at, RUNS * n, c->inv_freq, 1, HEAD, 1, m->query_angles);
	multiply(b, m, m->qkv, n, m->x, m->y, QKV, false);
	b->store(m->d, &store);
	b->attend(m->d, &attend);
	multiply(b, m, m->qkv, n, m->x, m->y, QKV, false);
	b->attend(m->d, &near);
	b->gather(m->d, m->x, COLS, c->wants, wanted, m->y);
	multiply(b, m, m->output, wanted, m->y, m->logits, VOCAB, false);
	b->top(m->d, m->logits, wanted, VOCAB, m->top);
}

/* One step as the engine makes it; whether the device did it by itself is returned in `alone`. */
static int decode(const struct backend *b, struct model *m, struct decoding *c, bool *alone, struct err *e)
{
	const struct step s = { ROWS, WANTED, c->rows, c->near, c->token, c->key_at, c->query_at, c->wants };
	size_t n, wanted;
	int rc;

	b->begin(m->d, &s, &n, &wanted);
	assert_true(n == 0 || (n >= ROWS && wanted >= WANTED && n <= MOST && wanted <= MOST));
	*alone = n == 0;
	if (n > 0)
		operate(b, m, c, n, wanted);
	rc = b->end(m->d, e);
	if (!rc)
		b->read(m->d, c->top, m->top, sizeof(c->top));
	return rc;
}

static void same_tops(const struct top *a, const struct top *b)
{
	for (int i = 0; i < WANTED; i++) {
		assert_int_equal(a[i].count, TOP_MOST);
		assert_memory_equal(a[i].id, b[i].id, (size_t)a[i].count * sizeof(a[i].id[0]));
		kit_same_bits(a[i].logit, b[i].logit, (size_t)a[i].count);
		assert_true(a[i].sum == b[i].sum && a[i].max == b[i].max && a[i].max == a[i].logit[0]);
	}
}

static const struct device_options options = { .threads = 1, .max_rows = MOST, .max_logits = MOST, .invariant = true };

/* Steps of one kind become a graph, which does what the operations do one by one. */
void steps_become_graphs(void **state)
{
	const struct subject *sub = *state;
	const struct backend *b = sub->b;
	struct decoding c, plain;
	struct model m, p;
	struct device *d = NULL, *other = NULL;
	int alone_steps = 0;
	struct err e;

	assert_int_equal(b->open(&options, &d, &e), 0);
	assert_int_equal(b->open(&options, &other, &e), 0);
	assert_int_equal(make_model(b, d, &m, &e), 0);
	assert_int_equal(make_model(b, other, &p, &e), 0);
	make_decoding(&c);
	make_decoding(&plain);
	kit_scene_show(&c.scene, b, d);
	kit_scene_show(&plain.scene, b, other);
	for (int i = 0; i < STEPS; i++) {
		bool alone;

		describe(&c, i);
		assert_int_equal(decode(b, &m, &c, &alone, &e), 0);
		alone_steps += alone;
		describe(&plain, i);
		operate(b, &p, &plain, ROWS, WANTED);
		b->read(other, plain.top, p.top, sizeof(plain.top));
		same_tops(c.top, plain.top);
	}
	assert_true(alone_steps >= STEPS / 2);
	kit_scene_hide(&c.scene, b, d);
	kit_scene_hide(&plain.scene, b, other);
	assert_memory_equal(c.scene.memory, plain.scene.memory, c.scene.memory_bytes);
	kit_scene_free(&c.scene);
	kit_scene_free(&plain.scene);
	free_model(b, &m);
	free_model(b, &p);
	b->close(d);
	b->close(other);
}

/* All that can be done with a device; 0, or the first code that something gave. */
static int live(const struct backend *b, struct err *e)
{
	struct model m = { 0 };
	struct device *d = NULL;
	struct decoding c;
	int rc = b->open(&options, &d, e);

	make_decoding(&c);
	if (!rc)
		rc = make_model(b, d, &m, e);
	if (!rc)
		rc = b->pages_attach(d, c.scene.memory, c.scene.memory_bytes, e);
	if (!rc) {
		b->page_load(d, c.scene.memory, c.scene.memory_bytes);
		for (int i = 0; i < STEPS && !rc; i++) {
			bool alone;

			describe(&c, i);
			rc = decode(b, &m, &c, &alone, e);
		}
		b->page_saved(d, b->page_save(d, c.scene.memory, c.scene.memory_bytes), true);
		b->pages_detach(d);
	}
	if (d)
		free_model(b, &m);
	b->close(d);
	kit_scene_free(&c.scene);
	return rc;
}

/* Whatever call it is in which the card breaks: an error with a reason, and nothing is left behind. */
void a_card_may_break_at_any_call(void **state)
{
	const struct subject *s = *state;
	const unsigned long first = standin_calls();
	struct err e = { 0 };
	unsigned long calls;
	int failed = 0;

	assert_int_equal(live(s->b, &e), 0);
	calls = standin_calls() - first;
	for (unsigned long i = 1; i <= calls; i += 1 + i / 50) {
		int rc;

		memset(&e, 0, sizeof(e));
		standin_fail_after((int)i);
		rc = live(s->b, &e);
		standin_fail_after(0);
		assert_true(rc == 0 || rc == SINK_EDEVICE || rc == SINK_ENOMEM);
		assert_true(rc == 0 || e.text[0] != '\0');
		assert_int_equal(standin_taken() + standin_taken_host() + standin_objects(), 0);
		failed += rc != 0;
	}
	assert_true(failed > 20);
}

/* Whatever it is that finds no memory any more. */
void a_card_may_be_small(void **state)
{
	const struct subject *s = *state;
	struct err e = { 0 };
	size_t most = 64 << 20;

	for (size_t bytes = 1000; bytes < most; bytes += bytes / 3) {
		int rc;

		standin_memory(bytes);
		rc = live(s->b, &e);
		standin_memory(0);
		assert_true(rc == 0 || rc == SINK_ENOMEM || rc == SINK_EDEVICE);
		assert_true(rc == 0 || strstr(e.text, "memory"));
		assert_int_equal(standin_taken() + standin_taken_host() + standin_objects(), 0);
	}
}

/* What is allowed is kept to, and told to those who ask for room. */
void memory_is_capped(void **state)
{
	const struct subject *s = *state;
	struct device_options o = options;
	struct device *d = NULL;
	float *buffer = NULL;
	struct err e;

	o.memory = 64 << 20;
	assert_int_equal(s->b->open(&o, &d, &e), 0);
	assert_true(s->b->pages_room(d, 0) <= o.memory);
	assert_int_equal(s->b->pages_room(d, o.memory), 0);
	assert_int_equal(s->b->buffer_new(d, o.memory / 4 + 1, &buffer, &e), SINK_ENOMEM);
	assert_non_null(strstr(e.text, "memory"));
	assert_true(standin_taken() <= o.memory);
	assert_int_equal(s->b->buffer_new(d, 1000, &buffer, &e), 0);
	s->b->buffer_free(d, buffer);
	s->b->close(d);
}

static void refused(const struct backend *b, int card, const char *says)
{
	struct device_options o = options;
	struct device *d = NULL;
	struct err e = { 0 };

	o.card = card;
	if (card == 0) {
		assert_int_equal(b->probe(&e), SINK_EDEVICE);
		assert_non_null(strstr(e.text, says));
		memset(&e, 0, sizeof(e));
	}
	assert_int_equal(b->open(&o, &d, &e), SINK_EDEVICE);
	if (!strstr(e.text, says))
		fail_msg("\"%s\" does not say \"%s\"", e.text, says);
	assert_null(d);
}

void cards_that_cannot_be_used_are_refused(void **state)
{
	const struct subject *s = *state;

	standin_cards(0, 0, 1);
	refused(s->b, 0, "no CUDA driver");
	standin_cards(0, 13000, 1);
	refused(s->b, 0, "finds no card");
	standin_cards(1, 12040, 1);
	refused(s->b, 0, "knows CUDA 12.4");
	standin_cards(1, 13000, 0);
	refused(s->b, 0, "--with-cuda-arch");
	standin_cards(2, 13000, 1);
	refused(s->b, 9, "no card 9");
	standin_cards(1, 13000, 1);
	assert_int_equal(s->b->probe(NULL), 0);
}

/* Between the host's copy and the card's, and from page to page. */
void pages_come_and_go(void **state)
{
	enum { PAGE = 5 << 20, PAGES = 3 };
	const struct subject *s = *state;
	struct device *d = kit_open(s->b, 1, 4);
	uint8_t *memory = malloc(PAGES * PAGE), *was = malloc(PAGES * PAGE);
	struct kit_random r = { 31 };

	assert_true(memory && was);
	for (size_t i = 0; i < PAGES * PAGE; i++)
		memory[i] = was[i] = (uint8_t)kit_below(&r, 256);
	assert_int_equal(s->b->pages_attach(d, memory, PAGES * PAGE, NULL), 0);
	s->b->page_load(d, memory, PAGE);
	s->b->page_load(d, memory + PAGE, PAGE);
	s->b->page_copy(d, memory + 2 * PAGE, memory, PAGE);
	memset(memory, 0, PAGES * PAGE);
	assert_true(s->b->page_saved(d, s->b->page_save(d, memory + PAGE, PAGE), true));
	assert_memory_equal(memory + PAGE, was + PAGE, PAGE);
	assert_int_equal(memory[5], 0);
	assert_true(s->b->page_saved(d, s->b->page_save(d, memory + 2 * PAGE, PAGE), true));
	assert_memory_equal(memory + 2 * PAGE, was, PAGE);
	s->b->pages_detach(d);
	s->b->close(d);
	free(memory);
	free(was);
}
