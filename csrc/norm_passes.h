// The passes of one fused norm over a whole tensor: all channels in two passes, or both passes block by block.
#pragma once

#include "generator.h"
#include "norm.h"
#include "norm_pieces.h"

namespace aconite {
namespace ACONITE_NS {

using namespace norm_walk;

constexpr int64_t kBackwardPiece = 16384, kSome = 16;

template <class S>
norm_channels<S> channels_of(const aconite_batch_norm& g, const double* statistics, int64_t c, S* memory) {
  norm_channels<S> norm = {};
  for (int r = 0; r < kNormRows; ++r) norm.row[r] = memory + r * c;
  norm.mean = statistics;
  norm.var = statistics + c;
  norm.weight = (const S*)g.weight;
  norm.bias = (const S*)g.bias;
  norm.eps = g.eps;
  norm.batch = g.statistics == ACONITE_BATCH_STATISTICS;
  return norm;
}

template <class T, int A>
struct call {
  typedef typename storage<T>::vector V;
  typedef typename storage<T>::scalar S;
  typedef typename norm_sums<V, A, false>::slope slope;
  // float and double keep h in dx; the half types compute it again, so that dx rounds once; for ReLU it is free.
  static constexpr bool stored = is_acon(A) && sizeof(T) >= 4;
  typedef norm_sums<V, A, stored> sums_formula;
  typedef norm_dx<V, A, stored> dx_formula;
  static constexpr int sums = sums_formula::sums;
  typedef norm_table<V, A, true, true, 1> centre_table;
  typedef norm_table<V, A, true, false, kForwardNormRows> forward_table;
  typedef norm_table<V, A, false, false, kForwardNormRows> sums_table;
  typedef norm_table<V, A, false, stored, kNormRows> dx_table_all;

  pieces p;
  norm_channels<S> norm;
  acon_parameters<S> parameters;
  const T *x, *grad;
  T* y;             // dx in the backward
  double *mean, *var;
  S *centred;       // Meta-ACON: (n, c), x's mean over positions less the norm's mean
  S *dweight, *dbias, *dp1, *dp2, *dbeta;
  int64_t dbeta_sn;
  double* channel_sums;  // Meta-ACON: [2][c], plain and along before the pooling's share
  S* partial;

  // The view's strides of p1, p2 and beta are those over channels; Meta-ACON sets the parameters anew.
  call(const aconite_view& v, const aconite_batch_norm& b, const double* statistics, S* memory, const void* p1,
       const void* p2, const void* beta)
      : p(v.n, v.c, v.l, v.layout == ACONITE_CHANNELS_LAST, storage<T>::lanes),
        norm(channels_of<S>(b, statistics, v.c, memory)) {
    parameters = {(const S*)p1, (const S*)p2, (const S*)beta, nullptr, 0, v.p1_sc, 0, v.p2_sc, 0, v.beta_sc, 0};
    x = grad = nullptr;
    y = nullptr;
    mean = var = channel_sums = nullptr;
    centred = dweight = dbias = dp1 = dp2 = dbeta = partial = nullptr;
    dbeta_sn = 0;
  }

  double count() const { return (double)p.n * (double)p.l; }

  // Near the channel's mean: that of the first values.
  void guess(int64_t c, int64_t some) {
    S* centre = norm.row[kCentre];
    if (!norm.batch) {
      for (int64_t i = 0; i < some; ++i) centre[c + i] = (S)mean[c + i];
      return;
    }
    constexpr int W = storage<T>::lanes;
    int64_t few = least(p.l, p.last ? 4 : W);
    for (int64_t i = 0; i < some; i += p.last ? W : 1) {
      int64_t lanes = p.last ? least(W, some - i) : few;
      V v = V{};
      for (int64_t r = 0; r < (p.last ? few : 1); ++r) {
        const T* from = p.last ? x + r * p.c + c + i : x + (c + i) * p.l;
        v += lanes == W ? load(from) : load(from, lanes);
      }
      if (!p.last)
        centre[c + i] = (S)((double)sum(v) / (double)few);
      else if (lanes == W)
        store(centre + c + i, v / set1<V>((double)few));
      else
        store(centre + c + i, v / set1<V>((double)few), lanes);
    }
  }

  template <class F>
  stream<F, T> over(const T* first, const T* second, T* out) const {
    stream<F, T> s = {};
    s.c = p.c;
    s.l = p.l;
    s.in[0] = first;
    if (F::inputs > 1) s.in[F::inputs - 1] = second;
    s.out[0] = out;
    return s;
  }
  // The same, past the caches where they could not keep `out` anyway.
  template <class F>
  stream<F, T> once_over(const T* first, const T* second, T* out) const {
    stream<F, T> s = over<F>(first, second, out);
    s.past = past_caches<T>((F::inputs + F::outputs) * p.n * p.c * p.l);
    return s;
  }
  stream<dx_formula, T> dx_stream() const { return over<dx_formula>(stored ? y : grad, x, y); }

  template <class F, class TABLE>
  void pass(const stream<F, T>& s, int64_t grain) const {
    pass_of<F, T, TABLE> run = {s, &p, TABLE{&norm, parameters}, partial};
    run.run(grain);
  }
  // Channels [c, c + some) of all samples, on this thread.
  template <class F, class TABLE>
  void block(const stream<F, T>& s, int64_t c, int64_t some, S (*table)[kTable], double* total) const {
    pass_of<F, T, TABLE>::fill(TABLE{&norm, parameters}, p, table, 0, c, some);
    if (F::sums) memset(total, 0, sizeof(double) * (size_t)(F::sums * kWidth));
    if (p.last)
      pass_of<F, T, TABLE>::walk(s, p, 0, 0, c, some, table, total);
    else
      channels_first(s, 0, p.n, c, some, table, total);
  }

  void moments_to_statistics(int64_t c, double first, double second) {
    double m = first / count(), v = second / count() - m * m;
    mean[c] = (double)norm.row[kCentre][c] + m;
    var[c] = v < 0 ? 0 : v;
  }

  static void forward_blocks(int64_t begin, int64_t end, void* context) {
    call& self = *(call*)context;
    const pieces& p = self.p;
    const stream<moments<V>, T> reading = self.template over<moments<V>>(self.x, nullptr, nullptr);
    const stream<norm_forward<V, A>, T> writing = self.template once_over<norm_forward<V, A>>(self.x, nullptr, self.y);
    constexpr int first = moments<V>::rows + moments<V>::sums, second = norm_forward<V, A>::rows;
    alignas(64) S table[first > second ? first : second][kTable] = {};
    alignas(64) double total[2 * kWidth];
    for (int64_t b = begin; b < end; ++b) {
      int64_t c = b * p.block, some = least(p.block, p.c - c);
      self.guess(c, some);
      self.template block<moments<V>, centre_table>(reading, c, some, table, total);
      for (int64_t i = 0; i < some; ++i)
        self.moments_to_statistics(c + i, pass_of<moments<V>, T, centre_table>::total_of(p, total, i),
                                   pass_of<moments<V>, T, centre_table>::total_of(p, total + kWidth, i));
      self.norm.set(c, c + some);
      self.template block<norm_forward<V, A>, forward_table>(writing, c, some, table, total);
    }
    if (writing.past) end_past();
  }

  // Per-sample means and, of a batch, the statistics, from the first pass's sums.
  static void statistics_units(int64_t begin, int64_t end, void* context) {
    call& self = *(call*)context;
    const pieces& p = self.p;
    int64_t stride = p.n * p.parts * p.c;
    for (int64_t unit = begin; unit < end; ++unit) {
      int64_t c = unit * kSome, some = least(kSome, p.c - c);
      double first[kSome] = {}, second[kSome] = {};
      for (int64_t row = 0; row < p.n * p.parts; ++row)
        for (int64_t i = 0; i < some; ++i) {
          first[i] += (double)self.partial[row * p.c + c + i];
          second[i] += (double)self.partial[stride + row * p.c + c + i];
        }
      if (self.norm.batch)
        for (int64_t i = 0; i < some; ++i) self.moments_to_statistics(c + i, first[i], second[i]);
      if (self.centred) {
        double off[kSome];
        for (int64_t i = 0; i < some; ++i) off[i] = self.mean[c + i] - (double)self.norm.row[kCentre][c + i];
        for (int64_t n = 0; n < p.n; ++n) {
          double own[kSome] = {};
          for (int64_t part = 0; part < p.parts; ++part)
            for (int64_t i = 0; i < some; ++i) own[i] += (double)self.partial[(n * p.parts + part) * p.c + c + i];
          for (int64_t i = 0; i < some; ++i) self.centred[n * p.c + c + i] = (S)(own[i] / (double)p.l - off[i]);
        }
      }
      self.norm.set(c, c + some);
    }
  }

  bool statistics_pass() {
    partial = (S*)scratch(2 * p.n * p.parts * p.c * (int64_t)sizeof(S));
    if (!partial) return false;
    guess(0, p.c);
    pass<moments<V>, centre_table>(over<moments<V>>(x, nullptr, nullptr), kForwardPiece);
    run_tasks(ceil_div(p.c, kSome), most(1, 4096 / (p.n * p.parts)), statistics_units, this);
    return true;
  }
  void forward_pass() {
    pass<norm_forward<V, A>, forward_table>(once_over<norm_forward<V, A>>(x, nullptr, y), kForwardPiece);
  }

  // The sums of one (n, c..c + some) -> what they add to the gradients of p1, p2, beta, and to plain and along.
  void gradients_of(const double (*s)[kSome], int64_t n, int64_t c, int64_t some, double (*out)[kSome]) const {
    if constexpr (is_acon(A)) {
      double a[kSome] = {}, b[kSome] = {}, steep[kSome] = {};
      for (int64_t i = 0; i < some; ++i) {
        a[i] = (double)parameters.p1[(c + i) * parameters.p1_sc];
        b[i] = (double)parameters.p2[(c + i) * parameters.p2_sc];
        steep[i] = (double)parameters.beta[n * parameters.beta_sn + (c + i) * parameters.beta_sc];
      }
      for (int64_t i = 0; i < kSome; ++i) {
        double up = s[kTransfer][i] - s[kPositive][i], down = s[kNegative][i] - s[kTransfer][i];
        double d = a[i] - b[i], side = d * steep[i];
        out[0][i] += side < 0 ? down : up;
        out[1][i] += side < 0 ? up : down;
        out[2][i] = d * d * s[kCurvature][i];
      }
    }
    for (int64_t i = 0; i < some; ++i) {
      out[3][i] += s[slope::sums][i];
      out[4][i] += s[slope::sums + 1][i] - norm.low(c + i) * s[slope::sums][i];
    }
  }
  void write_gradients(int64_t c, int64_t some, const double (*g)[kSome]) {
    for (int64_t i = 0; i < some; ++i) {
      if (is_acon(A)) {
        dp1[c + i] = (S)g[0][i];
        dp2[c + i] = (S)g[1][i];
      }
      if (channel_sums) {
        channel_sums[c + i] = g[3][i];
        channel_sums[p.c + c + i] = g[4][i];
      } else
        norm.settle(c + i, g[3][i], g[4][i], count(), dweight, dbias);
    }
  }

  static void backward_blocks(int64_t begin, int64_t end, void* context) {
    call& self = *(call*)context;
    const pieces& p = self.p;
    constexpr int first = sums_formula::rows + sums_formula::sums, second = dx_formula::rows;
    alignas(64) S table[first > second ? first : second][kTable] = {};
    alignas(64) double total[sums * kWidth];
    for (int64_t b = begin; b < end; ++b) {
      int64_t c = b * p.block, some = least(p.block, p.c - c);
      self.norm.set(c, c + some);
      const stream<sums_formula, T> reading =
          self.template over<sums_formula>(self.grad, self.x, stored ? self.y : nullptr);
      self.template block<sums_formula, sums_table>(reading, c, some, table, total);
      for (int64_t i = 0; i < some; i += kSome) {
        int64_t few = least(kSome, some - i);
        double s[sums][kSome] = {}, g[5][kSome] = {};
        for (int k = 0; k < sums; ++k)
          for (int64_t j = 0; j < few; ++j)
            s[k][j] = pass_of<sums_formula, T, sums_table>::total_of(p, total + k * kWidth, i + j);
        self.gradients_of(s, 0, c + i, few, g);
        if (is_acon(A))
          for (int64_t j = 0; j < few; ++j) self.dbeta[c + i + j] = (S)g[2][j];
        self.write_gradients(c + i, few, g);
      }
      self.template block<dx_formula, dx_table_all>(self.dx_stream(), c, some, table, total);
    }
  }

  static void fold_units(int64_t begin, int64_t end, void* context) {
    call& self = *(call*)context;
    const pieces& p = self.p;
    int64_t stride = p.n * p.parts * p.c;
    for (int64_t unit = begin; unit < end; ++unit) {
      int64_t c = unit * kSome, some = least(kSome, p.c - c);
      double g[5][kSome] = {}, dbeta[kSome] = {};
      for (int64_t n = 0; n < p.n; ++n) {
        double s[sums][kSome] = {};
        for (int64_t part = 0; part < p.parts; ++part)
          for (int k = 0; k < sums; ++k) {
            const S* from = self.partial + k * stride + (n * p.parts + part) * p.c + c;
            for (int64_t i = 0; i < some; ++i) s[k][i] += (double)from[i];
          }
        self.gradients_of(s, n, c, some, g);
        if (!is_acon(A)) continue;
        if (self.dbeta_sn)
          for (int64_t i = 0; i < some; ++i) self.dbeta[n * self.dbeta_sn + c + i] = (S)g[2][i];
        else
          for (int64_t i = 0; i < kSome; ++i) dbeta[i] += g[2][i];
      }
      if (is_acon(A) && !self.dbeta_sn)
        for (int64_t i = 0; i < some; ++i) self.dbeta[c + i] = (S)dbeta[i];
      self.write_gradients(c, some, g);
    }
  }

  bool sums_pass() {
    norm.set(0, p.c);
    partial = (S*)scratch(sums * p.n * p.parts * p.c * (int64_t)sizeof(S));
    if (!partial) return false;
    pass<sums_formula, sums_table>(once_over<sums_formula>(grad, x, stored ? y : nullptr), kBackwardPiece);
    run_tasks(ceil_div(p.c, kSome), most(1, 1024 / (p.n * p.parts)), fold_units, this);
    return true;
  }
  void dx_pass() { pass<dx_formula, dx_table_all>(dx_stream(), kBackwardPiece); }
};

}  // namespace ACONITE_NS
}  // namespace aconite
