/*
 * Owns numbers. A range is a tree of digits: those between the first digits of both bounds may be followed by any, and
 * an edge by what its bound allows. A fraction of j digits is the range of a number 10^j times as large with a point in
 * it, so bounds are exact for each count of digits.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "schema_parts.h"

enum {
	INTEGER_DIGITS = 18,
	WHOLE_DIGITS = 15, /* of a number: what a double holds */
	POINT_DIGITS = 6,  /* behind the point, where there are bounds */
	POINT_WHOLE = 9,   /* before it, then */
};

static int32_t digit(struct schema *s, unsigned least, unsigned most)
{
	struct byteset set = { { 0 } };

	grammar_byteset_add(&set, '0' + least, '0' + most);
	return grammar_bytes(s->g, &set);
}

struct range {
	struct schema *s;
	char least[24], most[24]; /* digits, `count` each */
	int count, point;	  /* a point stands before the last so many; 0: none */
};

/* A digit at place i, with the point before it when that is its place. */
static int32_t at_place(const struct range *r, int i, unsigned least, unsigned most)
{
	const int32_t one = digit(r->s, least, most);

	return r->point && i == r->count - r->point ? schema_seq(r->s, schema_word(r->s, "."), one) : one;
}

/* Any digits from place i on. */
static int32_t rest(const struct range *r, int i)
{
	struct schema *s = r->s;
	const int32_t any = digit(s, 0, 9);
	const int whole = r->point ? r->count - r->point - i : 0;

	if (!r->point || whole < 0)
		return grammar_repeat(s->g, any, (uint32_t)(r->count - i), (uint32_t)(r->count - i));
	return schema_seq(s, grammar_repeat(s->g, any, (uint32_t)whole, (uint32_t)whole), schema_word(s, "."),
			  grammar_repeat(s->g, any, (uint32_t)r->point, (uint32_t)r->point));
}

static int32_t between(const struct range *r, int i, bool low, bool high)
{
	struct schema *s = r->s;
	unsigned least, most;
	int32_t choice[3];
	size_t n = 0;

	low = low && strspn(r->least + i, "0") < (size_t)(r->count - i); /* zeros bind nothing */
	high = high && strspn(r->most + i, "9") < (size_t)(r->count - i);
	if (!low && !high)
		return i < r->count ? rest(r, i) : EXPR_EMPTY;
	least = low ? (unsigned)(r->least[i] - '0') : 0;
	most = high ? (unsigned)(r->most[i] - '0') : 9;
	if (low && high && least == most)
		return schema_seq(s, at_place(r, i, least, most), between(r, i + 1, true, true));
	if (low) {
		choice[n++] = schema_seq(s, at_place(r, i, least, least), between(r, i + 1, true, false));
		least++;
	}
	if (high)
		choice[n++] = schema_seq(s, at_place(r, i, most, most), between(r, i + 1, false, true));
	if (least + high <= most)
		choice[n++] = schema_seq(s, at_place(r, i, least, most - high), between(r, i + 1, false, false));
	return grammar_any(s->g, choice, n);
}

static int64_t power(int n)
{
	int64_t r = 1;

	while (n-- > 0)
		r *= 10;
	return r;
}

/* least .. most, neither below 0, with a point before the last `point` digits. */
static int32_t positive(struct schema *s, int64_t least, int64_t most, int point)
{
	int32_t choice[24];
	size_t n = 0;

	for (int count = point + 1; count <= INTEGER_DIGITS; count++) {
		const int64_t first = count == point + 1 ? 0 : power(count - 1), last = power(count) - 1;
		struct range r = { .s = s, .count = count, .point = point };

		if (least > last || most < first)
			continue;
		snprintf(r.least, sizeof(r.least), "%0*lld", count, (long long)(least > first ? least : first));
		snprintf(r.most, sizeof(r.most), "%0*lld", count, (long long)(most < last ? most : last));
		choice[n++] = between(&r, 0, true, true);
	}
	return grammar_any(s->g, choice, n);
}

static int32_t signed_range(struct schema *s, int64_t least, int64_t most, int point)
{
	int32_t below = EXPR_NEVER, above = EXPR_NEVER;

	if (least > most)
		return EXPR_NEVER;
	if (most >= 0)
		above = positive(s, least > 0 ? least : 0, most, point);
	if (least < 0)
		below = schema_seq(s, schema_word(s, "-"), positive(s, most < 0 ? -most : 1, -least, point));
	return schema_either(s, above, below);
}

/* The least n with n / scale at or above the bound, or beyond it; `most`: no further than that. */
static int64_t lowest(double bound, bool out, int64_t scale, int64_t most)
{
	const double exact = ceil(bound * (double)scale);
	int64_t n;

	if (!(exact > -(double)most))
		return -most;
	if (exact > (double)most)
		return most + 1;
	n = (int64_t)exact;
	while ((double)n / (double)scale < bound || (out && !((double)n / (double)scale > bound)))
		n++;
	return n;
}

static int64_t highest(double bound, bool out, int64_t scale, int64_t most)
{
	return -lowest(-bound, out, scale, most);
}

int32_t schema_integer(struct schema *s, const struct shape *h)
{
	const int64_t most = power(INTEGER_DIGITS) - 1;

	return signed_range(s, lowest(h->least, h->least_out, 1, most), highest(h->most, h->most_out, 1, most), 0);
}

static int32_t digits(struct schema *s, uint32_t least, uint32_t most)
{
	return grammar_repeat(s->g, digit(s, 0, 9), least, most);
}

/* Without bounds, as JSON has it. */
static int32_t any_number(struct schema *s)
{
	struct byteset e = { { 0 } }, sign = { { 0 } };
	int32_t whole, point, power_of_ten;

	grammar_byteset_add(&e, 'e', 'e');
	grammar_byteset_add(&e, 'E', 'E');
	grammar_byteset_add(&sign, '+', '+');
	grammar_byteset_add(&sign, '-', '-');
	whole = schema_either(s, schema_word(s, "0"), schema_seq(s, digit(s, 1, 9), digits(s, 0, WHOLE_DIGITS - 1)));
	point = schema_seq(s, schema_word(s, "."), digits(s, 1, WHOLE_DIGITS));
	power_of_ten = schema_seq(s, grammar_bytes(s->g, &e), grammar_repeat(s->g, grammar_bytes(s->g, &sign), 0, 1),
				  digits(s, 1, 2));
	return schema_seq(s, grammar_repeat(s->g, schema_word(s, "-"), 0, 1), whole, grammar_repeat(s->g, point, 0, 1),
			  grammar_repeat(s->g, power_of_ten, 0, 1));
}

int32_t schema_number(struct schema *s, const struct shape *h)
{
	int32_t choice[POINT_DIGITS + 1];

	if (isinf(h->least) && isinf(h->most) && h->least < 0 && h->most > 0)
		return any_number(s);
	for (int j = 0; j <= POINT_DIGITS; j++) {
		const int64_t scale = power(j), most = power(j ? POINT_WHOLE + j : WHOLE_DIGITS) - 1;

		choice[j] = signed_range(s, lowest(h->least, h->least_out, scale, most),
					 highest(h->most, h->most_out, scale, most), j);
	}
	return grammar_any(s->g, choice, POINT_DIGITS + 1);
}
