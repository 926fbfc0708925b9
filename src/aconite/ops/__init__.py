"""torch.library operators: schema, kernel, fake and autograd. `aconite.functional` is their door for people."""

from aconite.ops.bound import After as After
from aconite.ops.bound import Bound as Bound
from aconite.ops.family import acon as acon
from aconite.ops.family import acon_c as acon_c
from aconite.ops.family import bound_acon_c as bound_acon_c
from aconite.ops.library import formula_needed as formula_needed
from aconite.ops.library import plain as plain
from aconite.ops.library import runs_directly as runs_directly
from aconite.ops.meta import bound_meta_acon_c as bound_meta_acon_c
from aconite.ops.meta import meta_acon_c as meta_acon_c
from aconite.ops.meta import meta_kernel_serves as meta_kernel_serves
from aconite.ops.node import CompiledNode as CompiledNode
from aconite.ops.node import build_node as build_node
from aconite.ops.node import compiled as compiled
from aconite.ops.node import compiled_node as compiled_node
from aconite.ops.norm import batch_norm_acon_c as batch_norm_acon_c
from aconite.ops.norm import batch_norm_meta_acon_c as batch_norm_meta_acon_c
from aconite.ops.norm import bound_norm as bound_norm
from aconite.ops.norm import bound_norm_meta as bound_norm_meta
from aconite.ops.norm import norm_kernel_serves as norm_kernel_serves
