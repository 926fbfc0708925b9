"""The moving picture has a frame for each epoch, and shows what was kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.animation import FFMpegWriter
from PIL import Image

from aconite.errors import DataError, SettingsError
from aconite.report import LayerParameters, write_learning


def epochs(count: int = 3) -> list[dict[str, LayerParameters]]:
    return [
        {
            "first": LayerParameters([1.0], [0.0], [1.0]),
            "last": LayerParameters([1.0, 1.0 + at], [0.0, -at], [1.0, 2.0]),
        }
        for at in range(count)
    ]


def test_a_frame_for_each_epoch_and_the_last_one_held(tmp_path: Path) -> None:
    write_learning(epochs(), tmp_path / "new" / "film.gif", per_second=2)
    with Image.open(tmp_path / "new" / "film.gif") as film:
        frames, lengths = [], []
        for number in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(number)
            frames.append(np.asarray(film.convert("L"), dtype=float))
            lengths.append(film.info["duration"])
    assert lengths[:2] == [500, 500]
    assert sum(lengths[2:]) == 2500
    left, right = np.split(np.abs(frames[0] - frames[1])[60:], 2, axis=1)  # above, the heading counts the epochs
    assert left.max() < 40  # the first layer does not change; a palette's colours do a little
    assert right.max() > 60


def test_what_cannot_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tmp_path / "film.gif"
    with pytest.raises(SettingsError, match="at least two epochs"):
        write_learning(epochs(1), film)
    with pytest.raises(SettingsError, match="at least one layer"):
        write_learning([{}, {}], film)
    with pytest.raises(SettingsError, match="epoch 2 has other layers than the first: first"):
        write_learning([*epochs(2), {"first": epochs()[0]["first"]}], film)
    with pytest.raises(SettingsError, match="per_second is 0"):
        write_learning(epochs(), film, per_second=0)
    with pytest.raises(SettingsError, match=r"written as .gif or .mp4"):
        write_learning(epochs(), tmp_path / "film.png")
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(SettingsError, match="needs the program ffmpeg"):
        write_learning(epochs(), tmp_path / "film.mp4")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the picture"):
        write_learning(epochs(2), tmp_path / "file" / "film.gif")
