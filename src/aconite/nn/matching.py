"""The ACON-C that comes nearest to an existing activation."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aconite import reference
from aconite.errors import SettingsError
from aconite.nn.acon import AconA, AconB, AconC
from aconite.nn.baselines import Maxout, PReLU
from aconite.nn.initial import Match
from aconite.reference import DEVIATION

__all__ = ["from_activation"]

HARD_DEVIATION = 0.375
"""max u·(1 − relu6(u + 3)/6), at u = 3/2: the hard gate's counterpart of `aconite.reference.DEVIATION`."""


def from_activation(
    module: nn.Module, *, tolerance: float = 0.01, gate: str = "sigmoid", domain: tuple[float, float] = (-8.0, 8.0)
) -> Match:
    r"""The ACON-C that imitates an activation, with the largest deviation.

    Exact for Identity, SiLU, AconA, AconB and AconC, and with the hard gate for Hardswish. ReLU, LeakyReLU, PReLU and
    Maxout are the maximum (a PReLU slope above 1: the minimum) of two lines, which ACON-C meets everywhere to within

    .. math:: \max_u u\,\sigma(-u) / |\beta| \approx 0.2785 / |\beta|

    for every slope; β is chosen so that this is ``tolerance``. Any other elementwise activation is fitted on ``domain``
    and the deviation measured there.

    Args:
        module: an elementwise activation; it stays as it is.
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
    if not isinstance(module, nn.Module):
        raise SettingsError(f"from_activation({module!r}): expected a module, such as torch.nn.ReLU()")
    reference.gate_function(gate)
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise SettingsError(f"tolerance={tolerance!r}: expected a positive number, 0.01 for instance")
    low, high = domain
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SettingsError(f"domain={domain!r}: expected two finite numbers, the lesser first")
    if any(is_lazy(p) for p in module.parameters()):
        raise SettingsError(f"{type(module).__name__} has no values yet; run it once or call materialise(channels)")
    exact = _exact(module, gate)
    if exact is not None:
        return exact
    slopes = _slopes(module)
    if slopes is None:
        return _fit(module, gate, domain)
    p1, p2 = slopes
    beta = (DEVIATION if gate == "sigmoid" else HARD_DEVIATION) / tolerance
    if isinstance(p2, Tensor):
        return Match(p1=p1, p2=p2, beta=torch.where(p2 > p1, -beta, beta), max_deviation=tolerance)
    return Match(p1=p1, p2=p2, beta=-beta if p2 > p1 else beta, max_deviation=tolerance)


def _exact(module: nn.Module, gate: str) -> Match | None:
    """The activations whose ACON-C is the same function."""
    if isinstance(module, nn.Identity):
        return Match(p1=1.0, p2=1.0, beta=1.0, max_deviation=0.0)
    if isinstance(module, nn.SiLU if gate == "sigmoid" else nn.Hardswish):
        return Match(p1=1.0, p2=0.0, beta=1.0, max_deviation=0.0)
    if isinstance(module, AconA | AconB | AconC) and module.gate == gate:
        p1, p2 = _value(getattr(module, "p1", 1.0)), _value(getattr(module, "p2", 0.0))
        return Match(p1=p1, p2=p2, beta=_value(module.beta), max_deviation=0.0)
    return None


def _value(parameter: float | Tensor) -> float | Tensor:
    return parameter.detach().clone() if isinstance(parameter, Tensor) else parameter


def _slopes(module: nn.Module) -> tuple[float, float] | tuple[Tensor, Tensor] | None:
    """(slope for x > 0, slope for x < 0) of a piecewise linear activation."""
    if isinstance(module, nn.ReLU):
        return 1.0, 0.0
    if isinstance(module, nn.LeakyReLU):
        return 1.0, float(module.negative_slope)
    if isinstance(module, nn.PReLU | PReLU):
        weight = module.weight.detach()
        return torch.ones_like(weight), weight.clone()
    if isinstance(module, Maxout):
        p1, p2 = module.p1.detach(), module.p2.detach()
        return torch.maximum(p1, p2), torch.minimum(p1, p2)
    return None


def _target(module: nn.Module, x: Tensor) -> Tensor:
    """The activation's values at x; SettingsError where it is not a function of each number alone."""
    name = type(module).__name__
    advice = "is not an elementwise activation that can be imitated; pass init='swish' or a Match"
    try:
        with torch.no_grad():
            own = copy.deepcopy(module).to("cpu", torch.float64).eval()
            target: Tensor = own(x)
            elementwise = (
                target.shape == x.shape and bool(target.isfinite().all()) and torch.allclose(own(x[::2]), target[::2])
            )
    except Exception as error:
        raise SettingsError(f"{name} {advice} ({error})") from error
    if not elementwise:
        raise SettingsError(f"{name} {advice}")
    return target


def _asymptotes(module: nn.Module) -> tuple[float, float] | None:
    """The slopes of the lines through 0 that the activation nears for x → ∞ and x → −∞; None if it nears none."""
    far = torch.tensor([-1e6, -1e3, 1e3, 1e6], dtype=torch.float64, device="cpu")
    y = _target(module, far)
    slopes = (y / far).round(decimals=6)
    left, right = float(slopes[0]), float(slopes[3])
    lines = torch.tensor([left, left, right, right], dtype=torch.float64, device="cpu") * far
    return (right, left) if torch.allclose(y, lines, rtol=0.0, atol=1e-6) else None


@torch.inference_mode(False)
@torch.enable_grad()
def _fit(module: nn.Module, gate: str, domain: tuple[float, float]) -> Match:
    """Least maximum deviation on a grid: p-norms of growing p, each from the last one's optimum; measured finer.

    Where the activation nears a line through 0 on either side, as GELU and Hardswish do, the slopes are those lines'
    and β alone is fitted: with slopes a hundredth better in the domain, every far input would be a hundredth off.
    """
    fine = torch.linspace(*domain, 8001, dtype=torch.float64, device="cpu")
    wanted = _target(module, fine)
    held = _asymptotes(module)
    start = [1.0] if held else [1.0, 0.0, 1.0]
    values = torch.tensor(start, dtype=torch.float64, device="cpu", requires_grad=True)

    def parameters() -> tuple[Any, Any, Any]:
        return (*held, values[0]) if held else (values[0], values[1], values[2])

    def deviation(step: int) -> Tensor:
        p1, p2, beta = parameters()
        return reference.acon_c(fine[::step], p1, p2, beta, gate) - wanted[::step]

    for power in (2, 4, 8, 16, 32):
        optimiser = torch.optim.LBFGS([values], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

        def loss(power: int = power, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            value: Tensor = torch.linalg.vector_norm(deviation(10), power)
            value.backward()  # type: ignore[no-untyped-call]
            return value

        last = values.detach().clone()
        optimiser.step(loss)  # type: ignore[no-untyped-call]
        if not bool(values.isfinite().all()):  # the gradient of a norm at an exact fit
            values = last
            break
    with torch.no_grad():
        worst = float(deviation(1).abs().max())
        p1, p2, beta = (float(v) for v in parameters())
    return Match(p1=p1, p2=p2, beta=beta, max_deviation=worst, domain=domain)
