"""SIGKILL, which no handler sees, in the middle of an epoch; and at random moments until the run is done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from aconite.lab import CompareSettings, compare

SETTINGS = CompareSettings(activations=("meta-acon",), seeds=1, epochs=3, device="cpu")
PROGRAM = f"""
import torch
from aconite.lab import CompareSettings, compare, comparison
torch.set_num_threads(1)
comparison._COST_SECONDS = 0.0
compare({SETTINGS!r}, "OUT")
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM.replace("OUT", str(out))])


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def without_times(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return [{**row, "timing": None} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    compare(SETTINGS, out)
    torch.set_num_threads(before)
    return without_times(out)


def test_killed_in_the_middle_of_an_epoch(whole: list[dict[str, Any]], tmp_path: Path) -> None:
    process = start(tmp_path)
    first = tmp_path / "checkpoints" / "meta-acon-seed0" / "epoch-0001.ckpt"
    while not first.exists():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.005)
    time.sleep(0.05)  # an epoch takes longer
    kill(process)
    assert not first.with_name("epoch-0003.ckpt").exists()
    compare(SETTINGS, tmp_path)
    assert without_times(tmp_path) == whole


@pytest.mark.slow
def test_killed_at_random_until_it_is_done(whole: list[dict[str, Any]], tmp_path: Path) -> None:
    draws = random.Random(0)
    for _ in range(8):
        process = start(tmp_path)
        time.sleep(draws.uniform(1, 15))
        kill(process)
    assert start(tmp_path).wait() == 0
    assert without_times(tmp_path) == whole
