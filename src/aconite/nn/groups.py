"""Parameter groups for optimisers: which parameters decay, and which learning rate the activations have."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from aconite.nn.channels import ChannelModule

__all__ = ["param_groups"]

_VECTORS = (ChannelModule, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)
"""The owners whose own parameters are scales and shifts, whatever their shape."""


def _decays(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(owner, _VECTORS):
        return False
    # As in the paper's recipe: matrices and kernels called "weight". A lazy tensor has no dimensions to ask yet, but
    # its name.
    return "weight" in name and (is_lazy(parameter) or parameter.ndim > 1)


def param_groups(
    model: nn.Module, weight_decay: float, lr: float | None = None, activation_lr: float | None = None
) -> list[dict[str, Any]]:
    """Groups for any torch optimiser: weights decay; p1, p2, β, biases and norms do not (paper, section 4; reference
    code).

    Decay on β drives every neuron towards the linear mean, decay on p1 and p2 towards zero output. The owner of a
    parameter decides, not its shape alone, so this works before lazy layers know their shapes. Frozen parameters are
    left out.

    Args:
        model: any network.
        weight_decay: for the weights.
        lr: learning rate of everything but the activations; None leaves the optimiser's own.
        activation_lr: learning rate of all parameters of ACON layers, generators included; None means ``lr``.

    Returns:
        Up to four groups, each with "name", "params", "weight_decay" and, where set, "lr"; empty ones are left out.

    >>> import torch
    >>> from aconite.nn import AconC
    >>> groups = param_groups(nn.Sequential(nn.Conv2d(3, 8, 3), AconC(8)), weight_decay=1e-4)
    >>> [(g["name"], len(g["params"]), g["weight_decay"]) for g in groups]
    [('weights', 1, 0.0001), ('biases and norms', 1, 0.0), ('activations', 3, 0.0)]
    >>> optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    """
    names = ("weights", "biases and norms", "activation weights", "activations")
    members: dict[str, list[nn.Parameter]] = {name: [] for name in names}
    seen: set[int] = set()

    def visit(module: nn.Module, inside: bool) -> None:
        inside = inside or isinstance(module, ChannelModule)
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = _decays(module, name, parameter)
            members[names[2 * inside + (not decays)]].append(parameter)
        for child in module._modules.values():
            if child is not None:
                visit(child, inside)

    visit(model, False)
    groups: list[dict[str, Any]] = []
    for name, parameters in members.items():
        if parameters:
            group: dict[str, Any] = {"name": name, "params": parameters}
            group["weight_decay"] = weight_decay if name in (names[0], names[2]) else 0.0
            rate = lr if name in names[:2] or activation_lr is None else activation_lr
            groups.append(group if rate is None else {**group, "lr": rate})
    return groups
