// ACON-C: entry points for every dtype and gate.
#include "acon.h"

#include "units.h"

namespace aconite {
namespace ACONITE_NS {
namespace {

template <class S>
acon_parameters<S> parameters_of(const aconite_view& v, const void* p1, const void* p2, const void* beta) {
  return {(const S*)p1, (const S*)p2, (const S*)beta, nullptr, v.p1_sn,   v.p1_sc,
          v.p2_sn,      v.p2_sc,      v.beta_sn,      v.beta_sc, 0};
}

aconite_view coarse_for_acon(const aconite_view& v) {
  return coarse(v, v.p1_sc || v.p2_sc || v.beta_sc, v.p1_sn || v.p2_sn || v.beta_sn);
}

template <class T>
int32_t forward(const aconite_view& given, const void* x, const void* p1, const void* p2, const void* beta, void* y) {
  typedef typename storage<T>::scalar S;
  aconite_view v = coarse_for_acon(given);
  acon_parameters<S> p = parameters_of<S>(given, p1, p2, beta);
  if (v.gate == ACONITE_HARD)
    acon_forward_pass<true>(v, (const T*)x, p, (T*)y);
  else
    acon_forward_pass<false>(v, (const T*)x, p, (T*)y);
  return ACONITE_OK;
}

template <bool HARD, class T>
int32_t backward(const aconite_view& given, const T* grad, const T* x, const void* p1, const void* p2, const void* beta,
                 T* dx, void* dp1, void* dp2, void* dbeta) {
  typedef typename storage<T>::scalar S;
  aconite_view v = coarse_for_acon(given);
  acon_parameters<S> p = parameters_of<S>(given, p1, p2, beta);
  if (dp1 || dp2 || dbeta) {
    acon_wanted<S> want = {(S*)dp1, (S*)dp2, (S*)dbeta};
    return dx ? acon_sums_pass<HARD, true>(v, grad, x, p, dx, want) : acon_sums_pass<HARD, false>(v, grad, x, p, dx, want);
  }
  if (!dx) return ACONITE_OK;
  // The slope pass adds a table row to every dx; here it stays zero.
  acon_slope_pass<HARD>(v, grad, x, p, dx);
  return ACONITE_OK;
}

template <class T>
int32_t backward_any(const aconite_view& v, const void* grad, const void* x, const void* p1, const void* p2,
                     const void* beta, void* dx, void* dp1, void* dp2, void* dbeta) {
  typedef typename storage<T>::scalar S;
  if (v.n * v.c * v.l == 0) {
    write_zeros((S*)dp1, v.p1_sn, v.p1_sc, v.n, v.c);
    write_zeros((S*)dp2, v.p2_sn, v.p2_sc, v.n, v.c);
    write_zeros((S*)dbeta, v.beta_sn, v.beta_sc, v.n, v.c);
    return ACONITE_OK;
  }
  return v.gate == ACONITE_HARD
             ? backward<true>(v, (const T*)grad, (const T*)x, p1, p2, beta, (T*)dx, dp1, dp2, dbeta)
             : backward<false>(v, (const T*)grad, (const T*)x, p1, p2, beta, (T*)dx, dp1, dp2, dbeta);
}

}  // namespace

int32_t acon_c_forward(const aconite_view* v, const void* x, const void* p1, const void* p2, const void* beta, void* y) {
  if (!sound(*v)) return ACONITE_BAD_VIEW;
  if (v->n * v->c * v->l == 0) return ACONITE_OK;
  switch (v->dtype) {
    case ACONITE_F32: return forward<float>(*v, x, p1, p2, beta, y);
    case ACONITE_BF16: return forward<bf16>(*v, x, p1, p2, beta, y);
    case ACONITE_F16: return forward<f16>(*v, x, p1, p2, beta, y);
    default: return forward<double>(*v, x, p1, p2, beta, y);
  }
}

int32_t acon_c_backward(const aconite_view* v, const void* grad, const void* x, const void* p1, const void* p2,
                        const void* beta, void* dx, void* dp1, void* dp2, void* dbeta) {
  if (!sound(*v)) return ACONITE_BAD_VIEW;
  switch (v->dtype) {
    case ACONITE_F32: return backward_any<float>(*v, grad, x, p1, p2, beta, dx, dp1, dp2, dbeta);
    case ACONITE_BF16: return backward_any<bf16>(*v, grad, x, p1, p2, beta, dx, dp1, dp2, dbeta);
    case ACONITE_F16: return backward_any<f16>(*v, grad, x, p1, p2, beta, dx, dp1, dp2, dbeta);
    default: return backward_any<double>(*v, grad, x, p1, p2, beta, dx, dp1, dp2, dbeta);
  }
}

}  // namespace ACONITE_NS
}  // namespace aconite
