"""The paper's networks, each with the activation of your choice.

An activation is a name or a factory ``channels -> Module``; a network never asks which one it got.
"""

# Importing a network's file registers its sizes.
from aconite.models import mobilenetv2 as mobilenetv2
from aconite.models import resnet as resnet
from aconite.models import resnet_cifar as resnet_cifar
from aconite.models import shufflenetv2 as shufflenetv2
from aconite.models import tfnet as tfnet
from aconite.models.checkpoints import load_reference as load_reference
from aconite.models.checkpoints import reference_state_dict as reference_state_dict
from aconite.models.features import Features as Features
from aconite.models.preprocessing import ReferencePreprocessing as ReferencePreprocessing
from aconite.models.registry import create as create
from aconite.models.registry import list_models as list_models
from aconite.models.stems import stem_for as stem_for
from aconite.models.weight_files import read_weights as read_weights
