/*
 * The vocabulary. Token texts are decoded once, when it is made: byte-level BPE writes each byte as a printable
 * character, and after the decoding nothing here knows of that alphabet any more. Ids are found by bytes in one hash
 * table with two kinds of entries: marks (control and user-defined tokens, whose text is literal) and plain tokens. A
 * plain token that happens to read like a mark is therefore never taken for it, nor the reverse.
 */
#include "token.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bpe.h"
#include "pretoken.h"
#include "utf8.h"

/* The types of a token, by their numbers in the file. */
enum { TYPE_UNDEFINED, TYPE_NORMAL, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE, TYPES };

enum {
	TOKEN_BYTES_MOST = 1 << 16, /* the longest token in use has about 500 */
	MARK_BYTES_MOST = 128,	    /* of a mark that is looked for in texts */
};

enum { CONTROL = 1, USER_DEFINED = 2, END = 4, MARK = CONTROL | USER_DEFINED };

struct entry {
	const char *at;
	uint32_t len;
	uint32_t flags;
};

struct vocab {
	struct entry *entry; /* by id */
	size_t size;
	char *bytes;   /* the decoded texts */
	int32_t *slot; /* hash table of ids + 1; 0: free */
	size_t mask;
	struct bpe *bpe;
	struct pretoken *pretoken;
	int32_t byte[256]; /* the token of each single byte, or -1 */
	int32_t bos, eos;
	bool adds_bos;
	uint8_t begins[256];		      /* the kinds of marks that begin with this byte */
	uint8_t has_len[MARK_BYTES_MOST + 1]; /* the kinds of marks that have this length */
};

/* Texts that end an answer in models whose file names no such token, or another one. */
static const char *const end_texts[] = { "<|im_end|>", "<|eot_id|>",	"<|endoftext|>",  "<|end|>",
					 "</s>",       "<end_of_turn>", "<|end_of_text|>" };

static bool is_end_text(const char *at, size_t len)
{
	for (size_t i = 0; i < sizeof(end_texts) / sizeof(end_texts[0]); i++)
		if (strlen(end_texts[i]) == len && memcmp(end_texts[i], at, len) == 0)
			return true;
	return false;
}

/* ---- lists of ids ---- */

int tokens_reserve(struct tokens *t, size_t count, struct err *e)
{
	size_t room = t->count + count < 64 ? 64 : (t->count + count) / 2 * 3;
	int32_t *more;

	if (t->room - t->count >= count)
		return 0;
	more = realloc(t->id, room * sizeof(*more));
	if (!more)
		return err_set(e, SINK_ENOMEM, "There is no memory for a list of %zu tokens.", room);
	t->id = more;
	t->room = room;
	return 0;
}

int tokens_append(struct tokens *t, const int32_t *id, size_t count, struct err *e)
{
	int rc = tokens_reserve(t, count, e);

	if (rc < 0)
		return rc;
	if (count)
		memcpy(t->id + t->count, id, count * sizeof(*id));
	t->count += count;
	return 0;
}

int tokens_add(struct tokens *t, int32_t id, struct err *e)
{
	return tokens_append(t, &id, 1, e);
}

void tokens_release(struct tokens *t)
{
	free(t->id);
	*t = (struct tokens){ 0 };
}

/* ---- finding a token by its bytes ---- */

/* The slot of the token with these bytes, a mark or a plain one, or the slot where it would go. */
static int32_t *find(const struct vocab *v, const char *at, size_t len, bool mark)
{
	size_t i = (size_t)XXH3_64bits_withSeed(at, len, mark) & v->mask;

	for (; v->slot[i]; i = (i + 1) & v->mask) {
		const struct entry *t = &v->entry[v->slot[i] - 1];

		if (t->len == len && mark == !!(t->flags & MARK) && memcmp(t->at, at, len) == 0)
			break;
	}
	return &v->slot[i];
}

static int32_t lookup(const struct vocab *v, const char *at, size_t len, bool mark)
{
	return *find(v, at, len, mark) - 1;
}

int32_t vocab_find(const struct vocab *v, const char *text)
{
	size_t len = strlen(text);
	int32_t id = lookup(v, text, len, true);

	return id >= 0 ? id : lookup(v, text, len, false);
}

/* ---- the alphabet of byte-level BPE ---- */

/* The byte that a character stands for, or -1: printable ones for themselves, U+0100 and up for the rest in order. */
static int byte_of(uint32_t code)
{
	static const uint8_t gaps[][2] = { { 0x00, 0x20 }, { 0x7f, 0xa0 }, { 0xad, 0xad } };
	uint32_t rest = code - 256;

	for (size_t i = 0; i < sizeof(gaps) / sizeof(gaps[0]); i++) {
		uint32_t count = gaps[i][1] - gaps[i][0] + 1U;

		if (code >= gaps[i][0] && code <= gaps[i][1])
			return -1;
		if (code >= 256 && rest < count)
			return (int)(gaps[i][0] + rest);
		rest -= count;
	}
	return code < 256 ? (int)code : -1;
}

/* Decodes a text to bytes; what is not of the alphabet stays as it is. Returns the count, at most text.len. */
static size_t decode(struct gguf_str text, char *to)
{
	size_t n = 0;

	for (size_t at = 0; at < text.len;) {
		int bytes = utf8_character(text.at + at, text.len - at);
		int byte = bytes > 0 ? byte_of(utf8_code(text.at + at, bytes)) : -1;

		bytes = bytes > 0 ? bytes : 1;
		if (byte >= 0) {
			to[n++] = (char)byte;
		} else {
			memcpy(to + n, text.at + at, (size_t)bytes);
			n += (size_t)bytes;
		}
		at += (size_t)bytes;
	}
	return n;
}

/* ---- reading the file ---- */

static const char *const tokens_key = "tokenizer.ggml.tokens";
static const char *const types_key = "tokenizer.ggml.token_type";
static const char *const merges_key = "tokenizer.ggml.merges";

static int required_string(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *e)
{
	if (!gguf_has(g, key))
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is missing.", key);
	return gguf_string(g, key, ret, e);
}

static int read_pretoken(struct vocab *v, const struct gguf *g, struct err *e)
{
	struct gguf_str model, name;
	struct err cause;
	char shown[GGUF_SHOWN];
	int code = required_string(g, "tokenizer.ggml.model", &model, e);

	if (code)
		return code;
	if (model.len != 4 || memcmp(model.at, "gpt2", 4) != 0)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"tokenizer.ggml.model\" is \"%s\"; byte-level BPE (\"gpt2\") is supported.",
				 gguf_shown(model, shown));
	code = required_string(g, "tokenizer.ggml.pre", &name, e);
	if (code)
		return code;
	code = pretoken_new(name, &v->pretoken, &cause);
	if (code)
		return gguf_fail(g, e, code == SINK_EINVAL ? SINK_EFORMAT : code, "key \"tokenizer.ggml.pre\": %s",
				 cause.text);
	return gguf_bool_or(g, "tokenizer.ggml.add_bos_token", pretoken_adds_bos(v->pretoken), &v->adds_bos, e);
}

/* Takes memory for the tokens; their texts are as the file has them, until place_tokens(). */
static int read_texts(struct vocab *v, const struct gguf *g, struct err *e)
{
	int64_t count = gguf_strings(g, tokens_key);
	size_t bytes = 0, slots = 2;

	if (count < 1 || count > INT32_MAX)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is missing, empty, or no list of texts.", tokens_key);
	v->size = (size_t)count;
	while (slots < 2 * v->size)
		slots *= 2;
	v->mask = slots - 1;
	v->entry = calloc(v->size, sizeof(*v->entry));
	v->slot = calloc(slots, sizeof(*v->slot));
	if (!v->entry || !v->slot)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory for its %zu tokens.", v->size);
	for (size_t i = 0; i < v->size; i++) {
		struct gguf_str text = gguf_string_at(g, tokens_key, i);

		if (text.len > TOKEN_BYTES_MOST)
			return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\": token %zu has %zu bytes; %d are possible.",
					 tokens_key, i, text.len, TOKEN_BYTES_MOST);
		v->entry[i].at = text.at;
		v->entry[i].len = (uint32_t)text.len;
		bytes += text.len;
	}
	v->bytes = malloc(bytes ? bytes : 1);
	return v->bytes ? 0 : gguf_fail(g, e, SINK_ENOMEM, "no memory for the texts of its tokens.");
}

/*
 * Some files call the marks of turns "user-defined", which would let a message contain them: what looks like a mark is
 * a control token.
 */
static bool looks_like_mark(const struct entry *t)
{
	return is_end_text(t->at, t->len) ||
	       (t->len > 4 && memcmp(t->at, "<|", 2) == 0 && memcmp(t->at + t->len - 2, "|>", 2) == 0);
}

static int read_types(struct vocab *v, const struct gguf *g, struct err *e)
{
	int64_t count = gguf_numbers(g, types_key);

	if (count < 0 && gguf_has(g, types_key))
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is no list of numbers.", types_key);
	if (count >= 0 && (size_t)count != v->size)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" has %" PRId64 " elements for %zu tokens.", types_key,
				 count, v->size);
	for (size_t i = 0; i < v->size; i++) {
		struct entry *t = &v->entry[i];
		double type = count < 0 ? TYPE_UNDEFINED : gguf_number_at(g, types_key, i);

		if (!(type >= 0 && type < TYPES))
			return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\": element %zu is %g; 0 to %d are possible.",
					 types_key, i, type, TYPES - 1);
		switch ((int)type) {
		case TYPE_UNKNOWN:
		case TYPE_CONTROL:
			t->flags = CONTROL;
			break;
		case TYPE_USER_DEFINED:
			t->flags = looks_like_mark(t) ? CONTROL : USER_DEFINED;
			break;
		case TYPE_UNDEFINED:
			t->flags = is_end_text(t->at, t->len) ? CONTROL : 0;
			break;
		default: /* normal, unused; the byte tokens of other kinds of tokenizers are plain text here */
			break;
		}
		if (t->flags == CONTROL && is_end_text(t->at, t->len))
			t->flags |= END;
	}
	return 0;
}

/* The token that a key names, or -1 when it is absent. Whatever type it has, it never stands for text. */
static int read_id(struct vocab *v, const struct gguf *g, const char *key, uint32_t flags, int32_t *ret, struct err *e)
{
	int64_t id;
	int code = gguf_int_or(g, key, 0, (int64_t)v->size - 1, -1, &id, e);

	if (code)
		return code;
	*ret = (int32_t)id;
	if (id >= 0)
		v->entry[id].flags = (v->entry[id].flags & ~(uint32_t)USER_DEFINED) | CONTROL | flags;
	return 0;
}

static int read_ids(struct vocab *v, const struct gguf *g, struct err *e)
{
	int32_t ignored;
	int code = read_id(v, g, "tokenizer.ggml.bos_token_id", 0, &v->bos, e);

	if (!code)
		code = read_id(v, g, "tokenizer.ggml.eos_token_id", END, &v->eos, e);
	if (!code)
		code = read_id(v, g, "tokenizer.ggml.eot_token_id", END, &ignored, e);
	if (!code)
		code = read_id(v, g, "tokenizer.ggml.eom_token_id", END, &ignored, e);
	return code;
}

/* Decodes the plain tokens, and enters all in the tables. Of tokens with equal bytes the first is found. */
static void place_tokens(struct vocab *v)
{
	char *free_bytes = v->bytes;

	for (size_t i = 0; i < v->size; i++) {
		struct entry *t = &v->entry[i];
		int32_t *slot;

		if (t->flags & MARK) {
			size_t len = t->len <= MARK_BYTES_MOST ? t->len : 0;

			v->has_len[len] |= t->flags & MARK;
			if (len)
				v->begins[(uint8_t)t->at[0]] |= t->flags & MARK;
		} else {
			t->len = (uint32_t)decode((struct gguf_str){ t->at, t->len }, free_bytes);
			t->at = free_bytes;
			free_bytes += t->len;
		}
		slot = find(v, t->at, t->len, t->flags & MARK);
		if (!*slot)
			*slot = (int32_t)i + 1;
	}
	for (int b = 0; b < 256; b++)
		v->byte[b] = lookup(v, (const char[]){ (char)b }, 1, false);
}

static int bad_merge(const struct gguf *g, size_t i, const char *what, struct err *e)
{
	char shown[GGUF_SHOWN];

	return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\": merge %zu, \"%s\", %s.", merges_key, i,
			 gguf_shown(gguf_string_at(g, merges_key, i), shown), what);
}

/* Adds merge i, "left right" in the file's alphabet. `buffer` holds 2 * TOKEN_BYTES_MOST bytes. */
static int read_merge(struct vocab *v, const struct gguf *g, size_t i, char *buffer, struct err *e)
{
	struct gguf_str text = gguf_string_at(g, merges_key, i);
	const char *gap = text.len > 2 ? memchr(text.at + 1, ' ', text.len - 2) : NULL;
	size_t first, second;
	int32_t left, right, joined;

	if (!gap || text.len > 2 * TOKEN_BYTES_MOST)
		return bad_merge(g, i, "is not two texts with a space between them", e);
	first = decode((struct gguf_str){ text.at, (size_t)(gap - text.at) }, buffer);
	second = decode((struct gguf_str){ gap + 1, (size_t)(text.at + text.len - gap - 1) }, buffer + first);
	left = lookup(v, buffer, first, false);
	right = lookup(v, buffer + first, second, false);
	joined = lookup(v, buffer, first + second, false);
	if (left < 0 || right < 0 || joined < 0)
		return bad_merge(g, i, "names texts that are no tokens", e);
	bpe_add(v->bpe, left, right, joined);
	return 0;
}

static int read_merges(struct vocab *v, const struct gguf *g, struct err *e)
{
	int64_t count = gguf_strings(g, merges_key);
	char *buffer;
	int code;

	if (count < 0)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is missing or no list of texts.", merges_key);
	code = bpe_new((size_t)count, &v->bpe, e);
	if (code)
		return code;
	buffer = malloc(2 * TOKEN_BYTES_MOST);
	if (!buffer)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory to read its merges.");
	for (int64_t i = 0; !code && i < count; i++)
		code = read_merge(v, g, (size_t)i, buffer, e);
	free(buffer);
	return code;
}

int vocab_new(const struct gguf *g, struct vocab **ret, struct err *e)
{
	struct vocab *v = calloc(1, sizeof(*v));
	int code;

	if (!v)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a vocabulary.");
	code = read_pretoken(v, g, e);
	if (!code)
		code = read_texts(v, g, e);
	if (!code)
		code = read_types(v, g, e);
	if (!code)
		code = read_ids(v, g, e);
	if (!code) {
		place_tokens(v);
		code = read_merges(v, g, e);
	}
	if (code) {
		vocab_free(v);
		return code;
	}
	*ret = v;
	return 0;
}

void vocab_free(struct vocab *v)
{
	if (!v)
		return;
	bpe_free(v->bpe);
	pretoken_free(v->pretoken);
	free(v->entry);
	free(v->bytes);
	free(v->slot);
	free(v);
}

/* ---- encoding ---- */

/* What one call of vocab_encode() needs. */
struct encoder {
	const struct vocab *v;
	struct tokens *out;
	struct tokens piece; /* used again by each piece */
	struct bpe_scratch scratch;
};

static int encode_piece(void *arg, const char *at, size_t len, struct err *e)
{
	struct encoder *c = arg;
	const struct vocab *v = c->v;
	int64_t left;
	int code = 0;

	if (len == 1 || pretoken_whole_first(v->pretoken)) {
		int32_t id = len == 1 ? v->byte[(uint8_t)*at] : lookup(v, at, len, false);

		if (id >= 0)
			return tokens_add(c->out, id, e);
	}
	c->piece.count = 0;
	for (size_t i = 0; !code && i < len; i++)
		if (v->byte[(uint8_t)at[i]] >= 0) /* a byte that the vocabulary lacks is left out */
			code = tokens_add(&c->piece, v->byte[(uint8_t)at[i]], e);
	if (code)
		return code;
	left = bpe_join(v->bpe, c->piece.id, c->piece.count, &c->scratch, e);
	if (left < 0)
		return (int)left;
	return tokens_append(c->out, c->piece.id, (size_t)left, e);
}

/* The longest mark of the kinds wanted that begins here, or -1. */
static int32_t mark_at(const struct vocab *v, const char *at, size_t len, uint32_t kinds)
{
	if (!(v->begins[(uint8_t)*at] & kinds))
		return -1;
	for (size_t n = len < MARK_BYTES_MOST ? len : MARK_BYTES_MOST; n; n--) {
		int32_t id = v->has_len[n] & kinds ? lookup(v, at, n, true) : -1;

		if (id >= 0 && v->entry[id].flags & kinds)
			return id;
	}
	return -1;
}

static int encode(struct encoder *c, const char *text, size_t len, uint32_t kinds, struct err *e)
{
	size_t begin = 0, at = 0;
	int code = 0;

	while (!code && at < len) {
		int32_t id = mark_at(c->v, text + at, len - at, kinds);

		if (id < 0) {
			at++;
			continue;
		}
		code = pretoken_split(c->v->pretoken, text + begin, at - begin, encode_piece, c, e);
		if (!code)
			code = tokens_add(c->out, id, e);
		at += c->v->entry[id].len;
		begin = at;
	}
	return code ? code : pretoken_split(c->v->pretoken, text + begin, len - begin, encode_piece, c, e);
}

int vocab_encode(const struct vocab *v, const char *text, size_t len, bool special, struct tokens *out, struct err *e)
{
	struct encoder c = { .v = v, .out = out };
	size_t before = out->count;
	int code = encode(&c, text, len, special ? MARK : USER_DEFINED, e);

	tokens_release(&c.piece);
	bpe_release(&c.scratch);
	if (code)
		out->count = before;
	return code;
}

/* ---- what the vocabulary says of a token ---- */

size_t vocab_size(const struct vocab *v)
{
	return v->size;
}

struct gguf_str vocab_piece(const struct vocab *v, int32_t id, bool special)
{
	const struct entry *t = &v->entry[id];

	return (struct gguf_str){ t->at, t->flags & CONTROL && !special ? 0 : t->len };
}

bool vocab_is_control(const struct vocab *v, int32_t id)
{
	return v->entry[id].flags & CONTROL;
}

bool vocab_is_end(const struct vocab *v, int32_t id)
{
	return v->entry[id].flags & END;
}

int32_t vocab_bos(const struct vocab *v)
{
	return v->bos;
}

int32_t vocab_eos(const struct vocab *v)
{
	return v->eos;
}

bool vocab_adds_bos(const struct vocab *v)
{
	return v->adds_bos && v->bos >= 0;
}
