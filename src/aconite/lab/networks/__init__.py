"""Networks for the three tasks, on a backbone of ours, timm's or torchvision's, with any activation.

A model is a name of `aconite.models.list_models`, or ``timm/NAME`` or ``torchvision/NAME``, which need the extra
vision.
"""

from aconite.lab.networks.backbones import backbone as backbone
from aconite.lab.networks.classifiers import classifier as classifier
from aconite.lab.networks.pspnet import pspnet as pspnet
from aconite.lab.networks.retinanet import retinanet as retinanet
