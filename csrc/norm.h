// BatchNorm followed by an activation, as formulas for norm_walk.h: z = (x - mean) scale + shift, y = activation(z).
//
// The mean is a float and what it lost, mean = high + low. x - high is exact where x is near the mean, and low joins
// the shift (bias - low scale), so that a mean of 1e4 with a deviation of 1e-2 keeps its digits.
#pragma once

#include "formula.h"

namespace aconite {
namespace ACONITE_NS {

enum activation { kAconSigmoid, kAconHard, kIdentity, kRectifier };
constexpr bool is_acon(int a) { return a == kAconSigmoid || a == kAconHard; }

// Sums of x - t[0] and of its square: t[0] is near the mean, else the variance would be a difference of large numbers.
template <class V>
struct moments {
  static constexpr int inputs = 1, outputs = 0, sums = 2, rows = 1;
  ACONITE_INLINE static void apply(const V* in, V*, V* sum, const V* t) {
    V d = in[0] - t[0];
    sum[0] += d;
    sum[1] = fma(d, d, sum[1]);
  }
};

// Rows of the tables, after those of the activation.
enum norm_row { kCentre, kScale, kShift, kForwardNormRows, kAlong = kForwardNormRows, kConstant, kNormRows };

template <class V, int A>
struct norm_forward {
  static constexpr int own = is_acon(A) ? (int)acon_forward<V, A == kAconHard>::rows : 0;
  static constexpr int inputs = 1, outputs = 1, sums = 0, rows = own + kForwardNormRows;
  ACONITE_INLINE static void apply(const V* in, V* out, V*, const V* t) {
    const V* norm = t + own;
    V z = fma(in[0] - norm[kCentre], norm[kScale], norm[kShift]);
    if constexpr (is_acon(A))
      acon_forward<V, A == kAconHard>::apply(&z, out, nullptr, t);
    else
      out[0] = A == kRectifier ? max_keep_nan(set1<V>(0), z) : z;
  }
};

// h = grad activation'(z); the activation's sums, then sum of h and sum of h (x - high): the second is not derived from
// the others, which would divide by the norm's weight.
template <class V, int A>
struct norm_slope {
  static constexpr int own = is_acon(A) ? (int)kBackwardRows : 0;
  static constexpr int sums = is_acon(A) ? (int)kAconSums : 0;
  ACONITE_INLINE static V apply(V grad, V x, V* sum, const V* t, V& centred) {
    const V* norm = t + own;
    centred = x - norm[kCentre];
    if constexpr (A == kIdentity) return grad;
    V z = fma(centred, norm[kScale], norm[kShift]);
    if constexpr (A == kRectifier)
      return where_less(set1<V>(0), z, grad);
    else {
      V in[2] = {grad, z}, h;
      acon_backward<V, A == kAconHard, true, true>::apply(in, &h, sum, t);
      return h;
    }
  }
};

template <class V, int A, bool WRITE>
struct norm_sums {
  typedef norm_slope<V, A> slope;
  static constexpr int inputs = 2, outputs = WRITE ? 1 : 0, sums = slope::sums + 2;
  static constexpr int rows = slope::own + kForwardNormRows;
  ACONITE_INLINE static void apply(const V* in, V* out, V* sum, const V* t) {
    V centred, h = slope::apply(in[0], in[1], sum, t, centred);
    if constexpr (WRITE) out[0] = h;
    sum[slope::sums] += h;
    sum[slope::sums + 1] = fma(h, centred, sum[slope::sums + 1]);
  }
};

// dx = scale h + along (x - high) + constant, with h read back (STORED) or computed again.
template <class V, int A, bool STORED>
struct norm_dx {
  typedef norm_slope<V, A> slope;
  static constexpr int own = STORED ? 0 : slope::own;
  static constexpr int inputs = 2, outputs = 1, sums = 0, rows = own + kNormRows;
  ACONITE_INLINE static void apply(const V* in, V* out, V*, const V* t) {
    V centred, h, unused[slope::sums + 1] = {};
    if constexpr (STORED) {
      h = in[0];
      centred = in[1] - t[kCentre];
    } else
      h = slope::apply(in[0], in[1], unused, t, centred);
    out[0] = fma(h, t[own + kScale], fma(centred, t[own + kAlong], t[own + kConstant]));
  }
};

// The norm of one call, channel by channel, in the forms that the passes take.
template <class S>
struct norm_channels {
  S* row[kNormRows];     // centre, scale, shift, along, constant
  int64_t constant_sn;   // the constant may differ between samples
  const double *mean, *var;
  const S *weight, *bias;
  double eps;
  bool batch;

  double low(int64_t c) const { return mean[c] - (double)(S)mean[c]; }
  double rstd(int64_t c) const { return 1.0 / sqrt(var[c] + eps); }
  double scale(int64_t c) const { return rstd(c) * (weight ? (double)weight[c] : 1.0); }

  void set(int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double s = scale(c);
      row[kCentre][c] = canonical((S)mean[c]);
      row[kScale][c] = canonical((S)s);
      row[kShift][c] = canonical((S)((bias ? (double)bias[c] : 0.0) - low(c) * s));
    }
  }

  // From the sums of h and of h (x - mean) over `count` elements of channel c.
  void settle(int64_t c, double plain, double along, double count, S* dweight, S* dbias) {
    double r = rstd(c), s = scale(c), a = batch ? -s * r * r * along / count : 0;
    dweight[c] = (S)(along * r);
    dbias[c] = (S)plain;
    row[kAlong][c] = canonical((S)a);
    row[kConstant][c] = canonical((S)(batch ? -s * plain / count - a * low(c) : 0));
  }
};

// A table for channels [c, c + count) of sample n: the activation's rows, then the norm's.
template <class V, int A, bool FORWARD, bool STORED, int NORM_ROWS>
struct norm_table {
  typedef typename constants<V>::scalar S;
  const norm_channels<S>* norm;
  acon_parameters<S> parameters;

  void operator()(S* table, int64_t stride, int64_t n, int64_t c, int64_t count) const {
    int own = 0;
    if constexpr (is_acon(A) && !STORED) {
      constexpr int rows = FORWARD ? (int)acon_forward<V, A == kAconHard>::rows : (int)kBackwardRows;
      acon_prepare<V, A == kAconHard, rows>(table, stride, parameters, n, c, count);
      own = rows;
    }
    for (int r = 0; r < NORM_ROWS; ++r)
      memcpy(table + (own + r) * stride, norm->row[r] + (r == kConstant ? n * norm->constant_sn : 0) + c,
             sizeof(S) * (size_t)count);
  }
};

}  // namespace ACONITE_NS
}  // namespace aconite
