// Meta-ACON's small network on (n, c)-sized arrays, forward and backward: beta = scale gate(bn2(fc2(bn1(fc1(mean))))).
#pragma once

#include <stdlib.h>

#include "formula.h"
#include "matrix.h"

namespace aconite {
namespace ACONITE_NS {

// One BatchNorm over n rows of `width`: y = (z - mean) rstd weight + bias. Statistics are taken in double, in two passes.
template <class S>
struct small_norm {
  int64_t n, width;
  const S *weight, *bias;
  S *mean, *var;   // written by `measure`, else running statistics
  double eps;
  double* memory;  // 4 * width
  bool batch;      // statistics over the rows, which then depend on each other

  void measure(const S* z) {
    double *sum = memory, *square = memory + width, scale = 1.0 / (double)n;
    for (int64_t c = 0; c < width; ++c) sum[c] = square[c] = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < width; ++c) sum[c] += (double)z[i * width + c];
    for (int64_t c = 0; c < width; ++c) sum[c] *= scale;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < width; ++c) {
        double d = (double)z[i * width + c] - sum[c];
        square[c] += d * d;
      }
    for (int64_t c = 0; c < width; ++c) {
      mean[c] = (S)sum[c];
      var[c] = (S)(square[c] * scale);
    }
  }

  void factors(double* rstd, double* gain) const {
    for (int64_t c = 0; c < width; ++c) {
      rstd[c] = 1.0 / sqrt((double)var[c] + eps);
      gain[c] = rstd[c] * (weight ? (double)weight[c] : 1.0);
    }
  }

  void forward(const S* z, S* y) const {
    double *rstd = memory, *gain = memory + width, *shift = memory + 2 * width;
    factors(rstd, gain);
    for (int64_t c = 0; c < width; ++c) shift[c] = bias ? (double)bias[c] : 0.0;
    for (int64_t i = 0; i < n; ++i) {
      const S* from = z + i * width;
      S* to = y + i * width;
      for (int64_t c = 0; c < width; ++c) to[c] = (S)(((double)from[c] - (double)mean[c]) * gain[c] + shift[c]);
    }
  }

  // d, the gradient of y, becomes the gradient of z. Row by row, so that the loops over channels are vectors; each sum still
  // takes its rows in order.
  void backward(const S* z, S* d, S* dweight, S* dbias) const {
    double *rstd = memory, *gain = memory + width, *plain = memory + 2 * width, *along = memory + 3 * width;
    factors(rstd, gain);
    for (int64_t c = 0; c < width; ++c) plain[c] = along[c] = 0;
    for (int64_t i = 0; i < n; ++i) {
      const S *one = d + i * width, *from = z + i * width;
      for (int64_t c = 0; c < width; ++c) {
        plain[c] += (double)one[c];
        along[c] += (double)one[c] * ((double)from[c] - (double)mean[c]);
      }
    }
    double share = batch ? 1.0 / (double)n : 0;
    for (int64_t c = 0; c < width; ++c) {
      along[c] *= rstd[c];
      dweight[c] = (S)along[c];
      dbias[c] = (S)plain[c];
      plain[c] *= share;
      along[c] *= share * rstd[c];
    }
    for (int64_t i = 0; i < n; ++i) {
      S* one = d + i * width;
      const S* from = z + i * width;
      for (int64_t c = 0; c < width; ++c)
        one[c] = (S)(((double)one[c] - plain[c] - ((double)from[c] - (double)mean[c]) * along[c]) * gain[c]);
    }
  }
};

template <class S>
void column_sums(const S* z, int64_t n, int64_t width, double* memory, S* out) {
  for (int64_t c = 0; c < width; ++c) memory[c] = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < width; ++c) memory[c] += (double)z[i * width + c];
  for (int64_t c = 0; c < width; ++c) out[c] = (S)memory[c];
}

// The gradient vector of the C ABI, cut up.
template <class S>
struct generator_gradients {
  S *p1, *p2, *w1, *b1, *bn1_weight, *bn1_bias, *w2, *b2, *bn2_weight, *bn2_bias;

  static int64_t size(int64_t c, int64_t h) { return 2 * c + 2 * h * c + 3 * h + 3 * c; }
  generator_gradients(const aconite_generator& g, int64_t c, S* all) {
    int64_t h = g.hidden;
    S** parts[] = {&p1, &p2, &w1, &b1, &bn1_weight, &bn1_bias, &w2, &b2, &bn2_weight, &bn2_bias};
    int64_t sizes[] = {c, c, h * c, h, h, h, c * h, c, c, c};
    for (int i = 0; i < 10; ++i) {
      *parts[i] = all;
      all += sizes[i];
    }
  }
};

template <class S>
struct generator {
  const aconite_generator& g;
  int64_t n, c, h;
  S *mean, *beta, *z1, *z2, *statistics;

  generator(const aconite_generator& g, int64_t n, int64_t c, S* saved) : g(g), n(n), c(c), h(g.hidden) {
    mean = saved;
    beta = mean + n * c;
    z1 = beta + n * c;
    z2 = z1 + n * h;
    statistics = z2 + n * c;
  }

  small_norm<S> norm1(double* memory) const {
    bool batch = g.norm == ACONITE_BATCH_STATISTICS;
    S *m = batch ? statistics : (S*)const_cast<void*>(g.bn1_mean), *v = batch ? statistics + h : (S*)const_cast<void*>(g.bn1_var);
    return {n, h, (const S*)g.bn1_weight, (const S*)g.bn1_bias, m, v, g.eps1, memory, batch};
  }
  small_norm<S> norm2(double* memory) const {
    bool batch = g.norm == ACONITE_BATCH_STATISTICS;
    S *m = batch ? statistics + 2 * h : (S*)const_cast<void*>(g.bn2_mean);
    S *v = batch ? statistics + 2 * h + c : (S*)const_cast<void*>(g.bn2_var);
    return {n, c, (const S*)g.bn2_weight, (const S*)g.bn2_bias, m, v, g.eps2, memory, batch};
  }

  // beta[i] = scale gate(u[i]); with d: d[i] *= scale gate'(u[i]) instead.
  template <bool HARD, bool SLOPE>
  void open(const S* u, S* out) const {
    typedef typename storage<S>::vector V;
    constexpr int W = storage<S>::lanes;
    const steepness<S> one = steepness_of<V, HARD, S>(1.0);
    for (int64_t i = 0; i < n * c; i += W) {
      int64_t some = n * c - i < W ? n * c - i : W;
      V x = some == W ? load(u + i) : load(u + i, some);
      gate<V> opened = open_gate<HARD, true>(max_keep_nan(set1<V>((double)one.floor), neg_abs(x)), set1<V>((double)one.high),
                                             set1<V>((double)one.low));
      V value = by_sign(x, set1<V>(1) - opened.lo, opened.lo);
      if (SLOPE) value = opened.q * (some == W ? load(out + i) : load(out + i, some));
      value = value * set1<V>(g.scale);
      if (some == W)
        store(out + i, value);
      else
        store(out + i, value, some);
    }
  }

  // From mean to beta; z1, z2 and the batch statistics stay in `saved`.
  bool forward(bool hard) {
    int64_t widest = c > h ? c : h;
    double* memory = (double*)scratch(4 * widest * (int64_t)sizeof(double) + (n * h + n * c) * (int64_t)sizeof(S));
    if (!memory) return false;
    S *h1 = (S*)(memory + 4 * widest), *u = h1 + n * h;
    if (g.norm != ACONITE_BATCH_STATISTICS)
      for (int64_t i = 0; i < 2 * h + 2 * c; ++i) statistics[i] = 0;
    dots(n, h, c, mean, (const S*)g.w1, (const S*)g.b1, z1);
    hidden(z1, h1, memory, true);
    dots(n, c, h, g.norm ? h1 : z1, (const S*)g.w2, (const S*)g.b2, z2);
    if (g.norm) {
      small_norm<S> norm = norm2(memory);
      if (norm.batch) norm.measure(z2);
      norm.forward(z2, u);
    }
    if (hard)
      open<true, false>(g.norm ? u : z2, beta);
    else
      open<false, false>(g.norm ? u : z2, beta);
    return true;
  }

  void hidden(const S* z, S* y, double* memory, bool measure) const {
    if (!g.norm) return;
    small_norm<S> norm = norm1(memory);
    if (measure && norm.batch) norm.measure(z);
    norm.forward(z, y);
  }

  // From dbeta, which is used up, to dmean and the gradients of every weight.
  bool backward(bool hard, S* dbeta, S* dmean, const generator_gradients<S>& out) {
    int64_t widest = c > h ? c : h;
    double* memory = (double*)scratch(4 * widest * (int64_t)sizeof(double) + (2 * n * h + n * c) * (int64_t)sizeof(S));
    if (!memory) return false;
    S *h1 = (S*)(memory + 4 * widest), *d1 = h1 + n * h, *u = d1 + n * h;
    const S *activated = z1, *opened = z2;
    if (g.norm) {
      hidden(z1, h1, memory, false);
      norm2(memory).forward(z2, u);
      activated = h1;
      opened = u;
    }
    if (hard)
      open<true, true>(opened, dbeta);
    else
      open<false, true>(opened, dbeta);
    if (g.norm)
      norm2(memory).backward(z2, dbeta, out.bn2_weight, out.bn2_bias);
    column_sums(dbeta, n, c, memory, out.b2);
    combine<S>(c, h, n, dbeta, 1, c, activated, out.w2);
    combine<S>(n, h, c, dbeta, c, 1, (const S*)g.w2, d1);
    if (g.norm) norm1(memory).backward(z1, d1, out.bn1_weight, out.bn1_bias);
    column_sums(d1, n, h, memory, out.b1);
    combine<S>(h, c, n, d1, 1, h, mean, out.w1);
    combine<S>(n, c, h, d1, h, 1, (const S*)g.w1, dmean);
    return true;
  }
};

}  // namespace ACONITE_NS
}  // namespace aconite
