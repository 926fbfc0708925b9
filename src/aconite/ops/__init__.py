"""torch.library operators: schema, kernel, fake and autograd. `aconite.functional` is their door for people."""

from aconite.ops.family import acon as acon
from aconite.ops.family import acon_c as acon_c
from aconite.ops.meta import meta_acon_c as meta_acon_c
from aconite.ops.meta import meta_kernel_serves as meta_kernel_serves
