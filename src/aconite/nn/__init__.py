"""Layers: the ACON family, its rivals, activations by name, and parameter groups."""

from aconite.nn.acon import AconA as AconA
from aconite.nn.acon import AconB as AconB
from aconite.nn.acon import AconC as AconC
from aconite.nn.activations import activation as activation
from aconite.nn.activations import activations as activations
from aconite.nn.baselines import Maxout as Maxout
from aconite.nn.baselines import PReLU as PReLU
from aconite.nn.channels import ChannelModule as ChannelModule
from aconite.nn.channels import published_state_dict as published_state_dict
from aconite.nn.funnel import AconFReLU as AconFReLU
from aconite.nn.funnel import FReLU as FReLU
from aconite.nn.groups import param_groups as param_groups
from aconite.nn.initial import Init as Init
from aconite.nn.initial import Match as Match
from aconite.nn.matching import from_activation as from_activation
from aconite.nn.meta import MetaAconC as MetaAconC
from aconite.nn.norm_acon import BatchNormAconC1d as BatchNormAconC1d
from aconite.nn.norm_acon import BatchNormAconC2d as BatchNormAconC2d
from aconite.nn.norm_acon import BatchNormAconC3d as BatchNormAconC3d
from aconite.nn.norm_acon import BatchNormMetaAconC1d as BatchNormMetaAconC1d
from aconite.nn.norm_acon import BatchNormMetaAconC2d as BatchNormMetaAconC2d
from aconite.nn.norm_acon import BatchNormMetaAconC3d as BatchNormMetaAconC3d
from aconite.nn.norm_fusion import norm_activation as norm_activation
from aconite.nn.squeeze import SqueezeExcite as SqueezeExcite
from aconite.nn.squeeze import SqueezeExciteReLU as SqueezeExciteReLU
