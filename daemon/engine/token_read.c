/*
 * Makes a vocabulary of a file. Token texts are decoded once: byte-level BPE writes each byte as a printable character,
 * SentencePiece a blank as U+2581 and bytes as <0x0A>; after this nothing knows of those alphabets any more.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "pretoken.h"
#include "utf8.h"
#include "vocab.h"

/* The types of a token, by their numbers in the file. */
enum { TYPE_UNDEFINED, TYPE_NORMAL, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE, TYPES };

enum { TOKEN_BYTES_MOST = 1 << 16 }; /* the longest token in use has about 500 */

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

/* Byte-level BPE: the name of the pre-tokenizer. */
static int read_pretoken(struct vocab *v, const struct gguf *g, struct err *e)
{
	struct gguf_str name;
	struct err cause;
	int code = required_string(g, "tokenizer.ggml.pre", &name, e);

	if (code)
		return code;
	code = pretoken_new(name, &v->pretoken, &cause);
	if (code)
		return gguf_fail(g, e, code == SINK_EINVAL ? SINK_EFORMAT : code, "key \"tokenizer.ggml.pre\": %s",
				 cause.text);
	return gguf_bool_or(g, "tokenizer.ggml.add_bos_token", pretoken_adds_bos(v->pretoken), &v->adds_bos, e);
}

/* SentencePiece's BPE: what is put in front of a text. */
static int read_prefixes(struct vocab *v, const struct gguf *g, struct err *e)
{
	int code = gguf_bool_or(g, "tokenizer.ggml.add_space_prefix", true, &v->space_prefix, e);

	return code ? code : gguf_bool_or(g, "tokenizer.ggml.add_bos_token", true, &v->adds_bos, e);
}

static int read_kind(struct vocab *v, const struct gguf *g, struct err *e)
{
	struct gguf_str model;
	char shown[GGUF_SHOWN];
	int code = required_string(g, "tokenizer.ggml.model", &model, e);

	if (code)
		return code;
	if (model.len == 4 && memcmp(model.at, "gpt2", 4) == 0)
		return read_pretoken(v, g, e);
	if (model.len == 5 && memcmp(model.at, "llama", 5) == 0)
		return read_prefixes(v, g, e);
	return gguf_fail(g, e, SINK_EFORMAT,
			 "key \"tokenizer.ggml.model\" is \"%s\"; byte-level BPE (\"gpt2\") and SentencePiece's BPE "
			 "(\"llama\") are supported.",
			 gguf_shown(model, shown));
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
	static const char turn[] = "<start_of_turn>"; /* Gemma's */

	return is_end_text(t->at, t->len) || (t->len == strlen(turn) && memcmp(t->at, turn, t->len) == 0) ||
	       (t->len > 4 && memcmp(t->at, "<|", 2) == 0 && memcmp(t->at + t->len - 2, "|>", 2) == 0);
}

static int read_types(struct vocab *v, const struct gguf *g, struct err *e)
{
	int64_t count = gguf_numbers(g, types_key);

	if (count < 0 && (gguf_has(g, types_key) || !v->pretoken))
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is missing or no list of numbers.", types_key);
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
		case TYPE_BYTE:
			t->flags = v->pretoken ? 0 : BYTE; /* plain text in byte-level BPE */
			break;
		default: /* normal, unused */
			break;
		}
		if (t->flags == CONTROL && is_end_text(t->at, t->len))
			t->flags |= END;
	}
	return 0;
}

/* Where SentencePiece has its own tokens when the file does not say; -1: nowhere. */
struct named {
	const char *key;
	uint32_t flags;
	int piece;
};

/* The token that a key names, or -1 when there is none. Whatever type it has, it never stands for text. */
static int read_id(struct vocab *v, const struct gguf *g, const struct named *n, int32_t *ret, struct err *e)
{
	int64_t otherwise = v->pretoken || (size_t)n->piece >= v->size ? -1 : n->piece, id;
	int code = gguf_int_or(g, n->key, 0, (int64_t)v->size - 1, otherwise, &id, e);

	if (code)
		return code;
	*ret = (int32_t)id;
	if (id >= 0)
		v->entry[id].flags = (v->entry[id].flags & ~(uint32_t)(USER_DEFINED | BYTE)) | CONTROL | n->flags;
	return 0;
}

static int read_ids(struct vocab *v, const struct gguf *g, struct err *e)
{
	int32_t ignored;
	const struct {
		struct named named;
		int32_t *to;
	} ids[] = {
		{ { "tokenizer.ggml.bos_token_id", 0, 1 }, &v->bos },
		{ { "tokenizer.ggml.eos_token_id", END, 2 }, &v->eos },
		{ { "tokenizer.ggml.unknown_token_id", 0, 0 }, v->pretoken ? &ignored : &v->unknown },
		{ { "tokenizer.ggml.eot_token_id", END, -1 }, &ignored },
		{ { "tokenizer.ggml.eom_token_id", END, -1 }, &ignored },
		{ { "tokenizer.ggml.fim_pre_token_id", 0, -1 }, &v->fim[VOCAB_FIM_PREFIX] },
		{ { "tokenizer.ggml.fim_suf_token_id", 0, -1 }, &v->fim[VOCAB_FIM_SUFFIX] },
		{ { "tokenizer.ggml.fim_mid_token_id", 0, -1 }, &v->fim[VOCAB_FIM_MIDDLE] },
	};
	int code = 0;

	v->unknown = -1;
	for (size_t i = 0; !code && i < sizeof(ids) / sizeof(ids[0]); i++)
		code = read_id(v, g, &ids[i].named, ids[i].to, e);
	return code;
}

/* The byte that a byte token's text names, "<0x0A>", or -1. */
static int named_byte(const struct entry *t)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *high, *low;

	if (t->len != 6 || memcmp(t->at, "<0x", 3) != 0 || t->at[5] != '>')
		return -1;
	high = memchr(digits, t->at[3], 16);
	low = memchr(digits, t->at[4], 16);
	return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}

/* The bytes that a text of the file stands for, at `to`; how many they are. */
static size_t decode_text(const struct vocab *v, const struct entry *t, char *to)
{
	static const char blank[] = "\xe2\x96\x81"; /* U+2581: how SentencePiece writes a blank */
	size_t n = 0;

	if (v->pretoken)
		return decode((struct gguf_str){ t->at, t->len }, to);
	for (size_t at = 0; at < t->len;) {
		bool is_blank = t->len - at >= 3 && memcmp(t->at + at, blank, 3) == 0;

		to[n++] = is_blank ? ' ' : t->at[at];
		at += is_blank ? 3 : 1;
	}
	return n;
}

/* A token for one byte: it is not found by its text. */
static int place_byte(struct vocab *v, const struct gguf *g, size_t i, char *to, struct err *e)
{
	struct entry *t = &v->entry[i];
	int byte = named_byte(t);
	char shown[GGUF_SHOWN];

	if (byte < 0)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"%s\": token %zu, \"%s\", is said to be a byte, and names none.", tokens_key, i,
				 gguf_shown((struct gguf_str){ t->at, t->len }, shown));
	*to = (char)byte;
	t->at = to;
	t->len = 1;
	if (v->byte[byte] < 0)
		v->byte[byte] = (int32_t)i;
	return 0;
}

static void place_mark(struct vocab *v, const struct entry *t)
{
	size_t len = t->len <= MARK_BYTES_MOST ? t->len : 0;

	v->has_len[len] |= t->flags & MARK;
	if (len)
		v->begins[(uint8_t)t->at[0]] |= t->flags & MARK;
}

/* Decodes the tokens, and enters them in the tables. Of tokens with equal bytes the first is found. */
static int place_tokens(struct vocab *v, const struct gguf *g, struct err *e)
{
	char *free_bytes = v->bytes;
	int code = 0;

	for (int b = 0; b < 256; b++)
		v->byte[b] = -1;
	for (size_t i = 0; !code && i < v->size; i++) {
		struct entry *t = &v->entry[i];
		int32_t *slot;

		if (t->flags & BYTE) {
			code = place_byte(v, g, i, free_bytes++, e);
			continue;
		}
		if (!(t->flags & MARK) || (t->flags & USER_DEFINED && !v->pretoken)) {
			t->len = (uint32_t)decode_text(v, t, free_bytes);
			t->at = free_bytes;
			free_bytes += t->len;
		}
		if (t->flags & MARK)
			place_mark(v, t);
		slot = vocab_slot(v, t->at, t->len, t->flags & MARK);
		if (!*slot)
			*slot = (int32_t)i + 1;
	}
	for (int b = 0; v->pretoken && b < 256; b++)
		v->byte[b] = vocab_lookup(v, (const char[]){ (char)b }, 1, false);
	return code;
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
	left = vocab_lookup(v, buffer, first, false);
	right = vocab_lookup(v, buffer + first, second, false);
	joined = vocab_lookup(v, buffer, first + second, false);
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

/* A number that is the lower, the higher the score is, as the ranks of merges are. */
static uint32_t rank_of(float score)
{
	uint32_t bits;

	score += 0.0F; /* -0 is 0 */
	memcpy(&bits, &score, sizeof(bits));
	return bits & 0x80000000U ? bits : ~(bits | 0x80000000U);
}

static int read_scores(struct vocab *v, const struct gguf *g, struct err *e)
{
	static const char key[] = "tokenizer.ggml.scores";
	int64_t count = gguf_numbers(g, key);

	if (count < 0)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is missing or no list of numbers.", key);
	if ((size_t)count != v->size)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" has %" PRId64 " elements for %zu tokens.", key, count,
				 v->size);
	v->rank = malloc(v->size * sizeof(*v->rank));
	if (!v->rank)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory for its scores.");
	for (size_t i = 0; i < v->size; i++) {
		double score = gguf_number_at(g, key, i);

		if (score != score)
			return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\": element %zu is no number.", key, i);
		v->rank[i] = rank_of((float)score);
	}
	for (int b = 0; b < 256; b++)
		if (v->byte[b] < 0 && v->unknown < 0)
			return gguf_fail(
				g, e, SINK_EFORMAT,
				"key \"%s\": there is neither a token for byte 0x%02X nor one for what is unknown.",
				tokens_key, (unsigned)b);
	return 0;
}

int vocab_new(const struct gguf *g, struct vocab **ret, struct err *e)
{
	struct vocab *v = calloc(1, sizeof(*v));
	int code;

	if (!v)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a vocabulary.");
	code = read_kind(v, g, e);
	if (!code)
		code = read_texts(v, g, e);
	if (!code)
		code = read_types(v, g, e);
	if (!code)
		code = read_ids(v, g, e);
	if (!code)
		code = place_tokens(v, g, e);
	if (!code)
		code = v->pretoken ? read_merges(v, g, e) : read_scores(v, g, e);
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
	free(v->rank);
	free(v->entry);
	free(v->bytes);
	free(v->slot);
	free(v);
}
