// The entry points that every ISA's units define; table.cpp gathers them for dispatch.cpp.
#pragma once

#include "aconite.h"

namespace aconite {
namespace ACONITE_NS {

int32_t acon_c_forward(const aconite_view*, const void* x, const void* p1, const void* p2, const void* beta, void* y);
int32_t acon_c_backward(const aconite_view*, const void* grad, const void* x, const void* p1, const void* p2,
                        const void* beta, void* dx, void* dp1, void* dp2, void* dbeta);
int32_t smooth_maximum_forward(const aconite_view*, const void* a, const void* b, const void* beta, void* y);
int32_t smooth_maximum_backward(const aconite_view*, const void* grad, const void* a, const void* b, const void* beta,
                                void* da, void* db, void* dbeta);
int32_t meta_acon_c_forward(const aconite_view*, const aconite_generator*, const void* x, const void* p1, const void* p2,
                            void* y, void* saved);
int32_t meta_acon_c_backward(const aconite_view*, const aconite_generator*, const void* grad, const void* x, const void* p1,
                             const void* p2, const void* saved, void* dx, void* gradients);
int32_t batch_norm_forward(const aconite_view*, const aconite_batch_norm*, const void* x, const void* p1, const void* p2,
                           const void* beta, void* y, double* statistics);
int32_t batch_norm_backward(const aconite_view*, const aconite_batch_norm*, const void* grad, const void* x, const void* p1,
                            const void* p2, const void* beta, const double* statistics, void* dx, void* gradients);
int32_t batch_norm_meta_forward(const aconite_view*, const aconite_batch_norm*, const aconite_generator*, const void* x,
                                const void* p1, const void* p2, void* y, double* statistics, void* saved);
int32_t batch_norm_meta_backward(const aconite_view*, const aconite_batch_norm*, const aconite_generator*,
                                 const void* grad, const void* x, const void* p1, const void* p2,
                                 const double* statistics, const void* saved, void* dx, void* gradients);

}  // namespace ACONITE_NS
}  // namespace aconite
