// A few vectors of a walk: loaded, computed, stored, and asked for ahead. P is what walks: it names its formula and its element
// type, and has in, out and past.
#pragma once

#include "simd.h"

namespace aconite {
namespace ACONITE_NS {

ACONITE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ACONITE_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ACONITE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class P>
using vector_of = typename storage<typename P::element>::vector;

// What is read and written at `at` is asked for now, and needed some kAhead bytes later: the hardware does that for a copy, but
// behind 25 instructions a vector it is late (32x256x14x14 forward: 0.9 of the time). Into the second cache, as the first lets
// too few lines be under way where a walk follows several rows (a backward from memory: 0.8 of the time). PLAIN: for tensors that
// are walked from end to end; twice as far ahead, and into the first cache.
constexpr int64_t kAhead = 1024;
template <bool PLAIN = false, class P>
ACONITE_INLINE void ask_for(const P& p, int64_t at) {
  typedef typename P::formula F;
  for (int k = 0; k < F::inputs; ++k) __builtin_prefetch(p.in[k] + at, 0, PLAIN ? 3 : 2);
  for (int k = 0; k < F::outputs && !p.past; ++k) __builtin_prefetch(p.out[k] + at, 1, PLAIN ? 3 : 2);
}
template <bool PLAIN = false, class P>
ACONITE_INLINE void ask_ahead(const P& p, int64_t at) {
  ask_for<PLAIN>(p, at + (PLAIN ? 2 : 1) * kAhead / (int64_t)sizeof(typename P::element));
}

// What is left of one_vector once its inputs are loaded.
template <class P>
ACONITE_INLINE void finish(const P& p, int64_t at, const vector_of<P>* in, vector_of<P>* sum, const vector_of<P>* t) {
  typedef typename P::formula F;
  vector_of<P> out[F::outputs ? F::outputs : 1];
  F::apply(in, out, sum, t);
  for (int i = 0; i < F::outputs; ++i) {
    if (p.past)
      store_past(p.out[i] + at, out[i]);
    else
      store(p.out[i] + at, out[i]);
  }
}
// COUNT vectors, `apart` elements from each other, all loaded before the first is stored: a load whose address ends in the same
// twelve bits as a store just before waits for it, and rows, samples and whole tensors like to lie a multiple of a page apart
// (7x7x1024: up to twice the time).
template <int COUNT, bool AHEAD = false, class P>
ACONITE_INLINE void several(const P& p, int64_t at, int64_t apart, vector_of<P>* sum, const vector_of<P>* t) {
  typedef typename P::formula F;
  vector_of<P> in[COUNT][F::inputs];
  for (int r = 0; AHEAD && r < COUNT; ++r) ask_ahead(p, at + r * apart);
  for (int r = 0; r < COUNT; ++r)
    for (int k = 0; k < F::inputs; ++k) in[r][k] = load(p.in[k] + at + r * apart);
  for (int r = 0; r < COUNT; ++r) finish(p, at + r * apart, in[r], sum, t);
}
template <class P>
ACONITE_INLINE void one_vector(const P& p, int64_t at, vector_of<P>* sum, const vector_of<P>* t) {
  several<1>(p, at, 0, sum, t);
}

// The same reason within one row: whether rows of this pitch had better be walked downwards. Where they lie a multiple of a page
// apart and an output just behind an input in its page, each load upwards follows a store of the same twelve bits (1024 channels:
// 1.2 to 1.4 of the time).
template <class P>
ACONITE_INLINE bool downwards(const P& p, int64_t pitch) {
  typedef typename P::formula F;
  if (pitch * (int64_t)sizeof(typename P::element) % 4096) return false;
  for (int k = 0; k < F::inputs * F::outputs; ++k) {
    uint64_t behind = ((uint64_t)p.out[k / F::inputs] - (uint64_t)p.in[k % F::inputs]) % 4096;
    if (behind && behind <= 256) return true;
  }
  return false;
}

}  // namespace ACONITE_NS
}  // namespace aconite
