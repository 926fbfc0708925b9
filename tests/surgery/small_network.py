"""A network with every kind of site: a module called three times, functions, a lone module."""

import torch
import torch.nn.functional as F
from torch import nn


class Bottleneck(nn.Module):
    """One module at three sites of two widths, as in torchvision's ResNets."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.conv2(self.relu(self.conv1(x))))
        return self.relu(self.bn(self.conv3(y)) + x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.LeakyReLU(0.2)

    def forward(self, x, scale: float = 1.0):
        x = F.relu(self.conv1(x), inplace=True) * scale
        return torch.relu(self.act(self.conv2(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU())
        self.bottleneck, self.functional = Bottleneck(), Functional()
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = self.functional(self.bottleneck(self.stem(x)))
        return F.gelu(self.classifier(x.mean((2, 3))))


def network():
    torch.manual_seed(0)
    return Network()


def images():
    return torch.randn(4, 3, 8, 9, generator=torch.Generator().manual_seed(1))
