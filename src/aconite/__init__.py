"""Aconite: activations that are learnt. The ACON family and Meta-ACON ("Activate or Not", CVPR 2021) for PyTorch."""

from aconite import errors as errors
from aconite import functional as functional
from aconite import models as models
from aconite import nn as nn
from aconite import reference as reference
from aconite import surgery as surgery
from aconite.models import load_reference as load_reference
from aconite.nn import AconA as AconA
from aconite.nn import AconB as AconB
from aconite.nn import AconC as AconC
from aconite.nn import AconFReLU as AconFReLU
from aconite.nn import BatchNormAconC2d as BatchNormAconC2d
from aconite.nn import BatchNormMetaAconC2d as BatchNormMetaAconC2d
from aconite.nn import FReLU as FReLU
from aconite.nn import MetaAconC as MetaAconC
from aconite.nn import SqueezeExcite as SqueezeExcite
from aconite.nn import activation as activation
from aconite.nn import activations as activations
from aconite.nn import from_activation as from_activation
from aconite.nn import param_groups as param_groups
from aconite.nn import published_state_dict as published_state_dict
from aconite.surgery import convert as convert
from aconite.surgery import deconvert as deconvert
from aconite.surgery import fuse as fuse
from aconite.surgery import unfuse as unfuse

__version__ = "0.1.0"
