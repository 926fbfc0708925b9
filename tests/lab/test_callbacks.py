from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

import aconite
from aconite.errors import SettingsError
from aconite.lab.callbacks import LogActivations


class Task(pl.LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Tensor, number: int) -> Tensor:
        return self.network(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


class Recorder(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    name = version = "recorder"

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.setdefault(step, {}).update(metrics)


def network(act: nn.Module | None = None) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), act or aconite.AconC(8), nn.Linear(8, 6), nn.ReLU())
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([-50.0] * 3 + [50.0] * 3))  # three units of six never see a positive input
    return model


def fit(task: pl.LightningModule, folder: Path, loggers: Any, every: int = 2, **options: Any) -> LogActivations:
    callback = LogActivations(every)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=loggers, callbacks=[callback], default_root_dir=folder,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=1,
        **options,
    )  # fmt: skip
    trainer.fit(task, DataLoader(torch.randn(20, 4), batch_size=4))
    return callback


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_values_every_second_step(tmp_path: Path) -> None:
    task, logger = Task(network()), Recorder()
    with torch.no_grad():
        task.network[1].p2.copy_(torch.arange(8.0))
    fit(task, tmp_path, logger)
    assert sorted(logger.rows) == [0, 2, 4]
    row = logger.rows[0]
    assert row["activations/network.3/dead"] == 0.5
    assert row["activations/network.1/dead"] == 0.0
    assert "activations/network.3/beta_mean" not in row
    for key in ("mean", "std", "q05", "median", "q95"):
        assert f"activations/network.1/beta_{key}" in row
    assert logger.rows[4]["activations/network.1/p1_mean"] == pytest.approx(task.network[1].p1.mean().item(), abs=0.01)
    assert hooks(task) == 0


def test_the_logged_values_are_those_of_that_step(tmp_path: Path) -> None:
    class Frozen(Task):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    task, logger = Frozen(network()), Recorder()
    with torch.no_grad():
        task.network[1].p2.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0]))
    fit(task, tmp_path, logger)
    row = logger.rows[2]
    prefix = "activations/network.1/p2_"
    assert row[prefix + "mean"] == 1.0
    assert row[prefix + "std"] == pytest.approx((7 * 1 + 49) ** 0.5 / 8**0.5)
    assert row[prefix + "median"] == row[prefix + "q05"] == 0.0
    assert row[prefix + "q95"] == pytest.approx(0.65 * 8)


def test_generated_beta(tmp_path: Path) -> None:
    task, logger = Task(network(aconite.MetaAconC(8, beta_scale=4.0))), Recorder()
    fit(task, tmp_path, logger)
    assert all(0 < row["activations/network.1/beta_mean"] < 4 for row in logger.rows.values())


def test_csv(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fit(Task(network()), tmp_path, logger)
    with (Path(logger.log_dir) / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["activations/network.3/dead"] for row in rows] == ["0.5"] * 3


def test_tensorboard_gets_histograms(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path)
    fit(Task(network()), tmp_path, [logger, recorder := Recorder()])
    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"histograms": 0})
    events.Reload()
    assert {f"activations/network.1/{name}" for name in ("p1", "p2", "beta")} == set(events.Tags()["histograms"])
    drawn = events.Histograms("activations/network.1/p2")
    assert [event.step for event in drawn] == [0, 2, 4]
    assert drawn[0].histogram_value.num == 8
    assert "activations/network.3/dead" in events.Tags()["scalars"]
    assert not any("beta" in tag for tag in events.Tags()["scalars"])
    assert "activations/network.1/p2_mean" in recorder.rows[0]


def _count_measurements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    import aconite.lab.callbacks as module

    original: Callable[..., Any] = module._measured
    monkeypatch.setattr(module, "_measured", lambda *args: calls.append(1) or original(*args))
    return calls


def test_without_a_logger_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _count_measurements(monkeypatch)
    fit(Task(network()), tmp_path, False)
    assert not calls


def test_only_the_first_process_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _count_measurements(monkeypatch)
    monkeypatch.setattr(pl.Trainer, "is_global_zero", property(lambda self: False))
    fit(Task(network()), tmp_path, Recorder())
    assert not calls


TWO_PROCESSES = """
import sys, torch, aconite
import lightning.pytorch as pl
from aconite.lab.callbacks import LogActivations
from lightning.pytorch.loggers import CSVLogger

class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(4, 8), aconite.AconC(8), torch.nn.Linear(8, 1))

    def training_step(self, batch, number):
        return self.network(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=CSVLogger(sys.argv[1], name="", version=""),
    callbacks=[LogActivations(2)], default_root_dir=sys.argv[1], enable_progress_bar=False,
    enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=1,
)
trainer.fit(Task(), torch.utils.data.DataLoader(torch.randn(24, 4), batch_size=4))
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES, "utf-8")
    subprocess.run(
        [sys.executable, script, tmp_path], check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "2"]  # three steps of two processes, logged once
    assert all(row["activations/network.1/beta_mean"] for row in rows)


def test_one_measurement_for_gathered_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _count_measurements(monkeypatch)
    fit(Task(network()), tmp_path, Recorder(), every=1, accumulate_grad_batches=2)
    assert len(calls) == 3  # five batches make three steps


def test_training_is_what_it_is_without(tmp_path: Path) -> None:
    results = []
    for loggers in (False, Recorder()):
        pl.seed_everything(3, verbose=False)
        task = Task(network(aconite.MetaAconC(8)))
        fit(task, tmp_path, loggers, every=1)
        results.append(task.state_dict())
    for first, second in zip(*(state.values() for state in results), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_a_fused_model_logs_its_parameters(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), aconite.AconC(8))
    fused, _ = aconite.fuse(model, torch.randn(4, 4))
    task, logger = Task(fused), Recorder()
    fit(task, tmp_path, logger)
    assert "activations/network.2/p1_mean" in logger.rows[0]
    assert not any(key.endswith("dead") for key in logger.rows[0])


def test_hooks_are_gone_after_an_error(tmp_path: Path) -> None:
    class Broken(Task):
        def training_step(self, batch: Tensor, number: int) -> Tensor:
            super().training_step(batch, number)
            raise RuntimeError("broken")

    task = Broken(network())
    with pytest.raises(RuntimeError, match="broken"):
        fit(task, tmp_path, Recorder())
    assert hooks(task) == 0


def test_nothing_to_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no activation module"):
        fit(Task(nn.Linear(4, 2)), tmp_path, Recorder())
    for value in (0, -1, 1.5, True):
        with pytest.raises(SettingsError, match="every_n_steps"):
            LogActivations(value)  # type: ignore[arg-type]
