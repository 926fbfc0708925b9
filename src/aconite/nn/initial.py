"""Where p1, p2 and beta start: by name, or as the ACON-C that comes nearest to an existing activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from aconite import reference
from aconite.errors import SettingsError
from aconite.nn.channels import SLOPES
from aconite.reference import DEVIATION

__all__ = ["Init", "Match", "from_activation", "initial_values"]

HARD_DEVIATION = 0.375
"""max u·(1 − relu6(u + 3)/6), at u = 3/2: the hard gate's counterpart of `aconite.reference.DEVIATION`."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """The ACON-C parameters that imitate an activation, and how far off they are.

    Attributes:
        p1: a number, or (C,) for a per-channel activation such as PReLU.
        p2: likewise.
        beta: likewise.
        max_deviation: the largest |f(x) − ACON-C(x)|: over all x where the formula is known, over ``domain`` for a fit.
        domain: the interval of x that a fit was made on; None where the deviation holds for every x.
    """

    p1: float | Tensor
    p2: float | Tensor
    beta: float | Tensor
    max_deviation: float
    domain: tuple[float, float] | None = None


Init = Literal["paper", "swish", "near-swish"] | Match


def initial_values(init: Init, channels: int) -> dict[str, Tensor]:
    """p1, p2 and beta, each (C,) in float32.

    ``"paper"`` p1, p2 ~ N(0, 1), β = 1 (the reference code); ``"swish"`` (1, 0, 1); ``"near-swish"`` 1 + 0.1·N(0, 1), 0.1·N(0, 1), 1;
    a `Match` its own values.

    >>> initial_values("swish", 2)
    {'p1': tensor([1., 1.]), 'p2': tensor([0., 0.]), 'beta': tensor([1., 1.])}
    """
    one = torch.ones(channels)
    if isinstance(init, Match):
        values = {}
        for name in SLOPES:
            value = torch.as_tensor(getattr(init, name), dtype=torch.float32).detach().reshape(-1).cpu()
            if value.numel() not in (1, channels):
                raise SettingsError(f"init.{name} has {value.numel()} values for a layer of {channels} channels")
            values[name] = value.expand(channels).clone()
        return values
    if init == "paper":
        return {"p1": torch.randn(channels), "p2": torch.randn(channels), "beta": one}
    if init == "swish":
        return {"p1": one.clone(), "p2": torch.zeros(channels), "beta": one}
    if init == "near-swish":
        return {"p1": 1 + 0.1 * torch.randn(channels), "p2": 0.1 * torch.randn(channels), "beta": one}
    raise SettingsError(
        f"init={init!r} is not known; write 'paper', 'swish', 'near-swish', or from_activation(nn.ReLU()) to imitate an activation"
    )


def _exact(module: nn.Module, gate: str) -> Match | None:
    """The activations whose ACON-C is the same function."""
    if isinstance(module, nn.Identity):
        return Match(p1=1.0, p2=1.0, beta=1.0, max_deviation=0.0)
    if isinstance(module, nn.SiLU if gate == "sigmoid" else nn.Hardswish):
        return Match(p1=1.0, p2=0.0, beta=1.0, max_deviation=0.0)
    p1, p2, beta = (getattr(module, name, None) for name in SLOPES)
    if beta is None or getattr(module, "gate", None) != gate:
        return None
    held = {"p1": 1.0 if p1 is None else p1, "p2": 0.0 if p2 is None else p2, "beta": beta}
    return Match(**{n: v.detach().clone() if isinstance(v, Tensor) else v for n, v in held.items()}, max_deviation=0.0)


def _slopes(module: nn.Module) -> tuple[float | Tensor, float | Tensor] | None:
    """(slope for x > 0, slope for x < 0) of a piecewise linear activation."""
    if isinstance(module, nn.ReLU):
        return 1.0, 0.0
    if isinstance(module, nn.LeakyReLU):
        return 1.0, float(module.negative_slope)
    if isinstance(module, nn.PReLU):
        return 1.0, module.weight.detach().clone()
    return None


def from_activation(
    module: nn.Module, *, tolerance: float = 0.01, gate: str = "sigmoid", domain: tuple[float, float] = (-8.0, 8.0)
) -> Match:
    r"""The ACON-C that imitates an activation, with the largest deviation.

    Exact for Identity, SiLU, our own layers, and with the hard gate for Hardswish. ReLU, LeakyReLU and PReLU are the maximum (a
    PReLU slope above 1: the minimum) of two lines, which ACON-C meets everywhere to within

    .. math:: \max_u u\,\sigma(-u) / |\beta| \approx 0.2785 / |\beta|

    for every slope; β is chosen so that this is ``tolerance``. Any other elementwise activation is fitted on ``domain`` and the
    deviation measured there.

    Args:
        module: an elementwise activation.
        tolerance: the deviation allowed where β is free, > 0.
        gate: the gate of the layer that will take the values.
        domain: interval of x for a fit.

    Raises:
        SettingsError: the tolerance is not positive, or the module is no elementwise function.

    >>> from_activation(nn.LeakyReLU(0.1))
    Match(p1=1.0, p2=0.1, beta=27.8464542761074, max_deviation=0.01, domain=None)
    >>> from_activation(nn.GELU()).max_deviation < 0.021
    True
    """
    reference.gate_function(gate)
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise SettingsError(f"tolerance={tolerance!r}: expected a positive number, 0.01 for instance")
    exact = _exact(module, gate)
    if exact is not None:
        return exact
    slopes = _slopes(module)
    if slopes is None:
        return _fit(module, gate, domain)
    p1, p2 = slopes
    beta = (DEVIATION if gate == "sigmoid" else HARD_DEVIATION) / tolerance
    if isinstance(p2, Tensor):
        signed = torch.where(p2 > 1, -beta, beta)
        return Match(p1=torch.ones_like(p2), p2=p2, beta=signed, max_deviation=tolerance)
    return Match(p1=p1, p2=p2, beta=-beta if float(p2) > 1 else beta, max_deviation=tolerance)


def _fit(module: nn.Module, gate: str, domain: tuple[float, float]) -> Match:
    """Least maximum deviation on a grid: p-norms of growing p, each from the last one's optimum."""
    x = torch.linspace(*domain, 801, dtype=torch.float64)
    try:
        with torch.no_grad():
            target = module.eval()(x.to(torch.float32)) if any(True for _ in module.parameters()) else module(x)
            target = target.to(torch.float64)
        assert target.shape == x.shape
    except Exception as error:
        raise SettingsError(
            f"{type(module).__name__} is not an elementwise activation that can be imitated ({error}); pass init='swish' or a Match"
        ) from error

    def deviation(values: Tensor) -> Tensor:
        return reference.acon_c(x, values[0], values[1], values[2], gate) - target

    values = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for power in (2, 4, 8, 16, 32):
        optimiser = torch.optim.LBFGS([values], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

        def loss(power: int = power, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            value = torch.linalg.vector_norm(deviation(values), power)
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        worst = float(deviation(values).abs().max())
        p1, p2, beta = (float(v) for v in values)
    return Match(p1=p1, p2=p2, beta=beta, max_deviation=worst, domain=domain)
