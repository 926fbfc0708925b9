from __future__ import annotations

import numpy as np
import pytest

from aconite.errors import SettingsError
from aconite.report import metric_curves


def test_means_and_bands_of_the_seeds_that_have_a_value() -> None:
    figure = metric_curves({"relu": [[None, 1.0, 4.0], [None, 3.0]], "silu": [[2.0, None, None]]}, "mIoU in %")
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "mIoU in %")
    relu, silu = (np.asarray(line.get_xydata()).tolist() for line in axes.get_lines())
    assert relu == [[2.0, 2.0], [3.0, 4.0]]
    assert silu == [[1.0, 2.0]]
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in np.asarray(band)} == {(2.0, 1.0), (2.0, 3.0), (3.0, 4.0)}


@pytest.mark.parametrize("runs", [{}, {"relu": []}, {"relu": [[]]}, {"relu": [[None, None]]}])
def test_nothing_to_draw(runs: dict[str, list[list[float | None]]]) -> None:
    with pytest.raises(SettingsError, match="no mAP to draw"):
        metric_curves(runs, "mAP")
