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

/* Whether the backend quantizes activations. */
bool is_fast(const struct backend *b);
/* The backend whose bits this one has to give: of processors that quantize, the plainest; else itself. */
const struct backend *twin_of(const struct backend *b);
/* Whether so many rows go through tensor cores, as halves. */
bool as_halves(const struct backend *b, enum dtype type, size_t n);

/* check_inputs.c */
void norm_is_what_the_definition_says(void **state);
void activations_are_what_the_definition_says(void **state);
void row_operations_repeat(void **state);
void input_is_prepared_on_the_way(void **state);
void results_are_biased_and_clipped(void **state);

/* check_experts.c */
void experts_are_what_the_definition_says(void **state);
void experts_repeat(void **state);

/* check_rows.c */
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

/* check_card.c */
void steps_become_graphs(void **state);
void a_card_may_break_at_any_call(void **state);
void a_card_may_be_small(void **state);
void memory_is_capped(void **state);
void cards_that_cannot_be_used_are_refused(void **state);
void pages_come_and_go(void **state);

#endif
