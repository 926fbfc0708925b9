// BatchNorm and the activation behind it, fused: only the norm's input is read, forward and backward.
#include <stdlib.h>

#include "norm_passes.h"
#include "units.h"

namespace aconite {
namespace ACONITE_NS {
namespace {

template <class S>
void running(const aconite_batch_norm& g, int64_t c, double* statistics) {
  if (g.statistics == ACONITE_BATCH_STATISTICS) return;
  for (int64_t i = 0; i < c; ++i) {
    statistics[i] = (double)((const S*)g.mean)[i];
    statistics[c + i] = (double)((const S*)g.var)[i];
  }
}

// Without Meta-ACON no number differs between samples, so that channels-last samples are one.
aconite_view merged(aconite_view v, bool apart) {
  if (v.layout == ACONITE_CHANNELS_FIRST && v.l == 1) v.layout = ACONITE_CHANNELS_LAST;
  if (v.layout == ACONITE_CHANNELS_LAST && v.c == 1) v.layout = ACONITE_CHANNELS_FIRST;
  if (v.layout == ACONITE_CHANNELS_LAST && !apart) {
    v.l *= v.n;
    v.n = 1;
  }
  return v;
}

template <class T, int A>
struct fused {
  typedef call<T, A> C;
  typedef typename C::S S;

  static int64_t grain(const pieces& p, int64_t size) { return most(1, size / most(1, p.block * p.n * p.l)); }

  static int32_t forward(const aconite_view& given, const aconite_batch_norm& g, const void* x, const void* p1,
                         const void* p2, const void* beta, void* y, double* statistics) {
    aconite_view v = merged(given, false);
    S* memory = (S*)malloc(sizeof(S) * (size_t)(kNormRows * v.c));
    if (!memory) return ACONITE_NO_MEMORY;
    running<S>(g, v.c, statistics);
    C c(v, g, statistics, memory, p1, p2, beta);
    c.x = (const T*)x;
    c.y = (T*)y;
    c.mean = statistics;
    c.var = statistics + v.c;
    bool fine = true;
    // Running statistics need no first pass; then samples stay with the threads that the layer before gave them to.
    if (c.norm.batch && in_blocks(c.p, (int64_t)sizeof(T)))
      run_tasks(c.p.blocks, grain(c.p, kForwardPiece), C::forward_blocks, &c);
    else {
      if (c.norm.batch)
        fine = c.statistics_pass();
      else
        c.norm.set(0, v.c);
      if (fine) c.forward_pass();
    }
    free(memory);
    return fine ? ACONITE_OK : ACONITE_NO_MEMORY;
  }

  // gradients: weight, bias, p1, p2, beta, each c.
  static int32_t backward(const aconite_view& given, const aconite_batch_norm& g, const void* grad, const void* x,
                          const void* p1, const void* p2, const void* beta, const double* statistics, void* dx,
                          void* gradients) {
    aconite_view v = merged(given, false);
    S* memory = (S*)malloc(sizeof(S) * (size_t)(kNormRows * v.c));
    if (!memory) return ACONITE_NO_MEMORY;
    C c(v, g, statistics, memory, p1, p2, beta);
    c.grad = (const T*)grad;
    c.x = (const T*)x;
    c.y = (T*)dx;
    S* out = (S*)gradients;
    c.dweight = out;
    c.dbias = out + v.c;
    c.dp1 = out + 2 * v.c;
    c.dp2 = out + 3 * v.c;
    c.dbeta = out + 4 * v.c;
    bool fine = true;
    if (in_blocks(c.p, (int64_t)sizeof(T)))
      run_tasks(c.p.blocks, grain(c.p, kBackwardPiece), C::backward_blocks, &c);
    else {
      fine = c.sums_pass();
      if (fine) c.dx_pass();
    }
    free(memory);
    return fine ? ACONITE_OK : ACONITE_NO_MEMORY;
  }
};

template <class T, bool HARD>
struct meta {
  typedef call<T, HARD ? kAconHard : kAconSigmoid> C;
  typedef typename C::S S;

  static acon_parameters<S> parameters_of(const aconite_view& v, const void* p1, const void* p2, const S* beta) {
    return {(const S*)p1, (const S*)p2, beta, nullptr, 0, v.p1_sc, 0, v.p2_sc, v.c, 1, 0};
  }

  // saved: x's mean over positions less the norm's mean (n, c), then what Meta-ACON saves.
  static int32_t forward(const aconite_view& given, const aconite_batch_norm& b, const aconite_generator& g,
                         const void* x, const void* p1, const void* p2, void* y, double* statistics, void* saved) {
    aconite_view v = merged(given, true);
    S* memory = (S*)malloc(sizeof(S) * (size_t)(kNormRows * v.c));
    if (!memory) return ACONITE_NO_MEMORY;
    running<S>(b, v.c, statistics);
    C c(v, b, statistics, memory, p1, p2, nullptr);
    c.x = (const T*)x;
    c.y = (T*)y;
    c.mean = statistics;
    c.var = statistics + v.c;
    c.centred = (S*)saved;
    generator<S> net(g, v.n, v.c, c.centred + v.n * v.c);
    c.parameters = parameters_of(v, p1, p2, net.beta);
    bool fine = c.statistics_pass();
    if (fine) {
      for (int64_t n = 0; n < v.n; ++n)
        for (int64_t i = 0; i < v.c; ++i)
          net.mean[n * v.c + i] = c.centred[n * v.c + i] * c.norm.row[kScale][i] + (c.norm.bias ? c.norm.bias[i] : 0);
      fine = net.forward(HARD);
    }
    if (fine) c.forward_pass();
    free(memory);
    return fine ? ACONITE_OK : ACONITE_NO_MEMORY;
  }

  // gradients: weight, bias (c), then Meta-ACON's.
  static int32_t backward(const aconite_view& given, const aconite_batch_norm& b, const aconite_generator& g,
                          const void* grad, const void* x, const void* p1, const void* p2, const double* statistics,
                          const void* saved, void* dx, void* gradients) {
    aconite_view v = merged(given, true);
    int64_t nc = v.n * v.c;
    size_t numbers = (size_t)(kNormRows * v.c + 2 * nc);
    double* memory = (double*)malloc(sizeof(double) * (size_t)(2 * v.c) + sizeof(S) * numbers);
    if (!memory) return ACONITE_NO_MEMORY;
    S *rows = (S*)(memory + 2 * v.c), *dbeta = rows + kNormRows * v.c, *dmean = dbeta + nc;
    const S* centred = (const S*)saved;
    S* out = (S*)gradients;
    generator<S> net(g, v.n, v.c, const_cast<S*>(centred) + nc);
    generator_gradients<S> inner(g, v.c, out + 2 * v.c);
    C c(v, b, statistics, rows, p1, p2, nullptr);
    c.parameters = parameters_of(v, p1, p2, net.beta);
    c.grad = (const T*)grad;
    c.x = (const T*)x;
    c.y = (T*)dx;
    c.dweight = out;
    c.dbias = out + v.c;
    c.dp1 = inner.p1;
    c.dp2 = inner.p2;
    c.dbeta = dbeta;
    c.dbeta_sn = v.c;
    c.channel_sums = memory;
    bool fine = c.sums_pass() && net.backward(HARD, dbeta, dmean, inner);
    if (fine) {
      double *plain = memory, *along = memory + v.c;
      for (int64_t n = 0; n < v.n; ++n)
        for (int64_t i = 0; i < v.c; ++i) {
          double d = (double)dmean[n * v.c + i];
          plain[i] += d;
          along[i] += d * (double)centred[n * v.c + i];
        }
      for (int64_t i = 0; i < v.c; ++i) c.norm.settle(i, plain[i], along[i], c.count(), c.dweight, c.dbias);
      S share = (S)(1.0 / (double)v.l);
      for (int64_t n = 0; n < v.n; ++n)
        for (int64_t i = 0; i < v.c; ++i)
          dmean[n * v.c + i] = c.norm.row[kConstant][i] + c.norm.row[kScale][i] * (dmean[n * v.c + i] * share);
      c.norm.row[kConstant] = dmean;
      c.norm.constant_sn = v.c;
      c.dx_pass();
    }
    free(memory);
    return fine ? ACONITE_OK : ACONITE_NO_MEMORY;
  }
};

bool good(const aconite_view& v, const aconite_batch_norm& b) {
  return v.n > 0 && v.c > 0 && v.l > 0 && v.dtype >= 0 && v.dtype <= ACONITE_F64 && (v.layout == 0 || v.layout == 1) &&
         (v.gate == 0 || v.gate == 1) && !v.p1_sn && !v.p2_sn && b.activation >= 0 && b.activation <= ACONITE_RELU &&
         (b.statistics == ACONITE_BATCH_STATISTICS || b.statistics == ACONITE_RUNNING_STATISTICS);
}

template <class T, class... Rest>
int32_t forward_of(const aconite_view& v, const aconite_batch_norm& b, Rest... rest) {
  switch (b.activation) {
    case ACONITE_IDENTITY: return fused<T, kIdentity>::forward(v, b, rest...);
    case ACONITE_RELU: return fused<T, kRectifier>::forward(v, b, rest...);
    default:
      return v.gate == ACONITE_HARD ? fused<T, kAconHard>::forward(v, b, rest...)
                                    : fused<T, kAconSigmoid>::forward(v, b, rest...);
  }
}
template <class T, class... Rest>
int32_t backward_of(const aconite_view& v, const aconite_batch_norm& b, Rest... rest) {
  switch (b.activation) {
    case ACONITE_IDENTITY: return fused<T, kIdentity>::backward(v, b, rest...);
    case ACONITE_RELU: return fused<T, kRectifier>::backward(v, b, rest...);
    default:
      return v.gate == ACONITE_HARD ? fused<T, kAconHard>::backward(v, b, rest...)
                                    : fused<T, kAconSigmoid>::backward(v, b, rest...);
  }
}
template <class T, class... Rest>
int32_t meta_forward_of(const aconite_view& v, Rest&... rest) {
  return v.gate == ACONITE_HARD ? meta<T, true>::forward(v, rest...) : meta<T, false>::forward(v, rest...);
}
template <class T, class... Rest>
int32_t meta_backward_of(const aconite_view& v, Rest&... rest) {
  return v.gate == ACONITE_HARD ? meta<T, true>::backward(v, rest...) : meta<T, false>::backward(v, rest...);
}

}  // namespace

#define ACONITE_BY_DTYPE(function, ...)                        \
  switch (v->dtype) {                                          \
    case ACONITE_F32: return function<float>(__VA_ARGS__);     \
    case ACONITE_BF16: return function<bf16>(__VA_ARGS__);     \
    case ACONITE_F16: return function<f16>(__VA_ARGS__);       \
    default: return function<double>(__VA_ARGS__);             \
  }

int32_t batch_norm_forward(const aconite_view* v, const aconite_batch_norm* b, const void* x, const void* p1,
                           const void* p2, const void* beta, void* y, double* statistics) {
  if (!good(*v, *b) || v->beta_sn) return ACONITE_BAD_VIEW;
  ACONITE_BY_DTYPE(forward_of, *v, *b, x, p1, p2, beta, y, statistics)
}
int32_t batch_norm_backward(const aconite_view* v, const aconite_batch_norm* b, const void* grad, const void* x,
                            const void* p1, const void* p2, const void* beta, const double* statistics, void* dx,
                            void* gradients) {
  if (!good(*v, *b) || v->beta_sn) return ACONITE_BAD_VIEW;
  ACONITE_BY_DTYPE(backward_of, *v, *b, grad, x, p1, p2, beta, statistics, dx, gradients)
}
int32_t batch_norm_meta_forward(const aconite_view* v, const aconite_batch_norm* b, const aconite_generator* g,
                                const void* x, const void* p1, const void* p2, void* y, double* statistics,
                                void* saved) {
  if (!good(*v, *b)) return ACONITE_BAD_VIEW;
  ACONITE_BY_DTYPE(meta_forward_of, *v, *b, *g, x, p1, p2, y, statistics, saved)
}
int32_t batch_norm_meta_backward(const aconite_view* v, const aconite_batch_norm* b, const aconite_generator* g,
                                 const void* grad, const void* x, const void* p1, const void* p2,
                                 const double* statistics, const void* saved, void* dx, void* gradients) {
  if (!good(*v, *b)) return ACONITE_BAD_VIEW;
  ACONITE_BY_DTYPE(meta_backward_of, *v, *b, *g, grad, x, p1, p2, statistics, saved, dx, gradients)
}

}  // namespace ACONITE_NS
}  // namespace aconite
