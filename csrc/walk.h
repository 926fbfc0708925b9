// What the two walks over memory share: rows of one channel (channels_first.h), rows of all channels (channels_last.h).
// A formula's sums arrive per (sample, part, channel) in float32, each part added up in double from float sums of some
// 512 terms at most, and are then added pairwise; parts are fixed by the shape alone, so the sums do not depend on the number of
// threads.
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
  S* partial;       // [sums][ceil(n / samples)][parts][c], rows of c that are joined
  char* joined;     // for each of these rows: whether it has been added to another
  int64_t parts;    // pieces that a sample is cut into
  int64_t joint;    // neighbouring rows that end as one, the first: those of a sample, or of all where samples are alike
  int64_t length;   // elements of l (channels first) or period rows (channels last) in a piece, some more or less
  int64_t samples;  // taken together in channels first (1 elsewhere), where parameters do not tell them apart
  int64_t group;    // channels (channels first) that one unit takes; periods fold this many rows (channels last)
  bool past;        // whole vectors are stored past the caches

  static constexpr int lanes = storage<T>::lanes;
  int64_t blocks() const { return ceil_div(n, samples); }
  int64_t sums_stride() const { return blocks() * parts * c; }
  int64_t partial_bytes() const { return FORMULA::sums * sums_stride() * (int64_t)sizeof(S) + blocks() * parts; }
  void keep_sums(S* memory) {
    partial = memory;
    joined = (char*)(memory + FORMULA::sums * sums_stride());
    memset(joined, 0, (size_t)(blocks() * parts));
  }
  // What the joining leaves of sum s, one value a channel; sample 0 alone where samples are alike.
  const S* sums_of_sample(int s, int64_t sample) const { return partial + s * sums_stride() + sample * joint * c; }
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

// The sums' rows are added in pairs, pairs of pairs and so on: in channels_last by the thread that has just made both, and what
// is left for the end is little to fetch from the other cores' caches (7x7x1024 on two cores that share no cache: 26 us of 130
// for six parts). Channels first it is little anyway.
template <class F, class T>
void join(const pass<F, T>& p, int64_t low, int64_t high) {
  for (int s = 0; s < F::sums; ++s) {
    typename storage<T>::scalar *to = p.partial + s * p.sums_stride() + low * p.c, *from = to + (high - low) * p.c;
    for (int64_t i = 0; i < p.c; ++i) to[i] += from[i];
  }
  p.joined[high] = 1;
}

// Called with each row as it is complete, by a thread that has all from `begin` on.
template <class F, class T>
ACONITE_INLINE void join_behind(const pass<F, T>& p, int64_t begin, int64_t row) {
  int64_t in = row % p.joint;
  for (int64_t step = 1; (in & step) && row + 1 - 2 * step >= begin; step *= 2) join(p, row + 1 - 2 * step, row + 1 - step);
}
template <class F, class T>
void join_rest(const pass<F, T>& p) {
  for (int64_t base = 0; base < p.blocks() * p.parts; base += p.joint)
    for (int64_t step = 1; step < p.joint; step *= 2)
      for (int64_t low = base; low + step < base + p.joint; low += 2 * step)
        if (!p.joined[low + step]) join(p, low, low + step);
}

}  // namespace ACONITE_NS
}  // namespace aconite
