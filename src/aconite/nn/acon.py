"""ACON-A, ACON-B and ACON-C as layers: one learnt value per channel and parameter."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aconite import functional, reference
from aconite.errors import SettingsError
from aconite.nn.channels import ChannelModule, given_channels
from aconite.nn.initial import Init, Match, initial_values
from aconite.nn.kept_calls import Keeper, again, keep
from aconite.ops import bound_acon_c, plain, runs_directly

__all__ = ["AconA", "AconB", "AconC"]


class _Pointwise(ChannelModule):
    """A layer whose only parameters are those of ``learnt``, one value per channel."""

    learnt: ClassVar[tuple[str, ...]]

    def __init__(self, channels: int | None, init: Init, gate: str, channel_dim: int, device: Any, dtype: Any) -> None:
        super().__init__()
        reference.gate_function(gate)
        self.init, self.gate, self.channel_dim = init, gate, channel_dim
        self._start(given_channels(channels, None, init), device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        for name, value in initial_values(self.init, channels, factory["device"]).items():
            if name in self.learnt:
                setattr(self, name, nn.Parameter(value.to(**factory)))
            elif isinstance(self.init, Match) and _other_than_one(getattr(self.init, name)):
                raise SettingsError(
                    f"{type(self).__name__} has {name} = 1 and cannot start from {self.init}; use AconC"
                )

    def extra_repr(self) -> str:
        options = [str(self.channels)]
        options += [f"gate={self.gate!r}"] if self.gate != "sigmoid" else []
        options += [f"channel_dim={self.channel_dim}"] if self.channel_dim != 1 else []
        return ", ".join(options)


def _other_than_one(values: float | Tensor) -> bool:
    return bool((torch.as_tensor(values, device="cpu") != 1).any())  # asked of numbers, which "meta" has none of


class AconA(ChannelModule):
    r"""ACON-A, the smooth maximum of x and 0, known as Swish (paper, section 3).

    .. math:: f(x) = x\,\sigma(\beta x)

    Args:
        channels: C, or None to learn it from the first input.
        learn_beta: β is a Parameter, one value per channel; otherwise it is the constant ``beta`` and no channel count
            is needed.
        beta: β at the start; 1 gives SiLU.
        gate: ``"sigmoid"``, or ``"hard"`` for relu6(z + 3)/6, which makes it Hardswish at β = 1.
        channel_dim: where the channels are.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters; the output has the input's.

    Shape:
        Any input with C at ``channel_dim``; the output has the same shape and memory format.

    >>> AconA(8)(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    >>> AconA(learn_beta=False)(torch.ones(3))
    tensor([0.7311, 0.7311, 0.7311])
    """

    beta: nn.Parameter | float

    def __init__(
        self,
        channels: int | None = None,
        *,
        learn_beta: bool = True,
        beta: float = 1.0,
        gate: str = "sigmoid",
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        reference.gate_function(gate)
        self.learn_beta, self.initial_beta, self.gate, self.channel_dim = learn_beta, float(beta), gate, channel_dim
        self._start(channels, device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        start = self.initial_beta
        self.beta = nn.Parameter(torch.full((channels,), start, **factory)) if self.learn_beta else start

    def forward(self, x: Tensor) -> Tensor:
        """x·σ(βx), in x's shape and dtype."""
        if self.learn_beta:
            self._ready(x)
        return functional.acon_a(x, self.beta, channel_dim=self.channel_dim, gate=self.gate)

    def extra_repr(self) -> str:
        return f"{self.channels}" if self.learn_beta else f"learn_beta=False, beta={self.beta}"


class AconB(_Pointwise):
    r"""ACON-B, the smooth maximum of x and p2·x: smooth PReLU (paper, section 3, whose p is our p2).

    .. math:: f(x) = (1 - p_2)x\,\sigma(\beta(1 - p_2)x) + p_2 x

    Arguments and shapes as in `AconC`; p1 is the constant 1.

    >>> AconB(8, init="swish").p2[:2]
    tensor([0., 0.], grad_fn=<SliceBackward0>)
    """

    learnt = ("p2", "beta")
    p2: nn.Parameter
    beta: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        init: Init = "paper",
        gate: str = "sigmoid",
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels, init, gate, channel_dim, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(1 − p2)x·σ(β(1 − p2)x) + p2·x, in x's shape and dtype."""
        self._ready(x)
        return functional.acon_b(x, self.p2, self.beta, channel_dim=self.channel_dim, gate=self.gate)


class AconC(_Pointwise):
    r"""ACON-C, the smooth maximum of p1·x and p2·x with learnt p1, p2 and β (paper, section 3).

    .. math:: f(x) = (p_1 - p_2)x\,\sigma(\beta(p_1 - p_2)x) + p_2 x

    Replaces the reference code's class of this name: same first argument (also as ``width=``), and its state dicts
    load, whose parameters are (1, C, 1, 1); here they are (C,), so that the usual rule "no weight decay on vectors"
    holds for them.

    Args:
        channels: C, or None to learn it from the first input.
        init: ``"paper"`` (p1, p2 ~ N(0, 1), β = 1), ``"swish"`` (1, 0, 1), ``"near-swish"`` (1 + 0.1·N, 0.1·N, 1), or
            `from_activation` (module) to start as an existing activation.
        gate: ``"sigmoid"``, or ``"hard"`` for relu6(z + 3)/6.
        channel_dim: where the channels are: 1 for (N, C, *), −1 for transformers, −3 for unbatched images.
        width: the reference code's name of ``channels``.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters; the output has the input's.

    Shape:
        Any input with C at ``channel_dim``; the output has the same shape and memory format.

    Raises:
        ShapeError: the input has another number of channels.

    >>> layer = AconC(8, init="swish")
    >>> x = torch.randn(2, 8, 4, 4)
    >>> torch.allclose(layer(x), nn.functional.silu(x), atol=1e-6)
    True
    >>> AconC(channel_dim=-1)(torch.zeros(2, 5, 16)).shape  # the channel count comes with the input
    torch.Size([2, 5, 16])
    """

    learnt = ("p1", "p2", "beta")
    p1: nn.Parameter
    p2: nn.Parameter
    beta: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        init: Init = "paper",
        gate: str = "sigmoid",
        channel_dim: int = 1,
        width: int | None = None,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(given_channels(channels, width), init, gate, channel_dim, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(p1 − p2)x·σ(β(p1 − p2)x) + p2·x, in x's shape and dtype."""
        y = again(self, x)
        if y is not None:
            return y
        self._ready(x)
        self._keep(x)
        return functional.acon_c(x, self.p1, self.p2, self.beta, channel_dim=self.channel_dim, gate=self.gate)

    def _keep(self, x: Tensor) -> None:
        """Bind the kernel's call for the next x that is like this one."""
        slopes = self.p1, self.p2, self.beta
        if torch.compiler.is_compiling() or not runs_directly(x) or not plain(*slopes):
            return
        bound = bound_acon_c(x, slopes, self.channel_dim, self.gate)
        if bound is not None:
            keep(Keeper(self, called=True), (), x, bound)
