"""A run from its settings to its folder."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aconite.errors import AconiteError
from aconite.lab.data.transforms import classification_evaluation
from aconite.lab.runs import ClassificationSettings, Run, RunProgress, kind_of, train
from aconite.models import create, stem_for

Make = Callable[..., ClassificationSettings]


class Watch(RunProgress):
    """Notes, and whatever else is asked of each step."""

    def __init__(self, ask: Callable[[Any, Any], Any] = lambda trainer, module: None) -> None:
        self.ask = ask
        self.notes: list[str] = []
        self.answers: list[Any] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.answers.append(self.ask(trainer, module))


def asked(ask: Callable[[Any, Any], Any], settings: ClassificationSettings, out: Path) -> tuple[Run, list[Any]]:
    watch = Watch(ask)
    return train(settings, out, watch), watch.answers


def test_the_whole_job(quick: Make, pictures: Path, tmp_path: Path) -> None:
    run = train(quick(loggers=("csv",), activation="meta-acon"), tmp_path / "run")
    assert sorted(path.name for path in run.folder.iterdir() if not path.name.startswith(".")) == [
        "checkpoints", "csv", "rows.jsonl", "run.json", "settings.toml", "weights.pt",
    ]  # fmt: skip
    row = json.loads((run.folder / "rows.jsonl").read_text())
    assert row == json.loads(json.dumps(run.row))
    assert (row["kind"], row["task"], row["data"], row["activation"]) == (
        "cell", "classification", "pictures", "meta-acon",
    )  # fmt: skip
    assert (row["diverged"], row["left_out"]) == (False, 0)
    assert row["history"].keys() == {"train_loss", "loss", "error"}
    assert [len(values) for values in row["history"].values()] == [3, 3, 3]
    assert run.figures == {name: row[name] for name in ("train_loss", "loss", "error")}
    assert row["provenance"].keys() >= {"commit", "torch", "lightning", "device", "threads", "native"}
    assert row["provenance"]["processes"] == 1
    assert row["timing"].keys() == {"epoch_seconds", "images_per_second", "seconds"}
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name != "settings.toml":  # which names the data as they were given
            assert str(tmp_path).encode() not in path.read_bytes(), path
            assert str(pictures).encode() not in path.read_bytes(), path
            if path.suffix in (".json", ".jsonl"):
                assert not re.search(rf"\b{re.escape(platform.node())}\b", path.read_text())


def test_the_error_is_that_of_the_weights(quick: Make, pictures: Path, tmp_path: Path) -> None:
    run = train(quick(epochs=1, lr=0.01), tmp_path)
    network = create("resnet8", activation="acon-c", num_classes=2, stem=stem_for(12))
    network.load_state_dict(torch.load(run.folder / "weights.pt", weights_only=True))
    network.eval()
    change, data = classification_evaluation(12, side=12), kind_of("classification").open_data(quick()).found.test
    with torch.no_grad():
        scores = [(network(change(*data.read(index))[0][None])[0], data.read(index)[1]) for index in range(10)]
    wrong = sum(int(found.argmax() != label) for found, label in scores)
    losses = [-float(found.log_softmax(0)[label]) for found, label in scores]
    assert run.row["error"] == 100 * wrong / 10
    assert run.row["loss"] == pytest.approx(sum(losses) / 10, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "epochs", "steps", "measured"),
    [
        ({"epochs": None, "steps": 9}, 2, 9, [0, 1]),
        ({"epochs": None, "steps": 9, "validate_every": 3}, 2, 9, [1]),
        ({"epochs": None, "steps": 12, "accumulate": 2}, 2, 12, [0, 1]),
        ({"epochs": 4, "validate_every": 3}, 4, 24, [2, 3]),
        ({"epochs": 1, "batch_size": 26}, 1, 1, [0]),
    ],
)
def test_how_long_it_is_and_when_it_is_measured(
    quick: Make, tmp_path: Path, changes: dict[str, Any], epochs: int, steps: int, measured: list[int]
) -> None:
    run, answers = asked(lambda trainer, module: trainer.global_step, quick(**changes), tmp_path)
    assert answers == list(range(steps))
    errors = run.row["history"]["error"]
    assert len(errors) == epochs == len(run.row["history"]["train_loss"])
    assert [epoch for epoch, error in enumerate(errors) if error is not None] == measured


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 27}, "batch_size 27 is more than the 26 training images: choose a smaller --batch-size"),
        ({"model": "resnet9"}, "unknown network 'resnet9'"),
        ({"accelerator": "gpu"}, "Lightning refuses accelerator gpu, devices 1, strategy auto: "),
        ({"accelerator": "abacus"}, "invalid accelerator name"),
        ({"strategy": "luck"}, "invalid strategy name"),
        ({"strategy": "fsdp"}, "`fsdp` requires a GPU"),
        ({"strategy": "ddp_spawn", "devices": "2"}, "whose results do not come back: choose ddp"),
        ({"precision": "16-mixed"}, "precision 16-mixed does not exist here: choose bf16-mixed"),
        ({"devices": "2", "batch_size": 5}, "5 cannot be divided into 2 equal batches"),
        ({"devices": "11", "batch_size": 22}, "10 test images are too few for 11 devices"),
        ({"devices": "2", "sync_batchnorm": True}, "sync_batchnorm is for GPUs"),
        ({"weights": "nowhere.pt"}, "nowhere.pt"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_leaves_no_folder(
    quick: Make, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    if changes.get("accelerator") == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(AconiteError) as raised:
        train(quick(**changes), tmp_path / "run")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_precision(quick: Make, tmp_path: Path) -> None:
    def ask(trainer: Any, module: Any) -> torch.dtype:
        with trainer.precision_plugin.forward_context():
            return module.network(torch.zeros(2, 3, 12, 12, dtype=next(module.parameters()).dtype)).dtype

    dtypes = {}
    for precision in ("32-true", "bf16-mixed", "64-true"):
        run, answers = asked(ask, quick(epochs=1, precision=precision), tmp_path / precision)
        kept = torch.load(run.folder / "weights.pt", weights_only=True)["stem.conv.weight"].dtype
        dtypes[precision] = (*set(answers), kept)
    assert dtypes == {
        "32-true": (torch.float32, torch.float32),
        "bf16-mixed": (torch.bfloat16, torch.float32),
        "64-true": (torch.float64, torch.float64),
    }


def test_channels_last_fuse_and_compile(quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(quick(), tmp_path / "plain")

    def last(trainer: Any, module: Any) -> bool:
        weights = [
            each.weight for each in module.modules() if isinstance(each, nn.Conv2d) and each.kernel_size > (1, 1)
        ]
        return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)

    seen: list[bool] = []
    forward = nn.Conv2d.forward

    def watched(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 3:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    run, answers = asked(last, quick(channels_last=True), tmp_path / "last")
    monkeypatch.undo()
    assert set(answers) == {True} == set(seen)
    assert run.row["train_loss"] == pytest.approx(plain.row["train_loss"], rel=0.05)

    def fused(trainer: Any, module: Any) -> bool:
        return any(type(each).__name__.startswith("FusedBatchNorm") for each in module.modules())

    run, answers = asked(fused, quick(fuse=True), tmp_path / "fused")
    assert set(answers) == {True}
    assert run.row["train_loss"] == pytest.approx(plain.row["train_loss"], rel=0.05)
    mine, theirs = (torch.load(each.folder / "weights.pt", weights_only=True) for each in (run, plain))
    assert mine.keys() == theirs.keys()

    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    _, answers = asked(lambda trainer, module: module.network, quick(epochs=1, compile=True), tmp_path / "compiled")
    assert compiled == answers[:1]


@pytest.mark.slow
def test_compiled_it_trains_the_same(quick: Make, tmp_path: Path) -> None:
    plain, compiled = (train(quick(compile=on), tmp_path / str(on)) for on in (False, True))
    assert compiled.row["train_loss"] == pytest.approx(plain.row["train_loss"], rel=0.02)
    names = [torch.load(run.folder / "weights.pt", weights_only=True).keys() for run in (plain, compiled)]
    assert names[0] == names[1]


def test_clip_norm(quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, closure: Any = None) -> Any:
        def then() -> Any:
            loss = closure()
            gradients = [parameter.grad for group in self.param_groups for parameter in group["params"]]
            norms.append(float(torch.cat([each.flatten() for each in gradients if each is not None]).norm()))
            return loss

        return step(self, then)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    train(quick(epochs=1), tmp_path / "free")
    assert max(norms) > 0.02
    norms.clear()
    train(quick(epochs=1, clip_norm=0.01), tmp_path / "clipped")
    assert max(norms) <= 0.0101


def test_another_process_that_trains_is_waited_for(quick: Make, tmp_path: Path) -> None:
    import multiprocessing

    settings = quick()
    other = multiprocessing.get_context("fork").Process(target=train, args=(settings, tmp_path))
    other.start()
    while not (tmp_path / "checkpoints").exists():
        assert other.is_alive()
    watch = Watch()
    run = train(settings, tmp_path, watch)
    other.join()
    assert other.exitcode == 0
    assert watch.answers == []
    assert watch.notes == [f"{tmp_path} is in training by another process: waiting for it"]
    assert run.row == json.loads((tmp_path / "rows.jsonl").read_text())
