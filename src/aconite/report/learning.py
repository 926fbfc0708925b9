"""A moving picture of how activations are learnt."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.collections import LineCollection

from aconite.errors import DataError, SettingsError
from aconite.report.canvas import dashed, sheet, style
from aconite.report.channels import LayerParameters, channel_curves
from aconite.report.palette import INK, colour
from aconite.whole_file import write_whole

__all__ = ["write_learning"]

_HELD = 2.0  # seconds that the last picture stays


def write_learning(
    epochs: Sequence[Mapping[str, LayerParameters]], path: str | os.PathLike[str], *, per_second: int = 4
) -> None:
    """Write how the functions of a network's channels change, epoch by epoch, as .gif or .mp4.

    One panel per layer, one line per channel, ReLU dashed; nothing lies between the epochs but what was kept.

    Args:
        epochs: what each layer had learnt before the first epoch and after each, with the same layers throughout.
        path: of the file; .mp4 needs the program ffmpeg.
        per_second: how many epochs pass in a second.

    Raises:
        SettingsError: fewer than two epochs, layers that come and go, another ending, or no ffmpeg for .mp4.
        DataError: the file cannot be written.
    """
    path = Path(path)
    if len(epochs) < 2 or not epochs[0]:
        raise SettingsError("a moving picture needs at least two epochs with at least one layer")
    if odd := [at for at, epoch in enumerate(epochs) if list(epoch) != list(epochs[0])]:
        raise SettingsError(f"epoch {odd[0]} has other layers than the first: {', '.join(epochs[odd[0]])}")
    if not (isinstance(per_second, int) and per_second > 0):
        raise SettingsError(f"per_second is {per_second!r}: it must be a whole number, at least 1")
    writer = _writer(path, per_second)
    lines = [{title: channel_curves(title, layer) for title, layer in epoch.items()} for epoch in epochs]
    ends = np.concatenate([of_layer[:, [0, -1], 1].ravel() for epoch in lines for of_layer in epoch.values()])
    low, high = np.quantile(ends, [0.01, 0.99])
    figure = sheet(3.2)
    bundles = []
    grid = figure.subplots(1, len(lines[0]), sharey=True, squeeze=False)[0]
    for axes, (title, first) in zip(grid, lines[0].items(), strict=True):
        style(axes)
        alpha = min(0.9, 2 / math.sqrt(len(first)))
        bundles.append(LineCollection(list(first), colors=colour("acon-c"), alpha=alpha, linewidths=1.0))
        axes.add_collection(bundles[-1], autolim=False)
        axes.plot([-4, 0, 4], [0, 0, 4], **dashed(color=INK))
        axes.set(xlim=(-4, 4), ylim=(min(low, -0.5) * 1.05, max(high, 4.0) * 1.05), xlabel="x")
        axes.set_title(f"{title} ({len(first):,} channels)", color=INK, fontsize=9, parse_math=False)
    heading = figure.suptitle(f"epoch 0 of {len(epochs) - 1}", color=INK, fontsize=10)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / f"film{path.suffix.lower()}"
        with writer.saving(figure, str(film), dpi=96):
            for number, epoch in enumerate(lines):
                heading.set_text(f"epoch {number} of {len(epochs) - 1}")
                for bundle, of_layer in zip(bundles, epoch.values(), strict=True):
                    bundle.set_segments(list(of_layer))
                for _ in range(1 if number < len(lines) - 1 else 1 + round(_HELD * per_second)):
                    writer.grab_frame()
        content = film.read_bytes()
    try:
        write_whole(path, content)
    except OSError as error:
        raise DataError(f"cannot write the picture {path}: {error.strerror or error}") from error


def _writer(path: Path, per_second: int) -> AbstractMovieWriter:
    match path.suffix.lower():
        case ".gif":
            return PillowWriter(fps=per_second)
        case ".mp4" if FFMpegWriter.isAvailable():
            return FFMpegWriter(fps=per_second)
        case ".mp4":
            raise SettingsError(f"{path}: .mp4 needs the program ffmpeg, which is not on the PATH; write .gif")
    raise SettingsError(f"{path}: a moving picture is written as .gif or .mp4; end the name with one of them")
