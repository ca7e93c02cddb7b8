/* The tests that check_kernels.c lists, by the files that hold them. `state` is a struct subject, but for the last. */
#ifndef TESTS_KERNELS_CHECK_H
#define TESTS_KERNELS_CHECK_H

#include "kit.h"

/* What a test is about. */
struct subject {
	const struct backend *b;
	enum dtype type;
	void (*test)(void **state);
};

/* Whether the backend quantizes activations and shares its bits with the others of its kind. */
bool is_fast(const struct backend *b);

/* check_rows.c */
void norm_is_what_the_definition_says(void **state);
void gate_is_what_the_definition_says(void **state);
void row_operations_repeat(void **state);
void input_is_prepared_on_the_way(void **state);
void copies_are_copies(void **state);
void angles_are_taken_in_double(void **state);
void the_largest_are_what_sorting_finds(void **state);

/* check_attend.c */
void store_writes_what_the_definition_says(void **state);
void store_repeats(void **state);
void attention_is_what_the_definition_says(void **state);
void attention_of_prompts_is_what_the_definition_says(void **state);
void attention_repeats(void **state);

/* check_types.c */
void halves_are_what_ieee_754_says(void **state);
void types_are_what_their_formats_say(void **state);
void pages_have_the_size_of_their_type(void **state);
void quotas_are_respected(void **state);

#endif
