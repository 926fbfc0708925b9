// What a training step of a BatchNorm leaves in its running statistics. C numbers: one build serves every ISA.
#include "aconite.h"

namespace {

template <class S>
void average(S* running, const double* batch, double factor, double share, int64_t c) {
  for (int64_t i = 0; i < c; ++i) running[i] = (S)((double)running[i] + share * (batch[i] * factor - (double)running[i]));
}

}  // namespace

extern "C" int32_t aconite_batch_norm_update(const aconite_batch_norm_running* r) {
  if (r->count < 2 || r->c < 0 || (r->dtype != ACONITE_F32 && r->dtype != ACONITE_F64)) return ACONITE_BAD_VIEW;
  if (r->steps) ++*r->steps;
  double share = r->share >= 0 ? r->share : r->steps ? 1.0 / (double)*r->steps : 0;
  double unbiased = (double)r->count / (double)(r->count - 1);
  const double *mean = r->statistics, *var = mean + r->c;
  if (r->dtype == ACONITE_F64) {
    average((double*)r->mean, mean, 1, share, r->c);
    average((double*)r->var, var, unbiased, share, r->c);
  } else {
    average((float*)r->mean, mean, 1, share, r->c);
    average((float*)r->var, var, unbiased, share, r->c);
  }
  return ACONITE_OK;
}
