from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.cli import main
from aconite.cli.compare import add_compare

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((8, 8), 120 * label + 10 * number, np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


QUICK = (
    "compare",
    "--activations",
    "relu,acon-c",
    "--seeds",
    "1",
    "--epochs",
    "1",
    "--batch-size",
    "4",
    "--device",
    "cpu",
)


def test_compare_prints_the_table_and_where_the_report_is(run: Run, pictures: Path, tmp_path: Path) -> None:
    status, out, err = run(*QUICK, "--data", str(pictures))
    assert status == 0
    assert err == ""
    assert "[2/2] acon-c-seed0: test error" in out
    for word in ("activation", "difference", "relu", "acon-c", "One seed"):
        assert word in out
    assert f"report: {Path('runs/pictures-resnet8/report.html')}" in out
    assert (tmp_path / "runs/pictures-resnet8/report.html").exists()
    assert (tmp_path / "runs/pictures-resnet8/rows.jsonl").exists()


def test_quiet_prints_the_table_alone(run: Run, pictures: Path) -> None:
    status, out, _ = run(*QUICK, "--data", str(pictures), "--quiet", "--out", "here")
    assert status == 0
    assert "[1/2]" not in out
    assert "relu" in out
    assert "report: here/report.html" in out


def test_demo_is_compare_with_its_defaults(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from aconite.lab import CompareSettings

    asked: list[tuple[Any, ...]] = []

    def ask(*arguments: Any, **options: Any) -> None:
        asked.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("aconite.lab.compare", ask)
    status, _, err = run("demo", "--quiet")
    assert status == 130
    assert asked[0][:2] == (CompareSettings(), "runs/demo")
    assert err.strip() == "stopped; the same command goes on from the last finished epoch in runs/demo"


def test_every_option_reaches_the_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from aconite.lab import CompareSettings

    asked: list[CompareSettings] = []

    def ask(settings: CompareSettings, *rest: Any, **options: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("aconite.lab.compare", ask)
    run(
        *("compare", "--data", "mnist5k", "--model", "resnet20", "--activations", "gelu, mish", "--seeds", "2"),
        *("--epochs", "5", "--batch-size", "32", "--lr", "0.05", "--weight-decay", "0.001", "--init", "swish"),
        *("--image-size", "28", "--device", "cpu", "--schedule", "linear", "--label-smoothing", "0.2"),
        "--se",
    )
    assert asked == [
        CompareSettings(
            data="mnist5k", model="resnet20", activations=("gelu", "mish"), seeds=2, epochs=5, batch_size=32, lr=0.05,
            weight_decay=0.001, init="swish", image_size=28, device="cpu", schedule="linear", label_smoothing=0.2,
            se=True,
        )
    ]  # fmt: skip


def test_help_states_the_defaults_as_they_are() -> None:
    from aconite.lab import CompareSettings

    parser = argparse.ArgumentParser()
    add_compare(parser.add_subparsers())
    compare = parser._subparsers._group_actions[0].choices["compare"]  # type: ignore[union-attr, index, call-overload]
    told = {action.dest: action.help or "" for action in compare._actions}
    for field in dataclasses.fields(CompareSettings):
        if field.default is not None:
            value = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
            assert f"default {value}" in told[field.name] or f"{value} (default)" in told[field.name], field.name


def break_image(pictures: Path) -> None:
    (pictures / "test" / "dog" / "2.png").write_bytes(b"GIF89a")


def empty(pictures: Path) -> None:
    for path in (pictures / "train" / "dog").iterdir():
        path.unlink()


def one_class(pictures: Path) -> None:
    for split in ("train", "test"):
        (pictures / split / "dog").rename(pictures / f"{split}-dog")


def other_size(pictures: Path) -> None:
    Image.new("L", (16, 16)).save(pictures / "test" / "dog" / "2.png")


def nothing(pictures: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "spoil", "told"),
    [
        (("--activations", "relu,meta-acn"), nothing, "unknown activation 'meta-acn': did you mean 'meta-acon'?"),
        (("--model", "resnet9"), nothing, "unknown model 'resnet9': did you mean"),
        (("--epochs", "many"), nothing, "argument --epochs: invalid int value: 'many'"),
        (("--epochs", "0"), nothing, "epochs is 0"),
        (("--batch_size=8",), nothing, "unknown option '--batch_size': did you mean '--batch-size'?"),
        (("more",), nothing, "'more' is a word too many (see aconite compare --help)"),
        (("--data", "nowhere"), nothing, "no data at nowhere"),
        ((), break_image, "cannot read the image"),
        ((), empty, "is empty"),
        ((), one_class, "only one class, 'cat'"),
        ((), other_size, "pass --image-size"),
        (("--out", "pictures/train/cat/0.png/run"), nothing, "cannot write to pictures/train/cat/0.png/run"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    run: Run, pictures: Path, tmp_path: Path, arguments: tuple[str, ...], spoil: Callable[[Path], None], told: str
) -> None:
    spoil(pictures)
    status, out, err = run(*QUICK, "--data", str(pictures), *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("aconite: error: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("pictures", "train-dog")] in (
        [], ["test-dog"],
    )  # fmt: skip


@pytest.mark.parametrize("full_at", [1, 3, 5, 7, 9])
def test_disk_full(run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int) -> None:
    """The n-th rename fails, as every write that fits no more does; then there is room, and the run is finished."""
    renames, replace = 0, Path.replace

    def full(self: Path, target: Any) -> Path:
        nonlocal renames
        renames += 1
        if renames == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    command = (*QUICK, "--data", str(pictures), "--out", "run", "--quiet")
    status, out, err = run(*command)
    assert status == 2
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert list((tmp_path / "run").rglob("*.part")) == []
    assert run(*command)[0] == 0


@pytest.mark.parametrize("full", [torch.OutOfMemoryError("CUDA out of memory.\nTried"), MemoryError()])
def test_out_of_memory_is_one_line(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch, full: BaseException
) -> None:
    from aconite.lab import Progress

    def fail(*_: Any) -> None:
        raise full

    monkeypatch.setattr(Progress, "step", fail)
    status, out, err = run(*QUICK, "--data", str(pictures), "--quiet")
    assert (status, out) == (2, "")
    assert err.startswith("aconite: error: out of memory: use a smaller network, --batch-size")
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files, which Windows has not")
def test_a_real_write_that_fails_names_the_file(pictures: Path) -> None:
    code = (
        "import resource, sys; from aconite.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *QUICK, "--data", str(pictures), "--out", "run", "--quiet"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    checkpoint = Path("run/checkpoints/relu-seed0/epoch-0001.ckpt")
    assert answer.returncode == 2
    assert answer.stderr == (
        f"aconite: error: cannot read or write {checkpoint}: File too large; what was finished stays in place\n"
    )
    assert list(checkpoint.parent.iterdir()) == []


def test_ctrl_c_says_how_to_go_on(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aconite.lab import Progress

    steps, step = 0, Progress.step

    def interrupted(self: Progress, *arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        step(self, *arguments)

    monkeypatch.setattr(Progress, "step", interrupted)
    command = (*QUICK, "--data", str(pictures), "--out", "run", "--quiet")
    status, _, err = run(*command)
    assert status == 130
    assert "the same command goes on from the last finished epoch in run" in err
    assert run(*command)[0] == 0


def test_info_and_version(run: Run) -> None:
    status, out, _ = run("info")
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"torch", "python", "device", "threads"}
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0


def test_a_node_that_cannot_be_built_is_told_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACONITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "/bin/false")
    status, _, err = run("build-node")
    assert status == 2
    assert err.startswith("aconite: error: /bin/false cannot build the node for torch")
    assert len(err.splitlines()) == 1


def test_a_command_is_needed(run: Run) -> None:
    status, _, err = run()
    assert status == 2
    assert len(err.splitlines()) == 1


def test_the_command_line_imports_no_heavy_package() -> None:
    code = (
        "import sys, aconite.cli; aconite.cli.main(['info'])\n"
        "print(sorted({'lightning', 'matplotlib', 'numpy.random', 'rich', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_python_m_aconite() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "aconite", "compare", "--seeds", "0"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr == "aconite: error: seeds is 0: it must be a whole number, at least 1\n"


@pytest.mark.slow
def test_demo_teaches_every_activation_the_digits(run: Run) -> None:
    import json

    status, out, err = run("demo")
    assert (status, err) == (0, "")
    assert "report: runs/demo/report.html" in out
    rows = [json.loads(line) for line in Path("runs/demo/rows.jsonl").read_text().splitlines()]
    errors = [row["error"] for row in rows if row["kind"] == "cell"]
    assert len(errors) == 15
    assert max(errors) < 4
