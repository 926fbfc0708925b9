// The two products that the generator's matrices need, for a few samples by some thousand weights: too small for a BLAS call
// to pay, too large for scalar loops. Tiles of outputs stay in registers, and a task takes all samples, so that the weights
// are read once. Every output is one fixed sum, whatever tile or thread it falls to.
#pragma once

#include "simd.h"
#include "tasks.h"

namespace aconite {
namespace ACONITE_NS {

constexpr int64_t kProductGrain = 262144;  // multiplications worth a task: some 5 us

template <class S>
struct product {
  int64_t rows, width, terms;
  S* out;                                 // [rows][width]
  const S* a;                             // coefficients or left rows
  int64_t a_row, a_term;                  // strides of a
  const S* b;                             // [terms][width] for combine, [width][terms] for dots
  const S* bias;                          // [width] or null (dots)
};

template <class V, class S>
ACONITE_INLINE V load_some(const S* from, int64_t some) {
  return some >= (int64_t)(sizeof(V) / sizeof(S)) ? load(from) : load(from, some);
}

// A tile of dots has LEFT rows of a by the rows of b that fill one vector with the tile's outputs.
template <class S>
struct dots_tile {
  static constexpr int left = storage<S>::lanes >= 4 ? 4 : 1, right = storage<S>::lanes / left;
};

// out[i][j] = bias[j] + sum over k of a[i][k] b[j][k]: both rows contiguous; a vector of outputs is summed across at once.
// Rows beyond the end repeat the last one: the same arithmetic, and nothing stored.
template <class S>
void dots_tiles(int64_t begin, int64_t end, void* context) {
  const product<S>& p = *(const product<S>*)context;
  typedef typename storage<S>::vector V;
  constexpr int W = storage<S>::lanes, LEFT = dots_tile<S>::left, RIGHT = dots_tile<S>::right;
  for (int64_t tile = begin; tile < end; ++tile) {
    int64_t j = tile * RIGHT, columns = p.width - j < RIGHT ? p.width - j : RIGHT;
    const S* b[RIGHT];
    for (int q = 0; q < RIGHT; ++q) b[q] = p.b + (j + (q < columns ? q : columns - 1)) * p.terms;
    for (int64_t i = 0; i < p.rows; i += LEFT) {
      int64_t some = p.rows - i < LEFT ? p.rows - i : LEFT;
      const S* a[LEFT];
      for (int r = 0; r < LEFT; ++r) a[r] = p.a + (i + (r < some ? r : some - 1)) * p.a_row;
      V sum[LEFT * RIGHT];
      for (int q = 0; q < LEFT * RIGHT; ++q) sum[q] = V{};
      int64_t k = 0;
      for (; k + W <= p.terms; k += W) {
        V right[RIGHT];
        for (int q = 0; q < RIGHT; ++q) right[q] = load(b[q] + k);
        for (int r = 0; r < LEFT; ++r) {
          V one = load(a[r] + k);
          for (int q = 0; q < RIGHT; ++q) sum[r * RIGHT + q] = fma(one, right[q], sum[r * RIGHT + q]);
        }
      }
      if (W > 1 && k < p.terms) {
        V right[RIGHT];
        for (int q = 0; q < RIGHT; ++q) right[q] = load(b[q] + k, p.terms - k);
        for (int r = 0; r < LEFT; ++r) {
          V one = load(a[r] + k, p.terms - k);
          for (int q = 0; q < RIGHT; ++q) sum[r * RIGHT + q] = fma(one, right[q], sum[r * RIGHT + q]);
        }
      }
      S lanes[W];
      store(lanes, sums_of(sum));
      for (int64_t r = 0; r < some; ++r)
        for (int64_t q = 0; q < columns; ++q)
          p.out[(i + r) * p.width + j + q] = lanes[r * RIGHT + q] + (p.bias ? p.bias[j + q] : (S)0);
    }
  }
}

// ROWS by VECTORS outputs: sums of whole rows of b. With four rows of four vectors a step costs eight loads for sixteen
// multiplications.
template <int ROWS, int VECTORS, class S>
ACONITE_INLINE void combine_tile(const product<S>& p, int64_t i, int64_t j, int64_t last) {
  typedef typename storage<S>::vector V;
  constexpr int W = storage<S>::lanes;
  V sum[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int q = 0; q < VECTORS; ++q) sum[r][q] = V{};
  const S *a = p.a + i * p.a_row, *b = p.b + j;
  for (int64_t k = 0; k < p.terms; ++k, a += p.a_term, b += p.width) {
    V right[VECTORS];
    for (int q = 0; q < VECTORS; ++q) right[q] = q + 1 < VECTORS ? load(b + q * W) : load_some<V>(b + q * W, last);
    for (int r = 0; r < ROWS; ++r) {
      V left = set1<V>((double)a[r * p.a_row]);
      for (int q = 0; q < VECTORS; ++q) sum[r][q] = fma(left, right[q], sum[r][q]);
    }
  }
  for (int r = 0; r < ROWS; ++r) {
    S* out = p.out + (i + r) * p.width + j;
    for (int q = 0; q + 1 < VECTORS; ++q) store(out + q * W, sum[r][q]);
    if (last >= W)
      store(out + (VECTORS - 1) * W, sum[r][VECTORS - 1]);
    else
      store(out + (VECTORS - 1) * W, sum[r][VECTORS - 1], last);
  }
}

constexpr int kRows = 4, kVectors = 4;

template <int VECTORS, class S>
ACONITE_INLINE void combine_column(const product<S>& p, int64_t i, int64_t rows, int64_t j, int64_t last) {
  if (rows == kRows)
    combine_tile<kRows, VECTORS>(p, i, j, last);
  else
    for (int64_t r = 0; r < rows; ++r) combine_tile<1, VECTORS>(p, i + r, j, last);
}

// out[i] = sum over k of a[i][k] b[k]. A task is a tile of rows or, where these are few, of columns.
template <class S>
void combine_tiles(int64_t begin, int64_t end, void* context) {
  const product<S>& p = *(const product<S>*)context;
  constexpr int64_t W = storage<S>::lanes, wide = kVectors * W;
  int64_t across = (p.width + wide - 1) / wide;
  for (int64_t tile = begin; tile < end; ++tile) {
    int64_t i = tile / across * kRows, j = tile % across * wide;
    int64_t rows = p.rows - i < kRows ? p.rows - i : kRows, left = p.width - j;
    if (left >= wide)
      combine_column<kVectors>(p, i, rows, j, W);
    else
      for (; j < p.width; j += W) combine_column<1>(p, i, rows, j, p.width - j < W ? p.width - j : W);
  }
}

template <class S>
void run_product(product<S> p, int64_t tiles, aconite_range_fn function) {
  int64_t work = p.rows * p.width * p.terms / (tiles + 1) + 1;
  run_tasks(tiles, kProductGrain / work + 1, function, &p);
}
template <class S>
void dots(int64_t rows, int64_t width, int64_t terms, const S* a, const S* b, const S* bias, S* out) {
  constexpr int64_t RIGHT = dots_tile<S>::right;
  run_product(product<S>{rows, width, terms, out, a, terms, 1, b, bias}, (width + RIGHT - 1) / RIGHT, dots_tiles<S>);
}
template <class S>
void combine(int64_t rows, int64_t width, int64_t terms, const S* a, int64_t a_row, int64_t a_term, const S* b, S* out) {
  constexpr int64_t wide = kVectors * storage<S>::lanes;
  run_product(product<S>{rows, width, terms, out, a, a_row, a_term, b, nullptr},
              ((rows + kRows - 1) / kRows) * ((width + wide - 1) / wide), combine_tiles<S>);
}

}  // namespace ACONITE_NS
}  // namespace aconite
