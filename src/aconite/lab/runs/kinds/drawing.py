"""Predictions drawn into images (3, H, W), uint8; the one door of Pillow's drawing."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aconite.errors import MissingExtraError

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError as error:
    raise MissingExtraError("pillow", "lab") from error

__all__ = ["Colour", "captioned", "class_colours", "mask_png", "png", "with_boxes", "with_regions"]

Colour = tuple[int, int, int]

_TURN = 0.618034  # of the colour circle, from one class to the next: neighbours lie far apart, however many there are
_COVER = 0.55  # how much of a pixel's colour is its region's


def class_colours(count: int) -> list[Colour]:
    """A colour for each class; those of neighbours are not alike.

    >>> class_colours(2)
    [(255, 25, 25), (26, 82, 217)]
    """
    parts = [colorsys.hsv_to_rgb(at * _TURN % 1, (0.9, 0.88)[at % 2], (1.0, 0.85, 0.6)[at % 3]) for at in range(count)]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in parts]


def captioned(image: Tensor, text: str) -> Tensor:
    """The image with a line of text in its upper left corner, on a dark ground.

    >>> captioned(torch.zeros(3, 40, 60, dtype=torch.uint8), "cat").amax()
    tensor(252, dtype=torch.uint8)
    """
    return _drawn(image, lambda pen, font: _label(pen, font, (4, 4), text, (0, 0, 0)))


def with_boxes(image: Tensor, boxes: Sequence[tuple[Sequence[float], str, Colour]]) -> Tensor:
    """The image with a frame for each (left, top, right, bottom) and its text; the first are drawn over the last.

    >>> frame = [((10, 10, 50, 30), "cat 0.9", (255, 0, 0))]
    >>> with_boxes(torch.zeros(3, 40, 60, dtype=torch.uint8), frame)[:, 30, 40].tolist()
    [255, 0, 0]
    """
    width = max(1, min(image.shape[1:]) // 240)

    def draw(pen: Any, font: Any) -> None:
        for (left, top, right, bottom), text, colour in reversed(boxes):
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
            _label(pen, font, (left + width, top + width), text, colour)

    return _drawn(image, draw)


def with_regions(image: Tensor, labels: Tensor, names: Mapping[int, tuple[str, Colour]]) -> Tensor:
    """The image under the colours of its regions, labels (H, W), with the names of those that there are.

    >>> grey = torch.full((3, 40, 60), 100, dtype=torch.uint8)
    >>> with_regions(grey, torch.zeros(40, 60), {0: ("road", (255, 0, 0))})[:, -1, -1].tolist()
    [185, 45, 45]
    """
    present = [(label, *names[label]) for label in torch.unique(labels).tolist()]
    covered = image.float()
    for label, _, colour in present:
        mixed = (1 - _COVER) * covered + _COVER * torch.tensor(colour, dtype=torch.float32)[:, None, None]
        covered = mixed.where(labels == label, covered)

    def draw(pen: Any, font: Any) -> None:
        top = 4.0
        for _, name, colour in present:
            top = _label(pen, font, (4, top), name, colour)

    return _drawn(covered.round().to(torch.uint8), draw)


def png(image: Tensor) -> memoryview:
    """The image as a file's content."""
    return _encoded(_pillow(image))


def mask_png(mask: Tensor, classes: int) -> memoryview:
    """A mask (H, W), uint8, as a file's content: its values are the labels, its palette the classes' colours."""
    drawn = Image.fromarray(mask.numpy())
    drawn.putpalette([part for colour in class_colours(classes) for part in colour])
    return _encoded(drawn)


def _drawn(image: Tensor, draw: Callable[[Any, Any], object]) -> Tensor:
    height, width = image.shape[1:]
    drawn = _pillow(image)
    draw(ImageDraw.Draw(drawn), ImageFont.load_default(size=max(10, min(height, width) // 32)))
    flat = torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8)
    return flat.view(height, width, 3).permute(2, 0, 1).contiguous()


def _label(pen: Any, font: Any, place: tuple[float, float], text: str, ground: Colour) -> float:
    """Writes on a ground of the colour; where the next line may begin."""
    left, top, right, bottom = pen.textbbox(place, text, font=font)
    pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=ground)
    bright = 0.3 * ground[0] + 0.6 * ground[1] + 0.1 * ground[2] > 110
    pen.text(place, text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
    return float(bottom + 4)


def _pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _encoded(image: Image.Image) -> memoryview:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getbuffer()
