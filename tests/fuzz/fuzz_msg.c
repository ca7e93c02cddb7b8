/* Fuzz target: a frame of a peer, walked through as a whole, read by every reader, written again and read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checks what the header promises of a value, and of those inside. Returns the number of values. */
static size_t use_value(const struct val *v)
{
	const char *s, *key;
	size_t count = 1, len = 0, bad;

	s = val_str(v, &len);
	if (s && (s[len] != '\0' || msg_utf8(s, len, &bad) != len))
		abort();
	if (val_type(v) != VAL_STR && s)
		abort();
	if (val_bin(v, &len) && len && !val_bin(v, NULL))
		abort();
	if (val_at(v, val_count(v)))
		abort();
	for (size_t i = 0; i < val_count(v); i++) {
		const struct val *inner = val_at(v, i);

		if (val_type(v) == VAL_MAP) {
			inner = val_pair(v, i, &key, &len);
			if (key[len] != '\0')
				abort();
			if (strlen(key) == len && val_type(inner) != VAL_NIL && val_get(v, key) != inner)
				abort();
		}
		count += use_value(inner);
	}
	return count;
}

static void use_fields(const struct val *root)
{
	const char *s;
	struct err e;
	int64_t n = 7;
	double x = 7;
	bool b;

	if (msg_int_or(root, "n", 1, 9, &n, &e) == 0 && (n < 1 || n > 9))
		abort();
	if (msg_float_or(root, "x", &x, &e) == 0 && !(x - x == 0))
		abort();
	msg_bool_or(root, "b", &b, &e);
	if (msg_str(root, "op", 16, &s, NULL, &e) == 0 && !s)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg *m, *again;
	const void *frame;
	size_t count, frame_size;
	struct out *o;
	struct err e;

	if (msg_parse(data, size, &m, &e))
		return 0;
	count = use_value(msg_root(m));
	use_fields(msg_root(m));
	if (count > MSG_ELEMENTS + 1 || out_new(&o, &e))
		abort();
	out_val(o, NULL, msg_root(m));
	frame = out_data(o, &frame_size);
	if (!out_ok(o) || msg_parse(frame, frame_size, &again, &e) || use_value(msg_root(again)) != count)
		abort();
	msg_free(again);
	out_free(o);
	msg_free(m);
	return 0;
}
