from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.lab.runs import RunProgress, SegmentationSettings, kind_of, train
from aconite.lab.runs.kinds.segmentation import Regions, SegmentationExperiment
from aconite.nn import AconC

Make = Callable[..., SegmentationSettings]

IGNORED = 255
CLASSES = ("sky", "road", "tree", "car")


class _Scores(nn.Module):
    """Scores by the images' first channel: class k where it is k."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.ones(1))
        self.sizes = list[tuple[int, ...]]()

    def forward(self, images: Tensor) -> Any:
        self.sizes.append(tuple(images.shape[2:]))
        scores = -(images[:, :1] - torch.arange(self.classes)[:, None, None]).abs() * self.weight
        return (scores, 3 * scores) if self.training else scores


def experiment_of(settings: SegmentationSettings, network: nn.Module | None = None) -> SegmentationExperiment:
    return SegmentationExperiment(network or _Scores(len(CLASSES)), settings, CLASSES)


def as_images(labels: Tensor) -> Tensor:
    return labels[:, None].expand(-1, 3, -1, -1).float()


def test_iou_is_counted_over_all_images(segmentation: Make) -> None:
    draws = torch.Generator().manual_seed(0)
    there = torch.randint(0, 3, (5, 9, 17), generator=draws)  # no car, which is found all the same
    said = torch.where(torch.rand(there.shape, generator=draws) < 0.6, there, torch.randint(0, 4, there.shape))
    there[torch.rand(there.shape, generator=draws) < 0.2] = IGNORED
    experiment = experiment_of(segmentation()).eval()
    for part in (slice(0, 2), slice(2, 5)):
        experiment.measure((as_images(said[part]), there[part]))
    figures = experiment.measured()
    pairs = [(a, b) for a, b in zip(there.flatten().tolist(), said.flatten().tolist(), strict=True) if a != IGNORED]
    iou = []
    for label in range(3):
        both = sum(a == b == label for a, b in pairs)
        iou.append(both / sum(label in pair for pair in pairs))
        assert figures[f"iou/{CLASSES[label]}"] == pytest.approx(iou[-1])
    assert figures["miou"] == pytest.approx(sum(iou) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert math.isnan(figures["iou/car"])
    assert 0.2 < figures["miou"] < 0.8


def test_each_measurement_begins_anew(segmentation: Make) -> None:
    there = torch.randint(0, 4, (1, 9, 9))
    experiment = experiment_of(segmentation()).eval()
    experiment.measure((as_images((there + 1) % 4), there))
    assert experiment.measured()["miou"] == 0
    experiment.measure((as_images(there), there))
    assert experiment.measured()["miou"] == 1


def test_masks_are_measured_at_their_own_size(segmentation: Make) -> None:
    """The image may be smaller; its edges are drawn out to 8k + 1, and what lies beyond is cut away again."""
    small = torch.zeros(1, 12, 20, dtype=torch.int64)
    small[:, :, 10:] = 3
    there = small.repeat_interleave(3, 1).repeat_interleave(3, 2)
    experiment = experiment_of(segmentation()).eval()
    experiment.measure((as_images(small), there))
    assert experiment.network.sizes == [(17, 25)]
    # scores between 0 and 3 pass 1 and 2 in the one column where they change
    assert experiment.measured()["pixel_accuracy"] > 0.95


@pytest.mark.parametrize("flipped", [False, True])
def test_windows_of_a_network_of_single_pixels_see_what_the_whole_image_shows(
    segmentation: Make, flipped: bool
) -> None:
    draws = torch.Generator().manual_seed(0)
    said, there = (torch.randint(0, 4, (2, 50, 93), generator=draws) for _ in range(2))
    figures = []
    for options in ({}, {"window": (33, 41), "evaluate_flipped": flipped}):
        experiment = experiment_of(segmentation(**options)).eval()
        experiment.measure((as_images(said), there))
        figures.append(experiment.measured())
    assert figures[0] == figures[1]
    # rows 0 and 17; columns 0, 28 and 52
    assert experiment.network.sizes == [(33, 41)] * 6 * (1 + flipped)


def test_the_loss_is_of_labelled_pixels_and_adds_the_auxiliary_one(segmentation: Make) -> None:
    draws = torch.Generator().manual_seed(0)
    images, there = torch.rand((2, 3, 9, 9), generator=draws), torch.randint(0, 4, (2, 9, 9), generator=draws)
    there[0, :5] = IGNORED
    loss, parts, count = experiment_of(segmentation(auxiliary=0.25)).loss((images, there))
    scores = -(images[:, :1] - torch.arange(4)[:, None, None]).abs()
    losses = []
    for scale in (1, 3):
        logs = (scale * scores).log_softmax(1)
        each = [
            -logs[n, there[n, y, x], y, x] for n in (0, 1) for y in range(9) for x in range(9) if there[n, y, x] < 4
        ]
        losses.append(float(sum(each)) / len(each))
    assert count == 2
    assert [parts["main"].item(), parts["auxiliary"].item()] == pytest.approx(losses)
    assert loss.item() == pytest.approx(losses[0] + 0.25 * losses[1])


def test_a_batch_without_labels_has_a_loss_of_zero(segmentation: Make) -> None:
    loss, _, _ = experiment_of(segmentation()).loss((torch.rand(1, 3, 9, 9), torch.full((1, 9, 9), IGNORED)))
    loss.backward()
    assert loss == 0


def network_of(settings: SegmentationSettings) -> Any:
    return kind_of("segmentation").network(settings, 3, pytest.fail)


def test_the_network_is_what_the_settings_say(segmentation: Make) -> None:
    torch.manual_seed(0)
    plain = network_of(segmentation())
    assert plain.auxiliary is not None
    assert not any(isinstance(module, AconC) for module in plain.head.modules())
    other = network_of(
        segmentation(everywhere=True, freeze_norms=True, auxiliary=0, bins=(1, 4), head_width=24, dropout=0.3)
    )
    assert other.auxiliary is None
    assert [pool.pool.output_size for pool in other.head.pools] == [1, 4]
    assert (other.head.conv.out_channels, other.head.dropout.p) == (24, 0.3)
    assert sum(isinstance(module, AconC) for module in other.head.modules()) == 3
    norms = [module for module in other.modules() if isinstance(module, _BatchNorm)]
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_a_fused_network_learns_the_same(segmentation: Make) -> None:
    batch = next(iter(kind_of("segmentation").open_data(segmentation()).training(4)))
    losses = []
    for fuse in (False, True):
        torch.manual_seed(0)
        settings = segmentation(fuse=fuse, dropout=0.0)
        experiment = experiment_of(settings, network_of(settings))
        loss, _, _ = experiment.loss(batch)
        loss.backward()
        losses.append((loss.item(), experiment.network.body.stem.conv.weight.grad.norm().item()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_data_are_what_the_settings_say(segmentation: Make) -> None:
    settings = segmentation(crop=(33, 49), evaluation_side=32, ignore_index=2, turn=0.25, blur=0.75)
    opened = kind_of("segmentation").open_data(settings)
    chances = [step.p for step in opened.found.train.transform.transforms if hasattr(step, "p")]
    assert chances == [0.25, 0.75, 0.5]  # turned, blurred, mirrored
    images, masks = next(iter(opened.training(4)))
    assert (images.shape, masks.shape) == ((4, 3, 33, 49), (4, 33, 49))
    images, masks = next(iter(opened.evaluation(4)))
    assert (images.shape, masks.shape) == ((3, 3, 32, 32), (3, 64, 64))
    assert IGNORED in masks
    assert 2 not in masks


class _Stops(RunProgress):
    """As a killed process: ends in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_norms_without_weights_are_told(segmentation: Make, tmp_path: Path, freeze: bool) -> None:
    notes: list[str] = []
    progress = RunProgress()
    progress.note = notes.append  # type: ignore[method-assign]
    train(segmentation(freeze_norms=freeze), tmp_path / "run", progress)
    assert [note for note in notes if "name its weights with --weights" in note] == notes
    assert len(notes) == freeze
    network = kind_of("segmentation").network(segmentation(), 3, print)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    train(segmentation(freeze_norms=freeze, weights=str(tmp_path / "weights.pt")), tmp_path / "trained", progress)
    assert len(notes) == freeze


def test_a_run_that_was_cut_off_comes_to_the_same_weights(segmentation: Make, tmp_path: Path) -> None:
    settings = segmentation(
        epochs=2, rotation=5.0, turn=0.5, blur=0.5, head_rate=10.0, decay="all", window=(49, 41), evaluate_flipped=True,
        optimiser="adamw", lr=0.001,
    )  # fmt: skip
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(settings, tmp_path / "cut", _Stops())
    cut = train(settings, tmp_path / "cut")
    one, other = (torch.load(run.folder / "weights.pt", weights_only=True) for run in (whole, cut))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    rows = [{name: value for name, value in run.row.items() if name != "timing"} for run in (whole, cut)]
    assert rows[0] == rows[1]
    assert 0 <= rows[0]["miou"] <= 1
    assert {"pixel_accuracy", "iou/disc", "iou/ground", "train_loss"} <= rows[0].keys()


def test_regions_as_record_mask_and_picture() -> None:
    labels = torch.zeros(40, 60, dtype=torch.uint8)
    labels[:, 45:] = 2
    regions = Regions(CLASSES, labels)
    assert regions.record() == {"shares": {"sky": 0.75, "tree": 0.25}}
    assert torch.equal(regions.above(0.9).mask, labels)
    drawn = regions.picture(torch.full((3, 40, 60), 128, dtype=torch.uint8))
    assert not torch.equal(drawn[:, 39, 0], drawn[:, 39, 59])
    assert (drawn[:, 39, 45:] == drawn[:, 39, 59:]).all()


def test_a_prediction_has_the_images_size(segmentation: Make) -> None:
    settings = segmentation(evaluation_side=32)
    torch.manual_seed(0)
    network = network_of(settings).eval()
    with torch.inference_mode():
        said = kind_of("segmentation").predict(network, settings, ("a", "b", "c"), torch.zeros(3, 50, 70).byte())
    assert said.mask.shape == (50, 70)
    assert said.mask.dtype == torch.uint8


def test_a_prediction_sees_windows_too(segmentation: Make) -> None:
    network = _Scores(4).eval()
    settings = segmentation(window=(33, 33), evaluate_flipped=True)
    kind_of("segmentation").predict(network, settings, CLASSES, torch.zeros(3, 50, 70).byte())
    assert network.sizes == [(33, 33)] * 2 * 3 * 2
