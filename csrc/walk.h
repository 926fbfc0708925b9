// What the two walks over memory share: rows of one channel (channels_first.h), rows of all channels (channels_last.h).
// A formula's sums arrive per (sample, part, channel) in float32, each part added up in double from float sums of some
// 512 terms at most; parts are fixed by the shape alone, so the sums do not depend on the number of threads.
#pragma once

#include "simd.h"
#include "tasks.h"

namespace aconite {
namespace ACONITE_NS {

ACONITE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ACONITE_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ACONITE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One pass of FORMULA over tensors of storage type T.
template <class FORMULA, class T>
struct pass {
  typedef typename storage<T>::scalar S;
  int64_t n, c, l;
  const T* in[FORMULA::inputs];
  T* out[FORMULA::outputs ? FORMULA::outputs : 1];
  typename FORMULA::parameters parameters;
  S* partial;       // [sums][ceil(n / samples)][parts][c]
  int64_t parts;    // pieces that a sample is cut into
  int64_t length;   // elements of l (channels first) or period rows (channels last) in a piece, some more or less
  int64_t samples;  // taken together in channels first (1 elsewhere), where parameters do not tell them apart
  int64_t group;    // channels (channels first) that one unit takes; periods fold this many rows (channels last)
  bool past;        // whole vectors are stored past the caches

  static constexpr int lanes = storage<T>::lanes;
  int64_t blocks() const { return ceil_div(n, samples); }
  int64_t sums_stride() const { return blocks() * parts * c; }
};

// What is left of one_vector once its inputs are loaded.
template <class F, class T>
ACONITE_INLINE void finish(const pass<F, T>& p, int64_t at, const typename storage<T>::vector* in,
                           typename storage<T>::vector* sum, const typename storage<T>::vector* t) {
  typename storage<T>::vector out[F::outputs ? F::outputs : 1];
  F::apply(in, out, sum, t);
  for (int i = 0; i < F::outputs; ++i) {
    if (p.past)
      store_past(p.out[i] + at, out[i]);
    else
      store(p.out[i] + at, out[i]);
  }
}
template <class F, class T>
ACONITE_INLINE void one_vector(const pass<F, T>& p, int64_t at, typename storage<T>::vector* sum,
                               const typename storage<T>::vector* t) {
  typename storage<T>::vector in[F::inputs];
  for (int i = 0; i < F::inputs; ++i) in[i] = load(p.in[i] + at);
  finish(p, at, in, sum, t);
}
// COUNT vectors, `apart` elements from each other, all loaded before the first is stored: a load whose address ends in the same
// twelve bits as a store just before waits for it, and rows, samples and whole tensors like to lie a multiple of a page apart
// (7x7x1024: up to twice the time).
template <int COUNT, bool AHEAD, class F, class T>
ACONITE_INLINE void several(const pass<F, T>& p, int64_t at, int64_t apart, typename storage<T>::vector* sum,
                            const typename storage<T>::vector* t) {
  typename storage<T>::vector in[COUNT][F::inputs];
  for (int r = 0; AHEAD && r < COUNT; ++r) ask_for<F>(p, at + r * apart + kAhead / (int64_t)sizeof(T));
  for (int r = 0; r < COUNT; ++r)
    for (int k = 0; k < F::inputs; ++k) in[r][k] = load(p.in[k] + at + r * apart);
  for (int r = 0; r < COUNT; ++r) finish(p, at + r * apart, in[r], sum, t);
}
template <class F, class T>
ACONITE_INLINE void part_vector(const pass<F, T>& p, int64_t at, int64_t count, typename storage<T>::vector* sum,
                                const typename storage<T>::vector* t) {
  typedef typename storage<T>::vector V;
  V in[F::inputs], out[F::outputs ? F::outputs : 1];
  for (int i = 0; i < F::inputs; ++i) in[i] = load(p.in[i] + at, count);
  F::apply(in, out, sum, t);
  for (int i = 0; i < F::outputs; ++i) store(p.out[i] + at, out[i], count);
}

}  // namespace ACONITE_NS
}  // namespace aconite
