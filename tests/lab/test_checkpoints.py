from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aconite.lab.checkpoints import RenamedCheckpoints, damage, last_good_checkpoint

CONTENT = {"weights": torch.arange(300, dtype=torch.float32), "epoch": 3, "name": "relu"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "epoch-0001.ckpt"
    RenamedCheckpoints().save_checkpoint(CONTENT, path)
    return path.read_bytes()


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_noticed_or_does_no_harm(stored: bytes, tmp_path: Path, position: float, flip: int) -> None:
    changed = bytearray(stored)
    changed[int(position * len(changed))] ^= flip
    path = tmp_path / "changed.ckpt"
    path.write_bytes(changed)
    if damage(path) is None:
        content = torch.load(path, weights_only=True)
        assert torch.equal(content.pop("weights"), CONTENT["weights"])
        assert content == {"epoch": 3, "name": "relu"}


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_damaged(stored: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes(stored[: int(share * len(stored))])
    assert damage(path) is not None


def test_the_last_good_one(stored: bytes, tmp_path: Path) -> None:
    told: list[str] = []
    assert last_good_checkpoint(tmp_path, told.append) is None
    assert told == []  # a missing checkpoint is no news
    first, second = tmp_path / "epoch-0001.ckpt", tmp_path / "epoch-0002.ckpt"
    first.write_bytes(stored)
    second.write_bytes(stored)
    assert last_good_checkpoint(tmp_path, told.append) == second
    assert told == []
    second.write_bytes(stored[:100])
    assert last_good_checkpoint(tmp_path, told.append) == first
    assert "epoch-0002.ckpt is damaged" in told[0]
    assert "trying epoch-0001.ckpt" in told[0]
    first.write_bytes(b"")
    assert last_good_checkpoint(tmp_path, told.append) is None
    assert "from its start" in told[-1]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epoch-0001.ckpt"
    path.write_bytes(b"old")

    def half(self: Path, content: Any) -> int:
        with self.open("wb") as file:
            file.write(bytes(content)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        RenamedCheckpoints().save_checkpoint(CONTENT, path)
    assert [file.name for file in tmp_path.iterdir()] == ["epoch-0001.ckpt"]
    assert path.read_bytes() == b"old"
