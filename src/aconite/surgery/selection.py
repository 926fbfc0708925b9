"""Which call sites are meant: the forms that ``where=`` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from aconite.errors import SettingsError
from aconite.surgery.callsites import Site

__all__ = ["Where", "classes_in", "selected"]

Where = str | int | slice | type[nn.Module] | Callable[[Site], bool] | Sequence[Any]

_HEADS = {
    "aux", "aux1", "aux2", "aux_classifier", "classifier", "decode_head", "fc", "fc_norm", "head", "head_drist",
    "heads", "neck", "pre_classifier", "pre_logits", "roi_heads", "rpn", "score",
}  # fmt: skip


def classes_in(where: Where) -> tuple[type[nn.Module], ...]:
    """The module classes that ``where`` names."""
    if isinstance(where, list | tuple | set | frozenset):
        return tuple(found for part in where for found in classes_in(part))
    return (where,) if isinstance(where, type) and issubclass(where, nn.Module) else ()


def selected(sites: Sequence[Site], where: Where, model: nn.Module) -> list[Site]:
    """The sites that ``where`` means, in their order.

    Raises:
        SettingsError: ``where`` is of no known form.
    """
    chosen = _test(where, model, len(sites))
    return [site for site in sites if chosen(site)]


def _test(where: Where, model: nn.Module, count: int) -> Callable[[Site], bool]:
    match where:
        case "all":
            return lambda site: True
        case "paper":
            return _paper(model)
        case "backbone":
            return lambda site: _in_backbone(site, model)
        case str():
            return lambda site: fnmatchcase(site.path, where)
        case bool():
            pass
        case int():
            return lambda site: site.position == (where if where >= 0 else where + count)
        case slice():
            return lambda site: site.position in range(count)[where]
        case type():
            return lambda site: isinstance(site.original, where) or isinstance(site.caller, where)
        case list() | tuple() | set() | frozenset():
            tests = [_test(part, model, count) for part in where]
            return lambda site: any(test(site) for test in tests)
        case _ if callable(where):
            return lambda site: bool(where(site))
    raise SettingsError(
        f"where={where!r}: expected 'all', 'paper', 'backbone', a pattern of paths such as 'layer3.*', a module class, "
        "a function of a Site, a position, a slice of positions, or a list of these"
    )


def _in_backbone(site: Site, model: nn.Module) -> bool:
    """Neither in squeeze-and-excitation nor in a head, by what it sees and by the names of the modules."""
    names = site.path.split(".")
    if hasattr(model, "backbone") and names[0] != "backbone":
        return False
    return not site.pooled and not _HEADS & set(names)


def _paper(model: nn.Module) -> Callable[[Site], bool]:
    """As the paper's networks: with bottlenecks only the activation after their 3×3 convolution, without them all."""
    inside = {module for block in model.modules() if _is_bottleneck(block) for module in block.modules()}

    def chosen(site: Site) -> bool:
        if not _in_backbone(site, model):
            return False
        return not inside or (site.caller in inside and max(site.kernel or (1,)) > 1)

    return chosen


def _is_bottleneck(block: nn.Module) -> bool:
    """A block of convolutions 1×1, k×k, 1×1 that is narrower inside; the k×k one not depthwise."""
    convs = [m for child in block.children() for m in (child, *child.children()) if isinstance(m, _ConvNd)]
    wide = [max(conv.kernel_size) > 1 for conv in convs]
    if wide[:3] != [False, True, False] or any(wide[3:]):
        return False
    return convs[2].out_channels > convs[1].out_channels > convs[1].groups
