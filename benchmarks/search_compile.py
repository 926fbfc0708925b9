"""Whether compiling the training step of a candidate of `aconite search` would pay.

    python benchmarks/search_compile.py --out benchmarks/results/search-compile.jsonl

The search's own child network and data (resnet8, digits, batches of 32), one thread. "step_ms" and "compiled_step_ms"
are of a training step with its optimizer, the latter with the network under torch.compile; the two take turns, and
processor time is counted (p20, p50, p80). "compile_s" is the processor time of the first compiled step, over all
processes, with an empty cache.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from aconite.kernels import native_library
from aconite.lab.data import load, training_batches
from aconite.lab.search import SearchSettings
from aconite.lab.search.child import SearchData
from aconite.lab.training import Cell, new_task
from aconite.provenance import provenance
from aconite.whole_file import write_whole

FUNCTIONS = ("max(x, 0)", "x * sigmoid(beta * x)", "tanh(x) - sinc(x)")
STEPS, UNTIMED = 60, 5


def processor_time() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def quantiles(values: list[float]) -> list[float]:
    return [round(float(value), 3) for value in np.quantile(values, [0.2, 0.5, 0.8])]


def steps_of(text: str, settings: SearchSettings, data: SearchData, compiled: bool) -> Callable[[], None]:
    """A call that takes one training step with the first batch of an epoch."""
    task = new_task(Cell(0, text), settings.child("relu"), data.part).to(memory_format=torch.channels_last)
    optimizer = task.train().optimizer()
    if compiled:
        task.network.compile()
    index, shifts, flips = next(iter(training_batches(data.part, settings.batch_size, 0).sampler))
    batch = data.train_images[index], data.train_labels[index], shifts, flips

    def step() -> None:
        optimizer.zero_grad()
        task.training_step(batch).backward()
        optimizer.step()

    return step


def case(text: str, settings: SearchSettings, data: SearchData) -> dict[str, object]:
    steps = [steps_of(text, settings, data, compiled) for compiled in (False, True)]
    before = processor_time()
    steps[1]()
    compiling = processor_time() - before
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(UNTIMED + STEPS):
        for step, taken in zip(steps, times, strict=True):
            started = time.process_time()
            step()
            if turn >= UNTIMED:
                taken.append(1e3 * (time.process_time() - started))
    return {
        "expression": text,
        "step_ms": quantiles(times[0]),
        "compiled_step_ms": quantiles(times[1]),
        "compile_s": round(compiling, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    settings = SearchSettings(device="cpu")
    data = SearchData(load(settings.data, settings.image_size), "cpu")
    origin = provenance("cpu") | {"native": native_library().isa}
    rows = []
    for text in FUNCTIONS:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            torch.compiler.reset()
            rows.append(case(text, settings, data) | {"load": round(os.getloadavg()[0], 1), "provenance": origin})
        print(json.dumps(rows[-1]), flush=True)
    write_whole(arguments.out, "".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
