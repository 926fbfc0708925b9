"""Which dimension of a tensor holds the channels, told by the layers that made it, never by its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import ref

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["Tag", "Tags", "Votes"]


@dataclass(eq=False)
class Votes:
    """Where the channels of an activation's output are, by the layers that take it."""

    dim: int | None = None


@dataclass(frozen=True)
class Tag:
    """What is known of a tensor."""

    dim: int | None = None
    """The channel dimension, from the front."""
    maker: int | None = None
    """The id of the weight of the last layer before it."""
    kernel: tuple[int, ...] | None = None
    """The size of the last convolution's kernel."""
    pooled: bool = False
    """It is made from averages over all positions alone: of a squeeze-and-excitation, of a classifier."""
    votes: Votes | None = None
    """Who waits to hear what the next layer takes for channels."""


class Tags:
    """The tags of the tensors that are alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ref[Tensor], Tag]] = {}

    def get(self, value: Any) -> Tag:
        """The tag of a tensor; an empty one where nothing is known."""
        known = self._known.get(id(value))
        return known[1] if known is not None and known[0]() is value else Tag()

    def put(self, value: Tensor, tag: Tag) -> None:
        """Tag a tensor, which is held weakly."""
        self._known[id(value)] = ref(value), tag

    def observe(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Tag what a function made from what it took."""
        made = [value for value in _tensors(result) if value.ndim]
        if not made:
            return
        taken = [value for value in _tensors((args, kwargs)) if not isinstance(value, nn.Parameter)]
        call = _Call(_name(function), args, kwargs, taken, [self.get(value) for value in taken])
        for value in made:
            self.put(value, call.tag_of(value))


@dataclass
class _Call:
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    taken: list[Tensor]
    tags: list[Tag]
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [value for value in _tensors((self.args, self.kwargs)) if isinstance(value, nn.Parameter)]

    def tag_of(self, made: Tensor) -> Tag:
        source = self.taken[0] if self.taken else None
        tag = self.tags[0] if self.tags else Tag()
        if self.name in _LAYERS:
            dim = _LAYERS[self.name](made, self)
            if tag.votes is not None and tag.votes.dim is None:
                tag.votes.dim = dim  # these layers take the channels from where they put them
            maker = id(self.parameters[0]) if self.parameters else tag.maker
            kernel = tuple(self.argument(1, "weight").shape[2:]) if self.name.startswith("conv") else tag.kernel
            return Tag(dim, maker, None if self.name in _MATRICES else kernel, tag.pooled)
        if source is None:
            return Tag()
        if self.name in _PERMUTATIONS:
            return replace(tag, votes=None, dim=self._followed(tag.dim, source.ndim))
        if self.name in _VIEWS:
            return replace(tag, votes=None, dim=_through_view(tag.dim, source.shape, made.shape))
        if self.name in _REDUCTIONS:
            return self._reduced(tag, source, made)
        if self.name in _PRODUCTS:
            return Tag()
        alike = [tag for value, tag in zip(self.taken, self.tags, strict=True) if value.ndim == made.ndim]
        known = next((tag for tag in alike if tag.dim is not None), alike[0] if alike else None)
        if known is None:
            return Tag()
        pooled = all(tag.pooled for tag in alike) or ("adaptive" in self.name and max(made.shape[2:], default=0) == 1)
        return replace(known, pooled=pooled)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def _followed(self, dim: int | None, ndim: int) -> int | None:
        """Where a permutation takes the dimension."""
        if dim is None:
            return None
        order = list(range(ndim))
        if self.name == "permute":
            dims = self.argument(1, "dims")
            order = [d % ndim for d in (self.args[1:] if isinstance(dims, int) else dims)]
        elif self.name in ("movedim", "moveaxis"):
            sources, targets = _listed(self.argument(1, "source")), _listed(self.argument(2, "destination"))
            pairs = sorted((t % ndim, s % ndim) for s, t in zip(sources, targets, strict=True))
            order = [d for d in order if d not in {s for _, s in pairs}]
            for target, moved in pairs:
                order.insert(target, moved)
        else:
            first = self.argument(1, "dim0", -2 if self.name == "mT" else 0) % ndim
            second = self.argument(2, "dim1", -1) % ndim
            order[first], order[second] = order[second], order[first]
        return order.index(dim)

    def _reduced(self, tag: Tag, source: Tensor, made: Tensor) -> Tag:
        """A mean, sum or maximum over some dimensions."""
        dims = self.argument(1, "dim")
        gone = {d % source.ndim for d in _listed(dims)} if isinstance(dims, int | tuple | list) else set()
        if tag.dim is None or not gone or tag.dim in gone:
            return Tag(maker=tag.maker)
        positions = set(range(1, source.ndim)) - {tag.dim}
        dim = tag.dim if made.ndim == source.ndim else tag.dim - sum(d < tag.dim for d in gone)
        return replace(tag, dim=dim, pooled=tag.pooled or positions <= gone)


def _convolved(made: Tensor, call: _Call) -> int | None:
    weight: Tensor = call.argument(1, "weight")
    return made.ndim - (weight.ndim - 1)


def _first(made: Tensor, call: _Call) -> int | None:
    return 1


def _last(made: Tensor, call: _Call) -> int | None:
    return made.ndim - 1


def _normalised(made: Tensor, call: _Call) -> int | None:
    shape = call.argument(1, "normalized_shape")
    return made.ndim - 1 if len(shape) == 1 else next((tag.dim for tag in call.tags), None)


def _multiplied(made: Tensor, call: _Call) -> int | None:
    """A product with a weight matrix is a linear layer, any other says nothing."""
    return made.ndim - 1 if call.parameters and call.parameters[-1].ndim == 2 else None


_Rule = Callable[[Tensor, _Call], int | None]
_MATRICES: dict[str, _Rule] = {
    "linear": _last, "bilinear": _last, "embedding": _last, "multi_head_attention_forward": _last,
    "mm": _multiplied, "addmm": _multiplied, "matmul": _multiplied, "__matmul__": _multiplied,
}  # fmt: skip
_LAYERS: dict[str, _Rule] = {
    **_MATRICES,
    **{f"conv{kind}{n}d": _convolved for kind in ("", "_transpose") for n in (1, 2, 3)},
    "batch_norm": _first, "instance_norm": _first, "group_norm": _first,
    "layer_norm": _normalised, "rms_norm": _normalised,
}  # fmt: skip
_PERMUTATIONS = {
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "transpose_",
}  # fmt: skip
_VIEWS = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "logsumexp"}
_PRODUCTS = {"bmm", "baddbmm", "einsum", "tensordot", "scaled_dot_product_attention", "cdist"}


def _through_view(dim: int | None, old: Any, new: Any) -> int | None:
    """Where a dimension is after a view that keeps everything before it, or everything after it."""
    if dim is None:
        return None
    if old[: dim + 1] == new[: dim + 1]:
        return dim
    from_end = len(old) - dim
    return len(new) - from_end if from_end <= len(new) and old[dim:] == new[-from_end:] else None


def _listed(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _name(function: Any) -> str:
    name: str = getattr(function, "__name__", str(function))
    return function.__self__.__name__ if name == "__get__" else name


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))
