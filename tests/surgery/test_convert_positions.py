"""Which dimension holds the channels comes from the layers around the activation, never from sizes."""

import pytest
import torch
from torch import nn

from aconite.errors import SettingsError
from aconite.surgery import convert


class Reshaped(nn.Module):
    def __init__(self, before, layer, between, act, after=None):
        super().__init__()
        self.before, self.layer, self.between, self.act = before, layer, between, act
        self.after = after or nn.Identity()

    def forward(self, x):
        return self.after(self.act(self.between(self.layer(self.before(x)))))


class Do(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


SAME = Do(lambda x: x)
WEIGHT = nn.Parameter(torch.ones(4, 4))
SQUARE = torch.randn(4, 4, 4, 4)
POSITIONS = {
    "conv, all sizes equal": (SQUARE, SAME, nn.Conv2d(4, 4, 1), SAME, 1),
    "tokens, all sizes equal": (SQUARE[0], SAME, nn.Linear(4, 4), SAME, -1),
    "channels last images": (SQUARE, SAME, nn.Linear(4, 4), SAME, -1),
    "patches": (SQUARE, SAME, nn.Conv2d(4, 4, 1), Do(lambda x: x.flatten(2).transpose(1, 2)), -1),
    "back to images": (SQUARE, SAME, nn.Linear(4, 4), Do(lambda x: x.permute(0, 3, 1, 2)), 1),
    "movedim": (SQUARE, SAME, nn.Linear(4, 4), Do(lambda x: torch.movedim(x, -1, 1)), 1),
    "mT": (SQUARE[0], SAME, nn.Linear(4, 4), Do(lambda x: x.mT), 1),
    "norm of the last dimension": (SQUARE, SAME, nn.LayerNorm(4), Do(lambda x: x + 1), -1),
    "group norm": (SQUARE, SAME, nn.GroupNorm(2, 4), SAME, 1),
    "1d": (SQUARE[0], SAME, nn.Conv1d(4, 4, 1), SAME, 1),
    "unbatched": (SQUARE[0], SAME, nn.Conv2d(4, 4, 1), SAME, -3),
    "3d": (SQUARE[None], SAME, nn.Conv3d(4, 4, 1), SAME, 1),
    "windows": (
        SQUARE,
        SAME,
        nn.Linear(4, 4),
        Do(lambda x: x.view(4, 2, 2, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(16, 4, 4)),
        -1,
    ),
    "halves": (SQUARE, SAME, nn.Conv2d(4, 8, 1), Do(lambda x: x.chunk(2, 1)[0]), 1),
    "matrix product": (SQUARE[0], SAME, Do(lambda x: x @ WEIGHT), SAME, -1),
    "embedding": (torch.ones(4, 4, dtype=torch.long), SAME, nn.Embedding(4, 4), SAME, -1),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_channel_positions(name):
    x, before, layer, between, expected = POSITIONS[name]
    converted, changes = convert(Reshaped(before, layer, between, nn.ReLU()), example_inputs=x)
    assert changes.rows[0].channel_dim == expected
    assert converted.act.channel_dim == expected


AFTER = {
    "conv": (nn.Conv2d(4, 4, 1), 1),
    "batch norm": (nn.BatchNorm2d(4), 1),
    "linear": (nn.Linear(4, 4), -1),
    "dropout, then linear": (nn.Sequential(nn.Dropout(), nn.Linear(4, 4)), -1),
    "layer norm": (nn.LayerNorm(4), -1),
}


@pytest.mark.parametrize("name", AFTER)
def test_the_next_layer_tells_where_the_one_before_does_not(name):
    after, expected = AFTER[name]
    converted, _ = convert(Reshaped(SAME, SAME, SAME, nn.ReLU(), after), example_inputs=SQUARE)
    assert converted.act.channel_dim == expected


def test_where_nothing_tells_it_is_left_or_said():
    model = Reshaped(SAME, SAME, SAME, nn.ReLU(), Do(lambda x: x.sum()))
    with pytest.raises(SettingsError, match=r"which dimension of its input \(4, 4, 4, 4\) holds the channels"):
        convert(model, example_inputs=SQUARE)
    converted, _ = convert(model, example_inputs=SQUARE, channel_dim=2)
    assert converted.act.channel_dim == 2
