/*
 * Writing messages. A container's header is written as its widest form, since its count is known only at its end, and
 * cut down to the narrowest there while it is small: events live in logs by the hundred thousand and are paid for in
 * bytes. Mistakes of a caller (a key missing, a map left open) are remembered like missing memory, not asserted,
 * because libsink's callers reach these functions too.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MSGPACK_SBUFFER_INIT_SIZE 256 /* most messages are short, and a client may wait for many at once */
#include <msgpack.h>

#include "msg.h"

enum { WIDE = 5, NARROW = 1 }; /* bytes of a header: map 32 and array 32; fixmap and fixarray */
enum { CUT_MOST = 4096 };      /* bytes that are worth moving to save four */

struct out {
	msgpack_sbuffer buf;
	msgpack_packer pk;
	int depth;
	int failed; /* the first code, 0 while all is well */
	struct {
		size_t header; /* its offset */
		uint32_t count;
		bool map;
	} open[MSG_DEPTH];
};

int out_new(struct out **ret, struct err *e)
{
	struct out *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(e, SINK_ENOMEM, "There is no memory to write a message.");
	msgpack_sbuffer_init(&o->buf);
	msgpack_packer_init(&o->pk, &o->buf, msgpack_sbuffer_write);
	*ret = o;
	return 0;
}

void out_free(struct out *o)
{
	if (!o)
		return;
	msgpack_sbuffer_destroy(&o->buf);
	free(o);
}

void out_reset(struct out *o)
{
	msgpack_sbuffer_clear(&o->buf);
	o->depth = 0;
	o->failed = 0;
}

static void fail(struct out *o, int code)
{
	if (!o->failed)
		o->failed = code;
}

/* Passes on what the packer said. */
static void wrote(struct out *o, int rc)
{
	if (rc)
		fail(o, SINK_ENOMEM);
}

static void put_str(struct out *o, const char *s, size_t len)
{
	if (len > UINT32_MAX) {
		fail(o, SINK_EINVAL);
		return;
	}
	wrote(o, msgpack_pack_str(&o->pk, len));
	if (len > 0)
		wrote(o, msgpack_pack_str_body(&o->pk, s, len));
}

/* Counts a value into its container and writes its key. False when the value must not be written. */
static bool begin(struct out *o, const char *key)
{
	bool map = o->depth > 0 && o->open[o->depth - 1].map;

	if (o->failed)
		return false;
	if (map != (key != NULL) || (o->depth == 0 && o->buf.size > 0)) {
		fail(o, SINK_EINVAL);
		return false;
	}
	if (o->depth > 0)
		o->open[o->depth - 1].count++;
	if (key)
		put_str(o, key, strlen(key));
	return !o->failed;
}

static void open_container(struct out *o, const char *key, bool map)
{
	static const char header[WIDE];

	if (!begin(o, key))
		return;
	if (o->depth == MSG_DEPTH) {
		fail(o, SINK_EINVAL);
		return;
	}
	o->open[o->depth].header = o->buf.size;
	o->open[o->depth].count = 0;
	o->open[o->depth].map = map;
	o->depth++;
	wrote(o, msgpack_sbuffer_write(&o->buf, header, WIDE));
}

void out_map(struct out *o, const char *key)
{
	open_container(o, key, true);
}

void out_array(struct out *o, const char *key)
{
	open_container(o, key, false);
}

void out_end(struct out *o)
{
	unsigned char *at;
	uint32_t count;
	size_t inside;
	bool map;

	if (o->depth == 0)
		fail(o, SINK_EINVAL);
	if (o->failed)
		return;
	o->depth--;
	map = o->open[o->depth].map;
	count = o->open[o->depth].count;
	at = (unsigned char *)o->buf.data + o->open[o->depth].header;
	inside = o->buf.size - o->open[o->depth].header - WIDE;
	if (count < 16 && inside <= CUT_MOST) {
		at[0] = (unsigned char)((map ? 0x80 : 0x90) | count);
		memmove(at + NARROW, at + WIDE, inside);
		o->buf.size -= WIDE - NARROW;
		return;
	}
	at[0] = map ? 0xdf : 0xdd;
	for (int i = 0; i < 4; i++)
		at[1 + i] = (unsigned char)(count >> (24 - 8 * i));
}

void out_nil(struct out *o, const char *key)
{
	if (begin(o, key))
		wrote(o, msgpack_pack_nil(&o->pk));
}

void out_bool(struct out *o, const char *key, bool v)
{
	if (begin(o, key))
		wrote(o, v ? msgpack_pack_true(&o->pk) : msgpack_pack_false(&o->pk));
}

void out_int(struct out *o, const char *key, int64_t v)
{
	if (begin(o, key))
		wrote(o, msgpack_pack_int64(&o->pk, v));
}

void out_float(struct out *o, const char *key, double v)
{
	if (begin(o, key))
		wrote(o, msgpack_pack_double(&o->pk, v));
}

void out_str(struct out *o, const char *key, const char *s)
{
	if (s)
		out_strn(o, key, s, strlen(s));
	else
		out_nil(o, key);
}

/* Bytes of `s` once each broken character is U+FFFD, which has three; written to `to` when that is not NULL. */
static size_t repair(const char *s, size_t len, char *to)
{
	size_t size = 0, bad;

	for (;;) {
		size_t good = msg_utf8(s, len, &bad);

		if (to)
			memcpy(to + size, s, good);
		size += good;
		if (!bad)
			return size;
		if (to)
			memcpy(to + size, "\xef\xbf\xbd", 3);
		size += 3;
		s += good + bad;
		len -= good + bad;
	}
}

void out_strn(struct out *o, const char *key, const char *s, size_t len)
{
	size_t bad, size;
	char *repaired;

	if (!begin(o, key))
		return;
	if (msg_utf8(s, len, &bad) == len) {
		put_str(o, s, len);
		return;
	}
	size = repair(s, len, NULL);
	repaired = malloc(size);
	if (!repaired) {
		fail(o, SINK_ENOMEM);
		return;
	}
	repair(s, len, repaired);
	put_str(o, repaired, size);
	free(repaired);
}

void out_bin(struct out *o, const char *key, const void *p, size_t len)
{
	if (len > UINT32_MAX)
		fail(o, SINK_EINVAL);
	if (!begin(o, key))
		return;
	wrote(o, msgpack_pack_bin(&o->pk, len));
	if (len > 0)
		wrote(o, msgpack_pack_bin_body(&o->pk, p, len));
}

void out_val(struct out *o, const char *key, const struct val *v)
{
	/* A nil is written as such, so that a copy has the keys of its original. */
	if (begin(o, key))
		wrote(o, v ? msgpack_pack_object(&o->pk, *(const msgpack_object *)v) : msgpack_pack_nil(&o->pk));
}

int out_check(const struct out *o, struct err *e)
{
	if (o->failed == SINK_ENOMEM)
		return err_set(e, SINK_ENOMEM, "There is no memory to write a message.");
	if (o->failed)
		return err_set(e, SINK_EINVAL,
			       "The message cannot be written: a value of a map has no key, one outside has "
			       "one, or the nesting is wrong.");
	if (o->depth > 0 || o->buf.size == 0)
		return err_set(e, SINK_EINVAL, "The message is not complete: a map or an array is still open.");
	return 0;
}

bool out_ok(const struct out *o)
{
	return out_check(o, NULL) == 0;
}

const void *out_data(const struct out *o, size_t *size)
{
	*size = o->buf.size;
	return o->buf.data;
}
