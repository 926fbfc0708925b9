"""Inspections of trained cells and of one's own models, and what finished runs hold."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aconite.errors import CheckpointError, SettingsError, ShapeError, StateDictError, UnknownNameError
from aconite.lab import (
    CompareSettings,
    Subject,
    compare,
    errors_by_network,
    inspect,
    inspection_json,
    inspection_page,
    learnt_beta,
    learnt_epochs,
    learnt_layers,
    subject,
    training_errors,
)
from aconite.lab.data import ImageData
from aconite.models import create, reference_state_dict
from aconite.nn import AconC

Quick, Make, Pictures = Callable[..., CompareSettings], Callable[..., ImageData], Callable[..., Path]
NAMES = ("relu", "acon-c", "meta-acon")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("inspected")
    draws = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(100, (8, 8), generator=draws) + 100 * label
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(
                    folder / "pictures" / split / name / f"{number}.png"
                )
    settings = CompareSettings(
        data=str(folder / "pictures"), activations=NAMES, seeds=1, epochs=2, batch_size=4, device="cpu"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in every test; a fixture of the module comes before that of the tests
    try:
        compare(settings, folder / "run")
    finally:
        torch.set_num_threads(threads)
    return folder


def taken(run: Path, cell: str) -> Subject:
    return subject(str(run / "run"), str(run / "pictures"), cell=cell)


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_inspected_as_it_was_trained(run: Path, name: str) -> None:
    given = taken(run, f"{name}-seed0")
    before = copy.deepcopy(given.model.state_dict())
    found = inspect(given.model, given.data, name=given.name, batch_size=3)
    rows = [json.loads(line) for line in (run / "run" / "rows.jsonl").read_text().splitlines()]
    [error] = [row["error"] for row in rows if row["kind"] == "cell" and row["activation"] == name]
    assert found.error == pytest.approx(error)  # the network, its weights and its normalisation are those of the run
    assert (found.images, found.data) == (8, "pictures, test")
    assert found.labels[:2] == ("image 1 (cat)", "image 2 (dog)")
    assert len(found.layers) == 7
    for key, value in given.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.requires_grad and parameter.grad is None for parameter in given.model.parameters())


def test_nothing_depends_on_the_batch_size(run: Path) -> None:
    given = taken(run, "meta-acon-seed0")
    one, two = (inspect(given.model, given.data, batch_size=size) for size in (8, 3))
    for (name, a), (other, b) in zip(one.layers.items(), two.layers.items(), strict=True):
        assert name == other
        rows = a.as_row(), b.as_row()
        for key in ("mean", "std", "nonlinearity", "saturation", "swing", "gradient", "beta"):
            assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-3, abs=1e-6), key
        assert a.image_betas is not None
        assert b.image_betas is not None
        assert torch.allclose(a.image_betas, b.image_betas, rtol=1e-4)


def test_gradient_is_each_image_s_own(tiny: ImageData) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3))
    [layer] = inspect(model, tiny, batch_size=5).layers.values()
    mean, deviation = tiny.channel_statistics()
    x = (tiny.test_images - mean[:, None, None]) / deviation[:, None, None]
    squares = []
    for image, label in zip(x, tiny.test_labels, strict=True):
        y = model[2](model[1](image.flatten()[None])).detach().requires_grad_()
        nn.functional.cross_entropy(model[3](y), label[None]).backward()
        assert y.grad is not None
        squares.append(y.grad[0].double().square())
    assert layer.gradient is not None
    assert torch.allclose(layer.gradient, torch.stack(squares).mean(0).sqrt(), rtol=1e-4)


def test_page_and_json_hold_what_was_measured(run: Path) -> None:
    for name, tables, figures in (("relu", 1, 1), ("acon-c", 2, 4), ("meta-acon", 2, 4)):
        given = taken(run, f"{name}-seed0")
        found = inspect(given.model, given.data, name=given.name)
        page = inspection_page(found).render()
        assert (page.count("<table>"), page.count("<svg")) == (tables, figures)
        assert f"of {sum(layer.channels for layer in found.layers.values())} channels are dead" in page
        record = json.loads(inspection_json(found))
        assert list(record["layers"]) == list(found.layers)
        for key, layer in found.layers.items():
            assert record["layers"][key]["mean"] == layer.mean.tolist()
            assert record["layers"][key]["dead_share"] == layer.dead_share
    assert "image 2 (dog)" in page


def test_raw_images_and_the_training_part(tiny: ImageData) -> None:
    seen: list[Tensor] = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.out = nn.ReLU(), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach())
            y: Tensor = self.out(self.act(x).flatten(1))
            return y

    model = Model()
    inspect(model, tiny, raw=True, part="train")
    assert torch.equal(torch.cat(seen).sum(), tiny.train_images.float().sum())
    with pytest.raises(SettingsError, match="part is 'all'"):
        inspect(model, tiny, part="all")
    with pytest.raises(SettingsError, match="batch_size is 0"):
        inspect(model, tiny, batch_size=0)
    model.out = nn.Linear(64, 2)
    with pytest.raises(SettingsError, match=r"returns shape \(12, 2\); expected class scores .* at least 3"):
        inspect(model, tiny)
    with pytest.raises(ShapeError, match=r"does not take images of shape \(12, 1, 8, 8\)"):
        inspect(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), tiny)


def test_models_of_one_s_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_models_here.py").write_text(
        "import torch\nmade = torch.nn.ReLU()\ndef build():\n    return made\nnumber = 3\n"
    )
    for name in ("made", "build"):
        given = subject(f"my_models_here:{name}", str(run / "pictures"))
        assert isinstance(given.model, nn.ReLU)
        assert given.name == f"my_models_here:{name}"
    for model, told in (
        ("my_models_here:number", "gives a int, expected a torch.nn.Module"),
        ("my_models_here:nothing", "my_models_here has no 'nothing'"),
        ("no_such_module:build", "cannot import no_such_module"),
        ("nowhere", "no model at nowhere"),
    ):
        with pytest.raises(SettingsError, match=told):
            subject(model, str(run / "pictures"))
    with pytest.raises(SettingsError, match="which data"):
        subject("my_models_here:made")


def test_a_network_by_name_with_a_file_of_weights(tmp_path: Path, run: Path) -> None:
    pictures = str(run / "pictures")
    spec = "shufflenetv2_x0_5:activation=acon-c,num_classes=5"
    torch.manual_seed(3)
    there = create("shufflenetv2_x0_5", activation="acon-c", num_classes=5, in_channels=1, stem="tiny").eval()
    own = there.state_dict()
    files = {
        "own.pt": own,
        "lightning.ckpt": {"state_dict": {f"network.{key}": value for key, value in own.items()}, "epoch": 3},
        "reference.pt": {"state_dict": {f"module.{key}": v for key, v in reference_state_dict(there).items()}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        given = subject(spec, pictures, weights=str(tmp_path / name))
        assert given.name == f"{spec} with {name}"
        images = torch.randn(2, 1, 8, 8)
        assert torch.equal(given.model.eval()(images), there(images))
    assert subject("resnet8", pictures).model(torch.zeros(1, 1, 8, 8)).shape == (1, 2)
    assert "se" in str(subject("resnet8:se=yes", pictures).model.state_dict().keys() - there.state_dict().keys())


@pytest.mark.parametrize(
    ("model", "content", "told"),
    [
        (
            "resnet8",
            {"stem.conv.weight": torch.zeros(1)},
            "weights.pt is of another model: it has no 'stem.norm.weight'",
        ),
        ("torch.nn:ReLU", [torch.zeros(1)], "expected tensors by name"),
        ("shufflenetv2_x0_5", {"a": torch.zeros(1)}, "does not fit the given ShuffleNetV2"),
    ],
)
def test_weights_of_another_model(tmp_path: Path, run: Path, model: str, content: object, told: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises((StateDictError, CheckpointError), match=told):
        subject(model, str(run / "pictures"), weights=str(tmp_path / "weights.pt"))


def test_weights_of_other_sizes_or_options_that_are_none(tmp_path: Path, run: Path) -> None:
    pictures = str(run / "pictures")
    torch.save(subject("resnet8:num_classes=3", pictures).model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(StateDictError, match=r"w.pt is of another model: size mismatch for classifier"):
        subject("resnet8", pictures, weights=str(tmp_path / "w.pt"))
    for model, told in (
        ("resnet8:act=relu", "resnet8 has no option 'act'; choose among activation"),
        ("resnet8:se=1", "se=1: expected yes or no"),
        ("resnet8:num_classes=two", "num_classes=two: expected a whole number"),
    ):
        with pytest.raises(SettingsError, match=told):
            subject(model, pictures)
    with pytest.raises(SettingsError, match="a run with checkpoints of its own"):
        subject(str(run / "run"), weights="w.pt")


def test_runs_that_cannot_be_inspected(run: Path, tmp_path: Path, image_folder: Pictures) -> None:
    with pytest.raises(SettingsError, match="holds 3 trainings: choose one with --cell: relu-seed0"):
        subject(str(run / "run"), str(run / "pictures"))
    with pytest.raises(UnknownNameError, match="did you mean 'acon-c-seed0'"):
        taken(run, "acon-c-seed1")
    with pytest.raises(CheckpointError, match="is no run folder"):
        subject(str(tmp_path), str(run / "pictures"))
    with pytest.raises(CheckpointError, match="does not fit these data"):
        subject(str(run / "run"), str(image_folder("RGB")), cell="relu-seed0")


def test_epochs_of_a_training_end_with_what_it_learnt(run: Path) -> None:
    for name in ("acon-c", "meta-acon"):
        kept = learnt_epochs(run / "run", f"{name}-seed0")
        assert len(kept) == 3  # before the first, and after each of two
        assert kept[-1] == learnt_layers(run / "run", f"{name}-seed0")
        assert kept[0] != kept[-1]
    with pytest.raises(SettingsError, match=r"relu-seed0 in .* learns no p1, p2 or β"):
        learnt_epochs(run / "run", "relu-seed0")
    with pytest.raises(UnknownNameError):
        learnt_epochs(run / "run", "silu-seed0")
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        learnt_epochs(run)


def test_resumed_training_keeps_the_earlier_epochs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in the second epoch and started again, it has the same history as one that was never stopped."""
    from aconite.lab import Progress

    steps, step = 0, Progress.step

    def interrupted(self: Progress, *arguments: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        step(self, *arguments)  # type: ignore[arg-type]

    settings = CompareSettings(
        data=str(run / "pictures"), activations=("acon-c",), seeds=1, epochs=2, batch_size=4, device="cpu"
    )
    monkeypatch.setattr(Progress, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(settings, tmp_path / "run")
    compare(settings, tmp_path / "run")
    assert learnt_epochs(tmp_path / "run") == learnt_epochs(run / "run", "acon-c-seed0")


def test_what_finished_runs_hold(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "run" / "rows.jsonl").read_text().splitlines()]
    cells = [row for row in rows if row["kind"] == "cell"]
    train, test = training_errors(run / "run")
    assert list(train) == list(test) == list(NAMES)
    assert test["acon-c"] == [row["test_errors"] for row in cells if row["activation"] == "acon-c"]
    assert train["relu"] == [row["train_errors"] for row in cells if row["activation"] == "relu"]
    assert errors_by_network([run / "run"]) == {"resnet8": {row["activation"]: [row["error"]] for row in cells}}
    with pytest.raises(SettingsError, match="second run of resnet8"):
        errors_by_network([run / "run", run / "run" / ".." / "run"])
    assert list(learnt_beta(run / "run", "acon-c-seed0")) == ["all images"]
    assert len(learnt_beta(run / "run", "meta-acon-seed0")) == 7
    assert list(learnt_layers(run / "run")) == ["layer 1 of 7", "layer 4 of 7", "layer 7 of 7"]
    with pytest.raises(CheckpointError, match="relu-seed0 has not learnt"):
        learnt_beta(run / "run", "relu-seed0")
    with pytest.raises(CheckpointError, match="holds no finished training"):
        training_errors(run)


def test_any_checkpoint_gives_its_layers(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "run" / "checkpoints" / "acon-c-seed0" / "epoch-0002.ckpt"
    layers = learnt_layers(checkpoint)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert len(layers) == 7
    assert layers["stem.act"].p1 == state["network.stem.act.p1"].tolist()
    assert layers["stem.act"].beta == state["network.stem.act.beta"].tolist()
    published = {
        "act.p1": torch.full((1, 2, 1, 1), 1.5),
        "act.p2": torch.zeros(1, 2, 1, 1),
        "act.beta": torch.ones(1, 2, 1, 1),
    }
    torch.save(published | {"swish.beta": torch.ones(3)}, tmp_path / "weights.pt")
    found = learnt_layers(tmp_path / "weights.pt")
    assert found["act"].p1 == [1.5, 1.5]
    assert (found["swish"].p1, found["swish"].p2) == ([1.0] * 3, [0.0] * 3)
    torch.save(AconC(2).state_dict(), tmp_path / "layer.pt")
    assert list(learnt_layers(tmp_path / "layer.pt")) == ["layer"]
    with pytest.raises(CheckpointError, match=r"no layer with a learnt β \(Meta-ACON generates β"):
        learnt_layers(run / "run" / "checkpoints" / "meta-acon-seed0" / "epoch-0002.ckpt")
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        learnt_layers(tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        learnt_layers(tmp_path / "none.pt")
