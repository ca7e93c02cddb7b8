/*
 * The vocabulary in use: text to ids by byte-level BPE or by pieces with scores, and what is said of an id. Marks are
 * cut out first; what lies between two of them is tokenized by itself.
 */
#include "token.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bpe.h"
#include "pretoken.h"
#include "utf8.h"
#include "vocab.h"

/* ---- finding a token by its bytes ---- */

int32_t *vocab_slot(const struct vocab *v, const char *at, size_t len, bool mark)
{
	size_t i = (size_t)XXH3_64bits_withSeed(at, len, mark) & v->mask;

	for (; v->slot[i]; i = (i + 1) & v->mask) {
		const struct entry *t = &v->entry[v->slot[i] - 1];

		if (t->len == len && mark == !!(t->flags & MARK) && memcmp(t->at, at, len) == 0)
			break;
	}
	return &v->slot[i];
}

int32_t vocab_lookup(const struct vocab *v, const char *at, size_t len, bool mark)
{
	return *vocab_slot(v, at, len, mark) - 1;
}

int32_t vocab_find(const struct vocab *v, const char *text)
{
	size_t len = strlen(text);
	int32_t id = vocab_lookup(v, text, len, true);

	return id >= 0 ? id : vocab_lookup(v, text, len, false);
}

/* ---- encoding ---- */

/* What one call of vocab_encode() needs; the parts and the text are used again by each piece. */
struct encoder {
	const struct vocab *v;
	struct tokens *out;
	const uint8_t *origin; /* of the text's bytes, or NULL */
	struct bpe_part *part;
	size_t parts, room;
	char *text;
	struct bpe_scratch scratch;
};

static int add_part(struct encoder *c, int32_t id, size_t at, size_t end, struct err *e)
{
	if (c->parts == c->room) {
		size_t room = c->room ? 2 * c->room : 64;
		struct bpe_part *more = realloc(c->part, room * sizeof(*more));

		if (!more)
			return err_set(e, SINK_ENOMEM, "There is no memory to tokenize a run of %zu characters.", room);
		c->part = more;
		c->room = room;
	}
	c->part[c->parts++] = (struct bpe_part){ id, (uint32_t)at, (uint32_t)end };
	return 0;
}

/* ---- byte-level BPE ---- */

static int encode_piece(void *arg, const char *at, size_t len, struct err *e)
{
	struct encoder *c = arg;
	const struct vocab *v = c->v;
	const struct bpe_rule rule = { bpe_merges, v->bpe };
	int64_t left;
	int code = 0;

	if (len == 1 || pretoken_whole_first(v->pretoken)) {
		int32_t id = len == 1 ? v->byte[(uint8_t)*at] : vocab_lookup(v, at, len, false);

		if (id >= 0)
			return tokens_add(c->out, id, e);
	}
	c->parts = 0;
	for (size_t i = 0; !code && i < len; i++)
		if (v->byte[(uint8_t)at[i]] >= 0) /* a byte that the vocabulary lacks is left out */
			code = add_part(c, v->byte[(uint8_t)at[i]], i, i + 1, e);
	if (code)
		return code;
	left = bpe_join(&rule, c->part, c->parts, &c->scratch, e);
	if (left < 0)
		return (int)left;
	for (int64_t i = 0; !code && i < left; i++)
		code = tokens_add(c->out, c->part[i].id, e);
	return code;
}

/* ---- pieces with scores ---- */

/* Two neighbours may be joined when their bytes are a piece. */
static bool joins_piece(const void *arg, const struct bpe_part *left, const struct bpe_part *right, uint32_t *rank,
			int32_t *joined)
{
	const struct encoder *c = arg;
	int32_t id = vocab_lookup(c->v, c->text + left->at, right->end - left->at, false);

	if (id < 0)
		return false;
	*rank = c->v->rank[id];
	*joined = id;
	return true;
}

/* Cuts a text into characters, as parts. A blank is put in front, and U+2581 is taken for one: so models are taught. */
static int cut_characters(struct encoder *c, const char *at, size_t len, struct err *e)
{
	size_t n = 0;
	int code = 0;

	free(c->text);
	c->parts = 0;
	c->text = len < UINT32_MAX ? malloc(len + 1) : NULL;
	if (!c->text)
		return err_set(e, SINK_ENOMEM, "There is no memory to tokenize a run of %zu bytes.", len);
	if (c->v->space_prefix) {
		c->text[n++] = ' ';
		code = add_part(c, vocab_lookup(c->v, " ", 1, false), 0, 1, e);
	}
	while (!code && len) {
		int bytes = utf8_character(at, len);
		size_t size = bytes > 0 ? (size_t)bytes : 1, to = size;

		if (size == 3 && memcmp(at, "\xe2\x96\x81", 3) == 0) {
			c->text[n] = ' ';
			to = 1;
		} else {
			memcpy(c->text + n, at, size);
		}
		code = add_part(c, vocab_lookup(c->v, c->text + n, to, false), n, n + to, e);
		n += to;
		at += size;
		len -= size;
	}
	return code;
}

/* What is no piece goes by its bytes, or is unknown. */
static int add_bytes(struct encoder *c, const struct bpe_part *p, struct err *e)
{
	int code = 0;

	for (uint32_t i = p->at; !code && i < p->end; i++) {
		int32_t id = c->v->byte[(uint8_t)c->text[i]];

		code = tokens_add(c->out, id >= 0 ? id : c->v->unknown, e);
		if (id < 0)
			break;
	}
	return code;
}

static int encode_pieces(struct encoder *c, const char *at, size_t len, struct err *e)
{
	const struct bpe_rule rule = { joins_piece, c };
	int code = cut_characters(c, at, len, e);
	int64_t left;

	if (code)
		return code;
	left = bpe_join(&rule, c->part, c->parts, &c->scratch, e);
	if (left < 0)
		return (int)left;
	for (int64_t i = 0; !code && i < left; i++)
		code = c->part[i].id >= 0 ? tokens_add(c->out, c->part[i].id, e) : add_bytes(c, &c->part[i], e);
	return code;
}

/* ---- both ---- */

/* A text without marks. */
static int encode_plain(struct encoder *c, const char *at, size_t len, struct err *e)
{
	if (!len)
		return 0;
	return c->v->pretoken ? pretoken_split(c->v->pretoken, at, len, encode_piece, c, e)
			      : encode_pieces(c, at, len, e);
}

/* The longest mark of the kinds wanted that begins here, or -1. */
static int32_t mark_at(const struct vocab *v, const char *at, size_t len, uint32_t kinds)
{
	if (!(v->begins[(uint8_t)*at] & kinds))
		return -1;
	for (size_t n = len < MARK_BYTES_MOST ? len : MARK_BYTES_MOST; n; n--) {
		int32_t id = v->has_len[n] & kinds ? vocab_lookup(v, at, n, true) : -1;

		if (id >= 0 && v->entry[id].flags & kinds)
			return id;
	}
	return -1;
}

/* The mark that begins at `at`; where bytes have an origin, those of origin 0 alone make a control token. */
static int32_t find_mark(const struct encoder *c, const char *text, size_t at, size_t len, uint32_t kinds)
{
	int32_t id = -1;
	size_t n = at;

	if (!c->origin || !c->v->begins[(uint8_t)text[at]])
		return mark_at(c->v, text + at, len - at, kinds);
	while (n < len && n - at < MARK_BYTES_MOST && !c->origin[n])
		n++;
	if (n > at)
		id = mark_at(c->v, text + at, n - at, MARK);
	return id >= 0 ? id : mark_at(c->v, text + at, len - at, USER_DEFINED);
}

static int encode(struct encoder *c, const char *text, size_t len, uint32_t kinds, struct err *e)
{
	size_t begin = 0, at = 0;
	int code = 0;

	while (!code && at < len) {
		int32_t id = find_mark(c, text, at, len, kinds);

		if (id < 0) {
			at++;
			continue;
		}
		code = encode_plain(c, text + begin, at - begin, e);
		if (!code)
			code = tokens_add(c->out, id, e);
		at += c->v->entry[id].len;
		begin = at;
	}
	return code ? code : encode_plain(c, text + begin, len - begin, e);
}

static int encode_all(struct encoder *c, const char *text, size_t len, uint32_t kinds, struct err *e)
{
	size_t before = c->out->count;
	int code = encode(c, text, len, kinds, e);

	free(c->part);
	free(c->text);
	bpe_release(&c->scratch);
	if (code)
		c->out->count = before;
	return code;
}

int vocab_encode(const struct vocab *v, const char *text, size_t len, bool special, struct tokens *out, struct err *e)
{
	struct encoder c = { .v = v, .out = out };

	return encode_all(&c, text, len, special ? MARK : USER_DEFINED, e);
}

int vocab_encode_from(const struct vocab *v, const char *text, const uint8_t *origin, size_t len, struct tokens *out,
		      struct err *e)
{
	struct encoder c = { .v = v, .out = out, .origin = origin };

	return encode_all(&c, text, len, USER_DEFINED, e);
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

struct gguf_str vocab_next_piece(const struct vocab *v, int32_t id, bool special, bool *front)
{
	const bool mark = v->entry[id].flags & MARK;
	struct gguf_str s = vocab_piece(v, id, special);

	if (*front && !mark && v->space_prefix && s.len && *s.at == ' ') {
		s.at++;
		s.len--;
	}
	*front = mark || (*front && !v->entry[id].len);
	return s;
}

bool vocab_is_control(const struct vocab *v, int32_t id)
{
	return v->entry[id].flags & CONTROL;
}

bool vocab_is_mark(const struct vocab *v, int32_t id)
{
	return v->entry[id].flags & MARK;
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

bool vocab_adds_blank(const struct vocab *v)
{
	return v->space_prefix;
}

bool vocab_adds_bos(const struct vocab *v)
{
	return v->adds_bos && v->bos >= 0;
}

/* What they are called where the file has no keys for them. */
static const char *const fim_names[][VOCAB_FIM] = {
	{ "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>" },
	{ "<fim_prefix>", "<fim_suffix>", "<fim_middle>" },
	{ "<fim-prefix>", "<fim-suffix>", "<fim-middle>" },
	{ "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>" },
};

static bool is_mark(const struct vocab *v, int32_t id)
{
	return id >= 0 && v->entry[id].flags & MARK;
}

bool vocab_fim(const struct vocab *v, int32_t ret[VOCAB_FIM])
{
	memcpy(ret, v->fim, sizeof(v->fim));
	for (size_t n = 0; n <= sizeof(fim_names) / sizeof(fim_names[0]); n++) {
		if (is_mark(v, ret[0]) && is_mark(v, ret[1]) && is_mark(v, ret[2]))
			return true;
		for (int i = 0; i < VOCAB_FIM && n < sizeof(fim_names) / sizeof(fim_names[0]); i++)
			ret[i] = vocab_find(v, fim_names[n][i]);
	}
	return false;
}
