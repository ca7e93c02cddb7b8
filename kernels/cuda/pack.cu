/*
 * Owns the weights of the card: from the file's layout to the one of layout.h, on the host, in stretches of rows on
 * their way through a buffer; and back, in F32 for an embedding and in halves for cuBLAS. F32, F16 and BF16 are copied
 * from where the file is.
 */
#include <stdlib.h>
#include <string.h>

#include "layout.h"

namespace CUDA_SPACE
{

/* Bytes of the file that are packed at once, and where arrays begin. */
static const size_t stretch_bytes = 8 << 20;
static const size_t array_align = 256;

enum { ARRAYS = 4, DECODE_THREADS = 256 };

/* Bytes of a row in q, high, scale and super. */
struct sizes {
	size_t array[ARRAYS];
};

static sizes sizes_of(enum dtype type, size_t cols)
{
	const size_t blocks = cols / BLOCK, supers = cols / SUPERBLOCK;

	switch (type) {
	case DTYPE_Q4_0:
		return { { 16 * blocks, 0, 2 * blocks, 0 } };
	case DTYPE_Q4_1:
		return { { 16 * blocks, 0, 4 * blocks, 0 } };
	case DTYPE_Q5_0:
		return { { 16 * blocks, 4 * blocks, 2 * blocks, 0 } };
	case DTYPE_Q5_1:
		return { { 16 * blocks, 4 * blocks, 4 * blocks, 0 } };
	case DTYPE_Q8_0:
		return { { 32 * blocks, 0, 2 * blocks, 0 } };
	case DTYPE_Q4_K:
		return { { 16 * blocks, 0, 2 * blocks, 4 * supers } };
	case DTYPE_Q5_K:
		return { { 16 * blocks, 4 * blocks, 2 * blocks, 4 * supers } };
	case DTYPE_Q6_K:
		return { { 16 * blocks, 8 * blocks, 2 * blocks, 2 * supers } };
	case DTYPE_F32:
		return { { 4 * cols, 0, 0, 0 } };
	default:
		return { { 2 * cols, 0, 0, 0 } };
	}
}

/* Where the next block or superblock goes. */
struct places {
	uint8_t *q, *high, *scale, *super;
};

static uint32_t load_word(const uint8_t *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

static void put_word(uint8_t **to, uint32_t w)
{
	memcpy(*to, &w, sizeof(w));
	*to += sizeof(w);
}

static void put_bytes(uint8_t **to, const uint8_t *from, size_t n)
{
	memcpy(*to, from, n);
	*to += n;
}

/* 32 bits in the order of elements to the order of layout.h: bit 4k + c to bit k of byte c. */
static uint32_t high_bits(const uint8_t *p)
{
	const uint32_t bits = load_word(p);
	uint32_t ret = 0;

	for (int k = 0; k < 8; k++)
		ret |= ((bits >> 4 * k & 15) * 0x00204081u & 0x01010101u) << k;
	return ret;
}

/* A block of Q4_0, Q4_1, Q5_0 or Q5_1. The nibbles of the file stand as they are wanted. */
static void pack_block(enum dtype type, const uint8_t *src, places *to)
{
	const bool min = type == DTYPE_Q4_1 || type == DTYPE_Q5_1, five = type == DTYPE_Q5_0 || type == DTYPE_Q5_1;
	/* Less the offset: without the highest bit where it was set, and with it, as the sign, where it was not. */
	const uint32_t flip = type == DTYPE_Q4_0 ? 0x88888888u : 0;

	put_bytes(&to->scale, src, min ? 4 : 2);
	src += min ? 4 : 2;
	if (five) {
		put_word(&to->high, min ? high_bits(src) : ~high_bits(src));
		src += 4;
	}
	for (int i = 0; i < 4; i++)
		put_word(&to->q, load_word(src + 4 * i) ^ flip);
}

/* The two halves of Q8_0's blocks lie apart, `half` bytes. */
static void pack_bytes(const uint8_t *src, size_t half, places *to)
{
	put_bytes(&to->scale, src, 2);
	memcpy(to->q, src + 2, 16);
	memcpy(to->q + half, src + 18, 16);
	to->q += 16;
}

/* 32 elements that stand in the low or the high nibbles of 32 bytes. */
static void pack_nibbles(const uint8_t *src, bool high, places *to)
{
	for (int i = 0; i < 4; i++) {
		const uint32_t a = load_word(src + 4 * i), b = load_word(src + 16 + 4 * i);

		put_word(&to->q, high ? (a >> 4 & 0x0f0f0f0fu) | (b & 0xf0f0f0f0u)
				      : (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4);
	}
}

/* Bits `shift` and up of 32 bytes, `bits` of them, of words `first` to `first` + `words` - 1. */
static uint32_t gather_bits(const uint8_t *src, int shift, int bits, int first, int words)
{
	const uint32_t mask = bits == 1 ? 0x01010101u : 0x03030303u;
	uint32_t ret = 0;

	for (int k = 0; k < words; k++)
		ret |= (load_word(src + 4 * (first + k)) >> shift & mask) << bits * k;
	return ret;
}

static void pack_four_or_five(enum dtype type, const uint8_t *src, places *to)
{
	const bool five = type == DTYPE_Q5_K;
	const uint8_t *six = src + 4, *high = src + 16, *low = src + (five ? 48 : 16);

	put_bytes(&to->super, src, 4);
	for (int b = 0; b < SUPER; b++) {
		const int i = b % 4;
		const uint8_t scale_min[2] = {
			static_cast<uint8_t>(b < 4 ? six[i] & 63 : (six[8 + i] & 15) | six[i] >> 6 << 4),
			static_cast<uint8_t>(b < 4 ? six[4 + i] & 63 : six[8 + i] >> 4 | six[4 + i] >> 6 << 4),
		};

		put_bytes(&to->scale, scale_min, 2);
		if (five)
			put_word(&to->high, gather_bits(high, b, 1, 0, 8));
		pack_nibbles(low + b / 2 * BLOCK, b % 2, to);
	}
}

static void pack_six(const uint8_t *src, places *to)
{
	put_bytes(&to->super, src + 208, 2);
	for (int b = 0; b < SUPER; b++) {
		const uint8_t *low = src + b / 4 * 64 + b % 2 * 32, *high = src + 128 + b / 4 * 32;
		const int shift = b % 4 * 2;

		put_bytes(&to->scale, src + 192 + 2 * b, 2);
		put_word(&to->high, gather_bits(high, shift, 2, 0, 4) ^ 0xaaaaaaaau);
		put_word(&to->high, gather_bits(high, shift, 2, 4, 4) ^ 0xaaaaaaaau);
		pack_nibbles(low, b % 4 >= 2, to);
	}
}

static void pack_row(enum dtype type, const uint8_t *src, size_t cols, places *to)
{
	const struct dtype_info *info = dtype_find(static_cast<uint32_t>(type));
	const size_t half = cols / 2;

	for (size_t c = 0; c < cols; c += info->block, src += info->bytes)
		if (type == DTYPE_Q8_0)
			pack_bytes(src, half, to);
		else if (type == DTYPE_Q6_K)
			pack_six(src, to);
		else if (type_super(type))
			pack_four_or_five(type, src, to);
		else
			pack_block(type, src, to);
	if (type == DTYPE_Q8_0)
		to->q += half;
}

static bool copy_in(struct device *d, const uint8_t *to, const void *from, size_t bytes)
{
	return !bytes ||
	       ok(d, cudaMemcpyAsync(const_cast<uint8_t *>(to), from, bytes, cudaMemcpyHostToDevice, d->copying),
		  "copying a weight");
}

/* A stretch of rows after the other: packed to the buffer, array after array, and copied. */
static bool pack_rows(struct device *d, const struct tensor *t, const struct weight *w, const sizes *s, size_t rows,
		      uint8_t *buffer)
{
	const struct dtype_info *info = dtype_find(static_cast<uint32_t>(t->type));
	const size_t row_bytes = t->cols / info->block * info->bytes;
	const uint8_t *const arrays[ARRAYS] = { w->q, w->high, w->scale, w->super };
	bool well = true;

	for (size_t first = 0; first < t->rows && well; first += rows) {
		const size_t n = t->rows - first < rows ? t->rows - first : rows;
		uint8_t *begin[ARRAYS], *end = buffer;
		places to;

		for (int i = 0; i < ARRAYS; i++) {
			begin[i] = end;
			end += n * s->array[i];
		}
		to = { begin[0], begin[1], begin[2], begin[3] };
		for (size_t r = 0; r < n; r++)
			pack_row(t->type, static_cast<const uint8_t *>(t->data) + (first + r) * row_bytes, t->cols,
				 &to);
		for (int i = 0; i < ARRAYS && well; i++)
			well = copy_in(d, arrays[i] + first * s->array[i], begin[i], n * s->array[i]);
		well = ok(d, cudaStreamSynchronize(d->copying), "copying a weight") && well;
	}
	return well;
}

static int fill(struct device *d, const struct tensor *t, const struct weight *w, const sizes *s, struct err *e)
{
	size_t row = 0, rows;
	uint8_t *buffer;
	bool well;

	for (int i = 0; i < ARRAYS; i++)
		row += s->array[i];
	if (!type_blocked(t->type)) {
		well = copy_in(d, w->q, t->data, t->rows * row);
		well = ok(d, cudaStreamSynchronize(d->copying), "copying a weight") && well;
		return well ? 0 : err_set(e, SINK_EDEVICE, "%s", d->failed.text);
	}
	rows = stretch_bytes / row ? stretch_bytes / row : 1;
	rows = rows < t->rows ? rows : t->rows;
	buffer = static_cast<uint8_t *>(malloc(rows * row));
	if (!buffer)
		return err_set(e, SINK_ENOMEM, "There is no memory to pack %zu bytes of a weight.", rows * row);
	well = pack_rows(d, t, w, s, rows, buffer);
	free(buffer);
	return well ? 0 : err_set(e, SINK_EDEVICE, "%s", d->failed.text);
}

static size_t aligned(size_t bytes)
{
	return (bytes + array_align - 1) / array_align * array_align;
}

/* Units of a matrix have numbers of 31 bits: that is 34 GB of halves, or 38 of Q4_0. */
static int check(const struct tensor *t, struct err *e)
{
	const int r = weight_check(t, e);

	if (r == 0 && t->rows * (t->cols / (type_blocked(t->type) ? 32 : 8)) > INT32_MAX)
		return err_set(e, SINK_EFORMAT, "A matrix of %zu rows of %zu columns is too large for a card.", t->rows,
			       t->cols);
	return r;
}

static int pack_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct weight *w;
	sizes s;
	size_t at = 0;
	int r = matmul_room(d, t, e);

	if (r != 0)
		return r;
	w = static_cast<struct weight *>(calloc(1, sizeof(*w)));
	if (!w)
		return err_set(e, SINK_ENOMEM, "There is no memory for a weight.");
	w->type = t->type;
	w->rows = t->rows;
	w->cols = t->cols;
	s = sizes_of(t->type, t->cols);
	for (int i = 0; i < ARRAYS; i++)
		w->bytes += aligned(t->rows * s.array[i]);
	w->memory = static_cast<uint8_t *>(memory_new(d, w->bytes, "a weight", e));
	if (!w->memory) {
		free(w);
		return SINK_ENOMEM;
	}
	for (int i = 0; i < ARRAYS; at += aligned(t->rows * s.array[i]), i++)
		(i == 0 ? w->q : i == 1 ? w->high : i == 2 ? w->scale : w->super) = w->memory + at;
	r = fill(d, t, w, &s, e);
	if (r)
		weight_free(d, w);
	else
		*ret = w;
	return r;
}

int weight_new(struct device *d, const struct tensor *t, struct weight **ret, struct err *e)
{
	struct tensor five;
	int r = check(t, e); /* before anything looks at the type, which may be none */

	if (r != 0)
		return r;
	if (t->type != DTYPE_MXFP4)
		return pack_new(d, t, ret, e);
	r = dtype_mxfp4_to_q5_0(t, &five, e);
	if (!r) {
		r = pack_new(d, &five, ret, e);
		free(const_cast<void *>(five.data));
	}
	return r;
}

void weight_free(struct device *d, struct weight *w)
{
	if (!w)
		return;
	memory_free(d, w->memory, w->bytes);
	free(w);
}

/* Elements 8k .. 8k+7 of block u of a row, as dtype_to_f32() has them: all products and sums but the last are exact. */
template <enum dtype T>
static __device__ __forceinline__ void decode(const matrix &m, uint32_t row, uint32_t u, uint32_t units, int k,
					      float v[8])
{
	unit b;

	load_unit<T>(m, row, u, units, b);
	if constexpr (!form_of<T>::blocked) {
		floats_of<T>(b, v);
		return;
	}
	float2 s = scales_of<T>(b);
	uint32_t w[2] = {};

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (i == k) {
			w[0] = quants_of<T>(b, 2 * i);
			w[1] = quants_of<T>(b, 2 * i + 1);
		}
	if constexpr (T == DTYPE_Q6_K)
		s.x *= half_block_scale(b, k / 2);
#pragma unroll
	for (int i = 0; i < 8; i++) {
		const float q = static_cast<float>(static_cast<int8_t>(w[i / 4] >> i % 4 * 8));

		v[i] = form_of<T>::min ? fmaf(q, s.x, s.y) : q * s.x;
	}
}

/* What a thread decodes: eight columns from 8i on of a row, less where the row ends. */
template <enum dtype T>
static __device__ __forceinline__ void decode_eight(const matrix &m, size_t row, size_t cols, size_t i, float v[8])
{
	constexpr int parts = form_of<T>::unit / 8;

	if (form_of<T>::blocked || cols % 8 == 0) {
		const uint32_t units = static_cast<uint32_t>(cols / form_of<T>::unit);

		decode<T>(m, static_cast<uint32_t>(row) * units, static_cast<uint32_t>(i / parts), units,
			  static_cast<int>(i % parts), v);
		return;
	}
	if constexpr (!form_of<T>::blocked)
		for (size_t c = 0; c < 8; c++)
			v[c] = 8 * i + c < cols ? element_of<T>(m.q, row * cols + 8 * i + c) : 0;
}

/* Grid: (rows, eights of a row in blocks of threads). */
template <enum dtype T>
static __global__ void embed_kernel(matrix m, const int32_t *token, size_t cols, float scale, float *y)
{
	const size_t i = static_cast<size_t>(blockIdx.y) * DECODE_THREADS + threadIdx.x;
	float v[8];

	grid_go();
	grid_wait();
	if (8 * i < cols) {
		decode_eight<T>(m, static_cast<size_t>(token[blockIdx.x]), cols, i, v);
		for (size_t c = 0; c < 8 && 8 * i + c < cols; c++)
			y[blockIdx.x * cols + 8 * i + c] = v[c] * scale;
	}
}

void embed(struct device *d, const struct weight *w, const int32_t *token, size_t n, float scale, float *y)
{
	const int32_t *at = static_cast<const int32_t *>(staged(d, token, n * sizeof(*token)));
	const dim3 grid(static_cast<unsigned>(n),
			static_cast<unsigned>((w->cols + 8 * DECODE_THREADS - 1) / (8 * DECODE_THREADS)));

	if (!n || !at)
		return;
	WITH_TYPE(w->type, ok(d,
			      LAUNCH((embed_kernel<TYPE>), grid, DECODE_THREADS, 0, d->stream, matrix_of(w), at,
				     w->cols, scale, y),
			      "embedding"));
}

static __device__ __forceinline__ uint32_t clamped_halves(float a, float b)
{
	return halves_of_floats(fminf(fmaxf(a, -65504.0f), 65504.0f), fminf(fmaxf(b, -65504.0f), 65504.0f));
}

/* Eights of all rows, one after the other. */
template <enum dtype T>
static __global__ void to_halves_kernel(matrix m, size_t first, size_t rows, size_t cols, uint16_t *to)
{
	const size_t at = static_cast<size_t>(blockIdx.x) * DECODE_THREADS + threadIdx.x, eights = (cols + 7) / 8;
	const size_t row = at / eights, i = at % eights;
	float v[8] = {};

	grid_go();
	if (row < rows)
		decode_eight<T>(m, first + row, cols, i, v);
	grid_wait();
	if (row < rows && cols % 8 == 0) {
		reinterpret_cast<uint4 *>(to)[at] = make_uint4(clamped_halves(v[0], v[1]), clamped_halves(v[2], v[3]),
							       clamped_halves(v[4], v[5]), clamped_halves(v[6], v[7]));
	} else if (row < rows) {
		for (size_t c = 0; c < 8 && 8 * i + c < cols; c++)
			to[row * cols + 8 * i + c] = static_cast<uint16_t>(clamped_halves(v[c], 0));
	}
}

void weight_to_halves(struct device *d, const struct weight *w, size_t first, size_t rows, uint16_t *to)
{
	const size_t threads = rows * ((w->cols + 7) / 8);
	const unsigned grid = static_cast<unsigned>((threads + DECODE_THREADS - 1) / DECODE_THREADS);

	if (!rows)
		return;
	WITH_TYPE(w->type, ok(d,
			      LAUNCH((to_halves_kernel<TYPE>), grid, DECODE_THREADS, 0, d->stream, matrix_of(w), first,
				     rows, w->cols, to),
			      "weights in halves"));
}

} // namespace CUDA_SPACE
