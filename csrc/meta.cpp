// Meta-ACON, channel-wise: beta comes from x's mean over positions through a small network, and its gradient goes back there.
#include <stdlib.h>

#include "acon.h"
#include "generator.h"
#include "pool.h"
#include "units.h"

namespace aconite {
namespace ACONITE_NS {
namespace {

// beta has one value per sample and channel, whatever the view says.
template <class S>
acon_parameters<S> parameters_of(const aconite_view& v, const void* p1, const void* p2, const S* beta, const S* add) {
  return {(const S*)p1, (const S*)p2, beta, add, 0, v.p1_sc, 0, v.p2_sc, v.c, 1, v.c};
}


template <bool HARD, class T>
int32_t forward(const aconite_view& v, const aconite_generator& g, const T* x, const void* p1, const void* p2, T* y,
                void* saved) {
  typedef typename storage<T>::scalar S;
  generator<S> net(g, v.n, v.c, (S*)saved);
  if (!pool(v, x, net.mean) || !net.forward(HARD)) return ACONITE_NO_MEMORY;
  acon_forward_pass<HARD>(v, x, parameters_of<S>(v, p1, p2, net.beta, nullptr), y);
  return ACONITE_OK;
}

template <bool HARD, class T>
int32_t backward(const aconite_view& v, const aconite_generator& g, const T* grad, const T* x, const void* p1,
                 const void* p2, const void* saved, T* dx, void* gradients) {
  typedef typename storage<T>::scalar S;
  generator<S> net(g, v.n, v.c, (S*)const_cast<void*>(saved));
  generator_gradients<S> out(g, v.c, (S*)gradients);
  S* dbeta = (S*)malloc(sizeof(S) * (size_t)(2 * v.n * v.c));
  if (!dbeta) return ACONITE_NO_MEMORY;
  S* dmean = dbeta + v.n * v.c;
  aconite_view p = v;
  acon_parameters<S> parameters = parameters_of<S>(v, p1, p2, net.beta, nullptr);
  acon_wanted<S> want = {out.p1, out.p2, dbeta};
  // float and double keep grad * slope in dx and add to it later; the half types are written once, after the network's
  // backward, so that they round once (recomputing costs them 1.1 of storing).
  constexpr bool store = sizeof(T) >= 4;
  int32_t status = acon_sums_pass<HARD, store>(p, grad, x, parameters, dx, want);
  if (status == ACONITE_OK && !net.backward(HARD, dbeta, dmean, out)) status = ACONITE_NO_MEMORY;
  if (status == ACONITE_OK) {
    S scale = (S)(1.0 / (double)v.l);
    for (int64_t i = 0; i < v.n * v.c; ++i) dmean[i] *= scale;
    if constexpr (store)
      spread(v, dmean, dx);
    else {
      parameters.add = dmean;
      acon_slope_pass<HARD>(v, grad, x, parameters, dx);
    }
  }
  free(dbeta);
  return status;
}

template <class T>
int32_t forward_any(const aconite_view& v, const aconite_generator& g, const void* x, const void* p1, const void* p2,
                    void* y, void* saved) {
  return v.gate == ACONITE_HARD ? forward<true>(v, g, (const T*)x, p1, p2, (T*)y, saved)
                                : forward<false>(v, g, (const T*)x, p1, p2, (T*)y, saved);
}
template <class T>
int32_t backward_any(const aconite_view& v, const aconite_generator& g, const void* grad, const void* x, const void* p1,
                     const void* p2, const void* saved, void* dx, void* gradients) {
  return v.gate == ACONITE_HARD
             ? backward<true>(v, g, (const T*)grad, (const T*)x, p1, p2, saved, (T*)dx, gradients)
             : backward<false>(v, g, (const T*)grad, (const T*)x, p1, p2, saved, (T*)dx, gradients);
}

// Rows of one element are a channels-last matrix; beta differs by sample, so samples stay apart.
aconite_view seen(const aconite_view& v) { return coarse(v, true, true); }

template <class S>
int32_t no_elements(const aconite_view& v, const aconite_generator& g, void* gradients) {
  write_zeros((S*)gradients, 0, 1, 1, generator_gradients<S>::size(v.c, g.hidden));
  return ACONITE_OK;
}

}  // namespace

int32_t meta_acon_c_forward(const aconite_view* v, const aconite_generator* g, const void* x, const void* p1, const void* p2,
                            void* y, void* saved) {
  if (!sound(*v) || g->hidden < 0 || g->norm < 0 || g->norm > ACONITE_RUNNING_STATISTICS) return ACONITE_BAD_VIEW;
  if (v->n * v->c * v->l == 0) {
    int64_t count = 3 * v->n * v->c + v->n * g->hidden + 2 * g->hidden + 2 * v->c;
    memset(saved, 0, (size_t)count * (v->dtype == ACONITE_F64 ? 8 : 4));
    return ACONITE_OK;
  }
  switch (v->dtype) {
    case ACONITE_F32: return forward_any<float>(seen(*v), *g, x, p1, p2, y, saved);
    case ACONITE_BF16: return forward_any<bf16>(seen(*v), *g, x, p1, p2, y, saved);
    case ACONITE_F16: return forward_any<f16>(seen(*v), *g, x, p1, p2, y, saved);
    default: return forward_any<double>(seen(*v), *g, x, p1, p2, y, saved);
  }
}

int32_t meta_acon_c_backward(const aconite_view* v, const aconite_generator* g, const void* grad, const void* x,
                             const void* p1, const void* p2, const void* saved, void* dx, void* gradients) {
  if (!sound(*v) || g->hidden < 0 || g->norm < 0 || g->norm > ACONITE_RUNNING_STATISTICS) return ACONITE_BAD_VIEW;
  if (v->n * v->c * v->l == 0)
    return v->dtype == ACONITE_F64 ? no_elements<double>(*v, *g, gradients) : no_elements<float>(*v, *g, gradients);
  switch (v->dtype) {
    case ACONITE_F32: return backward_any<float>(seen(*v), *g, grad, x, p1, p2, saved, dx, gradients);
    case ACONITE_BF16: return backward_any<bf16>(seen(*v), *g, grad, x, p1, p2, saved, dx, gradients);
    case ACONITE_F16: return backward_any<f16>(seen(*v), *g, grad, x, p1, p2, saved, dx, gradients);
    default: return backward_any<double>(seen(*v), *g, grad, x, p1, p2, saved, dx, gradients);
  }
}

}  // namespace ACONITE_NS
}  // namespace aconite
