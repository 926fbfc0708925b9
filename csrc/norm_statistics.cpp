// What a training step of a BatchNorm leaves in its running statistics. C numbers: one build serves every ISA.
#include "aconite.h"

namespace {

template <class S>
void average(S* running, const double* batch, double factor, double share, int64_t c) {
  for (int64_t i = 0; i < c; ++i) running[i] = (S)((double)running[i] + share * (batch[i] * factor - (double)running[i]));
}

}  // namespace

extern "C" int32_t aconite_batch_norm_update(const double* statistics, void* mean, void* var, int64_t* steps, double share,
                                             int64_t count, int64_t c, int32_t dtype) {
  if (count < 2 || c < 0 || (dtype != ACONITE_F32 && dtype != ACONITE_F64)) return ACONITE_BAD_VIEW;
  if (steps) ++*steps;
  if (share < 0) share = steps ? 1.0 / (double)*steps : 0;
  double unbiased = (double)count / (double)(count - 1);
  if (dtype == ACONITE_F64) {
    average((double*)mean, statistics, 1, share, c);
    average((double*)var, statistics + c, unbiased, share, c);
  } else {
    average((float*)mean, statistics, 1, share, c);
    average((float*)var, statistics + c, unbiased, share, c);
  }
  return ACONITE_OK;
}
