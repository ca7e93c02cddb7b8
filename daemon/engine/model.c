/*
 * Opens and closes a model on a device: what every family shares around its layers. The step is model_step.c's.
 *
 * All memory is taken when the model is opened: buffers of the device for max_rows rows and max_logits rows of logits,
 * and the host's arrays that describe the rows of a step.
 */
#include "model_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	ROWS_MOST = 4096,
	THREADS_MOST = 1024,
	STOCK_TOKENS = 34 * PAGE_TOKENS, /* what sink:4,2044 has in pages, wherever in a page its window begins */
	STOCK_BYTES = 64 << 20,
	ROOM_LEFT = 512 << 20, /* bytes of a device apart that pages leave to operations */
	PAGES_LEAST = 8,
};

static int check_options(struct model_options *o, struct err *e)
{
	if (!o->path || !*o->path)
		return err_set(e, SINK_EINVAL, "No model file is named.");
	if (o->vocabulary_only)
		return 0;
	if (o->threads < 0 || o->threads > THREADS_MOST)
		return err_set(e, SINK_EINVAL, "%d threads are not within 0 and %d.", o->threads, THREADS_MOST);
	if (o->max_rows < 1 || o->max_rows > ROWS_MOST)
		return err_set(e, SINK_EINVAL, "%zu rows a step are not within 1 and %d.", o->max_rows, ROWS_MOST);
	if (o->max_logits < 1 || o->max_logits > o->max_rows)
		return err_set(e, SINK_EINVAL, "%zu rows of logits are not within 1 and the %zu rows of a step.",
			       o->max_logits, o->max_rows);
	if (o->threads == 0)
		o->threads = kernels_cores();
	return 0;
}

/* Notes how long a phase took that began at *since, when the next one begins. */
static void phase_ends(struct model *m, int phase, struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	m->info.took[phase] = (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) * 1e-9;
	*since = now;
}

/* The file's text for people to read: what is not printable ASCII becomes a question mark. */
static void copy_printable(struct gguf_str s, char *to, size_t size)
{
	size_t n = s.len < size - 1 ? s.len : size - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = s.at[i] >= 0x20 && s.at[i] < 0x7f ? s.at[i] : '?';
	to[n] = '\0';
}

static bool ends_with(const char *text, const char *end)
{
	const size_t len = strlen(text), n = strlen(end);

	return len >= n && strcmp(text + len - n, end) == 0;
}

/* The element type of most of the weights, and how many there are; and whether there are learned sinks. */
static void describe_tensors(const struct gguf *g, struct model_info *info)
{
	uint64_t of_type[64] = { 0 }, most = 0;

	info->quantization = "none";
	for (size_t i = 0; i < gguf_tensors(g); i++) {
		struct gguf_str s = gguf_tensor_name(g, i);
		struct tensor t;
		char name[128];

		snprintf(name, sizeof(name), "%.*s", s.len < sizeof(name) ? (int)s.len : 0, s.at);
		if (gguf_tensor(g, name, &t, NULL))
			continue;
		info->learned_sinks |= ends_with(name, ".attn_sinks.weight");
		info->parameters += (uint64_t)t.rows * t.cols;
		of_type[(unsigned)t.type % 64] += (uint64_t)t.rows * t.cols;
		if (of_type[(unsigned)t.type % 64] >= most) {
			most = of_type[(unsigned)t.type % 64];
			info->quantization = dtype_find(t.type)->name;
		}
	}
}

/* The file, its vocabulary and its way of writing turns. */
static int open_file(struct model *m, struct err *e)
{
	const char *slash = strrchr(m->o.path, '/');
	struct gguf_str name;
	int r = gguf_open(m->o.path, &m->g, e);

	if (!r)
		r = vocab_new(m->g, &m->v, e);
	if (!r)
		r = turns_new(m->g, m->v, &m->turns, m->note, e);
	if (!r && !m->o.vocabulary_only)
		r = trie_new(m->v, &m->trie, e);
	if (!r)
		r = marks_of_vocab(m->v, MARKING_SEPARATORS, &m->separators, e);
	if (!r)
		r = marks_of_vocab(m->v, MARKING_ANCHORS, &m->anchors, e);
	if (r)
		return r;
	snprintf(m->info.path, sizeof(m->info.path), "%s", m->o.path);
	if (gguf_string(m->g, "general.name", &name, NULL) || name.len == 0)
		name = (struct gguf_str){ slash ? slash + 1 : m->o.path, strlen(slash ? slash + 1 : m->o.path) };
	copy_printable(name, m->info.name, sizeof(m->info.name));
	m->info.arch = m->info.kernels = m->info.cache_type = "none";
	memcpy(m->info.device, "none", sizeof("none"));
	m->info.turns = turns_name(m->turns);
	m->info.vocab = (int64_t)vocab_size(m->v);
	m->info.bytes = gguf_size(m->g);
	describe_tensors(m->g, &m->info);
	return 0;
}

/* A key that is absent makes the file damaged, not absent. */
static int as_damaged(int r, struct err *e)
{
	if (r != SINK_ENOENT)
		return r;
	if (e)
		e->code = SINK_EFORMAT;
	return SINK_EFORMAT;
}

static int open_shape(struct model *m, struct err *e)
{
	struct gguf_str name;
	int r = gguf_string(m->g, "general.architecture", &name, e);

	if (r)
		return as_damaged(r, e);
	m->arch = arch_find(name, e);
	if (!m->arch)
		return SINK_EFORMAT;
	r = shape_read(m->arch, m->g, &m->shape, e);
	if (r)
		return as_damaged(r, e);
	m->info.arch = m->arch->name;
	m->info.layers = m->shape.layers;
	m->info.width = m->shape.width;
	m->info.heads = (int64_t)m->shape.head.heads;
	m->info.kv_heads = (int64_t)m->shape.head.kv_heads;
	m->info.head_size = (int64_t)m->shape.head.head_size;
	m->info.ff = m->shape.ff;
	m->info.context = m->shape.context;
	return 0;
}

static int open_device(struct model *m, struct err *e)
{
	struct device_options o = {
		.threads = m->o.threads,
		.pin = m->o.pin,
		.max_rows = m->o.max_rows,
		.max_logits = m->o.max_logits,
		.precision = m->o.precision,
		.memory = m->o.gpu_memory,
		.invariant = m->o.invariant,
	};
	struct kernels_place place;
	int r = kernels_place(m->o.device ? m->o.device : "cpu", m->o.kernels ? m->o.kernels : "auto", &place, e);

	if (m->o.backend)
		place = (struct kernels_place){ .b = m->o.backend, .name = "test" };
	else if (r)
		return r;
	m->b = place.b;
	o.card = place.card;
	memcpy(m->info.device, place.name, sizeof(m->info.device));
	memcpy(m->info.device_note, place.note, sizeof(m->info.device_note));
	m->pages.layers = (size_t)m->shape.layers;
	m->pages.kv_heads = m->shape.head.kv_heads;
	m->pages.head_size = m->shape.head.head_size;
	r = page_type_find(m->o.cache_type ? m->o.cache_type : "auto", m->b->page_type, &m->pages.type, e);
	if (!r)
		r = page_shape_check(&m->pages, e);
	if (!r)
		r = m->b->open(&o, &m->d, e);
	if (r)
		return r;
	m->info.kernels = m->b->name;
	m->info.threads = m->o.threads;
	m->info.cache_type = dtype_find((uint32_t)m->pages.type)->name;
	m->info.token_bytes = page_bytes(&m->pages) / PAGE_TOKENS;
	return 0;
}

/* A model whose embedding serves as output matrix has it in memory once. */
static int open_embedding(struct model *m, struct err *e)
{
	const size_t vocab = (size_t)m->info.vocab, width = (size_t)m->shape.width;
	struct tensor t;
	const bool tied = gguf_tensor(m->g, "output.weight", &t, NULL) == SINK_ENOENT;
	int r = weights_matrix(&m->w, tied ? "token_embd.weight" : "output.weight", vocab, width, &m->output, e);

	m->info.matrix_elements = m->w.elements;
	m->info.matrix_bytes = m->w.bytes;
	if (!r && tied)
		m->embedding = m->output;
	else if (!r)
		r = weights_matrix(&m->w, "token_embd.weight", vocab, width, &m->embedding, e);
	return r;
}

static int open_weights(struct model *m, struct err *e)
{
	const size_t vocab = (size_t)m->info.vocab, width = (size_t)m->shape.width;
	struct tensor t;
	int r;

	if ((r = weights_init(&m->w, m->g, m->b, m->d, e)) ||
	    (r = weights_tensor(&m->w, "token_embd.weight", vocab, width, &t, e)) ||
	    (r = layers_load(&m->w, m->arch, &m->shape, &m->layers, e)) ||
	    (r = norm_load(&m->w, m->arch, "output_norm", width, &m->output_norm, e)) || (r = open_embedding(m, e)))
		return r;
	r = weights_all_used(&m->w, e);
	weights_release(&m->w);
	return r;
}

/* The description of a step's rows, here. */
static int open_batch(struct model *m, struct err *e)
{
	const size_t n = m->o.max_rows;
	struct batch *b = &m->batch;

	b->token = calloc(n, sizeof(*b->token));
	b->rows = calloc(n, sizeof(*b->rows));
	b->near = m->shape.window ? calloc(n, sizeof(*b->near)) : NULL;
	b->key_at = calloc(n, sizeof(*b->key_at));
	b->query_at = calloc(n, sizeof(*b->query_at));
	b->wants = calloc(n, sizeof(*b->wants));
	if (!b->token || !b->rows || (m->shape.window && !b->near) || !b->key_at || !b->query_at || !b->wants)
		return err_set(e, SINK_ENOMEM, "Out of memory for steps of %zu rows.", n);
	return 0;
}

/* What the layers get of all that. */
static void describe_pass(struct model *m)
{
	struct pass *p = &m->pass;

	p->arch = m->arch;
	p->shape = &m->shape;
	p->pages = &m->pages;
	p->rows[SIGHT_FULL] = m->batch.rows;
	p->rows[SIGHT_NEAR] = m->batch.near;
	for (int i = 0; i < SIGHTS; i++) {
		p->key_angles[i] = m->key_angles[i];
		p->query_angles[i] = m->query_angles[i];
	}
	p->slopes = m->slopes;
}

static int open_buffers(struct model *m, struct err *e)
{
	const struct shape *s = &m->shape;
	const size_t n = m->o.max_rows, width = (size_t)s->width, rotated = s->head.rotated;
	const size_t q = s->head.heads * s->head.head_size, kv = s->head.kv_heads * s->head.head_size;
	const struct {
		float **buffer;
		size_t floats;
		bool wanted;
	} list[] = {
		{ &m->pass.x, n * width, true },
		{ &m->last, m->o.max_logits * width, true },
		{ &m->pass.qkv, n * (q + 2 * kv), true },
		{ &m->pass.att, n * q, true },
		{ &m->pass.pair, n * (size_t)s->ff * (input_is_gate(m->arch->activation) ? 2 : 1), !s->experts },
		{ &m->pass.work, n * experts_work((size_t)s->experts, (size_t)s->used, width, (size_t)s->ff),
		  s->experts > 0 },
		{ &m->pass.branch, n * width, m->arch->post_norms },
		{ &m->key_angles[SIGHT_FULL], n * 2 * rotated, true },
		{ &m->query_angles[SIGHT_FULL], n * RUNS * rotated, true },
		{ &m->key_angles[SIGHT_NEAR], n * 2 * rotated, s->window > 0 },
		{ &m->query_angles[SIGHT_NEAR], n * RUNS * rotated, s->window > 0 },
		{ &m->slopes, s->head.heads, s->slopes != NULL },
	};
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].wanted)
			r = m->b->buffer_new(m->d, list[i].floats, list[i].buffer, e);
	if (!r)
		r = output_init(&m->out, m->b, m->d, m->o.max_logits, (size_t)m->info.vocab, e);
	if (!r)
		r = open_batch(m, e);
	if (r)
		return r;
	if (s->slopes)
		m->b->write(m->d, m->slopes, s->slopes, s->head.heads * sizeof(float));
	describe_pass(m);
	return 0;
}

/*
 * Caches that outlive the process lie in files: those of an earlier process, else new ones. A system that has no such
 * files has memory.
 */
static int make_arena(struct model *m, struct err *e)
{
	const struct arena_files none = { -1, -1 }, *from = &m->o.adopt;
	const size_t bytes = m->o.cache_bytes;
	int r;

	if (!m->o.outlives)
		return arena_new(m->b, m->d, &m->pages, bytes, &m->arena, e);
	model_fingerprint(m); /* before what was read of the file is given back */
	if (from->pages >= 0 || from->records >= 0) {
		r = arena_open(m->b, m->d, &m->pages, m->fingerprint, bytes, from, &m->arena, &m->refusal);
		if (!r)
			return 0;
	}
	r = arena_open(m->b, m->d, &m->pages, m->fingerprint, bytes, &none, &m->arena, NULL);
	if (r)
		r = arena_new(m->b, m->d, &m->pages, bytes, &m->arena, e);
	if (!r && from->pages >= 0)
		close(from->pages);
	if (!r && from->records >= 0)
		close(from->records);
	return r;
}

static int open_arena(struct model *m, struct err *e)
{
	int r = make_arena(m, e);

	if (!r && m->shape.original)
		arena_turn(m->arena, m->shape.original);
	return r;
}

/*
 * The stock is what a restore from the disk needs for one cache, so that it copies and does not wait for memory; of a
 * small arena an eighth.
 */
static size_t stock_of(const struct model *m)
{
	const size_t page = page_bytes(&m->pages), most = m->o.cache_bytes / 8;
	const size_t bytes = most < STOCK_BYTES ? most : STOCK_BYTES, pages = STOCK_TOKENS / PAGE_TOKENS;

	return bytes / page < pages ? bytes / page : pages;
}

/*
 * On a device apart pages get what weights and buffers leave, but for what operations may still ask for. What is free
 * changes a little from one process to the next; the caches of the last one shall find room all the same.
 */
static int fit_cache(struct model *m, struct err *e)
{
	const size_t page = page_bytes(&m->pages), asked = m->o.cache_bytes, said = strlen(m->note);
	size_t room = m->b->pages_room(m->d, ROOM_LEFT);
	struct stat left;

	if (m->o.outlives && fstat(m->o.adopt.pages, &left) == 0 && (size_t)left.st_size > room &&
	    (size_t)left.st_size <= m->b->pages_room(m->d, ROOM_LEFT / 2))
		room = (size_t)left.st_size;
	if (room >= asked)
		return 0;
	if (room / page < PAGES_LEAST)
		return err_set(e, SINK_ENOMEM,
			       "The device has no room for caches: beside weights and buffers %zu MiB are left, and %d "
			       "pages of %zu KiB are the least.",
			       room >> 20, PAGES_LEAST, page >> 10);
	m->o.cache_bytes = room;
	snprintf(m->note + said, sizeof(m->note) - said,
		 "%sThe device has room for %zu MiB of caches, %zu tokens; %zu MiB were asked for (option cache).",
		 said ? " " : "", room >> 20, room / page * PAGE_TOKENS, asked >> 20);
	return 0;
}

/*
 * Memory for caches is brought in while the weights are packed, which leaves a core idle now and then. On a device
 * apart the weights come first, since pages have what they leave.
 */
static int open_engine(struct model *m, struct timespec *since, struct err *e)
{
	int r;

	if ((r = open_shape(m, e)) || (r = open_device(m, e)) || (!m->b->apart && (r = open_arena(m, e))))
		return r;
	phase_ends(m, MODEL_DEVICE, since);
	if (m->arena)
		arena_warm(m->arena, stock_of(m));
	r = open_weights(m, e);
	phase_ends(m, MODEL_WEIGHTS, since);
	if (!r)
		r = open_buffers(m, e);
	if (!r && !m->arena)
		r = fit_cache(m, e);
	if (!r && !m->arena && (r = open_arena(m, e)) == 0)
		arena_warm(m->arena, stock_of(m));
	if (m->arena)
		arena_warm_end(m->arena);
	phase_ends(m, MODEL_BUFFERS, since);
	return r;
}

static int open_once(const struct model_options *o, struct model **ret, struct err *e)
{
	struct timespec since;
	struct model *m;
	int r;

	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, SINK_ENOMEM, "Out of memory for the model.");
	m->o = *o;
	clock_gettime(CLOCK_MONOTONIC, &since);
	r = open_file(m, e);
	phase_ends(m, MODEL_FILE, &since);
	if (!r && !o->vocabulary_only)
		r = open_engine(m, &since, e);
	if (r) {
		model_close(m);
		return r;
	}
	m->o.path = m->info.path;
	*ret = m;
	return 0;
}

/* Whether another place may do: the card was not asked for by name, and it is what failed. */
static bool may_fall_back(const struct model_options *o, int r)
{
	struct kernels_place place;

	return (r == SINK_ENOMEM || r == SINK_EDEVICE) && o->device && strcmp(o->device, "auto") == 0 &&
	       kernels_place(o->device, o->kernels ? o->kernels : "auto", &place, NULL) == 0 && place.b->apart;
}

int model_open(const struct model_options *o, struct model **ret, struct err *e)
{
	struct model_options checked = *o;
	struct err why;
	int r = check_options(&checked, e);

	if (r)
		return r;
	r = open_once(&checked, ret, &why);
	if (r && may_fall_back(&checked, r)) {
		checked.device = "cpu";
		r = open_once(&checked, ret, e);
		if (!r)
			snprintf((*ret)->info.device_note, sizeof((*ret)->info.device_note), "%s", why.text);
		return r;
	}
	return r ? err_set(e, r, "%s", why.text) : 0;
}

static void close_device(struct model *m)
{
	float *const buffers[] = {
		m->pass.x,	    m->last,	  m->pass.qkv,	    m->pass.att,	 m->pass.pair,
		m->pass.branch,	    m->pass.work, m->key_angles[0], m->key_angles[1],	 m->query_angles[0],
		m->query_angles[1], m->slopes,	  m->output_norm.w, m->output_norm.shift
	};

	arena_free(m->arena);
	m->b->weight_free(m->d, m->embedding == m->output ? NULL : m->embedding);
	m->b->weight_free(m->d, m->output);
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		m->b->buffer_free(m->d, buffers[i]);
	output_free(&m->out);
	layers_unload(&m->w, &m->shape, m->layers);
	m->b->close(m->d);
}

void model_close(struct model *m)
{
	if (!m)
		return;
	if (m->d)
		close_device(m);
	weights_release(&m->w);
	free(m->batch.token);
	free(m->batch.rows);
	free(m->batch.near);
	free(m->batch.key_at);
	free(m->batch.query_at);
	free(m->batch.wants);
	shape_release(&m->shape);
	tokens_release(&m->separators);
	tokens_release(&m->anchors);
	trie_free(m->trie);
	turns_free(m->turns);
	vocab_free(m->v);
	gguf_close(m->g);
	free(m);
}

const struct model_info *model_info(const struct model *m)
{
	return &m->info;
}

uint64_t model_fingerprint(struct model *m)
{
	if (!m->fingerprint)
		m->fingerprint = gguf_fingerprint(m->g);
	return m->fingerprint;
}

const struct gguf *model_file(const struct model *m)
{
	return m->g;
}

const struct vocab *model_vocab(const struct model *m)
{
	return m->v;
}

const struct trie *model_trie(const struct model *m)
{
	return m->trie;
}

const struct turns *model_turns(const struct model *m)
{
	return m->turns;
}

const char *model_note(const struct model *m)
{
	return m->note;
}

struct arena *model_arena(struct model *m)
{
	return m->arena;
}

const char *model_refusal(const struct model *m)
{
	return m->refusal.text;
}

const struct tokens *model_marks(const struct model *m, enum marking kind)
{
	static const struct tokens none = { 0 };

	return kind == MARKING_SEPARATORS ? &m->separators : kind == MARKING_ANCHORS ? &m->anchors : &none;
}
