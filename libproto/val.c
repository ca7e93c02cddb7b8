/*
 * Values inside a message. A `struct val` is the decoder's object under another name, so that nobody else needs to know
 * the decoder; every reader takes NULL, so that lookups can be chained and checked once.
 */
#include <string.h>

#include <msgpack.h>

#include "msg.h"

static const msgpack_object *object(const struct val *v)
{
	return (const msgpack_object *)v;
}

static const struct val *value(const msgpack_object *o)
{
	return (const struct val *)o;
}

static bool has_type(const struct val *v, msgpack_object_type type)
{
	return v && object(v)->type == type;
}

const struct val *val_get(const struct val *map, const char *key)
{
	size_t len = strlen(key);

	if (!has_type(map, MSGPACK_OBJECT_MAP))
		return NULL;
	for (uint32_t i = 0; i < object(map)->via.map.size; i++) {
		const msgpack_object_kv *pair = &object(map)->via.map.ptr[i];

		if (pair->key.via.str.size == len && memcmp(pair->key.via.str.ptr, key, len) == 0)
			return pair->val.type == MSGPACK_OBJECT_NIL ? NULL : value(&pair->val);
	}
	return NULL;
}

enum val_type val_type(const struct val *v)
{
	if (!v)
		return VAL_NIL;
	switch (object(v)->type) {
	case MSGPACK_OBJECT_BOOLEAN:
		return VAL_BOOL;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return VAL_INT;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return VAL_FLOAT;
	case MSGPACK_OBJECT_STR:
		return VAL_STR;
	case MSGPACK_OBJECT_BIN:
		return VAL_BIN;
	case MSGPACK_OBJECT_ARRAY:
		return VAL_ARRAY;
	case MSGPACK_OBJECT_MAP:
		return VAL_MAP;
	case MSGPACK_OBJECT_NIL:
	case MSGPACK_OBJECT_EXT: /* the walk lets none pass */
		break;
	}
	return VAL_NIL;
}

size_t val_count(const struct val *v)
{
	if (has_type(v, MSGPACK_OBJECT_ARRAY))
		return object(v)->via.array.size;
	if (has_type(v, MSGPACK_OBJECT_MAP))
		return object(v)->via.map.size;
	return 0;
}

const struct val *val_at(const struct val *array, size_t i)
{
	if (!has_type(array, MSGPACK_OBJECT_ARRAY) || i >= object(array)->via.array.size)
		return NULL;
	return value(&object(array)->via.array.ptr[i]);
}

const struct val *val_pair(const struct val *map, size_t i, const char **key, size_t *key_len)
{
	const msgpack_object_kv *pair;

	if (!has_type(map, MSGPACK_OBJECT_MAP) || i >= object(map)->via.map.size)
		return NULL;
	pair = &object(map)->via.map.ptr[i];
	*key = pair->key.via.str.ptr;
	if (key_len)
		*key_len = pair->key.via.str.size;
	return value(&pair->val);
}

int64_t val_int(const struct val *v, int64_t otherwise)
{
	if (has_type(v, MSGPACK_OBJECT_POSITIVE_INTEGER))
		return object(v)->via.u64 > INT64_MAX ? INT64_MAX : (int64_t)object(v)->via.u64;
	if (has_type(v, MSGPACK_OBJECT_NEGATIVE_INTEGER))
		return object(v)->via.i64;
	return otherwise;
}

double val_float(const struct val *v, double otherwise)
{
	if (has_type(v, MSGPACK_OBJECT_FLOAT64) || has_type(v, MSGPACK_OBJECT_FLOAT32))
		return object(v)->via.f64;
	if (has_type(v, MSGPACK_OBJECT_POSITIVE_INTEGER))
		return (double)object(v)->via.u64;
	if (has_type(v, MSGPACK_OBJECT_NEGATIVE_INTEGER))
		return (double)object(v)->via.i64;
	return otherwise;
}

bool val_bool(const struct val *v, bool otherwise)
{
	return has_type(v, MSGPACK_OBJECT_BOOLEAN) ? object(v)->via.boolean : otherwise;
}

const char *val_str(const struct val *v, size_t *len)
{
	if (!has_type(v, MSGPACK_OBJECT_STR))
		return NULL;
	if (len)
		*len = object(v)->via.str.size;
	return object(v)->via.str.ptr;
}

const void *val_bin(const struct val *v, size_t *len)
{
	if (!has_type(v, MSGPACK_OBJECT_BIN))
		return NULL;
	if (len)
		*len = object(v)->via.bin.size;
	return object(v)->via.bin.ptr;
}
