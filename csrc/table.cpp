// This ISA's row of function pointers.
#include "tasks.h"
#include "units.h"

namespace aconite {
namespace ACONITE_NS {

extern const kernel_table table;
const kernel_table table = {acon_c_forward,         acon_c_backward,     smooth_maximum_forward,
                            smooth_maximum_backward, meta_acon_c_forward, meta_acon_c_backward,
                            batch_norm_forward,      batch_norm_backward, batch_norm_meta_forward,
                            batch_norm_meta_backward};

}  // namespace ACONITE_NS
}  // namespace aconite
