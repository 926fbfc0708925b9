"""Which BatchNorm computes which activation, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.nn import ChannelModule, MetaAconC
from aconite.surgery.fused import ACTIVATIONS, NORMS
from aconite.surgery.hooks import has_hooks
from aconite.surgery.sites import NormCall, Sites

__all__ = ["candidates", "pairs"]


def candidates(model: nn.Module) -> Sites:
    """What is to be watched: every norm and activation that could be fused."""
    paths = dict(_outside_generators(model, ""))
    # A LazyBatchNorm2d is a BatchNorm2d after the first call.
    norms = {
        module
        for module in paths
        if getattr(module, "cls_to_become", type(module)) in NORMS and "forward" not in module.__dict__
    }
    return Sites(paths=paths, norms=norms, activations={module for module in paths if type(module) in ACTIVATIONS})


def _outside_generators(
    module: nn.Module, path: str, seen: set[nn.Module] | None = None
) -> Iterator[tuple[nn.Module, str]]:
    """Modules and paths without what is inside a MetaAconC, whose kernel runs its inner norms itself."""
    seen = set() if seen is None else seen
    if module in seen:
        return
    seen.add(module)
    yield module, path
    if not isinstance(module, MetaAconC):
        for name, child in module.named_children():
            yield from _outside_generators(child, f"{path}.{name}" if path else name, seen)


def pairs(sites: Sites) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, str]]:
    """The activation of each norm that can be fused, and for every other norm the reason why not."""
    calls: dict[nn.Module, list[NormCall]] = {norm: [] for norm in sites.paths if isinstance(norm, _BatchNorm)}
    for call in sites.norm_calls:
        calls[call.norm].append(call)
    found: dict[nn.Module, nn.Module] = {}
    reasons: dict[nn.Module, str] = {}
    for norm, its_calls in calls.items():
        partner = _partner(norm, its_calls, sites)
        if isinstance(partner, str):
            reasons[norm] = partner
        else:
            found[norm] = partner
    # A norm that drops out takes its activation with it, and so the other norms before that activation.
    while lonely := {
        activation
        for activation, call in sites.activation_calls
        if call is None or call.elsewhere is not None or found.get(call.norm) is not activation
    } & set(found.values()):
        for norm, activation in list(found.items()):
            if activation in lonely:
                del found[norm]
                reasons[norm] = f"{sites.paths[activation]} is also called where no norm can be fused with it"
    return found, reasons


def _partner(norm: nn.Module, calls: list[NormCall], sites: Sites) -> nn.Module | str:
    """The one activation that takes all the norm's outputs, or why there is none."""
    if norm not in sites.norms:
        return _foreign(norm)
    if not calls:
        return "not called on the example inputs"
    elsewhere = next((call.elsewhere for call in calls if call.elsewhere), None)
    if elsewhere is not None:
        return elsewhere
    followers = {call.activation for call in calls}
    if len(followers) > 1:
        names = sorted(sites.paths[follower] if follower else "nothing" for follower in followers)
        return f"its calls are followed by different activations: {', '.join(names)}"
    partner = followers.pop()
    if partner is None:
        return "nothing uses its output"
    for module in (norm, partner):
        if has_hooks(module):
            return f"hooks of {sites.paths[module]} would see other values"
    if "forward" in partner.__dict__:
        return f"the forward method of {sites.paths[partner]} was replaced"
    if isinstance(partner, MetaAconC) and partner.granularity != "channel":
        return f"Meta-ACON by {partner.granularity} has no kernel together with a norm"
    if isinstance(partner, ChannelModule) and partner.channel_dim != 1:
        return f"{sites.paths[partner]} has channel_dim={partner.channel_dim}, where the norm has 1"
    return partner


def _foreign(norm: nn.Module) -> str:
    if isinstance(norm, nn.SyncBatchNorm):
        return "SyncBatchNorm exchanges its statistics between processes"
    if type(norm) in NORMS:
        return "its forward method was replaced"
    return f"{type(norm).__name__} may compute something else than BatchNorm"
