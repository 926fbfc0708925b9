// What the two walks over memory share: rows of one channel (channels_first.h), rows of all channels (channels_last.h).
// A formula's sums arrive per (sample, part, channel) in float32, each part added up in double from float sums of some
// 512 terms at most; parts are fixed by the shape alone, so the sums do not depend on the number of threads.
#pragma once

#include "tasks.h"
#include "vectors.h"

namespace aconite {
namespace ACONITE_NS {

// One pass of FORMULA over tensors of storage type T.
template <class FORMULA, class T>
struct pass {
  typedef FORMULA formula;
  typedef T element;
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
