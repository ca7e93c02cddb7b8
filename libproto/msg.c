/*
 * Reading messages. msgpack-c decodes, and trusts the counts of the frame in doing so: five bytes can make it ask for
 * 96 GiB. So every frame is walked here first, byte by byte and without allocating, against the limits in msg.h; the
 * decoder sees only frames that passed.
 *
 * A message owns one copy of its frame, and its strings lie in there. They are terminated in place: the byte behind a
 * string is the header of the next value, which nobody needs once the frame is decoded.
 */
#include "msg.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

struct msg {
	msgpack_zone *zone; /* of the values */
	msgpack_object root;
	char bytes[]; /* the frame, and one byte more for the last terminator */
};

/* ---- UTF-8 ---- */

/* Bytes of the character at p (1..4), or the negative length of a broken one, as Unicode's table 3-7 has them. */
static int utf8_char(const unsigned char *p, size_t left)
{
	unsigned char c = p[0], least = 0x80, most = 0xbf;
	int tail = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	if (c == 0xe0)
		least = 0xa0; /* shorter forms exist */
	else if (c == 0xed)
		most = 0x9f; /* surrogates */
	else if (c == 0xf0)
		least = 0x90;
	else if (c == 0xf4)
		most = 0x8f; /* beyond U+10FFFF */
	for (int i = 1; i <= tail; i++) {
		if ((size_t)i >= left || p[i] < least || p[i] > most)
			return -i;
		least = 0x80;
		most = 0xbf;
	}
	return tail + 1;
}

size_t msg_utf8(const char *s, size_t len, size_t *bad)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t at = 0;

	*bad = 0;
	while (at < len) {
		uint64_t eight;
		int n;

		if (len - at >= sizeof(eight)) {
			memcpy(&eight, p + at, sizeof(eight));
			if (!(eight & UINT64_C(0x8080808080808080))) {
				at += sizeof(eight);
				continue;
			}
		}
		n = utf8_char(p + at, len - at);
		if (n < 0) {
			*bad = (size_t)-n;
			return at;
		}
		at += (size_t)n;
	}
	return at;
}

/* ---- the walk ---- */

enum kind { PLAIN, STR, BIN, ARRAY, MAP, EXT, NEVER };

/* What follows a first byte 0xc0..0xdf: so many bytes of length or count, then `fixed` bytes. */
struct form {
	uint8_t kind, length, fixed;
};

static const struct form forms[32] = {
	{ PLAIN, 0, 0 }, { NEVER, 0, 0 }, { PLAIN, 0, 0 }, { PLAIN, 0, 0 }, /* nil, unused, false, true */
	{ BIN, 1, 0 },	 { BIN, 2, 0 },	  { BIN, 4, 0 },		    /* bin 8, 16, 32 */
	{ EXT, 1, 0 },	 { EXT, 2, 0 },	  { EXT, 4, 0 },		    /* ext 8, 16, 32 */
	{ PLAIN, 0, 4 }, { PLAIN, 0, 8 },				    /* float 32, 64 */
	{ PLAIN, 0, 1 }, { PLAIN, 0, 2 }, { PLAIN, 0, 4 }, { PLAIN, 0, 8 }, /* uint 8 .. 64 */
	{ PLAIN, 0, 1 }, { PLAIN, 0, 2 }, { PLAIN, 0, 4 }, { PLAIN, 0, 8 }, /* int 8 .. 64 */
	{ EXT, 0, 0 },	 { EXT, 0, 0 },	  { EXT, 0, 0 },   { EXT, 0, 0 },   { EXT, 0, 0 }, /* fixext 1 .. 16 */
	{ STR, 1, 0 },	 { STR, 2, 0 },	  { STR, 4, 0 },				   /* str 8, 16, 32 */
	{ ARRAY, 2, 0 }, { ARRAY, 4, 0 },						   /* array 16, 32 */
	{ MAP, 2, 0 },	 { MAP, 4, 0 },							   /* map 16, 32 */
};

struct walk {
	const unsigned char *at, *end;
	uint64_t elements;
	int depth;
	struct {
		uint64_t left; /* values still to come; a key of a map counts as one */
		bool map;
	} open[MSG_DEPTH];
};

static size_t bytes_left(const struct walk *w)
{
	return (size_t)(w->end - w->at);
}

/* Reads a first byte and the length behind it. *size: the payload's bytes, or the count of an array or map. */
static int walk_head(struct walk *w, enum kind *kind, uint64_t *size, struct err *e)
{
	struct form f;
	unsigned c;

	if (w->at == w->end)
		return err_set(e, SINK_EFORMAT, "The message ends in the middle of a value.");
	c = *w->at++;
	*size = 0;
	*kind = PLAIN;
	if (c < 0x80 || c >= 0xe0)
		return 0;
	if (c < 0xc0) {
		*kind = c < 0x90 ? MAP : c < 0xa0 ? ARRAY : STR;
		*size = c < 0xa0 ? c & 0x0f : c & 0x1f;
		return 0;
	}
	f = forms[c - 0xc0];
	*kind = f.kind;
	*size = f.fixed;
	if (bytes_left(w) < f.length)
		return err_set(e, SINK_EFORMAT, "The message ends in the middle of a length.");
	for (int i = 0; i < f.length; i++)
		*size = *size << 8 | *w->at++;
	return 0;
}

static int walk_open(struct walk *w, bool map, uint64_t count, struct err *e)
{
	uint64_t values = map ? 2 * count : count;

	if (w->depth == MSG_DEPTH)
		return err_set(e, SINK_EFORMAT, "The message nests deeper than %d.", MSG_DEPTH);
	if (values > bytes_left(w))
		return err_set(e, SINK_EFORMAT, "The message names %" PRIu64 " values where %zu bytes are left.",
			       values, bytes_left(w));
	if (map && count > MSG_PAIRS)
		return err_set(e, SINK_EFORMAT, "The message has a map of %" PRIu64 " pairs; %d are allowed.", count,
			       MSG_PAIRS);
	w->elements += values;
	if (w->elements > MSG_ELEMENTS)
		return err_set(e, SINK_EFORMAT, "The message has more than %d values.", MSG_ELEMENTS);
	w->open[w->depth].left = values;
	w->open[w->depth].map = map;
	w->depth++;
	return 0;
}

/* One value: a container is opened, anything else is passed over. */
static int walk_value(struct walk *w, bool key, struct err *e)
{
	enum kind kind = NEVER;
	uint64_t size = 0;
	size_t bad;
	int rc = walk_head(w, &kind, &size, e);

	if (rc)
		return rc;
	if (kind == EXT || kind == NEVER)
		return err_set(e, SINK_EFORMAT, "The message holds an extension type or an unused code.");
	if (key && kind != STR)
		return err_set(e, SINK_EFORMAT, "The message has a map with a key that is no string.");
	if (kind == ARRAY || kind == MAP)
		return walk_open(w, kind == MAP, size, e);
	if (size > bytes_left(w))
		return err_set(e, SINK_EFORMAT, "The message declares a value of %" PRIu64 " bytes where %zu are left.",
			       size, bytes_left(w));
	if (kind == STR && msg_utf8((const char *)w->at, (size_t)size, &bad) != size)
		return err_set(e, SINK_EFORMAT, "The message holds a string that is no valid UTF-8.");
	w->at += size;
	return 0;
}

static int walk_frame(const void *frame, size_t size, struct err *e)
{
	struct walk w = { .at = frame, .end = (const unsigned char *)frame + size };
	int rc;

	do {
		bool key = false;

		if (w.depth > 0) {
			key = w.open[w.depth - 1].map && w.open[w.depth - 1].left % 2 == 0;
			w.open[w.depth - 1].left--;
		}
		rc = walk_value(&w, key, e);
		if (rc)
			return rc;
		if (w.depth == 0 || !w.open[0].map)
			return err_set(e, SINK_EFORMAT, "The message is no map.");
		while (w.depth > 0 && w.open[w.depth - 1].left == 0)
			w.depth--;
	} while (w.depth > 0);
	if (w.at != w.end)
		return err_set(e, SINK_EFORMAT, "The message has %zu bytes behind its end.", bytes_left(&w));
	return 0;
}

/* ---- parsing ---- */

/* Any total order serves. */
static int compare_keys(const msgpack_object_str *a, const msgpack_object_str *b)
{
	if (a->size != b->size)
		return a->size < b->size ? -1 : 1;
	return memcmp(a->ptr, b->ptr, a->size);
}

/* Puts the keys in order one by one: a frame made of nothing but full maps must not cost the square of their pairs. */
static int check_keys(const msgpack_object_map *map, struct err *e)
{
	uint8_t order[MSG_PAIRS];

	for (uint32_t i = 0; i < map->size; i++) {
		const msgpack_object_str *key = &map->ptr[i].key.via.str;
		uint32_t lo = 0, hi = i;

		while (lo < hi) {
			uint32_t mid = (lo + hi) / 2;
			int c = compare_keys(key, &map->ptr[order[mid]].key.via.str);

			if (c == 0)
				return err_set(e, SINK_EFORMAT, "The message has the key \"%.64s\" twice.", key->ptr);
			if (c < 0)
				hi = mid;
			else
				lo = mid + 1;
		}
		memmove(order + lo + 1, order + lo, i - lo);
		order[lo] = (uint8_t)i;
	}
	return 0;
}

/* Terminates the strings in place and checks the keys of every map. Recursion ends at MSG_DEPTH. */
static int finish(struct msg *m, msgpack_object *o, struct err *e)
{
	int rc = 0;

	if (o->type == MSGPACK_OBJECT_STR) {
		if (o->via.str.size == 0)
			o->via.str.ptr = ""; /* the decoder leaves it pointing at the header */
		else
			m->bytes[o->via.str.ptr - m->bytes + o->via.str.size] = '\0';
	} else if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; !rc && i < o->via.array.size; i++)
			rc = finish(m, &o->via.array.ptr[i], e);
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t i = 0; !rc && i < o->via.map.size; i++) {
			rc = finish(m, &o->via.map.ptr[i].key, e);
			if (!rc)
				rc = finish(m, &o->via.map.ptr[i].val, e);
		}
		if (!rc)
			rc = check_keys(&o->via.map, e);
	}
	return rc;
}

/*
 * Memory for the values of a frame, in pieces of about what it needs. msgpack_unpack_next() would take 8 KiB for each,
 * and a client may have fifty short events before it.
 */
static msgpack_zone *new_zone(size_t size)
{
	enum { LEAST = 256, MOST = 8192 };
	const size_t guess = 4 * size;

	return msgpack_zone_new(size > MOST / 4 ? MOST : guess < LEAST ? LEAST : guess);
}

int msg_parse(const void *frame, size_t size, struct msg **ret, struct err *e)
{
	struct msg *m;
	int rc = walk_frame(frame, size, e);

	if (rc)
		return rc;
	m = malloc(sizeof(*m) + size + 1);
	if (!m)
		return err_set(e, SINK_ENOMEM, "There is no memory for a message of %zu bytes.", size);
	memcpy(m->bytes, frame, size);
	m->zone = new_zone(size);
	if (!m->zone || msgpack_unpack(m->bytes, size, NULL, m->zone, &m->root) != MSGPACK_UNPACK_SUCCESS) {
		msg_free(m); /* the walk has passed it, so nothing but memory is left to fail */
		return err_set(e, SINK_ENOMEM, "There is no memory to decode a message of %zu bytes.", size);
	}
	rc = finish(m, &m->root, e);
	if (rc) {
		msg_free(m);
		return rc;
	}
	*ret = m;
	return 0;
}

void msg_free(struct msg *m)
{
	if (!m)
		return;
	if (m->zone)
		msgpack_zone_free(m->zone);
	free(m);
}

const struct val *msg_root(const struct msg *m)
{
	return (const struct val *)&m->root;
}

/* ---- checked fields ---- */

int msg_int_or(const struct val *map, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e)
{
	const struct val *v = val_get(map, key);
	int64_t n;

	if (!v)
		return 0;
	n = val_int(v, 0);
	if (val_type(v) != VAL_INT || n < least || n > most)
		return err_set(e, SINK_EINVAL, "\"%s\" must be an integer from %" PRId64 " to %" PRId64 ".", key, least,
			       most);
	*ret = n;
	return 0;
}

int msg_int(const struct val *map, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e)
{
	if (!val_get(map, key))
		return err_set(e, SINK_EINVAL, "\"%s\" is missing: an integer from %" PRId64 " to %" PRId64 ".", key,
			       least, most);
	return msg_int_or(map, key, least, most, ret, e);
}

int msg_float_or(const struct val *map, const char *key, double *ret, struct err *e)
{
	const struct val *v = val_get(map, key);
	double x;

	if (!v)
		return 0;
	x = val_float(v, NAN);
	if (!isfinite(x))
		return err_set(e, SINK_EINVAL, "\"%s\" must be a finite number.", key);
	*ret = x;
	return 0;
}

int msg_bool_or(const struct val *map, const char *key, bool *ret, struct err *e)
{
	const struct val *v = val_get(map, key);

	if (!v)
		return 0;
	if (val_type(v) != VAL_BOOL)
		return err_set(e, SINK_EINVAL, "\"%s\" must be true or false.", key);
	*ret = val_bool(v, false);
	return 0;
}

int msg_str_or(const struct val *map, const char *key, size_t most, const char **ret, size_t *len, struct err *e)
{
	const struct val *v = val_get(map, key);
	const char *s;
	size_t n = 0;

	if (!v)
		return 0;
	s = val_str(v, &n);
	if (!s || n > most)
		return err_set(e, SINK_EINVAL, "\"%s\" must be a string of at most %zu bytes.", key, most);
	*ret = s;
	if (len)
		*len = n;
	return 0;
}

int msg_str(const struct val *map, const char *key, size_t most, const char **ret, size_t *len, struct err *e)
{
	if (!val_get(map, key))
		return err_set(e, SINK_EINVAL, "\"%s\" is missing: a string of at most %zu bytes.", key, most);
	return msg_str_or(map, key, most, ret, len, e);
}
