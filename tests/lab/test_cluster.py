"""Cells of a comparison trained by other processes: some of them by number, two at once, and all of them by Ray."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aconite.errors import MissingExtraError, SettingsError
from aconite.lab import Cluster, CompareSettings, Progress, compare, compare_jobs, study_jobs, study_settings
from aconite.lab.locks import alone

Quick, Make = Callable[..., CompareSettings], Callable[..., Path]


def without_times(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return [{**row, "timing": None} for row in rows]


@pytest.fixture
def settings(quick: Quick, image_folder: Make) -> CompareSettings:
    return quick(data=str(image_folder()))


def test_cells_by_number_and_a_comparison_that_collects_them(
    settings: CompareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(settings, tmp_path / "whole")
    jobs = compare_jobs(settings, tmp_path / "parts")
    assert [job.name for job in jobs] == ["relu-seed0", "acon-c-seed0", "relu-seed1", "acon-c-seed1"]
    for at in (3, 0, 2, 1):
        compare_jobs(settings, tmp_path / "parts")[at].finish()  # anew, as another process would
    assert not (tmp_path / "parts" / "rows.jsonl").exists()
    monkeypatch.setattr("aconite.lab.comparison.train", None)
    compare(settings, tmp_path / "parts")
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")
    assert jobs[2].finish()["seed"] == 1  # nothing is left to train


def test_a_job_may_have_a_share_of_a_gpu_or_whole_ones() -> None:
    assert [Cluster(address="local", gpus=gpus).gpus for gpus in (0, 0.5, 1, 2.0)] == [0, 0.5, 1, 2]


def test_a_job_can_be_pickled_with_and_without_its_data(settings: CompareSettings, tmp_path: Path) -> None:
    jobs = compare_jobs(settings, tmp_path)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(jobs))
        assert again[1].source is again[0].source
        assert torch.equal(again[0].source.data.train_images, jobs[0].source.data.train_images)


def test_a_job_waits_for_the_process_that_does_it(settings: CompareSettings, tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    [job, *_] = compare_jobs(settings, tmp_path)
    waiting = threading.Thread(target=job.finish, args=(Notes(),))
    with alone(tmp_path / "checkpoints" / ".relu-seed0.lock"):
        waiting.start()
        while not notes:
            time.sleep(0.01)
        assert job.finished() is None
        row = job._train(Progress())
    waiting.join()
    assert job.finished() == row  # its times too: it was not trained again
    assert notes == ["relu-seed0 is in training by another process: waiting for it"]


def hold(lock: Path, ready: Any) -> None:
    with alone(lock):
        ready.set()
        time.sleep(600)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "lock", ready))
    holder.start()
    ready.wait()
    assert holder.pid is not None
    calls: list[int] = []
    killer = threading.Timer(0.1, os.kill, (holder.pid, signal.SIGKILL))
    with alone(tmp_path / "lock", lambda: (calls.append(1), killer.start())[0]):  # type: ignore[func-returns-value]
        holder.join()
    assert calls == [1]


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot write to .*file: .*--out"), alone(tmp_path / "file" / "lock"):
        pass


def test_a_study_has_its_jobs_seed_by_seed(tmp_path: Path) -> None:
    study = study_settings("cifar", quick=True, data="digits", activations=("relu", "acon-c"), seeds=2, depths=())
    names = [job.name for job in study_jobs(study, tmp_path)]
    assert names[:2] == ["resnet8-paper relu-seed0", "resnet8-paper acon-c-seed0"]
    assert len(names) == len(set(names)) == study.cells
    assert [name.endswith("seed0") for name in names] == [True] * (len(names) // 2) + [False] * (len(names) // 2)


def test_without_ray(settings: CompareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray, .*pip install 'aconite\[cluster\]'"):
        compare(settings, tmp_path, cluster=Cluster(address="auto"))


def test_nobody_at_the_address(settings: CompareSettings, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=rf"no Ray at {address} .*refused.*: start one by `ray start --head`"):
            compare(settings, tmp_path, cluster=Cluster(address=address))


@pytest.mark.parametrize(
    ("given", "told"), [({"cpus": 0}, "0 cores"), ({"gpus": 1.5}, "1.5 GPUs"), ({"gpus": -1.0}, "-1.0 GPUs")]
)
def test_numbers_that_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Cluster(address="local", **given)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


def workers() -> list[int]:
    """The processes that Ray has at work on our jobs; it writes what they do where their command line was."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_finish"):
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            continue
    return found


def watch(out: Path, over: threading.Event, seen: dict[Path, set[int]]) -> None:
    """Notes when each checkpoint and each cell's file was written."""
    while not over.wait(0.02):
        for path in (*out.glob("checkpoints/*/epoch-*"), *out.glob("cells/*.json")):
            try:
                seen.setdefault(path, set()).add(path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_killed_worker_loses_nothing_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    settings = CompareSettings(activations=("relu", "meta-acon"), seeds=2, epochs=5, device="cpu")
    out, over, seen, killed = tmp_path / "cluster", threading.Event(), dict[Path, set[int]](), list[int]()

    def kill() -> None:
        while not list(out.glob("checkpoints/*/epoch-0002.ckpt")):
            time.sleep(0.02)
        assert not list(out.glob("cells/*.json"))
        killed.append(workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    threads = [threading.Thread(target=watch, args=(out, over, seen)), threading.Thread(target=kill)]
    for thread in threads:
        thread.start()
    try:
        compare(settings, out, cluster=Cluster(address="local"))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert killed
    assert {len(times) for times in seen.values()} == {1}  # no finished epoch was trained again
    assert len([path for path in seen if path.suffix == ".ckpt"]) == 4 * settings.epochs

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers
    try:
        compare(settings, tmp_path / "here")
    finally:
        torch.set_num_threads(before)
    found, wanted = without_times(out), without_times(tmp_path / "here")
    assert found[:4] == wanted[:4]
