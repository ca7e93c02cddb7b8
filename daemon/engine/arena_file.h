/*
 * Inside an arena, for arena.c alone: its two files, which say of themselves whose they are. README.md has their form.
 */
#ifndef ENGINE_ARENA_FILE_H
#define ENGINE_ARENA_FILE_H

#include "arena.h"

enum { ARENA_HEAD = 4096 }; /* bytes of each file, before the pages or the blocks: keeps pages aligned */

/* New files of so many bytes, for pages of this shape; those that were made are the caller's on failure too. */
int arena_files_make(const struct page_shape *shape, uint64_t fingerprint, size_t pages, size_t records,
		     struct arena_files *ret, struct err *e);

/* Compares files that were left with what is expected, and says how large they are. They are not changed. */
int arena_files_check(const struct arena_files *from, const struct page_shape *shape, uint64_t fingerprint,
		      size_t *pages, size_t *records, struct err *e);

#endif
