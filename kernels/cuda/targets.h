/*
 * What a kernel that multiplies is told: matrices of one type side by side, rows of activations, and where results go;
 * and how it finds which rows of which matrix are its own.
 */
#ifndef CUDA_TARGETS_H
#define CUDA_TARGETS_H

#include "prepare.h"

enum { TARGETS_MOST = 4 };

namespace CUDA_SPACE
{

/* A matrix, and where its rows go in y; group: its first, of R rows, among those of all matrices. */
struct target {
	matrix m;
	int rows, group, column;
};

struct product {
	target w[TARGETS_MOST];
	int groups, units;
	int n;
	int stretches;	  /* of a row (units.h) */
	const uint8_t *x; /* prepared; NULL: each block does it */
	size_t x_stride;
	source from;
	float *y;
	size_t y_stride;
	bool add;
};

/* R rows of a matrix, and the numbers of their first units; behind the last row, the first again. */
template <int R> struct place {
	matrix m;
	int row, rows, column;
	uint32_t unit[R];
};

template <int R> static __device__ __forceinline__ place<R> place_of(const product &p, int group)
{
	place<R> ret = {};

#pragma unroll
	for (int i = 0; i < TARGETS_MOST; i++)
		if (i == 0 || group >= p.w[i].group)
			ret = { p.w[i].m, (group - p.w[i].group) * R, p.w[i].rows, p.w[i].column, {} };
#pragma unroll
	for (int r = 0; r < R; r++)
		ret.unit[r] = static_cast<uint32_t>((ret.row + (ret.row + r < ret.rows ? r : 0)) * p.units);
	return ret;
}

/* Numbers the groups of R rows. */
static inline void number_groups(product *p, int weights, int r)
{
	p->groups = 0;
	for (int i = 0; i < weights; i++) {
		p->w[i].group = p->groups;
		p->groups += (p->w[i].rows + r - 1) / r;
	}
	for (int i = weights; i < TARGETS_MOST; i++)
		p->w[i].group = INT32_MAX;
}

/* The next matrices from *first to end - 1, as many as go at once; their number. */
static inline int take_targets(const struct matmul *op, size_t *first, size_t end, size_t *column, enum form f,
			       product *p)
{
	int count = 0;

	*p = {};
	for (; count < TARGETS_MOST && *first < end; count++, ++*first) {
		const struct weight *w = op->w[*first];

		p->w[count] = { matrix_of(w), static_cast<int>(w->rows), 0, static_cast<int>(*column) };
		*column += w->rows;
	}
	p->units = units_of(f, op->w[0]->cols);
	p->n = static_cast<int>(op->n);
	p->x_stride = form_bytes(f, op->w[0]->cols);
	p->y = op->y;
	p->y_stride = op->y_stride;
	p->add = op->add;
	return count;
}

} // namespace CUDA_SPACE

#endif
