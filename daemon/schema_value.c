/*
 * Owns what is made of a shape. An object is a chain of rules, one for each property: what may come from there on when
 * something stands before it. So a schema of many optional properties has as many rules, not all their combinations.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "regex.h"
#include "schema_parts.h"
#include "utf8.h"

/* ---- strings ---- */

/* What a free string is made of: characters, and the escapes that have a letter. */
static int32_t character(struct schema *s)
{
	struct charset all = { 0 };

	if (s->character == EXPR_NEVER) {
		charset_add(&all, 0x20, CHARSET_LAST);
		charset_add(&all, '\b', '\n');
		charset_add(&all, '\f', '\r');
		s->character = charset_expr(s->g, &all, FORM_JSON);
	}
	return s->character;
}

static int32_t quoted(struct schema *s, int32_t inside)
{
	return schema_seq(s, schema_word(s, "\""), inside, schema_word(s, "\""));
}

int32_t schema_any_string(struct schema *s)
{
	return quoted(s, grammar_repeat(s->g, character(s), 0, GRAMMAR_MANY));
}

#define DAY                                                                                                            \
	"[1-9]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"
#define HOUR "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#define BYTE "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

static const struct {
	const char *name, *pattern;
} formats[] = {
	{ "date", DAY },
	{ "time", HOUR },
	{ "date-time", DAY "T" HOUR },
	{ "uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" },
	{ "email", "[a-z0-9]+([._+-][a-z0-9]+){0,8}@" LABEL "(\\." LABEL "){0,4}\\.[a-z]{2,16}" },
	{ "hostname", LABEL "(\\." LABEL "){0,8}" },
	{ "ipv4", BYTE "(\\." BYTE "){3}" },
	{ "uri", "https?://" LABEL "(\\." LABEL "){0,8}(:[1-9]\\d{0,3})?(/[A-Za-z0-9._~-]{0,64}){0,16}" },
};

static const char *format_pattern(struct schema *s, const struct val *format)
{
	const char *name = val_str(format, NULL);

	for (size_t i = 0; name && i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].pattern;
	schema_fail(s, "The format \"%.40s\" is not supported.", name ? name : "(no string)");
	return NULL;
}

/* A pattern with lengths beside it is refused where these say more than the pattern does. */
static int32_t patterned(struct schema *s, const struct shape *h, const char *pattern, size_t len)
{
	const int64_t least = h->length_least, most = h->length_most;
	struct regex r;
	struct err why;

	if (regex_parse(s->g, pattern, len, FORM_JSON, &r, &why) < 0)
		return schema_fail(s, "%s", why.text);
	if (least > (int64_t)r.least || (most >= 0 && (r.most == GRAMMAR_MANY || most < (int64_t)r.most)))
		return schema_fail(s, "A length beside a pattern or format must follow from it: write it into the "
				      "pattern, as [a-z]{1,20}.");
	return quoted(s, r.expr);
}

/* What a pattern or a format says. */
static int32_t described(struct schema *s, const struct shape *h)
{
	const size_t before = schema_into(s, h->format ? "format" : "pattern");
	size_t len = 0;
	const char *pattern = h->format ? format_pattern(s, h->format) : val_str(h->pattern, &len);
	int32_t r = EXPR_NEVER;

	if (h->pattern && h->format)
		schema_fail(s, "A pattern beside a format is not supported.");
	else if (!pattern)
		schema_fail(s, "It must be a string.");
	else
		r = patterned(s, h, pattern, h->format ? strlen(pattern) : len);
	schema_back(s, before);
	return r;
}

int32_t schema_string(struct schema *s, const struct shape *h)
{
	const int64_t most = h->length_most < 0 ? GRAMMAR_MANY : h->length_most;

	if (h->pattern || h->format)
		return described(s, h);
	if (h->length_least > GRAMMAR_COUNT)
		return schema_fail(s, "A string of so many characters is not supported.");
	return quoted(s, grammar_repeat(s->g, character(s), h->length_least > 0 ? (uint32_t)h->length_least : 0,
					most > GRAMMAR_COUNT && most < GRAMMAR_MANY ? GRAMMAR_COUNT : (uint32_t)most));
}

/* ---- lists ---- */

static int32_t separated(struct schema *s, int32_t what)
{
	return what == EXPR_NEVER ? EXPR_NEVER : schema_seq(s, schema_word(s, ", "), what);
}

static uint32_t count_most(int64_t most, int64_t less)
{
	if (most < 0)
		return GRAMMAR_MANY;
	most = most > less ? most - less : 0;
	return most > GRAMMAR_COUNT ? GRAMMAR_COUNT : (uint32_t)most;
}

/* What may follow the first `count` elements, of which there was one at least. */
static int32_t elements_behind(struct schema *s, const struct shape *h, int32_t item, int64_t count, int64_t described)
{
	const int64_t least = h->items_least > count ? h->items_least - count : 0;

	return grammar_repeat(s->g, separated(s, item), (uint32_t)least,
			      item == EXPR_NEVER ? (uint32_t)least : count_most(h->items_most, described));
}

static int32_t described_elements(struct schema *s, const struct shape *h, int32_t item)
{
	const int64_t count = (int64_t)val_count(h->prefix);
	const size_t before = schema_into(s, "prefixItems");
	int32_t r = elements_behind(s, h, item, count, count);

	for (int64_t i = count; i-- > 0;) {
		const size_t place = schema_into_at(s, (size_t)i);
		int32_t one = schema_call(s, val_at(h->prefix, (size_t)i));

		schema_back(s, place);
		if (one != EXPR_NEVER && i)
			one = separated(s, one);
		r = schema_seq(s, one, r);
		if (h->items_most >= 0 && i >= h->items_most)
			r = EXPR_EMPTY;
		else if (h->items_least <= i)
			r = schema_either(s, EXPR_EMPTY, r);
	}
	schema_back(s, before);
	return r;
}

/* The schema of elements that none of prefixItems describes. */
static int32_t item_of(struct schema *s, const struct shape *h)
{
	const size_t before = schema_into(s, "items");
	int32_t r = EXPR_NEVER;

	if (h->items)
		r = schema_call(s, h->items);
	else if (!val_count(h->prefix) || h->items_least > (int64_t)val_count(h->prefix))
		r = schema_any_value(s);
	schema_back(s, before);
	return r;
}

int32_t schema_array(struct schema *s, const struct shape *h)
{
	const int32_t item = item_of(s, h);
	int32_t inside;

	if (h->items_least > GRAMMAR_COUNT)
		return schema_fail(s, "A list of so many elements is not supported.");
	if (h->items_most >= 0 && h->items_least > h->items_most)
		return EXPR_NEVER;
	if (val_count(h->prefix)) {
		inside = described_elements(s, h, item);
	} else {
		inside = h->items_most == 0 ? EXPR_NEVER : schema_seq(s, item, elements_behind(s, h, item, 1, 1));
		if (h->items_least <= 0)
			inside = schema_either(s, EXPR_EMPTY, inside);
	}
	return schema_seq(s, schema_word(s, "["), inside, schema_word(s, "]"));
}

/* ---- objects ---- */

struct name {
	const char *at;
	size_t len;
};

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	const size_t both = x->len < y->len ? x->len : y->len;
	const int c = memcmp(x->at, y->at, both);

	return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

/* The inside of a string that is none of these, which are in order and alike in their first `from` bytes. */
static int32_t other_than(struct schema *s, const struct name *n, size_t count, size_t from)
{
	const bool here = n[0].len == from;
	const int32_t any = grammar_repeat(s->g, character(s), 0, GRAMMAR_MANY);
	struct charset others = { 0 };
	int32_t *choice = calloc(count + 2, sizeof(*choice)), r;
	size_t choices = 0;

	if (!choice)
		return schema_fail(s, "There is no memory for it.");
	if (!here)
		choice[choices++] = EXPR_EMPTY;
	for (size_t i = here, next; i < count; i = next) {
		const int bytes = utf8_character(n[i].at + from, n[i].len - from);
		const uint32_t code = utf8_code(n[i].at + from, bytes);
		char text[8];

		for (next = i + 1; next < count && n[next].len >= from + (size_t)bytes &&
				   memcmp(n[next].at + from, n[i].at + from, (size_t)bytes) == 0;)
			next++;
		if (!charset_add(&others, code, code))
			schema_fail(s, "There are too many properties.");
		choice[choices++] = schema_seq(s, grammar_text(s->g, text, charset_spell(code, FORM_JSON, text)),
					       other_than(s, n + i, next - i, from + (size_t)bytes));
	}
	charset_add(&others, 0, 7); /* what no free string has */
	charset_add(&others, 0x0b, 0x0b);
	charset_add(&others, 0x0e, 0x1f);
	if (!charset_invert(&others))
		schema_fail(s, "There are too many properties.");
	choice[choices++] = schema_seq(s, charset_expr(s->g, &others, FORM_JSON), any);
	r = grammar_any(s->g, choice, choices);
	free(choice);
	return r;
}

/* A name that no property has, with its colon. */
static int32_t other_name(struct schema *s, const struct shape *h)
{
	struct name name[PROPERTIES_MOST];
	int32_t inside;

	if (!h->properties)
		return schema_seq(s, schema_any_string(s), schema_word(s, ": "));
	for (size_t i = 0; i < h->properties; i++)
		name[i] = (struct name){ h->property[i].name, h->property[i].len };
	qsort(name, h->properties, sizeof(name[0]), compare_names);
	inside = other_than(s, name, h->properties, 0);
	return schema_seq(s, quoted(s, inside), schema_word(s, ": "));
}

/* A property that the schema does not name; EXPR_NEVER: there is none. */
static int32_t additional(struct schema *s, const struct shape *h)
{
	const struct val *v = h->additional;
	size_t before;
	int32_t value;

	if (!v && h->describes)
		return EXPR_NEVER;
	before = schema_into(s, "additionalProperties");
	value = v ? schema_call(s, v) : schema_any_value(s);
	schema_back(s, before);
	return value == EXPR_NEVER ? EXPR_NEVER : schema_seq(s, other_name(s, h), value);
}

/* "name": value; EXPR_NEVER: it cannot be there. */
static int32_t member(struct schema *s, const struct property *p, const struct shape *h)
{
	const struct val *v = p->schema;
	size_t before = schema_into(s, "properties"), place = schema_into(s, p->name);
	int32_t value;

	if (!v && h->additional)
		v = h->additional;
	value = v ? schema_call(s, v) : schema_any_value(s);
	schema_back(s, place);
	schema_back(s, before);
	return value == EXPR_NEVER ? EXPR_NEVER : schema_seq(s, schema_key(s, p->name, p->len), value);
}

int32_t schema_object(struct schema *s, const struct shape *h)
{
	const int32_t extra = additional(s, h);
	const int32_t extras =
		extra == EXPR_NEVER ? EXPR_EMPTY : grammar_repeat(s->g, separated(s, extra), 0, GRAMMAR_MANY);
	int32_t first = extra == EXPR_NEVER ? EXPR_EMPTY : schema_either(s, EXPR_EMPTY, schema_seq(s, extra, extras));
	int32_t behind = extras; /* what may follow when something stands before */

	for (size_t i = h->properties; i-- > 0;) {
		const struct property *p = &h->property[i];
		const int32_t one = member(s, p, h);
		const int32_t go_on = separated(s, one), from_here = schema_seq(s, one, behind);
		const int32_t there = schema_seq(s, go_on, behind);

		first = p->required ? from_here : schema_either(s, from_here, first);
		if (p->required) {
			behind = there;
		} else {
			const int32_t rule = grammar_rule(s->g);

			grammar_define(s->g, rule, schema_either(s, there, behind));
			behind = rule;
		}
	}
	return schema_seq(s, schema_word(s, "{"), first, schema_word(s, "}"));
}
