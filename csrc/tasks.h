// What the kernels need from the process: somebody else's threads, and scratch memory.
#pragma once

#include <stdint.h>

#include "aconite.h"

namespace aconite {

// Runs function(begin, end) over [0, count) in pieces of at least `grain`; on the caller's thread if one piece is enough.
// Where the pieces end depends on the number of threads, so a function must do the same for an index in any piece.
void run_tasks(int64_t count, int64_t grain, aconite_range_fn function, void* context);

// 64-byte aligned memory of the calling thread, valid until its next call of scratch; null if there is none. Kept between
// calls up to 4 MiB, because a fresh page costs more than what the kernels do with it.
void* scratch(int64_t bytes);

// The kernels compiled for one ISA; the arguments are those of the C ABI.
struct kernel_table {
  int32_t (*acon_forward)(const aconite_view*, const void*, const void*, const void*, const void*, void*);
  int32_t (*acon_backward)(const aconite_view*, const void*, const void*, const void*, const void*, const void*, void*,
                           void*, void*, void*);
  int32_t (*maximum_forward)(const aconite_view*, const void*, const void*, const void*, void*);
  int32_t (*maximum_backward)(const aconite_view*, const void*, const void*, const void*, const void*, void*, void*,
                              void*);
  int32_t (*meta_forward)(const aconite_view*, const aconite_generator*, const void*, const void*, const void*, void*,
                          void*);
  int32_t (*meta_backward)(const aconite_view*, const aconite_generator*, const void*, const void*, const void*,
                           const void*, const void*, void*, void*);
  int32_t (*batch_norm_forward)(const aconite_view*, const aconite_batch_norm*, const void*, const void*, const void*,
                                const void*, void*, double*);
  int32_t (*batch_norm_backward)(const aconite_view*, const aconite_batch_norm*, const void*, const void*, const void*,
                                 const void*, const void*, const double*, void*, void*);
  int32_t (*batch_norm_meta_forward)(const aconite_view*, const aconite_batch_norm*, const aconite_generator*,
                                     const void*, const void*, const void*, void*, double*, void*);
  int32_t (*batch_norm_meta_backward)(const aconite_view*, const aconite_batch_norm*, const aconite_generator*,
                                      const void*, const void*, const void*, const void*, const double*, const void*,
                                      void*, void*);
};

}  // namespace aconite
