/*
 * What gguf.c reads and gguf_read.c looks up; private to these two.
 */
#ifndef ENGINE_GGUF_FILE_H
#define ENGINE_GGUF_FILE_H

#include "gguf.h"

/* The types of a value, by their numbers in the file. */
enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, VALUE_TYPES };

struct gguf_value_type {
	const char *name;
	size_t bytes; /* the least that a value of the type takes */
};
extern const struct gguf_value_type gguf_value_types[VALUE_TYPES];

enum { DIMS_MOST = 4 };

struct key {
	struct gguf_str name;
	enum value_type type;
	enum value_type item;	/* of an array */
	size_t count;		/* of an array; else 1 */
	const uint8_t *at;	/* the value, or the array's first element; a string's length field */
	const uint8_t **string; /* of an array of strings: where each one's length field lies */
};

struct tensor_entry {
	struct gguf_str name;
	uint64_t dims[DIMS_MOST]; /* fastest first; 1 where the file gives none */
	uint32_t type;
	uint64_t offset; /* in the data section */
	size_t bytes;	 /* 0 while the type is unknown: nobody can read it then */
	const uint8_t *data;
};

struct gguf {
	const uint8_t *data;
	size_t size;
	bool mapped;
	char file[80];	  /* as error texts name it */
	struct key *keys; /* by name */
	size_t key_count;
	struct tensor_entry *tensors; /* by name */
	size_t tensor_count;
	size_t alignment;
};

/* Orders struct key, struct tensor_entry by name, for qsort() and bsearch(). */
int gguf_by_key(const void *a, const void *b);
int gguf_by_tensor(const void *a, const void *b);

#endif
