"""An expression as a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError
from aconite.nn.channels import ChannelModule, given_channels
from aconite.nn.expression.canonical import canonical
from aconite.nn.expression.native import with_kernels
from aconite.nn.expression.parse import parse
from aconite.nn.expression.program import Program
from aconite.nn.expression.tree import Tree, depends_on_x, parameters
from aconite.nn.initial import Init, check_init, initial_values

__all__ = ["Expression"]


class Expression(ChannelModule):
    r"""The activation that a formula says, with its parameters learnt per channel: how Swish was found (section 3).

    It computes the formula's canonical form: equal functions run the same steps. The smooth maximum of two multiples of
    one function, which covers ReLU's whole family from Swish to ACON-C, runs on ACON-C's kernel, and any other smooth
    maximum on the general one; everything else is plain torch operations, and so is all of it in an exported graph.

    Args:
        expression: a text such as ``"x * sigmoid(beta * x)"`` (`aconite.nn.expression.parse` says what may stand in it)
            or a tree. A parameter that is named twice is one parameter; ``beta1`` and ``beta2`` are two.
        channels: C, or None to learn it from the first input; not needed without parameters.
        init: where p, p1, p2, … start: ``"paper"`` N(0, 1), ``"swish"`` p1 = 1 and all others 0, ``"near-swish"`` the
            same with 0.1·N(0, 1) added; or `aconite.nn.from_activation` (module), whose p1 and p2 they are. Every beta
            starts at 1, or at the module's.
        channel_dim: where the channels are.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters; the output has the input's, half types compute in float32.

    Shape:
        Any input with C at ``channel_dim``; the output has the same shape.

    Raises:
        SettingsError: the text cannot be read, or does not depend on x.

    >>> swish = Expression("x * sigmoid(beta * x)", 8)
    >>> swish
    Expression(x * sigmoid(beta * x), 8)
    >>> swish(torch.zeros(2, 8, 4, 4)).shape, swish.beta.shape
    (torch.Size([2, 8, 4, 4]), torch.Size([8]))
    """

    def __init__(
        self,
        expression: str | Tree,
        channels: int | None = None,
        *,
        init: Init = "paper",
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_init(init)
        self.tree = canonical(parse(expression) if isinstance(expression, str) else expression)
        if not depends_on_x(self.tree):
            raise SettingsError(f"the expression {str(expression)!r} does not depend on x: it cannot be an activation")
        self.init, self.channel_dim = init, channel_dim
        self.composite = Program(self.tree, native=False)
        self.native = Program(with_kernels(self.tree), native=True)
        names = parameters(self.tree)
        self.channel_entry = (names[0] if names else "", 0)  # type: ignore[misc]  # each formula has its own names
        self._start(given_channels(channels, None, init if names else None), device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        values = initial_values(self.init, channels, factory["device"])
        for name in parameters(self.tree):
            if name.startswith("beta"):
                value = values["beta"].clone()
            elif name == "p1":
                value = values["p1"]
            elif name in ("p", "p2"):
                value = values["p2"].clone()
            else:
                value = initial_values(self.init, channels, factory["device"])["p2"]  # p3 and on: a draw of its own
            setattr(self, name, nn.Parameter(value.to(**factory)))

    def forward(self, x: Tensor) -> Tensor:
        """The formula at x, in x's shape and dtype."""
        values: dict[str, Tensor] = dict(self._parameters)  # type: ignore[arg-type]
        if values:
            self._ready(x)
        exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        program = self.composite if exporting else self.native
        if len(program.steps) == 1 and program.steps[0].family:  # the kernel computes half types in float32 itself
            return program.run(x, values, self.channel_dim)
        dtype = torch.promote_types(x.dtype, torch.float32)
        for value in values.values():
            dtype = torch.promote_types(dtype, value.dtype)
        wide = {name: value.to(dtype) for name, value in values.items()}
        return program.run(x.to(dtype), wide, self.channel_dim).to(x.dtype)

    def extra_repr(self) -> str:
        options = [str(self.tree)]
        options += [f"{self.channels}"] if self._parameters else []
        options += [f"channel_dim={self.channel_dim}"] if self.channel_dim != 1 else []
        return ", ".join(options)
