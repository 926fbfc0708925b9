"""Kernels: tensors in, tensors out, no autograd. Which one runs, and why another cannot, is data.

`supports_meta` answers None, or the reason why the native kernel cannot serve a call. A gradient has its parameter's
shape, in float32 (float64 for float64 inputs).
"""

from aconite.kernels import norm as norm
from aconite.kernels._generator import Generator as Generator
from aconite.kernels._generator import MetaGradients as MetaGradients
from aconite.kernels._generator import MetaSaved as MetaSaved
from aconite.kernels._generator import split_saved as split_saved
from aconite.kernels._memory import ORDINARY as ORDINARY
from aconite.kernels._memory import in_memory as in_memory
from aconite.kernels._recipe import Recipe as Recipe
from aconite.kernels._recipe import address as address
from aconite.kernels.acon_call import AconCCall as AconCCall
from aconite.kernels.alignment import Scalar as Scalar
from aconite.kernels.alignment import align as align
from aconite.kernels.alignment import channel_index as channel_index
from aconite.kernels.bound_call import BoundCall as BoundCall
from aconite.kernels.cpu_meta import meta_acon_c_backward as meta_acon_c_backward
from aconite.kernels.cpu_meta import meta_acon_c_forward as meta_acon_c_forward
from aconite.kernels.cpu_meta import supports_meta as supports_meta
from aconite.kernels.dispatch import Call as Call
from aconite.kernels.dispatch import acon_backward as acon_backward
from aconite.kernels.dispatch import acon_c_backward as acon_c_backward
from aconite.kernels.dispatch import acon_c_forward as acon_c_forward
from aconite.kernels.dispatch import acon_forward as acon_forward
from aconite.kernels.dispatch import native_serves as native_serves
from aconite.kernels.meta_acon_call import MetaAconCCall as MetaAconCCall
from aconite.kernels.registry import Kernel as Kernel
from aconite.kernels.registry import NativeLibrary as NativeLibrary
from aconite.kernels.registry import kernels as kernels
from aconite.kernels.registry import native_library as native_library
