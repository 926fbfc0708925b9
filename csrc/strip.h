// Rows of all channels, several at once, with coefficients and sums beside them: what the channels-last walks share.
#pragma once

#include "vectors.h"

namespace aconite {
namespace ACONITE_NS {

// What lies beside the rows of a tensor: F::rows rows of coefficients, then F::sums of sums, each WIDE numbers. A row is this much
// longer than the block that it serves, so that no load of one follows a store to another with the same twelve bits (one vector
// in place of five: up to 1.25 of the time on 7x7x1024, in every other process).
constexpr int64_t kStagger = 5 * kLanes;

// A power of two: two or four threads have as much to do as each other, in whole parts.
ACONITE_INLINE int64_t even_parts(int64_t rows, int64_t least_rows) {
  int64_t parts = 1;
  while (2 * parts * least_rows <= rows) parts *= 2;
  return parts;
}
// Where a part begins, and with part == parts where the last one ends; a multiple of `together`, but for that end.
ACONITE_INLINE int64_t part_start(int64_t rows, int64_t parts, int64_t part, int64_t together) {
  return part == parts ? rows : rows * part / parts / together * together;
}

// COUNT rows of the block [0, width) at once, `apart` elements from each other: coefficients and sums are fetched once for all of
// them (four rows save up to a fifth). The hardware does not see the streams in this order: the next rows are asked for, or a
// backward takes twice as long wherever its tensors are not in the second cache.
template <int COUNT, int64_t WIDE, class P>
ACONITE_INLINE void strip(const P& p, int64_t at, int64_t apart, int64_t width,
                          typename storage<typename P::element>::scalar (*beside)[WIDE]) {
  typedef typename P::formula F;
  typedef vector_of<P> V;
  constexpr int W = storage<typename P::element>::lanes, loaded = COUNT < 4 ? COUNT : 4;  // as many as the registers hold
  const int64_t whole = width / W * W;
  const bool down = COUNT > 1 && downwards(p, apart);
  int64_t i = down ? whole - W : 0, step = down ? -W : W;
  for (int64_t left = whole; left > 0; left -= W, i += step) {
    V t[F::rows], sum[F::sums + 1];
    for (int k = 0; k < F::rows; ++k) t[k] = load(&beside[k][i]);
    for (int s = 0; s < F::sums; ++s) sum[s] = load(&beside[F::rows + s][i]);
    for (int r = 0; COUNT > 1 && r < COUNT; ++r) ask_for(p, at + (r + COUNT) * apart + i);
    for (int r = 0; r < COUNT; r += loaded) several<loaded, (COUNT == 1)>(p, at + r * apart + i, apart, sum, t);
    for (int s = 0; s < F::sums; ++s) store(&beside[F::rows + s][i], sum[s]);
  }
  i = whole;
  if (W > 1 && i < width) {
    V t[F::rows], sum[F::sums + 1];
    for (int k = 0; k < F::rows; ++k) t[k] = load(&beside[k][i]);
    for (int s = 0; s < F::sums; ++s) sum[s] = load(&beside[F::rows + s][i]);
    for (int r = 0; r < COUNT; ++r) part_vector(p, at + r * apart + i, width - i, sum, t);
    for (int s = 0; s < F::sums; ++s) store(&beside[F::rows + s][i], sum[s]);
  }
}

}  // namespace ACONITE_NS
}  // namespace aconite
