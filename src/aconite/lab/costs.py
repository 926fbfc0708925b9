"""What an activation costs in a network: parameters, multiply-adds, time of a training step, memory for backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from aconite.bench import Quantiles, quantiles, ratios, saved_bytes, take_turns
from aconite.lab.tasks import Batch, Classification

__all__ = ["Cost", "measure_costs", "multiply_adds", "saved_for_backward"]


@dataclass(frozen=True)
class Cost:
    """The costs of one network. ``step_ratio`` is its step's time over the baseline's in the same round."""

    parameters: int
    multiply_adds: int
    saved_bytes: int
    step_ms: Quantiles
    step_ratio: Quantiles


def measure_costs(tasks: Mapping[str, Classification], baseline: str, batch: Batch, seconds: float) -> dict[str, Cost]:
    """The cost of each task at this training batch, all of them on the batch's device.

    The tasks take turns, each round in a new random order, for about ``seconds`` (at least 5 rounds, at most 50), so
    that what else the machine does falls on all of them. The tasks are trained by this: hand over ones made for it.
    """
    times = take_turns({name: _step(task, batch) for name, task in tasks.items()}, seconds=seconds, most=50)
    return {
        name: Cost(
            parameters=sum(parameter.numel() for parameter in task.network.parameters()),
            multiply_adds=multiply_adds(task, batch[0][:1]),
            saved_bytes=saved_for_backward(task, batch),
            step_ms=quantiles([1e3 * seconds for seconds in times[name]]),
            step_ratio=ratios(times[name], times[baseline]),
        )
        for name, task in tasks.items()
    }


def _step(task: Classification, batch: Batch) -> Callable[[], None]:
    optimizer = task.train().optimizer()

    def step() -> None:
        optimizer.zero_grad()
        task.training_step(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def multiply_adds(module: nn.Module, inputs: Tensor) -> int:
    """Multiply-adds of convolutions, linear layers and matrix products in one forward pass, by torch's own counter.

    It counts no element-wise work, so an activation shows up only with the convolutions inside it.
    """
    from torch.utils.flop_counter import FlopCounterMode  # costs 100 ms to import

    mode = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(inputs)
    module.train(mode)
    return int(counter.get_total_flops()) // 2


def saved_for_backward(task: Classification, batch: Batch) -> int:
    """Bytes that one training step's forward pass keeps for the backward pass, parameters and buffers left out."""
    return saved_bytes(lambda: task.training_step(batch), chain(task.parameters(), task.buffers()))
