// Chooses the ISA once, at load; holds the thread hooks; forwards the C ABI.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aconite.h"
#include "tasks.h"

namespace aconite {

#define ACONITE_DECLARE(isa) \
  namespace isa {            \
  extern const kernel_table table; \
  }
ACONITE_DECLARE(baseline)
#if defined(ACONITE_X86)
ACONITE_DECLARE(avx2)
ACONITE_DECLARE(avx512)
#if defined(ACONITE_X86_BF16)
ACONITE_DECLARE(avx512_bf16)
#endif
#endif

namespace {

struct isa {
  const char* name;
  const kernel_table* table;
  bool here;
};

struct choice {
  const kernel_table* table = nullptr;
  const char* name = "";
  char available[64] = "";
  char error[256] = "";

  choice() {
#if defined(ACONITE_X86)
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const isa known[] = {{"baseline", &baseline::table, true},
                         {"avx2", &avx2::table, v3},
                         {"avx512", &avx512::table, v4},
#if defined(ACONITE_X86_BF16)
                         {"avx512_bf16", &avx512_bf16::table, v4 && __builtin_cpu_supports("avx512bf16")},
#endif
    };
#else
    const isa known[] = {{"baseline", &baseline::table, true}};
#endif
    const char* forced = getenv("ACONITE_ISA");
    if (forced && !*forced) forced = nullptr;
    for (const isa& one : known) {
      if (!one.here) continue;
      if (*available) strcat(available, ",");
      strcat(available, one.name);
      if (forced && strcmp(forced, one.name)) continue;
      table = one.table;
      name = one.name;
    }
    if (!table) snprintf(error, sizeof error, "ACONITE_ISA=%.64s: this machine and build offer %s", forced, available);
  }
};

const choice chosen;
aconite_parallel_for_fn parallel_for = nullptr;
aconite_num_threads_fn num_threads = nullptr;

struct arena {
  void* memory = nullptr;
  int64_t size = 0;
  ~arena() { free(memory); }
};
thread_local arena own;

}  // namespace

void run_tasks(int64_t count, int64_t grain, aconite_range_fn function, void* context) {
  uint32_t threads = 1;
  if (count > grain && parallel_for && num_threads) num_threads(&threads);
  if (threads <= 1 || parallel_for(0, count, grain, function, context) != 0) function(0, count, context);
}

void* scratch(int64_t bytes) {
  constexpr int64_t kept = 4 << 20;
  if (bytes <= own.size && (own.size <= kept || bytes > kept)) return own.memory;
  free(own.memory);
  own.size = (bytes + 4095) / 4096 * 4096;
  own.memory = aligned_alloc(64, (size_t)own.size);
  if (!own.memory) own.size = 0;
  return own.memory;
}

}  // namespace aconite

using aconite::chosen;

extern "C" {

int32_t aconite_abi_version(void) { return ACONITE_ABI_VERSION; }
const char* aconite_isa(void) { return chosen.name; }
const char* aconite_available_isas(void) { return chosen.available; }
const char* aconite_error(void) { return chosen.table ? nullptr : chosen.error; }

void aconite_set_threads(aconite_parallel_for_fn parallel_for, aconite_num_threads_fn num_threads) {
  aconite::parallel_for = parallel_for;
  aconite::num_threads = num_threads;
}

int32_t aconite_acon_c_forward(const aconite_view* v, const void* x, const void* p1, const void* p2, const void* beta,
                               void* y) {
  return chosen.table ? chosen.table->acon_forward(v, x, p1, p2, beta, y) : ACONITE_NOT_LOADED;
}
int32_t aconite_acon_c_backward(const aconite_view* v, const void* grad, const void* x, const void* p1, const void* p2,
                                const void* beta, void* dx, void* dp1, void* dp2, void* dbeta) {
  return chosen.table ? chosen.table->acon_backward(v, grad, x, p1, p2, beta, dx, dp1, dp2, dbeta) : ACONITE_NOT_LOADED;
}
int32_t aconite_smooth_maximum_forward(const aconite_view* v, const void* a, const void* b, const void* beta, void* y) {
  return chosen.table ? chosen.table->maximum_forward(v, a, b, beta, y) : ACONITE_NOT_LOADED;
}
int32_t aconite_smooth_maximum_backward(const aconite_view* v, const void* grad, const void* a, const void* b,
                                        const void* beta, void* da, void* db, void* dbeta) {
  return chosen.table ? chosen.table->maximum_backward(v, grad, a, b, beta, da, db, dbeta) : ACONITE_NOT_LOADED;
}
int64_t aconite_meta_saved_size(int64_t n, int64_t c, int64_t hidden) {
  return 3 * n * c + n * hidden + 2 * hidden + 2 * c;
}
int64_t aconite_meta_gradient_size(int64_t c, int64_t hidden) { return 2 * c + 2 * hidden * c + 3 * hidden + 3 * c; }
int32_t aconite_meta_acon_c_forward(const aconite_view* v, const aconite_generator* g, const void* x, const void* p1,
                                    const void* p2, void* y, void* saved) {
  return chosen.table ? chosen.table->meta_forward(v, g, x, p1, p2, y, saved) : ACONITE_NOT_LOADED;
}
int32_t aconite_meta_acon_c_backward(const aconite_view* v, const aconite_generator* g, const void* grad, const void* x,
                                     const void* p1, const void* p2, const void* saved, void* dx, void* gradients) {
  return chosen.table ? chosen.table->meta_backward(v, g, grad, x, p1, p2, saved, dx, gradients) : ACONITE_NOT_LOADED;
}
int32_t aconite_batch_norm_forward(const aconite_view* v, const aconite_batch_norm* b, const void* x, const void* p1,
                                   const void* p2, const void* beta, void* y, double* statistics) {
  return chosen.table ? chosen.table->batch_norm_forward(v, b, x, p1, p2, beta, y, statistics) : ACONITE_NOT_LOADED;
}
int32_t aconite_batch_norm_backward(const aconite_view* v, const aconite_batch_norm* b, const void* grad, const void* x,
                                    const void* p1, const void* p2, const void* beta, const double* statistics, void* dx,
                                    void* gradients) {
  return chosen.table ? chosen.table->batch_norm_backward(v, b, grad, x, p1, p2, beta, statistics, dx, gradients)
                      : ACONITE_NOT_LOADED;
}
int32_t aconite_batch_norm_meta_forward(const aconite_view* v, const aconite_batch_norm* b, const aconite_generator* g,
                                        const void* x, const void* p1, const void* p2, void* y, double* statistics,
                                        void* saved) {
  return chosen.table ? chosen.table->batch_norm_meta_forward(v, b, g, x, p1, p2, y, statistics, saved)
                      : ACONITE_NOT_LOADED;
}
int32_t aconite_batch_norm_meta_backward(const aconite_view* v, const aconite_batch_norm* b, const aconite_generator* g,
                                         const void* grad, const void* x, const void* p1, const void* p2,
                                         const double* statistics, const void* saved, void* dx, void* gradients) {
  return chosen.table
             ? chosen.table->batch_norm_meta_backward(v, b, g, grad, x, p1, p2, statistics, saved, dx, gradients)
             : ACONITE_NOT_LOADED;
}

}  // extern "C"
