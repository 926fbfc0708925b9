// The running statistics of Meta-ACON's norms after a training step. A few hundred numbers: one build serves every ISA.
#include "aconite.h"

namespace {

template <class S>
void average(S* running, const S* batch, double factor, double share, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    running[i] = (S)((double)running[i] + share * ((double)batch[i] * factor - (double)running[i]));
}

template <class S>
void update(const aconite_running& r) {
  const S* batch = (const S*)r.saved + 3 * r.n * r.c + r.n * r.hidden;
  double unbiased = (double)r.n / (double)(r.n - 1);
  void* const to[] = {r.bn1_mean, r.bn1_var, r.bn2_mean, r.bn2_var};
  int64_t* const steps[] = {r.bn1_steps, r.bn2_steps};
  const double shares[] = {r.share1, r.share2};
  const int64_t widths[] = {r.hidden, r.c};
  for (int k = 0; k < 2; ++k) {
    *steps[k] += 1;
    double share = shares[k] < 0 ? 1.0 / (double)*steps[k] : shares[k];
    average((S*)to[2 * k], batch, 1.0, share, widths[k]);
    average((S*)to[2 * k + 1], batch + widths[k], unbiased, share, widths[k]);
    batch += 2 * widths[k];
  }
}

}  // namespace

extern "C" int32_t aconite_meta_update_statistics(const aconite_running* r) {
  if (r->n < 2 || r->c < 0 || r->hidden < 0) return ACONITE_BAD_VIEW;
  if (r->dtype == ACONITE_F64)
    update<double>(*r);
  else
    update<float>(*r);
  return ACONITE_OK;
}
