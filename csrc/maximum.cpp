// The smooth maximum of two tensors: entry points for every dtype and gate.
#include "formula.h"
#include "passes.h"
#include "units.h"

namespace aconite {
namespace ACONITE_NS {
namespace {

aconite_view coarse_for_maximum(const aconite_view& v) { return coarse(v, v.beta_sc != 0, v.beta_sn != 0); }

template <bool HARD, class T>
int32_t forward(const aconite_view& given, const void* a, const void* b, const void* beta, void* y) {
  aconite_view v = coarse_for_maximum(given);
  pass<maximum_forward<typename storage<T>::vector, HARD>, T> p = {};
  p.in[0] = (const T*)a;
  p.in[1] = (const T*)b;
  p.out[0] = (T*)y;
  p.parameters = {(const typename storage<T>::scalar*)beta, given.beta_sn, given.beta_sc};
  set_view(p, v);
  run(p, v, kForwardGrain);
  return ACONITE_OK;
}

template <bool HARD, class T>
int32_t backward(const aconite_view& given, const void* grad, const void* a, const void* b, const void* beta, void* da,
                 void* db, void* dbeta) {
  typedef typename storage<T>::scalar S;
  aconite_view v = coarse_for_maximum(given);
  if (v.n * v.c * v.l == 0) {
    write_zeros((S*)dbeta, given.beta_sn, given.beta_sc, given.n, given.c);
    return ACONITE_OK;
  }
  pass<maximum_backward<typename storage<T>::vector, HARD>, T> p = {};
  p.in[0] = (const T*)grad;
  p.in[1] = (const T*)a;
  p.in[2] = (const T*)b;
  p.out[0] = (T*)da;
  p.out[1] = (T*)db;
  p.parameters = {(const S*)beta, given.beta_sn, given.beta_sc};
  set_view(p, v);
  double* memory = (double*)scratch(v.c * (int64_t)sizeof(double) + p.partial_bytes());
  if (!memory) return ACONITE_NO_MEMORY;
  p.keep_sums((S*)(memory + v.c));
  run(p, v, kBackwardGrain);
  fold<S> to = {(S*)dbeta, given.beta_sn, given.beta_sc, memory};
  to.clear(v.c);
  for (int64_t n = 0; n < v.n; ++n) {
    for (int64_t c = 0; c < v.c; ++c) memory[c] += (double)p.sums_of_sample(0, n)[c];
    to.end_sample(n, v.c);
  }
  to.end(to.sn ? v.n : 0, v.c);
  return ACONITE_OK;
}

template <class T>
int32_t forward_any(const aconite_view& v, const void* a, const void* b, const void* beta, void* y) {
  return v.gate == ACONITE_HARD ? forward<true, T>(v, a, b, beta, y) : forward<false, T>(v, a, b, beta, y);
}
template <class T>
int32_t backward_any(const aconite_view& v, const void* grad, const void* a, const void* b, const void* beta, void* da,
                     void* db, void* dbeta) {
  return v.gate == ACONITE_HARD ? backward<true, T>(v, grad, a, b, beta, da, db, dbeta)
                                : backward<false, T>(v, grad, a, b, beta, da, db, dbeta);
}

}  // namespace

int32_t smooth_maximum_forward(const aconite_view* v, const void* a, const void* b, const void* beta, void* y) {
  if (!sound(*v)) return ACONITE_BAD_VIEW;
  if (v->n * v->c * v->l == 0) return ACONITE_OK;
  switch (v->dtype) {
    case ACONITE_F32: return forward_any<float>(*v, a, b, beta, y);
    case ACONITE_BF16: return forward_any<bf16>(*v, a, b, beta, y);
    case ACONITE_F16: return forward_any<f16>(*v, a, b, beta, y);
    default: return forward_any<double>(*v, a, b, beta, y);
  }
}

int32_t smooth_maximum_backward(const aconite_view* v, const void* grad, const void* a, const void* b, const void* beta,
                                void* da, void* db, void* dbeta) {
  if (!sound(*v)) return ACONITE_BAD_VIEW;
  switch (v->dtype) {
    case ACONITE_F32: return backward_any<float>(*v, grad, a, b, beta, da, db, dbeta);
    case ACONITE_BF16: return backward_any<bf16>(*v, grad, a, b, beta, da, db, dbeta);
    case ACONITE_F16: return backward_any<f16>(*v, grad, a, b, beta, da, db, dbeta);
    default: return backward_any<double>(*v, grad, a, b, beta, da, db, dbeta);
  }
}

}  // namespace ACONITE_NS
}  // namespace aconite
