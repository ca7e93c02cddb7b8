/*
 * Values as texts: Python's str() and repr(), and JSON as json.dumps() of Python writes it, which models were trained
 * with; and JSON read, for the values that a caller gives.
 */
#include "jinja_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/* ---- repr ---- */

/* Characters that Python writes by number in a repr: controls, blanks that are no space, marks without a form. */
static bool is_hidden(uint32_t c)
{
	static const uint32_t hidden[][2] = { { 0x00, 0x1f },	  { 0x7f, 0xa0 },     { 0xad, 0xad },
					      { 0x1680, 0x1680 }, { 0x2000, 0x200f }, { 0x2028, 0x202f },
					      { 0x205f, 0x206f }, { 0x3000, 0x3000 }, { 0xe000, 0xf8ff },
					      { 0xfeff, 0xfeff }, { 0xfff0, 0xfffb }, { 0xe0000, 0x10ffff } };

	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (c >= hidden[i][0] && c <= hidden[i][1])
			return true;
	return false;
}

/* Writes a replacement for the bytes at `at` of `s`, of their origin. */
static void write_as(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text s, size_t at, const char *text)
{
	uint8_t from[16];

	if (s.from)
		memset(from, s.from[at], sizeof(from));
	jinja_write(r, b, (struct jinja_text){ text, s.from ? from : NULL, strlen(text) });
}

static void write_repr(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text s)
{
	const char *quote = s.len && memchr(s.at, '\'', s.len) && !memchr(s.at, '"', s.len) ? "\"" : "'";
	char text[16];

	jinja_write_word(r, b, quote);
	for (size_t at = 0, n; at < s.len; at += n) {
		uint32_t c;

		n = jinja_character(s, at);
		c = n > 1 ? utf8_code(s.at + at, (int)n) : (unsigned char)s.at[at];
		text[0] = '\0';
		if (c == '\n' || c == '\r' || c == '\t')
			snprintf(text, sizeof(text), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
		else if (c == '\\' || c == (uint32_t)*quote)
			snprintf(text, sizeof(text), "\\%c", (char)c);
		else if (is_hidden(c))
			snprintf(text, sizeof(text), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
		if (text[0])
			write_as(r, b, s, at, text);
		else
			jinja_write(r, b, jinja_cut(s, at, at + n));
	}
	jinja_write_word(r, b, quote);
}

static void write_str(struct jinja_run *r, struct jinja_buffer *b, struct jinja_value v, bool quoted);

static void write_members(struct jinja_run *r, struct jinja_buffer *b, struct jinja_value v)
{
	bool list = v.kind == JINJA_LIST;

	jinja_length(r, v); /* has one */
	jinja_write_word(r, b, list ? "[" : "(");
	for (size_t i = 0; i < v.list->count; i++) {
		jinja_write_word(r, b, i ? ", " : "");
		write_str(r, b, v.list->at[i], true);
	}
	jinja_write_word(r, b, list ? "]" : v.list->count == 1 ? ",)" : ")");
}

static void write_pairs(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_dict *d)
{
	jinja_write_word(r, b, "{");
	for (size_t i = 0; i < d->count; i++) {
		jinja_write_word(r, b, i ? ", " : "");
		write_str(r, b, d->at[i].key, true);
		jinja_write_word(r, b, ": ");
		write_str(r, b, d->at[i].value, true);
	}
	jinja_write_word(r, b, "}");
}

static void write_number(struct jinja_run *r, struct jinja_buffer *b, int64_t i)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, i);
	jinja_write_word(r, b, text);
}

static void write_str(struct jinja_run *r, struct jinja_buffer *b, struct jinja_value v, bool quoted)
{
	jinja_steps(r, 1);
	jinja_down(r);
	switch (v.kind) {
	case JINJA_UNDEFINED:
		jinja_write_word(r, b, quoted ? "Undefined" : "");
		break;
	case JINJA_NONE:
		jinja_write_word(r, b, "None");
		break;
	case JINJA_BOOL:
		jinja_write_word(r, b, v.b ? "True" : "False");
		break;
	case JINJA_INT:
		write_number(r, b, v.i);
		break;
	case JINJA_FLOAT:
		jinja_write_float(r, b, v.d);
		break;
	case JINJA_TEXT:
		if (quoted)
			write_repr(r, b, v.s);
		else
			jinja_write(r, b, v.s);
		break;
	case JINJA_LIST:
	case JINJA_TUPLE:
		write_members(r, b, v);
		break;
	case JINJA_DICT:
		write_pairs(r, b, v.dict);
		break;
	default:
		jinja_fail(r, SINK_EFORMAT, "A value of type %s is written as text.", jinja_kind_name(v));
	}
	jinja_up(r);
}

struct jinja_text jinja_str(struct jinja_run *r, struct jinja_value v)
{
	struct jinja_buffer b = { 0 };

	if (v.kind == JINJA_TEXT)
		return v.s;
	write_str(r, &b, v, false);
	return jinja_written(&b);
}

/* ---- writing JSON ---- */

struct json {
	struct jinja_run *r;
	struct jinja_buffer b;
	struct jinja_text indent; /* of a level */
	bool lines, ascii, sorted;
	struct jinja_text comma, colon;
};

static void json_text(struct json *j, struct jinja_text s)
{
	static const char escapes[] = "\nn\tt\rr\bb\ff\"\"\\\\";
	char text[16];

	jinja_write_word(j->r, &j->b, "\"");
	for (size_t at = 0, n; at < s.len; at += n) {
		const char *e = escapes;
		uint32_t c;

		n = jinja_character(s, at);
		c = n > 1 ? utf8_code(s.at + at, (int)n) : (unsigned char)s.at[at];
		while (*e && (unsigned char)*e != c)
			e += 2;
		if (*e && c)
			snprintf(text, sizeof(text), "\\%c", e[1]);
		else if (c < 0x20 || (j->ascii && c > 0x7e && c < 0x10000))
			snprintf(text, sizeof(text), "\\u%04x", c);
		else if (j->ascii && c >= 0x10000)
			snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
				 0xdc00 + (c & 0x3ff));
		else
			text[0] = '\0';
		if (text[0])
			write_as(j->r, &j->b, s, at, text);
		else
			jinja_write(j->r, &j->b, jinja_cut(s, at, at + n));
	}
	jinja_write_word(j->r, &j->b, "\"");
}

static void json_line(struct json *j, int level)
{
	if (!j->lines)
		return;
	jinja_write_word(j->r, &j->b, "\n");
	for (; level; level--)
		jinja_write(j->r, &j->b, j->indent);
}

static void json_value(struct json *j, struct jinja_value v, int level);

static void json_list(struct json *j, const struct jinja_list *l, int level)
{
	jinja_write_word(j->r, &j->b, "[");
	for (size_t i = 0; i < l->count; i++) {
		if (i)
			jinja_write(j->r, &j->b, j->comma);
		json_line(j, level + 1);
		json_value(j, l->at[i], level + 1);
	}
	if (l->count)
		json_line(j, level);
	jinja_write_word(j->r, &j->b, "]");
}

static void json_key(struct json *j, struct jinja_value key)
{
	struct json plain = { .r = j->r };

	if (key.kind == JINJA_TEXT) {
		json_text(j, key.s);
		return;
	}
	if (key.kind != JINJA_BOOL && key.kind != JINJA_NONE && key.kind != JINJA_INT && key.kind != JINJA_FLOAT)
		jinja_fail(j->r, SINK_EFORMAT, "A %s is no key of JSON.", jinja_kind_name(key));
	json_value(&plain, key, 0);
	json_text(j, jinja_written(&plain.b));
}

static void sort_pairs(struct jinja_run *r, struct jinja_pair *at, size_t count)
{
	for (size_t i = 1; i < count; i++)
		for (size_t k = i; k && jinja_order(r, at[k - 1].key, at[k].key) > 0; k--) {
			struct jinja_pair p = at[k];

			jinja_steps(r, 1);
			at[k] = at[k - 1];
			at[k - 1] = p;
		}
}

static void json_dict(struct json *j, const struct jinja_dict *d, int level)
{
	struct jinja_pair *at = d->at;

	if (j->sorted && d->count) {
		at = jinja_take(j->r, d->count * sizeof(*at));
		memcpy(at, d->at, d->count * sizeof(*at));
		sort_pairs(j->r, at, d->count);
	}
	jinja_write_word(j->r, &j->b, "{");
	for (size_t i = 0; i < d->count; i++) {
		if (i)
			jinja_write(j->r, &j->b, j->comma);
		json_line(j, level + 1);
		json_key(j, at[i].key);
		jinja_write(j->r, &j->b, j->colon);
		json_value(j, at[i].value, level + 1);
	}
	if (d->count)
		json_line(j, level);
	jinja_write_word(j->r, &j->b, "}");
}

static void json_value(struct json *j, struct jinja_value v, int level)
{
	jinja_steps(j->r, 1);
	jinja_down(j->r);
	switch (v.kind) {
	case JINJA_NONE:
		jinja_write_word(j->r, &j->b, "null");
		break;
	case JINJA_BOOL:
		jinja_write_word(j->r, &j->b, v.b ? "true" : "false");
		break;
	case JINJA_INT:
		write_number(j->r, &j->b, v.i);
		break;
	case JINJA_FLOAT:
		if (v.d != v.d || v.d - v.d != 0)
			jinja_write_word(j->r, &j->b, v.d != v.d ? "NaN" : v.d < 0 ? "-Infinity" : "Infinity");
		else
			jinja_write_float(j->r, &j->b, v.d);
		break;
	case JINJA_TEXT:
		json_text(j, v.s);
		break;
	case JINJA_LIST:
	case JINJA_TUPLE:
		jinja_length(j->r, v); /* has one */
		json_list(j, v.list, level);
		break;
	case JINJA_DICT:
		json_dict(j, v.dict, level);
		break;
	default:
		jinja_fail(j->r, SINK_EFORMAT, "A value of type %s has no form in JSON.", jinja_kind_name(v));
	}
	jinja_up(j->r);
}

struct jinja_value jinja_to_json(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	static const char *const names[] = { "ensure_ascii", "indent", "separators", "sort_keys", NULL };
	struct json j = { .r = r };
	struct jinja_value arg[4];

	jinja_arguments(r, a, "tojson", names, arg);
	j.ascii = jinja_true(arg[0]);
	j.sorted = jinja_true(arg[3]);
	j.lines = arg[1].kind != JINJA_UNDEFINED && arg[1].kind != JINJA_NONE;
	j.comma = jinja_word(j.lines ? "," : ", ").s;
	j.colon = jinja_word(": ").s;
	if (jinja_is_sequence(arg[2]) && arg[2].list->count == 2) {
		j.comma = jinja_want_text(r, arg[2].list->at[0], "A separator");
		j.colon = jinja_want_text(r, arg[2].list->at[1], "A separator");
	}
	if (j.lines && arg[1].kind == JINJA_TEXT)
		j.indent = arg[1].s;
	else if (j.lines)
		j.indent = jinja_str(r, jinja_arithmetic(r, '*', jinja_word(" "), arg[1]));
	json_value(&j, v, 0);
	return jinja_string(jinja_written(&j.b));
}
