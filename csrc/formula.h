// The gates, ACON-C and the smooth maximum, each with its gradient beside it. V is vf or double.
//
// Everything is written in |z|: no exponential overflows, and gate(-|z|) and gate' keep their relative accuracy where they
// are small (the sums for p1, p2 and beta need that). "u" is the side that wins as |z| grows, "v" the other, so that
//   y = u + (v - u) lo,   lo = gate(-|z|),   exact where the gate is shut (lo = 0), at infinities too.
#pragma once

#include "aconite.h"
#include "exp.h"

namespace aconite {
namespace ACONITE_NS {

template <class V>
struct gate {
  V lo, q;  // gate(-|z|), gate'(z)
};

// nx = -min(|x|, limit): the one clamp serves infinities and keeps the exponent in range.
template <bool HARD, bool PRECISE, class V>
ACONITE_INLINE gate<V> open_gate(V nx, V kh, V kl) {
  if constexpr (HARD) {  // kh = |k| / 6; relu6's gradient is 0 at both kinks
    V m6 = nx * kh;
    return {max_keep_nan(set1<V>(0), m6 + set1<V>(0.5)), where_less(set1<V>(-0.5), m6, set1<V>(1.0 / 6))};
  } else {
    V e = exp_neg<PRECISE>(nx, kh, kl);
    V lo = e / (e + set1<V>(1));
    return {lo, fma(-lo, lo, lo)};
  }
}

// What one k comes to: |k|, |k| in the exponent's units as hi + lo, minus the |x| beyond which the gate is shut.
template <class S>
struct steepness {
  S natural, high, low, floor;
};
template <class V, bool HARD, class S>
ACONITE_INLINE steepness<S> steepness_of(double k) {
  constexpr double huge = constants<V>::huge;
  double natural = fabs(k), unit = natural * (HARD ? 1.0 / 6 : constants<V>::per_unit);
  natural = natural > huge ? huge : natural;
  unit = unit > huge ? huge : unit;
  S high = (S)unit;
  S limit = (S)(HARD ? 1.0 : constants<V>::last) / high;
  return {(S)natural, high, (S)(unit - (double)high), limit < (S)huge ? -limit : -(S)huge};
}

// ---- ACON-C: y = x (p1 gate(z) + p2 gate(-z)), z = k x, k = beta (p1 - p2) --------------------------------------------

// Where the per-channel numbers come from; add is null or holds what joins every dx of (sample, channel).
template <class S>
struct acon_parameters {
  const S *p1, *p2, *beta, *add;
  int64_t p1_sn, p1_sc, p2_sn, p2_sc, beta_sn, beta_sc, add_sn;
};

// Rows of the coefficient table. For k < 0 p1 and p2 change places, so that the sign of x alone decides who wins.
enum acon_row { kUp, kDown, kGap, kUnit, kFloor, kForwardRows, kNatural = kForwardRows, kBackwardRows, kAdd = kBackwardRows };

// Written in blocks of a fixed size from unit-stride copies: with the parameters' own strides the compiler leaves the two
// double divisions scalar, which cost 7x7 rows as much as their arithmetic.
// unroll 1 keeps the compiler from peeling those sixteen steps into scalar code before it tries vectors.
constexpr int kPrepared = 16;

// A NaN parameter loses its payload here, so that no store of a half type has to look for NaN.
template <class S>
ACONITE_INLINE S canonical(S v) {
  return v != v ? (S)__builtin_nan("") : v;
}
template <class S>
ACONITE_INLINE void take(S* to, const S* from, int64_t step, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
}
template <class S>
ACONITE_INLINE void take_block(S* to, const S* from, int64_t step, int64_t count) {
  if (step == 1 && count == kPrepared)
    memcpy(to, from, sizeof(S) * kPrepared);
  else
    take(to, from, step, count);
}

template <class V, bool HARD, int ROWS, class S>
inline void acon_prepare(S* table, int64_t stride, const acon_parameters<S>& p, int64_t n, int64_t c, int64_t count) {
  constexpr S huge = (S)constants<V>::huge;
  const S *p1 = p.p1 + n * p.p1_sn + c * p.p1_sc, *p2 = p.p2 + n * p.p2_sn + c * p.p2_sc;
  const S* beta = p.beta + n * p.beta_sn + c * p.beta_sc;
  for (int64_t done = 0; done < count; done += kPrepared) {
    int64_t some = count - done < kPrepared ? count - done : kPrepared;
    S a[kPrepared] = {}, b[kPrepared] = {}, steep[kPrepared] = {}, row[kBackwardRows][kPrepared];
    take_block(a, p1 + done * p.p1_sc, p.p1_sc, some);
    take_block(b, p2 + done * p.p2_sc, p.p2_sc, some);
    take_block(steep, beta + done * p.beta_sc, p.beta_sc, some);
#pragma GCC unroll 1
    for (int i = 0; i < kPrepared; ++i) {
      a[i] = canonical(a[i]);
      b[i] = canonical(b[i]);
      steep[i] = canonical(steep[i]);
      double d = (double)a[i] - (double)b[i];
      double k = d == 0 ? 0 : (double)steep[i] * d;  // beta may be infinite
      S gap = k < 0 ? a[i] - b[i] : b[i] - a[i];
      steepness<S> s = steepness_of<V, HARD, S>(k);
      row[kUp][i] = k < 0 ? b[i] : a[i];
      row[kDown][i] = k < 0 ? a[i] : b[i];
      gap = gap > huge ? huge : gap;  // finite, because it is multiplied by exact zeros
      row[kGap][i] = gap < -huge ? -huge : gap;
      row[kUnit][i] = s.high;
      row[kFloor][i] = s.floor;
      row[kNatural][i] = s.natural;
    }
    for (int r = 0; r < (ROWS < kBackwardRows ? ROWS : (int)kBackwardRows); ++r)
      take_block(table + r * stride + done, row[r], 1, some);
  }
  if constexpr (ROWS > kBackwardRows)
    for (int64_t i = 0; i < count; ++i) table[kAdd * stride + i] = p.add ? canonical(p.add[n * p.add_sn + c + i]) : 0;
}

template <class V, bool HARD>
struct acon_forward {
  typedef acon_parameters<typename constants<V>::scalar> parameters;
  static constexpr int inputs = 1, outputs = 1, sums = 0, rows = kForwardRows;
  template <class S>
  static void prepare(S* table, int64_t stride, const parameters& p, int64_t n, int64_t c, int64_t count) {
    acon_prepare<V, HARD, rows>(table, stride, p, n, c, count);
  }
  ACONITE_INLINE static void apply(const V* in, V* out, V*, const V* t) {
    V x = in[0];
    gate<V> g = open_gate<HARD, false>(max_keep_nan(t[kFloor], neg_abs(x)), t[kUnit], V{});
    V w = fma(flip_sign(t[kGap], x), g.lo, by_sign(x, t[kUp], t[kDown]));
    out[0] = product_or_zero(w, x);  // 0 * inf is the limit 0
  }
};

// With l = gate(-|z|) - |z| gate'(z):   dx = grad (u + (v - u) l)   and, as the two weights' slopes are 1 - l and l,
//   dy/du summed: sum of grad x over the elements where u's parameter wins, minus T;  dy/dv likewise, plus T;
//   T = sum of grad |x| l,   dbeta = (p1 - p2)^2 sum of grad x^2 gate'.
// So one quantity serves three gradients and the losing side's tiny terms keep their accuracy. All sums are of -|x|, which
// counts as at most constants::far: no product overflows, so that 0 * inf cannot turn up in them, at x = +-inf neither.
// Multiplications are what bounds the backward (one a cycle, additions go beside them): hence sums by masked additions.
enum acon_sum { kPositive, kNegative, kTransfer, kCurvature, kAconSums };

template <class V, bool HARD, bool SUMS, bool WRITE>
struct acon_backward {
  typedef acon_parameters<typename constants<V>::scalar> parameters;
  static constexpr bool add = WRITE && !SUMS;
  static constexpr int inputs = 2, outputs = WRITE ? 1 : 0, sums = SUMS ? (int)kAconSums : 0;
  static constexpr int rows = kBackwardRows + (add ? 1 : 0);
  template <class S>
  static void prepare(S* table, int64_t stride, const parameters& p, int64_t n, int64_t c, int64_t count) {
    acon_prepare<V, HARD, rows>(table, stride, p, n, c, count);
  }
  ACONITE_INLINE static void apply(const V* in, V* out, V* sum, const V* t) {
    V grad = in[0], x = in[1], away = neg_abs(x);
    V nx = max_keep_nan(t[kFloor], away), bounded = max_keep_nan(set1<V>(-constants<V>::far), away);
    gate<V> g = open_gate<HARD, false>(nx, t[kUnit], V{});
    V nq = bounded * g.q;
    V l = fma(nq, t[kNatural], g.lo);
    if constexpr (WRITE) {
      V slope = fma(flip_sign(t[kGap], x), l, by_sign(x, t[kUp], t[kDown]));
      if constexpr (add)
        out[0] = fma(grad, slope, t[kAdd]);
      else
        out[0] = grad * slope;
    }
    if constexpr (SUMS) {
      V share = grad * bounded;
      sum[kPositive] = add_by_sign<false>(sum[kPositive], x, share);
      sum[kNegative] = add_by_sign<true>(sum[kNegative], x, share);
      sum[kTransfer] = fma(share, l, sum[kTransfer]);
      sum[kCurvature] = fma(share, nq, sum[kCurvature]);
    }
  }
};

// ---- Smooth maximum of a and b, z = beta (a - b): y = u - sign(beta) |a - b| lo --------------------------------------

template <class S>
struct maximum_parameters {
  const S* beta;
  int64_t beta_sn, beta_sc;
};
enum maximum_row { kSide, kSteep, kSteepNatural, kFar, kMaximumRows };  // kSide: 1 with beta's sign

template <class V, bool HARD>
struct maximum_formula {
  typedef maximum_parameters<typename constants<V>::scalar> parameters;
  static constexpr int rows = kMaximumRows;
  template <class S>
  static void prepare(S* table, int64_t stride, const parameters& p, int64_t n, int64_t c, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      S beta = canonical(p.beta[n * p.beta_sn + (c + i) * p.beta_sc]);
      steepness<S> s = steepness_of<V, HARD, S>((double)beta);
      table[kSide * stride + i] = beta < 0 ? (S)-1 : (S)1;
      table[kSteep * stride + i] = s.high;
      table[kSteepNatural * stride + i] = s.natural;
      table[kFar * stride + i] = s.floor;
    }
  }
};

template <class V, bool HARD>
struct maximum_forward : maximum_formula<V, HARD> {
  static constexpr int inputs = 2, outputs = 1, sums = 0;
  ACONITE_INLINE static void apply(const V* in, V* out, V*, const V* t) {
    V difference = minus(in[0], in[1]) * t[kSide];
    V nx = max_keep_nan(t[kFar], neg_abs(difference));
    gate<V> g = open_gate<HARD, false>(nx, t[kSteep], V{});
    out[0] = fma(nx * t[kSide], g.lo, by_sign(difference, in[0], in[1]));
  }
};

template <class V, bool HARD>
struct maximum_backward : maximum_formula<V, HARD> {
  static constexpr int inputs = 3, outputs = 2, sums = 1;
  ACONITE_INLINE static void apply(const V* in, V* out, V* sum, const V* t) {
    V grad = in[0], difference = minus(in[1], in[2]) * t[kSide];
    V nx = max_keep_nan(t[kFar], neg_abs(difference));
    gate<V> g = open_gate<HARD, false>(nx, t[kSteep], V{});
    V nq = nx * g.q;
    V l = fma(nq, t[kSteepNatural], g.lo);
    V loser = grad * l, winner = grad * (set1<V>(1) - l);
    out[0] = by_sign(difference, winner, loser);
    out[1] = by_sign(difference, loser, winner);
    sum[0] = fma(grad * nx, nq, sum[0]);
  }
};

}  // namespace ACONITE_NS
}  // namespace aconite
