"""Running a model on example inputs so that nothing of it shows afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map_only

from aconite.errors import SettingsError

__all__ = ["run_example"]


def run_example(model: nn.Module, inputs: Any, watch: Callable[[], AbstractContextManager[list[Any]]]) -> str | None:
    """Run the model in its own mode and in the other one, each under ``watch()``.

    What the run returns is appended to the list that ``watch()`` gives, so that it lives until the watch ends. Both
    modes, because a model may take other paths in training (auxiliary heads, stochastic depth) than in evaluation.
    Parameters, buffers, random states, training modes and the inputs are afterwards what they were; lazy modules get
    their sizes, as at any first call.

    Returns:
        None, or why the model did not run in the other mode.

    Raises:
        SettingsError: the model does not run in its own mode, or the inputs are of no known form.
    """
    for module in model.modules():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise SettingsError("the model is compiled already: change the model first, then call torch.compile on it")
    if not isinstance(inputs, Tensor | tuple | Mapping):
        raise SettingsError(
            f"example_inputs is a {type(inputs).__name__}: expected a tensor, a tuple of positional arguments or a "
            "dict of keyword arguments; for a model that takes one list write ([…],)"
        )
    own, note = model.training, None
    # Evaluation first: lazy norms get their sizes there without learning from the example.
    for training in (False, True):
        with _kept(model, inputs), torch.no_grad():
            if training != own:
                model.train(training)
            copies = tree_map_only(Tensor, torch.clone, inputs)
            try:
                with watch() as results:
                    results.append(_called(model, copies))
            except Exception as error:
                line = f"{type(error).__name__}: {error}"
                if training == own:
                    raise SettingsError(f"the model does not run on the example inputs: {line}") from error
                mode = "training" if training else "evaluation"
                note = f"paths that only {mode} takes were not seen: in that mode the example inputs raise {line}"
    return note


def _called(model: nn.Module, inputs: Any) -> Any:
    match inputs:
        case Mapping():
            return model(**inputs)
        case tuple():
            return model(*inputs)
        case _:
            return model(inputs)


@contextmanager
def _kept(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Put training modes, buffers and random states back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module, _ in modes
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer) and not buffer.is_meta
    ]
    python_state = random.getstate()
    try:
        with _forked_generators(model, inputs):
            yield
    finally:
        random.setstate(python_state)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                # Only where it differs: a buffer may be an expanded view, which cannot be written to.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
                module._buffers[name] = buffer


def _forked_generators(model: nn.Module, inputs: Any) -> AbstractContextManager[None]:
    """torch's random states; of an accelerator only where the model is, since asking another one would start it."""
    tensors = [*model.parameters(), *model.buffers(), *(t for t in tree_leaves(inputs) if isinstance(t, Tensor))]
    used = {t.device for t in tensors if t.device.type not in ("cpu", "meta")}
    kind = next((device.type for device in used), "cuda")
    return torch.random.fork_rng([device.index for device in used if device.type == kind], device_type=kind)
