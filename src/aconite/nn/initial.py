"""Where p1, p2 and beta start: by name, or at given values (`aconite.nn.matching` finds those of an activation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from aconite.errors import SettingsError
from aconite.nn.channels import SLOPES

__all__ = ["Init", "Match", "check_init", "initial_values"]


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

    @property
    def channels(self) -> int | None:
        """How many channels the values are for; None where one value serves any number."""
        count = max(value.numel() if isinstance(value, Tensor) else 1 for value in (self.p1, self.p2, self.beta))
        return count if count > 1 else None


Init = Literal["paper", "swish", "near-swish"] | Match


def check_init(init: Init) -> None:
    """Refuse what is no init, wherever one is accepted."""
    if not isinstance(init, Match) and init not in ("paper", "swish", "near-swish"):
        raise SettingsError(
            f"init={init!r} is not known; write 'paper', 'swish', 'near-swish', or from_activation(nn.ReLU()) to "
            "imitate an activation"
        )


def initial_values(init: Init, channels: int, device: Any = None) -> dict[str, Tensor]:
    """p1, p2 and beta, each (C,) in torch's default dtype: on its default device where None is given, else on the CPU,
    since one seed means the same values wherever they go.

    ``"paper"`` p1, p2 ~ N(0, 1), β = 1 (the reference code); ``"swish"`` (1, 0, 1); ``"near-swish"`` 1 + 0.1·N(0, 1),
    0.1·N(0, 1), 1; a `Match` its own values.

    >>> initial_values("swish", 2)
    {'p1': tensor([1., 1.]), 'p2': tensor([0., 0.]), 'beta': tensor([1., 1.])}
    """
    check_init(init)
    where = torch.get_default_device() if device is None else torch.device("cpu")
    one = torch.ones(channels, device=where)
    if isinstance(init, Match):
        values = {}
        for name in SLOPES:
            value = torch.as_tensor(getattr(init, name), dtype=torch.get_default_dtype(), device=where)
            value = value.detach().reshape(-1)
            if value.numel() not in (1, channels):
                raise SettingsError(f"init.{name} has {value.numel()} values for a layer of {channels} channels")
            values[name] = value.expand(channels).clone()
        return values
    if init == "swish":
        return {"p1": one.clone(), "p2": torch.zeros_like(one), "beta": one}
    p1, p2 = torch.randn_like(one), torch.randn_like(one)
    return {"p1": p1, "p2": p2, "beta": one} if init == "paper" else {"p1": 1 + 0.1 * p1, "p2": 0.1 * p2, "beta": one}
