// Means over positions, and their gradient added back: two more formulas for the walks.
#pragma once

#include "passes.h"

namespace aconite {
namespace ACONITE_NS {

template <class S>
struct no_parameters {};

template <class V>
struct sum_formula {
  typedef typename constants<V>::scalar S;
  typedef no_parameters<S> parameters;
  static constexpr int inputs = 1, outputs = 0, sums = 1, rows = 1;
  static void prepare(S*, int64_t, const parameters&, int64_t, int64_t, int64_t) {}
  ACONITE_INLINE static void apply(const V* in, V*, V* sum, const V*) { sum[0] += in[0]; }
};

template <class S>
struct spread_parameters {
  const S* add;
  int64_t sn;
};
template <class V>
struct spread_formula {
  typedef typename constants<V>::scalar S;
  typedef spread_parameters<S> parameters;
  static constexpr int inputs = 1, outputs = 1, sums = 0, rows = 1;
  static void prepare(S* table, int64_t, const parameters& p, int64_t n, int64_t c, int64_t count) {
    memcpy(table, p.add + n * p.sn + c, sizeof(S) * (size_t)count);
  }
  ACONITE_INLINE static void apply(const V* in, V* out, V*, const V* t) { out[0] = in[0] + t[0]; }
};

// mean[n][c] over l, each to float accuracy of its sum of absolute terms.
template <class T, class S>
bool pool(const aconite_view& v, const T* x, S* mean) {
  pass<sum_formula<typename storage<T>::vector>, T> p = {};
  p.in[0] = x;
  set_view(p, v);
  S* memory = (S*)scratch(p.partial_bytes());
  if (!memory) return false;
  p.keep_sums(memory);
  run(p, v, kForwardGrain);
  double scale = 1.0 / (double)v.l;
  for (int64_t n = 0; n < v.n; ++n)
    for (int64_t c = 0; c < v.c; ++c) mean[n * v.c + c] = (S)((double)p.sums_of_sample(0, n)[c] * scale);
  return true;
}

// dx[n][c][l] += add[n][c], in place.
template <class T, class S>
void spread(const aconite_view& v, const S* add, T* dx) {
  pass<spread_formula<typename storage<T>::vector>, T> p = {};
  p.in[0] = dx;
  p.out[0] = dx;
  p.parameters = {add, v.c};
  set_view(p, v);
  p.past = false;  // in place: the lines are here already
  run(p, v, kForwardGrain);
}

}  // namespace ACONITE_NS
}  // namespace aconite
