/* The C ABI of libaconite: plain pointers, no ownership taken, no state but the thread hooks. README.md explains it. */
#ifndef ACONITE_H
#define ACONITE_H

#include <stdint.h>

#define ACONITE_ABI_VERSION 2
#define ACONITE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum aconite_dtype { ACONITE_F32 = 0, ACONITE_BF16 = 1, ACONITE_F16 = 2, ACONITE_F64 = 3 };
enum aconite_layout { ACONITE_CHANNELS_FIRST = 0, ACONITE_CHANNELS_LAST = 1 };
enum aconite_gate { ACONITE_SIGMOID = 0, ACONITE_HARD = 1 };
enum aconite_norm { ACONITE_NO_NORM = 0, ACONITE_BATCH_STATISTICS = 1, ACONITE_RUNNING_STATISTICS = 2 };
enum aconite_activation { ACONITE_ACON_C = 0, ACONITE_IDENTITY = 1, ACONITE_RELU = 2 };
enum aconite_status { ACONITE_OK = 0, ACONITE_BAD_VIEW = 1, ACONITE_NO_MEMORY = 2, ACONITE_NOT_LOADED = 3 };

/* A dense tensor seen as [n][c][l] (channels first) or [n][l][c] (channels last), and how a parameter is indexed:
 * element i*sn + j*sc serves sample i, channel j. Gradients of a parameter have the parameter's own shape. */
typedef struct aconite_view {
  int64_t n, c, l;
  int64_t p1_sn, p1_sc, p2_sn, p2_sc, beta_sn, beta_sc;
  int32_t dtype, layout, gate, reserved;
} aconite_view;

/* beta = scale * gate(bn2(fc2(bn1(fc1(mean over l))))). Null biases, norm weights and norm biases count as absent.
 * Every array holds the arithmetic type: double for ACONITE_F64, else float. */
typedef struct aconite_generator {
  const void *w1, *b1, *bn1_weight, *bn1_bias, *bn1_mean, *bn1_var; /* w1: (hidden, c) */
  const void *w2, *b2, *bn2_weight, *bn2_bias, *bn2_mean, *bn2_var; /* w2: (c, hidden) */
  double eps1, eps2, scale;
  int64_t hidden;
  int32_t norm, reserved;
} aconite_generator;

/* What a training step leaves of the norms: running = running + share (batch - running), the variance unbiased, steps + 1.
 * A negative share stands for 1 / steps. n > 1; dtype is the input's. */
typedef struct aconite_running {
  const void* saved; /* of aconite_meta_acon_c_forward */
  void *bn1_mean, *bn1_var, *bn2_mean, *bn2_var;
  int64_t *bn1_steps, *bn2_steps;
  double share1, share2;
  int64_t n, c, hidden;
  int32_t dtype, reserved;
} aconite_running;

/* A BatchNorm over n and l and what follows it. Null weight and bias count as 1 and 0; mean and var are read under
 * ACONITE_RUNNING_STATISTICS alone. Arithmetic type, as the generator's arrays. */
typedef struct aconite_batch_norm {
  const void *weight, *bias, *mean, *var;
  double eps;
  int32_t statistics, activation; /* enum aconite_norm, enum aconite_activation */
} aconite_batch_norm;

/* The same of a BatchNorm; statistics are those of aconite_batch_norm_forward, over `count` > 1 values a channel. steps may
 * be null; dtype is the buffers'. */
typedef struct aconite_batch_norm_running {
  const double* statistics;
  void *mean, *var;
  int64_t* steps;
  double share;
  int64_t count, c;
  int32_t dtype, reserved;
} aconite_batch_norm_running;

typedef void (*aconite_range_fn)(int64_t begin, int64_t end, void* context);
typedef int32_t (*aconite_parallel_for_fn)(int64_t begin, int64_t end, int64_t grain, aconite_range_fn, void* context);
typedef int32_t (*aconite_num_threads_fn)(uint32_t* count);

ACONITE_API int32_t aconite_abi_version(void);
ACONITE_API const char* aconite_isa(void);            /* the one in use, "" if loading failed */
ACONITE_API const char* aconite_available_isas(void); /* comma-separated, lowest first */
ACONITE_API const char* aconite_error(void);          /* why nothing can run, or null */
ACONITE_API void aconite_set_threads(aconite_parallel_for_fn, aconite_num_threads_fn); /* null: one thread */

/* A null gradient pointer means "not wanted". x is the only tensor the backward needs. */
ACONITE_API int32_t aconite_acon_c_forward(const aconite_view*, const void* x, const void* p1, const void* p2,
                                           const void* beta, void* y);
ACONITE_API int32_t aconite_acon_c_backward(const aconite_view*, const void* grad, const void* x, const void* p1,
                                            const void* p2, const void* beta, void* dx, void* dp1, void* dp2,
                                            void* dbeta);

/* y = (a - b) gate(beta (a - b)) + b; the view's p1 and p2 strides are not read. */
ACONITE_API int32_t aconite_smooth_maximum_forward(const aconite_view*, const void* a, const void* b,
                                                   const void* beta, void* y);
ACONITE_API int32_t aconite_smooth_maximum_backward(const aconite_view*, const void* grad, const void* a,
                                                    const void* b, const void* beta, void* da, void* db,
                                                    void* dbeta);

/* saved, in order: mean (n,c), beta (n,c), fc1 output (n,hidden), fc2 output (n,c), then the batch statistics
 * bn1 mean, bn1 variance (hidden), bn2 mean, bn2 variance (c), biased, written when norm is ACONITE_BATCH_STATISTICS.
 * gradients, in order: p1 (c), p2 (c), w1, b1, bn1_weight, bn1_bias, w2, b2, bn2_weight, bn2_bias; absent ones too.
 * p1 and p2 are (c) or scalar; the view's beta strides are not read. */
ACONITE_API int64_t aconite_meta_saved_size(int64_t n, int64_t c, int64_t hidden);
ACONITE_API int64_t aconite_meta_gradient_size(int64_t c, int64_t hidden);
ACONITE_API int32_t aconite_meta_acon_c_forward(const aconite_view*, const aconite_generator*, const void* x,
                                                const void* p1, const void* p2, void* y, void* saved);
ACONITE_API int32_t aconite_meta_acon_c_backward(const aconite_view*, const aconite_generator*, const void* grad,
                                                 const void* x, const void* p1, const void* p2, const void* saved,
                                                 void* dx, void* gradients);
ACONITE_API int32_t aconite_meta_update_statistics(const aconite_running*);

/* y = activation(batch_norm(x)); p1, p2 and beta are (c) or scalar and not read unless the activation is ACONITE_ACON_C.
 * statistics: mean, variance (biased), c doubles each: what the norm used, as the backward wants it again.
 * gradients, in order: weight, bias, p1, p2, beta, c numbers each whatever their strides; the last three for ACON-C only. */
ACONITE_API int32_t aconite_batch_norm_forward(const aconite_view*, const aconite_batch_norm*, const void* x,
                                               const void* p1, const void* p2, const void* beta, void* y,
                                               double* statistics);
ACONITE_API int32_t aconite_batch_norm_backward(const aconite_view*, const aconite_batch_norm*, const void* grad,
                                                const void* x, const void* p1, const void* p2, const void* beta,
                                                const double* statistics, void* dx, void* gradients);

/* The running statistics (float32 or float64) after a training step on `count` = n l values a channel:
 * running = running + share (batch - running), the variance unbiased, steps (may be null) + 1; a negative share stands for
 * 1 / steps. */
ACONITE_API int32_t aconite_batch_norm_update(const aconite_batch_norm_running*);

/* Meta-ACON behind the norm. saved: x's mean over l less the norm's mean (n,c), then aconite_meta_acon_c_forward's.
 * gradients: weight, bias (c), then aconite_meta_acon_c_backward's. */
ACONITE_API int32_t aconite_batch_norm_meta_forward(const aconite_view*, const aconite_batch_norm*,
                                                    const aconite_generator*, const void* x, const void* p1,
                                                    const void* p2, void* y, double* statistics, void* saved);
ACONITE_API int32_t aconite_batch_norm_meta_backward(const aconite_view*, const aconite_batch_norm*,
                                                     const aconite_generator*, const void* grad, const void* x,
                                                     const void* p1, const void* p2, const double* statistics,
                                                     const void* saved, void* dx, void* gradients);

#ifdef __cplusplus
}
#endif
#endif
