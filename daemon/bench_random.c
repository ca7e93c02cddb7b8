/*
 * The verb make-random: a model of a real one's shape whose weights are drawn, for speed where no file is at hand. They
 * are normal with a deviation of 1 / sqrt(columns), so that a product is as large as its input; norms are 1. The
 * vocabulary has the real one's size: all bytes, and fillers that no text is read as.
 *
 * Numbers are drawn once, a table for each width, and a matrix is pieces of it from places that are drawn: so a file is
 * written about as fast as the system takes it. The same arguments give the same bytes.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TABLE = 1 << 21,	/* elements of a table */
	PIECE = 1 << 12,	/* and of a piece of it: a row of a large model */
	BUFFER_BYTES = 1 << 22, /* that are written at once */
	ALIGN = 32,		/* of a tensor in the file */
	TENSORS_A_LAYER = 9,
	BLOCK_MOST = 32,
};

struct form {
	const char *name;
	int64_t layers, width, heads, kv_heads, ff, context, vocab;
	float rope_base;
	bool tied; /* the embedding serves as output matrix */
};

static const struct form forms[] = {
	{ "llama2-7b", 32, 4096, 32, 32, 11008, 4096, 32000, 10000, false },
	{ "llama3-8b", 32, 4096, 32, 8, 14336, 8192, 128256, 500000, false },
	{ "smollm2-135m", 30, 576, 9, 3, 1536, 8192, 49152, 100000, true },
};

/* The f16 nearest to a number of ordinary size; 0 for smaller ones. */
static void put_half(uint8_t *to, float f)
{
	uint32_t bits, abs;
	uint16_t h;

	memcpy(&bits, &f, sizeof(bits));
	abs = bits & 0x7fffffff;
	h = abs < 0x38800000 ? 0 : (uint16_t)((abs - 0x38000000 + 0xfff + (abs >> 13 & 1)) >> 13);
	h |= (uint16_t)(bits >> 16 & 0x8000);
	memcpy(to, &h, sizeof(h));
}

static void put_f16(const float *x, uint8_t *to)
{
	put_half(to, *x);
}

static float largest(const float *x)
{
	float most = 0;

	for (int i = 0; i < BLOCK_MOST; i++)
		most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
	return most;
}

static void put_q8_0(const float *x, uint8_t *to)
{
	const float d = fabsf(largest(x)) / 127;

	put_half(to, d);
	for (int i = 0; i < BLOCK_MOST; i++)
		to[2 + i] = (uint8_t)(int8_t)lrintf(x[i] / d);
}

/* The largest of the block becomes -8 of its scale. */
static void put_q4_0(const float *x, uint8_t *to)
{
	const float d = largest(x) / -8;

	put_half(to, d);
	for (int i = 0; i < BLOCK_MOST / 2; i++) {
		const long low = lrintf(x[i] / d) + 8, high = lrintf(x[i + BLOCK_MOST / 2] / d) + 8;

		to[2 + i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
	}
}

struct kind {
	const char *name;
	enum dtype type;
	void (*put)(const float *x, uint8_t *to); /* a block */
};

static const struct kind kinds[] = {
	{ "f16", DTYPE_F16, put_f16 },
	{ "q8_0", DTYPE_Q8_0, put_q8_0 },
	{ "q4_0", DTYPE_Q4_0, put_q4_0 },
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]), KINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct tensor_made {
	char name[40];
	uint64_t cols, rows; /* no rows: a norm */
	uint64_t offset, bytes;
};

/* The keys and the descriptions of tensors, before their data. */
struct header {
	char *at;
	size_t size, room;
	uint64_t keys;
	bool failed; /* there was no memory */
};

struct maker {
	const struct form *form;
	const struct kind *kind;
	const struct dtype_info *info;
	int64_t layers;
	struct header keys, list;
	struct tensor_made *tensor;
	size_t tensors;
	uint64_t bytes, parameters, state;
	float *normal; /* [TABLE] */
	uint8_t *buffer;
	uint8_t *table[2]; /* for matrices of the model's width, and of its feed-forward part's */
};

static void put(struct header *h, const void *from, size_t size)
{
	if (h->room - h->size < size && !h->failed) {
		const size_t room = (h->size + size) * 2;
		char *more = realloc(h->at, room);

		h->failed = !more;
		h->at = more ? more : h->at;
		h->room = more ? room : h->room;
	}
	if (h->failed)
		return;
	memcpy(h->at + h->size, from, size);
	h->size += size;
}

static void put_u32(struct header *h, uint32_t n)
{
	put(h, &n, sizeof(n));
}

static void put_u64(struct header *h, uint64_t n)
{
	put(h, &n, sizeof(n));
}

static void put_text(struct header *h, const char *text)
{
	put_u64(h, strlen(text));
	put(h, text, strlen(text));
}

/* The types of a value, by their numbers in the file. */
enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

static void put_key(struct header *h, const char *name, uint32_t type)
{
	put_text(h, name);
	put_u32(h, type);
	h->keys++;
}

static void put_number(struct header *h, const char *name, int64_t n)
{
	put_key(h, name, GGUF_U32);
	put_u32(h, (uint32_t)n);
}

static void put_float(struct header *h, const char *name, float f)
{
	put_key(h, name, GGUF_F32);
	put(h, &f, sizeof(f));
}

static void put_string(struct header *h, const char *name, const char *text)
{
	put_key(h, name, GGUF_STRING);
	put_text(h, text);
}

static void put_array(struct header *h, const char *name, uint32_t type, int64_t count)
{
	put_key(h, name, GGUF_ARRAY);
	put_u32(h, type);
	put_u64(h, (uint64_t)count);
}

static void put_shape(struct header *h, const struct form *f, int64_t layers)
{
	char name[64];

	snprintf(name, sizeof(name), "random %s", f->name);
	put_string(h, "general.architecture", "llama");
	put_string(h, "general.name", name);
	put_number(h, "llama.block_count", layers);
	put_number(h, "llama.context_length", f->context);
	put_number(h, "llama.embedding_length", f->width);
	put_number(h, "llama.feed_forward_length", f->ff);
	put_number(h, "llama.attention.head_count", f->heads);
	put_number(h, "llama.attention.head_count_kv", f->kv_heads);
	put_number(h, "llama.rope.dimension_count", f->width / f->heads);
	put_float(h, "llama.rope.freq_base", f->rope_base);
	put_float(h, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
}

static const char *const control[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };

enum { CONTROL = 3, BYTES = 256, TYPE_NORMAL = 1, TYPE_CONTROL = 3 };

/* The character that stands for a byte in byte-level BPE: printable ones for themselves, others from 256 on. */
static void byte_character(int byte, int *unprintable, char text[3])
{
	const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
	const int c = printable ? byte : 256 + (*unprintable)++;

	text[0] = (char)(c < 128 ? c : 0xc0 | c >> 6);
	text[1] = (char)(c < 128 ? '\0' : 0x80 | (c & 0x3f));
	text[2] = '\0';
}

static void put_tokens(struct header *h, int64_t vocab)
{
	int unprintable = 0;

	put_array(h, "tokenizer.ggml.tokens", GGUF_STRING, vocab);
	for (int64_t i = 0; i < vocab; i++) {
		char text[32];

		if (i < CONTROL)
			snprintf(text, sizeof(text), "%s", control[i]);
		else if (i < CONTROL + BYTES)
			byte_character((int)i - CONTROL, &unprintable, text);
		else
			snprintf(text, sizeof(text), "[%lld]", (long long)i);
		put_text(h, text);
	}
	put_array(h, "tokenizer.ggml.token_type", GGUF_I32, vocab);
	for (int64_t i = 0; i < vocab; i++)
		put_u32(h, i < CONTROL ? TYPE_CONTROL : TYPE_NORMAL);
}

static void put_vocabulary(struct header *h, int64_t vocab)
{
	put_string(h, "tokenizer.ggml.model", "gpt2");
	put_string(h, "tokenizer.ggml.pre", "smollm");
	put_tokens(h, vocab);
	put_array(h, "tokenizer.ggml.merges", GGUF_STRING, 0);
	put_number(h, "tokenizer.ggml.bos_token_id", 1);
	put_number(h, "tokenizer.ggml.eos_token_id", 2);
	put_key(h, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
	put(h, "\0", 1);
}

/* Describes a tensor, whose data follows that of those before it. */
static void add(struct maker *k, const char *name, int64_t cols, int64_t rows)
{
	struct tensor_made *t = &k->tensor[k->tensors++];

	snprintf(t->name, sizeof(t->name), "%s.weight", name);
	t->cols = (uint64_t)cols;
	t->rows = (uint64_t)rows;
	t->offset = k->bytes;
	t->bytes = rows ? t->rows * t->cols / k->info->block * k->info->bytes : t->cols * sizeof(float);
	k->bytes += (t->bytes + ALIGN - 1) / ALIGN * ALIGN;
	k->parameters += t->cols * (rows ? t->rows : 1);
	put_text(&k->list, t->name);
	put_u32(&k->list, rows ? 2 : 1);
	put_u64(&k->list, t->cols);
	if (rows)
		put_u64(&k->list, t->rows);
	put_u32(&k->list, rows ? (uint32_t)k->info->type : DTYPE_F32);
	put_u64(&k->list, t->offset);
}

static void add_layer(struct maker *k, int64_t layer)
{
	const struct form *f = k->form;
	const int64_t kv = f->width / f->heads * f->kv_heads;
	const struct {
		const char *name;
		int64_t cols, rows;
	} parts[TENSORS_A_LAYER] = {
		{ "attn_norm", f->width, 0 },	 { "attn_q", f->width, f->width },	{ "attn_k", f->width, kv },
		{ "attn_v", f->width, kv },	 { "attn_output", f->width, f->width }, { "ffn_norm", f->width, 0 },
		{ "ffn_gate", f->width, f->ff }, { "ffn_up", f->width, f->ff },		{ "ffn_down", f->ff, f->width },
	};

	for (int i = 0; i < TENSORS_A_LAYER; i++) {
		char name[32];

		snprintf(name, sizeof(name), "blk.%d.%s", (int)layer, parts[i].name);
		add(k, name, parts[i].cols, parts[i].rows);
	}
}

static void add_all(struct maker *k)
{
	const struct form *f = k->form;

	add(k, "token_embd", f->width, f->vocab);
	for (int64_t i = 0; i < k->layers; i++)
		add_layer(k, i);
	add(k, "output_norm", f->width, 0);
	if (!f->tied)
		add(k, "output", f->width, f->vocab);
}

/* SplitMix64. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

/* Normal numbers, by Box and Muller. */
static void draw_normal(struct maker *k)
{
	for (size_t i = 0; i < TABLE; i += 2) {
		const double u = (double)((draw(&k->state) >> 11) + 1) / 9007199254740992.0;
		const double turn = (double)(draw(&k->state) >> 11) / 9007199254740992.0 * 2 * 3.14159265358979323846;
		const double r = sqrt(-2 * log(u));

		k->normal[i] = (float)(r * cos(turn));
		k->normal[i + 1] = (float)(r * sin(turn));
	}
}

static int make_table(struct maker *k, int which, int64_t cols, struct err *e)
{
	const size_t block = k->info->block;
	const float scale = 1 / sqrtf((float)cols);

	k->table[which] = malloc(TABLE / block * k->info->bytes);
	if (!k->table[which])
		return err_set(e, SINK_ENOMEM, "There is no memory for the numbers of a model.");
	for (size_t i = 0; i < TABLE / block; i++) {
		float x[BLOCK_MOST];

		for (size_t j = 0; j < block; j++)
			x[j] = k->normal[i * block + j] * scale;
		k->kind->put(x, k->table[which] + i * k->info->bytes);
	}
	return 0;
}

/* Fills the buffer with pieces of a table, from drawn places. */
static void fill(struct maker *k, const uint8_t *table, size_t bytes)
{
	const size_t piece = PIECE / k->info->block * k->info->bytes;
	const uint64_t places = (TABLE - PIECE) / k->info->block;

	for (size_t at = 0; at < bytes; at += piece)
		memcpy(k->buffer + at, table + draw(&k->state) % places * k->info->bytes,
		       bytes - at < piece ? bytes - at : piece);
}

static bool write_padding(FILE *f, uint64_t bytes)
{
	static const char zeros[ALIGN];
	const size_t n = (size_t)((ALIGN - bytes % ALIGN) % ALIGN);

	return fwrite(zeros, 1, n, f) == n;
}

static bool write_tensor(struct maker *k, const struct tensor_made *t, FILE *f)
{
	const uint8_t *table = k->table[t->cols != (uint64_t)k->form->width];
	const size_t most = BUFFER_BYTES / k->info->bytes * k->info->bytes;
	const float one = 1;
	bool well = true;

	for (uint64_t i = 0; well && !t->rows && i < t->cols; i++)
		well = fwrite(&one, sizeof(one), 1, f) == 1;
	for (uint64_t at = 0; well && t->rows && at < t->bytes; at += most) {
		const size_t n = t->bytes - at < most ? (size_t)(t->bytes - at) : most;

		fill(k, table, n);
		well = fwrite(k->buffer, 1, n, f) == n;
	}
	return well && write_padding(f, t->bytes);
}

static bool write_all(struct maker *k, FILE *f)
{
	const uint32_t version = 3;
	const uint64_t tensors = k->tensors;
	const uint64_t bytes = 4 + sizeof(version) + 2 * sizeof(tensors) + k->keys.size + k->list.size;
	bool well = fwrite("GGUF", 1, 4, f) == 4 && fwrite(&version, sizeof(version), 1, f) == 1 &&
		    fwrite(&tensors, sizeof(tensors), 1, f) == 1 &&
		    fwrite(&k->keys.keys, sizeof(k->keys.keys), 1, f) == 1 &&
		    fwrite(k->keys.at, 1, k->keys.size, f) == k->keys.size &&
		    fwrite(k->list.at, 1, k->list.size, f) == k->list.size && write_padding(f, bytes);

	for (size_t i = 0; well && i < k->tensors; i++)
		well = write_tensor(k, &k->tensor[i], f);
	return well;
}

/* Half a file is taken away; what is no file, such as a device, stays. */
static int write_file(struct maker *k, const char *path, struct err *e)
{
	FILE *f = fopen(path, "wb");
	bool well = f && write_all(k, f);
	int why = errno;
	struct stat s;

	if (f && fclose(f) != 0) {
		why = well ? errno : why;
		well = false;
	}
	if (well)
		return 0;
	if (f && lstat(path, &s) == 0 && S_ISREG(s.st_mode))
		remove(path);
	return err_set(e, SINK_EIO, "%s cannot be written: %s.", path, strerror(why));
}

static int prepare(struct maker *k, struct err *e)
{
	int r = 0;

	k->tensor = calloc((size_t)k->layers * TENSORS_A_LAYER + 3, sizeof(*k->tensor));
	k->normal = calloc(TABLE, sizeof(*k->normal));
	k->buffer = malloc(BUFFER_BYTES);
	if (k->tensor && k->normal && k->buffer) {
		put_shape(&k->keys, k->form, k->layers);
		put_vocabulary(&k->keys, k->form->vocab);
		add_all(k);
	}
	if (!k->tensor || !k->normal || !k->buffer || k->keys.failed || k->list.failed)
		return err_set(e, SINK_ENOMEM, "There is no memory to describe a model.");
	draw_normal(k);
	r = make_table(k, 0, k->form->width, e);
	return r ? r : make_table(k, 1, k->form->ff, e);
}

static void release(struct maker *k)
{
	free(k->tensor);
	free(k->normal);
	free(k->buffer);
	free(k->table[0]);
	free(k->table[1]);
	free(k->keys.at);
	free(k->list.at);
}

static const struct form *find_form(const char *name)
{
	for (size_t i = 0; i < FORMS; i++)
		if (strcmp(forms[i].name, name) == 0)
			return &forms[i];
	return NULL;
}

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < KINDS; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

int bench_check_random(const struct bench *o, struct err *e)
{
	if (!o->out)
		return err_set(e, SINK_EINVAL, "--out is needed.");
	if (!o->shape || !find_form(o->shape))
		return err_set(e, SINK_EINVAL, "--shape takes llama2-7b, llama3-8b or smollm2-135m%s%s%s.",
			       o->shape ? ", not \"" : "", o->shape ? o->shape : "", o->shape ? "\"" : "");
	if (!find_kind(o->type))
		return err_set(e, SINK_EINVAL, "--type takes f16, q8_0 or q4_0, not \"%s\".", o->type);
	return 0;
}

int bench_make_random(const struct bench *o, struct err *e)
{
	const double begin = bench_seconds();
	struct maker k = { .form = find_form(o->shape), .kind = find_kind(o->type), .state = (uint64_t)o->seed };
	struct report report;
	int r;

	k.info = dtype_find(k.kind->type);
	k.layers = o->layers ? o->layers : k.form->layers;
	r = prepare(&k, e);
	if (!r)
		r = write_file(&k, o->out, e);
	if (!r) {
		report_begin(&report, o->json);
		report_text(&report, "shape", k.form->name);
		report_text(&report, "type", k.kind->name);
		report_count(&report, "layers", k.layers);
		report_count(&report, "parameters", (int64_t)k.parameters);
		report_count(&report, "tensor_bytes", (int64_t)k.bytes);
		report_number(&report, "seconds", 1, bench_seconds() - begin);
		report_end(&report);
	}
	release(&k);
	return r;
}
