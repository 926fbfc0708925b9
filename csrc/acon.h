// ACON-C on whole tensors, for acon.cpp and for Meta-ACON, whose beta has one value per sample and channel.
#pragma once

#include "formula.h"
#include "passes.h"

namespace aconite {
namespace ACONITE_NS {

template <class S>
bool samples_alike(const acon_parameters<S>& p) {
  return !p.p1_sn && !p.p2_sn && !p.beta_sn;
}

template <bool HARD, class T, class S>
void acon_forward_pass(const aconite_view& v, const T* x, const acon_parameters<S>& parameters, T* y) {
  pass<acon_forward<typename storage<T>::vector, HARD>, T> p = {};
  p.in[0] = x;
  p.out[0] = y;
  p.parameters = parameters;
  set_view(p, v, samples_alike(parameters));
  run(p, v, kForwardGrain);
}

// dx [+ add], no sums.
template <bool HARD, class T, class S>
void acon_slope_pass(const aconite_view& v, const T* grad, const T* x, const acon_parameters<S>& parameters, T* dx) {
  pass<acon_backward<typename storage<T>::vector, HARD, false, true>, T> p = {};
  p.in[0] = grad;
  p.in[1] = x;
  p.out[0] = dx;
  p.parameters = parameters;
  set_view(p, v, !parameters.add && samples_alike(parameters));
  run(p, v, kBackwardGrain);
}

template <class S>
struct acon_wanted {
  S *p1, *p2, *beta;
};

// Gradients from the pass's sums, in double and in the order of the samples.
template <class PASS, class S>
void acon_fold(const PASS& pass, const aconite_view& v, const acon_parameters<S>& p, const acon_wanted<S>& want, double* memory) {
  fold<S> to[3] = {{want.p1, p.p1_sn, p.p1_sc, memory},
                   {want.p2, p.p2_sn, p.p2_sc, memory + v.c},
                   {want.beta, p.beta_sn, p.beta_sc, memory + 2 * v.c}};
  for (fold<S>& f : to) f.clear(v.c);
  for (int64_t n = 0; n < v.n; ++n) {
    for (int64_t c = 0; c < v.c; c += kPrepared) {
      int64_t some = least(kPrepared, v.c - c);
      S p1[kPrepared] = {}, p2[kPrepared] = {}, beta[kPrepared] = {}, sum[kAconSums][kPrepared] = {};
      take_block(p1, p.p1 + n * p.p1_sn + c * p.p1_sc, p.p1_sc, some);
      take_block(p2, p.p2 + n * p.p2_sn + c * p.p2_sc, p.p2_sc, some);
      take_block(beta, p.beta + n * p.beta_sn + c * p.beta_sc, p.beta_sc, some);
      double gradient[3][kPrepared];
      for (int s = 0; s < kAconSums; ++s) take_block(sum[s], pass.sums_of_sample(s, n) + c, 1, some);
      // Without a branch: the sign of beta (p1 - p2) is a coin toss.
#pragma GCC unroll 1
      for (int i = 0; i < kPrepared; ++i) {
        double up = (double)sum[kTransfer][i] - (double)sum[kPositive][i];
        double down = (double)sum[kNegative][i] - (double)sum[kTransfer][i];
        double d = (double)p1[i] - (double)p2[i], side = d * (double)beta[i];
        gradient[0][i] = side < 0 ? down : up;
        gradient[1][i] = side < 0 ? up : down;
        gradient[2][i] = d * d * (double)sum[kCurvature][i];
      }
      for (int k = 0; k < 3; ++k)
        for (int64_t i = 0; i < some; ++i) to[k].per_channel[c + i] += gradient[k][i];
    }
    for (fold<S>& f : to) f.end_sample(n, v.c);
  }
  for (fold<S>& f : to) f.end(f.sn ? v.n : 0, v.c);
}

template <bool HARD, bool WRITE, class T, class S>
int32_t acon_sums_pass(const aconite_view& v, const T* grad, const T* x, const acon_parameters<S>& parameters, T* dx,
                       const acon_wanted<S>& want) {
  pass<acon_backward<typename storage<T>::vector, HARD, true, WRITE>, T> p = {};
  p.in[0] = grad;
  p.in[1] = x;
  p.out[0] = dx;
  p.parameters = parameters;
  bool alike = samples_alike(parameters);
  set_view(p, v, alike);
  double* memory = (double*)scratch(3 * v.c * (int64_t)sizeof(double) + p.partial_bytes());
  if (!memory) return ACONITE_NO_MEMORY;
  p.keep_sums((S*)(memory + 3 * v.c));
  run(p, v, kBackwardGrain);
  aconite_view seen = v;
  if (alike) seen.n = 1;
  acon_fold(p, seen, parameters, want, memory);
  return ACONITE_OK;
}

}  // namespace ACONITE_NS
}  // namespace aconite
