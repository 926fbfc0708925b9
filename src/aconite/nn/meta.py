"""Meta-ACON: ACON-C whose switching factor is generated from the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from aconite import functional, reference
from aconite.errors import SettingsError, StateDictError
from aconite.kernels import Generator
from aconite.nn.channels import ChannelModule, given_channels
from aconite.nn.generator import generator_record, statistics_update
from aconite.nn.initial import Init, Match, initial_values
from aconite.nn.kept_calls import Keeper, again, keep
from aconite.nn.pooling import hidden_width, pooled
from aconite.ops import After, bound_meta_acon_c, meta_acon_c, meta_kernel_serves, plain, runs_directly

__all__ = ["Granularity", "MetaAconC"]

Granularity = Literal["layer", "channel", "pixel"]

_DEFAULTS: dict[str, Any] = {
    "r": 16,
    "granularity": "channel",
    "norm": "batch",
    "hidden": None,
    "bias": True,
    "beta_scale": 1.0,
    "gate": "sigmoid",
    "channel_dim": 1,
}
_ENTRIES = ("p1", "p2", "fc1", "bn1", "fc2", "bn2")


class MetaAconC(ChannelModule):
    r"""Meta-ACON: ACON-C with β = G(x) (paper, section 3).

    .. math:: f(x) = (p_1 - p_2)x\,\sigma(\beta(p_1 - p_2)x) + p_2 x

    ===========  =============================================================  ============
    granularity  β                                                              shape of β
    ===========  =============================================================  ============
    "channel"    s·σ(bn2(W2·bn1(W1·mean_hw(x) + b1) + b2)), the paper's choice  (N, C)
    "layer"      s·σ(mean_chw(x))                                               (N, 1)
    "pixel"      s·σ(x)                                                         x's
    ===========  =============================================================  ============

    Replaces the reference code's class of this name and its public variants, whose state dicts load: the reference
    (norms and biases), the first one (``hidden=C // 16, bias=False, norm=None``) and YOLOv5's (``norm=None``);
    `from_state_dict` tells which.

    Args:
        channels: C, or None to learn it from the first input.
        r: reduction; the hidden width is max(r, C // r).
        granularity: see the table; only "channel" has a generator with weights.
        norm: ``"batch"`` puts a BatchNorm after each of the generator's layers, as the reference code does; None leaves
            them out. A batch with one value per channel, on which BatchNorm cannot train, is normalised by the running
            statistics.
        hidden: the hidden width where another is wanted.
        bias: biases in the generator's layers.
        beta_scale: s; β lies in (0, s).
        gate: ``"sigmoid"``, or ``"hard"`` for relu6(z + 3)/6, in the generator and in the activation.
        init: of p1 and p2, as in `AconC`; with a `Match` the generator starts by giving the match's β to every input,
            which must lie in (0, beta_scale).
        channel_dim: where the channels are: 1 for (N, C, *), −1 for transformers, −3 for unbatched images.
        k: YOLOv5's kernel size; must be 1.
        s: YOLOv5's stride; must be 1.
        width: the reference code's name of ``channels``.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters; the output has the input's.

    Shape:
        Any input with C at ``channel_dim`` and samples first; the output has the same shape, dtype and memory format.

    >>> MetaAconC(64)(torch.randn(1, 64, 7, 7)).shape  # one image trains, too
    torch.Size([1, 64, 7, 7])
    """

    channel_entry = ("p1", 0)
    p1: nn.Parameter
    p2: nn.Parameter
    fc1: nn.Conv2d
    fc2: nn.Conv2d
    bn1: nn.BatchNorm2d | None
    bn2: nn.BatchNorm2d | None

    def __init__(
        self,
        channels: int | None = None,
        r: int = 16,
        *,
        granularity: Granularity = "channel",
        norm: Literal["batch"] | None = "batch",
        hidden: int | None = None,
        bias: bool = True,
        beta_scale: float = 1.0,
        gate: str = "sigmoid",
        init: Init = "paper",
        channel_dim: int = 1,
        k: int = 1,
        s: int = 1,
        width: int | None = None,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if granularity not in ("layer", "channel", "pixel"):
            raise SettingsError(f"granularity={granularity!r} is not known; write 'layer', 'channel' or 'pixel'")
        if norm not in ("batch", None):
            raise SettingsError(f"norm={norm!r} is not known; write norm='batch' or norm=None")
        if not all(isinstance(n, int) and n > 0 for n in (r, r if hidden is None else hidden)):
            raise SettingsError(f"MetaAconC(r={r!r}, hidden={hidden!r}): expected positive integers")
        if (k, s) != (1, 1):
            raise SettingsError(
                f"k={k}, s={s}: the generator sees one pooled pixel, so kernel size and stride must be 1"
            )
        if not (beta_scale > 0 and math.isfinite(beta_scale)):
            raise SettingsError(f"beta_scale={beta_scale!r}: expected a positive number")
        reference.gate_function(gate)
        self.r, self.granularity, self.norm, self.hidden, self.bias = r, granularity, norm, hidden, bias
        self.beta_scale, self.gate, self.init, self.channel_dim = float(beta_scale), gate, init, channel_dim
        if isinstance(init, Match):
            self._logit(init)
        self._start(given_channels(channels, width, init), device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        if self.granularity == "channel":
            hidden = hidden_width(channels, self.r, self.hidden)
            self.fc1 = nn.Conv2d(channels, hidden, 1, bias=self.bias, **factory)
            self.bn1 = nn.BatchNorm2d(hidden, **factory) if self.norm else None
            self.fc2 = nn.Conv2d(hidden, channels, 1, bias=self.bias, **factory)
            self.bn2 = nn.BatchNorm2d(channels, **factory) if self.norm else None
        values = initial_values(self.init, channels, factory["device"])
        self.p1, self.p2 = (nn.Parameter(values[name].to(**factory)) for name in ("p1", "p2"))
        if isinstance(self.init, Match):
            last = self.fc2 if self.bn2 is None else self.bn2
            with torch.no_grad():
                # Zero where the last affine map multiplies, so that β starts constant. Zeroing fc2 in front of bn2
                # instead would divide by √eps in the first backward pass.
                last.weight.zero_()
                assert last.bias is not None
                last.bias.copy_(self._logit(self.init))

    def _logit(self, match: Match) -> Tensor:
        """What the gate must see so that β is the match's."""
        if self.granularity != "channel" or not (self.norm or self.bias):
            raise SettingsError(
                "init=from_activation(…) sets the generator's last bias, which "
                f"MetaAconC(granularity={self.granularity!r}, norm={self.norm!r}, bias={self.bias}) does not have; "
                "use granularity='channel' with norm='batch' or bias=True"
            )
        share = torch.as_tensor(match.beta, dtype=torch.float64, device="cpu") / self.beta_scale
        if not bool(((share > 0) & (share < 1)).all()):
            raise SettingsError(
                f"Meta-ACON generates β in (0, {self.beta_scale:g}) and cannot start at β = {match.beta}; write "
                f"beta_scale={2 * self.beta_scale * float(share.abs().max()):.4g} (a negative β, from a PReLU "
                "slope above 1, cannot be reached)"
            )
        return share.logit() if self.gate == "sigmoid" else 6 * share - 3

    def generate_beta(self, x: Tensor) -> Tensor:
        """β = G(x): (N, C), (N, 1), or x's shape, by granularity; in float32 at least.

        >>> MetaAconC(8, granularity="layer").generate_beta(torch.zeros(2, 8, 4, 4))
        tensor([[0.5000],
                [0.5000]])
        """
        c = self._ready(x)
        gate = reference.gate_function(self.gate)
        if self.granularity == "pixel":
            return self.beta_scale * gate(_at_least_float32(x))
        if self.granularity == "layer":
            return self.beta_scale * gate(pooled(x, c, torch.promote_types(x.dtype, torch.float32)).mean(1).flatten(1))
        mean = pooled(x, c, self.fc1.weight.dtype)
        logits = self._normed(self.bn2, self.fc2(self._normed(self.bn1, self.fc1(mean))))
        return self.beta_scale * gate(_at_least_float32(logits.flatten(1)))

    def _normed(self, norm: nn.BatchNorm2d | None, values: Tensor) -> Tensor:
        if norm is None:
            return values
        if norm.training and values.shape[0] == 1 and norm.running_mean is not None:
            return F.batch_norm(
                values, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        normed: Tensor = norm(values)
        return normed

    def forward(self, x: Tensor) -> Tensor:
        """ACON-C with β = G(x), in x's shape and dtype."""
        y = again(self, x)
        if y is not None:
            return y
        c = self._ready(x)
        if self.granularity == "channel" and c > 0 and meta_kernel_serves(x, self.p1, self.p2, self.channel_dim):
            samples, bn1, bn2 = x.shape[0], self.bn1, self.bn2
            record = generator_record(self.fc1, bn1, self.fc2, bn2, samples, self.beta_scale)
            if record is not None:
                after = []
                if record.norm == "batch" and bn1 is not None and bn2 is not None:
                    dtype = torch.promote_types(x.dtype, torch.float32)
                    after = [After(statistics_update(bn1, bn2, samples, self.fc1.out_channels, dtype))]
                return self._run(x, record, after)
        beta = self.generate_beta(x)
        if c == 0 and self.granularity != "pixel":
            beta = beta[0]
        return functional.acon_c(x, self.p1, self.p2, beta, channel_dim=self.channel_dim, gate=self.gate)

    def _run(self, x: Tensor, record: Generator, after: list[After]) -> Tensor:
        """The kernel's result; its call is kept for the next x that is like this one."""
        given = x, self.p1, self.p2, record, self.channel_dim, self.gate
        if not torch.compiler.is_compiling() and plain(x, self.p1, self.p2, *record[:12]) and runs_directly(x):
            bound = bound_meta_acon_c(*given, after)
            if bound is not None:
                inside = [m for m in (self.fc1, self.bn1, self.fc2, self.bn2) if m is not None]
                keep(Keeper(self, called=True), inside, x, bound)
                return bound.run(x)
        y, saved = meta_acon_c(*given)
        for update in after:
            update([saved])
        return y

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("channels", *_DEFAULTS)}

    def extra_repr(self) -> str:
        return _arguments(self._options())

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], prefix: str = "", **options: Any) -> Self:
        """The layer of whichever public variant the state dict belongs to, with its values.

        Args:
            state_dict: p1, p2 and the generator's entries, of the reference code, its first version, YOLOv5 or this
                library.
            prefix: what stands before the names, ``"layer1.act."`` for instance.
            options: further arguments of the constructor (gate, beta_scale, channel_dim, …), which no state dict holds.

        Raises:
            StateDictError: it is none of them; or it holds no generator and ``granularity`` is not given.

        >>> layer = MetaAconC.from_state_dict(MetaAconC(64, norm=None).state_dict())
        >>> layer.norm is None
        True
        """
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        found = variant(own, prefix)
        foreign = sorted(key for key in own if key.partition(".")[0] not in _ENTRIES)
        if foreign:
            raise StateDictError(f"no Meta-ACON state dict at prefix {prefix!r}: it holds {', '.join(foreign[:8])}")
        if "fc1.weight" not in own and "granularity" not in options:
            raise StateDictError("this state dict holds no generator: pass granularity='layer' or granularity='pixel'")
        layer = cls(**{**found, **options})
        layer.load_state_dict(own)
        return layer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        for name in ("fc1.weight", "fc2.weight"):
            weight = own.get(name)
            if weight is not None and not is_lazy(weight) and weight.ndim == 2:
                state_dict[prefix + name] = own[name] = weight[:, :, None, None]
        if self.granularity == "channel" and {"p1", "p2", "fc1.weight"} <= own.keys() and not is_lazy(own["p1"]):
            needed, mine = variant(own, prefix), self._options()
            width = hidden_width(needed["channels"], self.r, self.hidden)
            if needed != {**needed, "hidden": width, "bias": self.bias, "norm": self.norm}:
                raise StateDictError(
                    f"this state dict belongs to another variant than MetaAconC({_arguments(mine)}): build "
                    f"MetaAconC({_arguments({**mine, 'r': _DEFAULTS['r'], **needed})}), or "
                    f"MetaAconC.from_state_dict(state_dict{f', prefix={prefix!r}' if prefix else ''})"
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


def _arguments(options: dict[str, Any]) -> str:
    """The constructor's arguments as one writes them, defaults left out."""
    if options["channels"] and options["hidden"] == hidden_width(options["channels"], options["r"], None):
        options = {**options, "hidden": None}
    given = [f"{name}={options[name]!r}" for name, default in _DEFAULTS.items() if options[name] != default]
    return ", ".join([str(options["channels"]), *given])


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def variant(own: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """The constructor's arguments that fit a channel-wise state dict."""
    missing = [name for name in ("p1", "p2") if name not in own]
    if missing:
        found = ", ".join(sorted(own)[:8]) or "nothing"
        raise StateDictError(
            f"no Meta-ACON state dict at prefix {prefix!r}: {', '.join(missing)} missing, found {found}"
        )
    channels = own["p1"].numel()
    if "fc1.weight" not in own:
        return {"channels": channels, "granularity": "layer"}
    return {
        "channels": channels,
        "hidden": own["fc1.weight"].shape[0],
        "bias": "fc1.bias" in own,
        "norm": "batch" if "bn1.weight" in own else None,
    }
