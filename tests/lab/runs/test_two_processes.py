"""Two processes with gloo, on one machine: they train what one process trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import functional as F
from two_processes import Told, told_by_srun, told_by_torchrun, two

from aconite.lab.data.on_disk import Shuffled
from aconite.lab.runs import KINDS, ClassificationSettings, RunProgress, train
from aconite.nn import AconC

Make = Callable[..., ClassificationSettings]
Norm = Callable[[], nn.Module]


@pytest.fixture
def with_norms(monkeypatch: pytest.MonkeyPatch) -> Callable[[Norm], None]:
    """Makes the network one of a convolution, a norm and an activation."""

    def set_norm(norm: Norm) -> None:
        def network(*_: Any) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(3, 4, 3, 2), norm(), AconC(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
            )

        monkeypatch.setitem(KINDS, "classification", replace(KINDS["classification"], network=network))

    return set_norm


class Losses(RunProgress):
    """The loss of each backward pass of this process."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.seen.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)


def trained_by_two(
    settings: ClassificationSettings, folder: Path, told: Told = told_by_torchrun
) -> tuple[dict[str, Any], list[list[float]]]:
    """The row and the losses of each process."""

    def work(rank: int) -> int:
        losses = Losses()
        train(settings, folder / "run", losses)
        (folder / f"losses{rank}.json").write_text(json.dumps(losses.seen))
        return 0

    assert two(work, told) == [0, 0]
    row = json.loads((folder / "run" / "rows.jsonl").read_text())
    return row, [json.loads((folder / f"losses{rank}.json").read_text()) for rank in (0, 1)]


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(torch.load(folder / "weights.pt", weights_only=True))


def assert_close(row: dict[str, Any], other: dict[str, Any]) -> None:
    """Up to the order in which float32 numbers are added."""
    for name, values in row["history"].items():
        assert values == pytest.approx(other["history"][name], rel=2e-5, abs=1e-6), name


def test_without_norms_two_are_one_with_the_doubled_batch(
    quick: Make, tmp_path: Path, with_norms: Callable[[Norm], None]
) -> None:
    with_norms(lambda: nn.GroupNorm(2, 4))
    settings = quick(clip_norm=5.0, weight_decay=0.01)
    whole = Losses()
    alone = train(settings, tmp_path / "alone", whole)
    row, (first, second) = trained_by_two(settings, tmp_path)
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert first != second
    assert means == pytest.approx(whole.seen, rel=2e-5)
    assert_close(row, alone.row)
    assert row["provenance"]["processes"] == 2
    theirs = weights(tmp_path / "run")
    for name, value in weights(alone.folder).items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6)


def test_the_line_of_an_epoch_tells_the_figures_of_both(
    quick: Make, tmp_path: Path, with_norms: Callable[[Norm], None]
) -> None:
    with_norms(nn.Identity)
    shown = tmp_path / "shown.json"

    class Shown(RunProgress):
        def epoch(self, step: int, epoch: int, figures: dict[str, float]) -> None:
            shown.write_text(json.dumps(figures))

    def work(rank: int) -> int:
        train(quick(), tmp_path / "run", Shown())
        return 0

    assert two(work) == [0, 0]
    history = json.loads((tmp_path / "run" / "rows.jsonl").read_text())["history"]
    assert json.loads(shown.read_text()) == {name: values[-1] for name, values in history.items()}


def test_what_fsdp_has_flattened_decays_as_before(quick: Make) -> None:
    """Lightning has FSDP for GPUs alone; the parameters are the same on a CPU."""

    def work(rank: int) -> int:
        torch.distributed.init_process_group("gloo")
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), AconC(4), nn.Flatten(), nn.Linear(4, 2))
        weights = {network[0].weight, network[-1].weight}
        experiment = KINDS["classification"].experiment(network, quick(epochs=None, steps=9), ("cat", "dog"))
        experiment.setup("fit")
        FullyShardedDataParallel(network, device_id=torch.device("cpu"), use_orig_params=True)
        assert {each.ndim for each in network.parameters()} == {1}
        made = experiment.configure_optimizers()["optimizer"]
        decayed = [each for group in made.param_groups for each in group["params"] if group["weight_decay"]]
        assert {*decayed} == weights
        return 0

    assert two(work) == [0, 0]


def test_with_batchnorm_two_are_one_that_normalises_each_half(
    quick: Make, tmp_path: Path, with_norms: Callable[[Norm], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_norms(lambda: nn.BatchNorm2d(4))
    row, (first, second) = trained_by_two(quick(batch_size=8), tmp_path)

    # one process that takes the same halves one after the other: accumulated batches have statistics of their own, and
    # the first half's count for the running ones, as the first process's do
    class Halves(Shuffled):
        def __iter__(self) -> Iterator[Any]:
            draws = list(super().__iter__())
            for start in range(0, len(draws) - 7, 8):
                yield from draws[start : start + 8 : 2]
                yield from draws[start + 1 : start + 8 : 2]

    class FirstHalf(nn.BatchNorm2d):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += self.training
            if self.training and self.seen % 2 == 0:
                return F.batch_norm(x, None, None, self.weight, self.bias, training=True)
            return super().forward(x)

    monkeypatch.setattr("aconite.lab.data.on_disk.Shuffled", Halves)
    with_norms(lambda: FirstHalf(4))
    seen = Losses()
    alone = train(quick(batch_size=8, accumulate=2), tmp_path / "alone", seen)
    assert seen.seen[0::2] == pytest.approx(first, rel=2e-5)
    assert seen.seen[1::2] == pytest.approx(second, rel=2e-5)
    assert_close(row, alone.row)
    theirs = weights(tmp_path / "run")
    for name, value in weights(alone.folder).items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6)


def test_srun_and_torchrun_start_the_same(quick: Make, tmp_path: Path) -> None:
    settings = quick(epochs=1)
    rows = []
    for told in (told_by_torchrun, told_by_srun):
        row, losses = trained_by_two(settings, tmp_path / told.__name__, told)
        rows.append(({**row, "timing": None}, losses))
    assert rows[0] == rows[1]
    assert rows[0][0]["provenance"]["processes"] == 2


@pytest.mark.usefixtures("with_dropout")
def test_two_that_were_killed_come_to_the_same_bits(quick: Make, tmp_path: Path) -> None:
    settings = quick(checkpoint_every=2)
    row, _ = trained_by_two(settings, tmp_path)

    kill_two(settings, tmp_path / "cut" / "run", 11)
    assert sorted(path.name for path in (tmp_path / "cut" / "run" / "checkpoints").iterdir()) == [
        "epoch-0001-step-000008.ckpt", "epoch-0001-step-000010.ckpt",
    ]  # fmt: skip
    again, losses = trained_by_two(settings, tmp_path / "cut")
    assert {**again, "timing": None} == {**row, "timing": None}
    assert [len(each) for each in losses] == [8, 8]
    mine, theirs = weights(tmp_path / "run"), weights(tmp_path / "cut" / "run")
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def kill_two(settings: ClassificationSettings, out: Path, at: int) -> None:
    class Die(RunProgress):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == at:
                os.kill(os.getpid(), signal.SIGKILL)

    def work(rank: int) -> int:
        train(settings, out, Die())
        return 0

    assert two(work) == [-signal.SIGKILL] * 2


def test_one_goes_on_where_two_were_killed(quick: Make, tmp_path: Path, with_norms: Callable[[Norm], None]) -> None:
    with_norms(lambda: nn.GroupNorm(2, 4))
    settings = quick(checkpoint_every=2)
    alone = train(settings, tmp_path / "alone")
    kill_two(settings, tmp_path / "run", 11)
    seen = Losses()
    assert_close(train(settings, tmp_path / "run", seen).row, alone.row)
    assert len(seen.seen) == 8


COMMAND = ["-m", "aconite", "train", "classification", "--model", "resnet8", "--image-size", "12", "--epochs", "2",
           "--batch-size", "4", "--accelerator", "cpu", "--progress", "plain"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "lightning"])
def test_the_command_line(pictures: Path, tmp_path: Path, launcher: str) -> None:
    words = [*COMMAND, "--data", str(pictures), "--out", str(tmp_path / "run")]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if launcher == "torchrun" else []
    own = [] if launcher == "torchrun" else ["--devices", "2", "--strategy", "ddp"]
    ended = subprocess.run(
        [sys.executable, *start, *words, *own],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line for line in lines if line.startswith("run: ")] == [f"run:  {tmp_path / 'run'}"]  # the first alone
    assert len([line for line in lines if line.startswith("step 12/12")]) == 1
    row = json.loads((tmp_path / "run" / "rows.jsonl").read_text())
    assert row["provenance"]["processes"] == 2
