from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aconite.lab.data.image_files import Header, Probe, list_images, probe, probe_all, read_image, read_mask
from aconite.lab.data.problems import Problem


def write(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def kind(path: Path, decode: bool = False, mask: bool = False) -> str:
    answer = probe(Probe(path, decode, mask))
    return answer.kind if isinstance(answer, Problem) else "sound"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.gif", "a.tif"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_sound_file(tmp_path: Path, name: str, decode: bool) -> None:
    answer = probe(Probe(write(tmp_path / name), decode))
    assert isinstance(answer, Header)
    assert answer.size == (30, 40)
    assert answer.byte_count == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif"])
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_truncated_files_are_found_without_decoding_all(tmp_path: Path, name: str, left: float) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert kind(path) in ("truncated-image", "unreadable-image")
    if name == "a.jpg" and left > 0.5:
        assert kind(path) == "truncated-image"


def test_bytes_after_the_end_are_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"camera notes")
    assert kind(path) == "sound"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.unlink(), "missing-file"),
        (lambda path: path.write_bytes(b""), "unreadable-image"),
        (lambda path: path.write_text("no image"), "unreadable-image"),
        (lambda path: write(path, "I;16"), "wrong-mode"),
    ],
)
def test_other_faults(tmp_path: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(write(tmp_path / "a.png"))
    assert kind(tmp_path / "a.png") == expected


def test_damage_in_the_middle_takes_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert kind(path) == "sound"
    assert kind(path, decode=True) == "unreadable-image"


def test_the_values_of_a_mask(tmp_path: Path) -> None:
    values = np.array([[0, 3, 3], [255, 7, 0]])
    for mode, dtype in (("L", np.uint8), ("I;16", np.uint16)):
        Image.fromarray(values.astype(dtype)).save(tmp_path / "m.png")
        answer = probe(Probe(tmp_path / "m.png", True, mask=True))
        assert isinstance(answer, Header)
        assert (answer.mode, answer.values) == (mode, (0, 3, 7, 255))
        assert read_mask(tmp_path / "m.png").tolist() == values.tolist()
    assert kind(write(tmp_path / "m.png", "RGB"), mask=True) == "wrong-mode"
    with pytest.raises(ValueError, match="RGB: a mask needs one class index"):
        read_mask(tmp_path / "m.png")


def test_a_palette_tells_indices_not_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putdata([0, 1, 2, 1])
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1], [2, 1]]


def test_pixels_are_rgb_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    path = write(tmp_path / "a.jpg", exif=exif)
    answer = probe(Probe(path))
    assert isinstance(answer, Header)
    assert answer.on_its_side
    assert read_image(path).shape == (3, *answer.size)
    gray = read_image(write(tmp_path / "g.png", "L"))
    assert gray.shape == (3, 30, 40)
    assert (gray[0] == gray[2]).all()


def test_several_processes_answer_the_same(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png", size=(8 + number, 8)) for number in range(5)]
    paths[3].unlink()
    tasks = [Probe(path) for path in paths]
    assert probe_all(tasks, workers=2) == probe_all(tasks)
    assert list_images(tmp_path) == [path for path in paths if path.exists()]
