"""Transformers: pointwise activations under our names in ``ACT2FN``, channels last. Importing registers.

A configuration then takes ``hidden_act="acon-c"``; every lookup makes a new layer, whose channel count comes with the
first input. Activations that look at other positions (Meta-ACON's generator, squeeze-and-excitation, funnels) are not
registered: over padded or causal sequences they would leak. `aconite.surgery.convert` puts them in on demand.

>>> import torch
>>> from transformers.activations import ACT2FN
>>> ACT2FN["acon-c"](torch.zeros(2, 5, 16)).shape
torch.Size([2, 5, 16])
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aconite.errors import MissingExtraError, SettingsError
from aconite.nn import ChannelModule, activation

try:
    from transformers import PreTrainedModel
    from transformers.activations import ACT2FN
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "transformers").partition(".")[0], "transformers") from error

__all__ = ["from_pretrained"]

Model = TypeVar("Model", bound=PreTrainedModel)
_NAMES = ("maxout", "acon-a", "acon-b", "acon-c", "meta-acon-pixel")
_made: ContextVar[list[nn.Module] | None] = ContextVar("_made", default=None)
"""Where new layers are entered, in the order of the lookups."""
_sizes: ContextVar[Iterator[int] | None] = ContextVar("_sizes", default=None)
"""The channel counts of the layers to come, in the same order."""


def from_pretrained(
    model_class: type[Model],
    folder: str | Path,
    *,
    example_inputs: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Model:
    """Transformers' own ``from_pretrained``, for models whose configuration names one of our activations.

    There each parameter's shape must be known before a file is read, and that of our layers comes with the first input.
    So a twin without values is run first to learn the channel counts.

    Args:
        model_class: such as ``BertModel``.
        folder: what ``save_pretrained`` wrote, or a name on the Hugging Face Hub.
        example_inputs: keyword arguments that the model runs on; its ``dummy_inputs`` unless given, which suit text.
        options: of transformers' method. With ``hidden_act="acon-c"`` the weights of a model with another activation
            load, and its new layers start as their constructor has it.

    Raises:
        SettingsError: the model does not run on the example inputs, or they leave one of our layers out.
    """
    config, kwargs = model_class.config_class.from_pretrained(folder, return_unused_kwargs=True, **options)  # type: ignore[union-attr]
    made: list[nn.Module] = []
    with _within(_made, made), torch.device("meta"):
        twin = model_class(copy.deepcopy(config)).eval()  # type: ignore[no-untyped-call]
    inputs = twin.dummy_inputs if example_inputs is None else example_inputs
    try:
        with torch.no_grad():
            twin(**{name: value.to("meta") for name, value in inputs.items()})
    except Exception as error:
        raise SettingsError(
            f"{model_class.__name__} does not run on {', '.join(inputs)} ({type(error).__name__}: {error}): pass "
            "example_inputs, a dict of keyword arguments that it runs on"
        ) from error
    sizes = [layer.channels for layer in made if isinstance(layer, ChannelModule)]
    if None in sizes:
        raise SettingsError(
            f"{sizes.count(None)} of {len(sizes)} activations were not reached: pass example_inputs that run all of "
            f"{model_class.__name__}"
        )
    with _within(_sizes, iter(sizes)):
        kwargs |= {"config": config, "output_loading_info": True}
        loaded: Any = model_class.from_pretrained(folder, **kwargs)
    model, info = loaded
    for path in {name.rpartition(".")[0] for name in info["missing_keys"]}:
        layer = model.get_submodule(path)
        if isinstance(layer, ChannelModule):  # transformers leaves what it does not know unset
            fresh = activation(config.hidden_act, layer.channels, channel_dim=-1)
            layer.load_state_dict(fresh.state_dict())
    return model  # type: ignore[no-any-return]


@contextmanager
def _within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _layer(name: str) -> nn.Module:
    """What a lookup in ``ACT2FN`` makes."""
    sizes, made = _sizes.get(), _made.get()
    layer = activation(name, None if sizes is None else next(sizes), channel_dim=-1)
    if made is not None:
        made.append(layer)
    return layer


for _name in _NAMES:
    ACT2FN.setdefault(_name, (_layer, {"name": _name}))
