from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from aconite.lab.data import evaluation_batches, shift_and_flip, training_batches
from aconite.lab.data.classification import ImageData, stratified_split

Make = Callable[..., ImageData]


def test_split_takes_the_same_share_of_each_class() -> None:
    labels = torch.tensor([0] * 30 + [1] * 12 + [2] * 6)[torch.randperm(48)]
    train, test = stratified_split(labels, 1 / 3, seed=1)
    assert torch.bincount(labels[test]).tolist() == [10, 4, 2]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(48))
    assert not torch.equal(test, stratified_split(labels, 1 / 3, seed=2)[1])


def test_shift_and_flip_against_one_pixel_at_a_time() -> None:
    images = torch.randint(1, 255, (5, 3, 6, 9), dtype=torch.uint8)
    shifts = torch.tensor([[0, 0], [4, 4], [2, 2], [1, 3], [3, 0]])
    flips = torch.tensor([False, True, True, False, True])
    result = shift_and_flip(images, shifts, flips, reach=2)
    for n in range(5):
        for y in range(6):
            for x in range(9):
                down, across = y + shifts[n, 0] - 2, x + shifts[n, 1] - 2
                inside = 0 <= down < 6 and 0 <= across < 9
                source = 8 - across if flips[n] else across
                expected = images[n, :, down, source] if inside else torch.zeros(3, dtype=torch.uint8)
                assert torch.equal(result[n, :, y, x], expected)


def epoch(data: ImageData, seed: int, number: int) -> list[torch.Tensor]:
    batches = training_batches(data, 7, seed)
    batches.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return [torch.cat(parts) for parts in zip(*batches.sampler, strict=True)]


def test_order_and_augmentation_follow_seed_and_epoch_alone(make_data: Make) -> None:
    data = make_data(channels=3, size=16)
    first = epoch(data, 3, 5)
    state = torch.get_rng_state()
    torch.manual_seed(99)
    again = epoch(data, 3, 5)
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch(data, 3, 6), epoch(data, 4, 5)):
        assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_batches_leave_the_global_random_numbers_alone(make_data: Make) -> None:
    data = make_data()
    before = torch.get_rng_state()
    list(training_batches(data, 4, 0))
    list(evaluation_batches(data, 4))
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_shows_each_image_once_without_the_incomplete_batch(make_data: Make) -> None:
    order, shifts, flips = epoch(make_data(channels=3, size=16), 0, 0)
    assert len(order) == len(order.unique()) == 21
    assert shifts.min() == 0
    assert shifts.max() == 4
    assert 0 < flips.sum() < 21
    assert not epoch(make_data(channels=1), 0, 0)[2].any()


def test_a_batch_larger_than_the_data_is_the_data(make_data: Make) -> None:
    (batch,) = training_batches(make_data(count=6), 100, 0)
    assert len(batch[0]) == 6


def test_no_test_image_is_left_out(make_data: Make) -> None:
    data = make_data()
    batches = list(evaluation_batches(data, 5))
    assert torch.equal(torch.cat([images for images, _ in batches]), data.test_images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.test_labels)


def test_channel_statistics(make_data: Make) -> None:
    data = make_data(channels=3)
    mean, deviation = data.channel_statistics()
    pixels = data.train_images.double()
    torch.testing.assert_close(mean.double(), pixels.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(deviation.double(), pixels.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("field", ["train_images", "train_labels", "test_images", "test_labels", "classes"])
def test_content_hash_sees_everything_that_training_sees(make_data: Make, field: str) -> None:
    data = make_data()
    assert make_data().content == data.content
    value = getattr(data, field)
    changed = ("z", *value[1:]) if field == "classes" else value.clone()
    if field != "classes":
        changed.view(-1)[-1] ^= 1
    assert dataclasses.replace(data, **{field: changed}).content != data.content
