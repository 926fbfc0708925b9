from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aconite.errors import SettingsError
from aconite.lab import PublishedRow, count_elementwise, published_tables
from aconite.lab.costs import multiply_adds
from aconite.lab.tables.counting import count
from aconite.models import create
from aconite.nn import activation


def row_of(network: str, name: str) -> PublishedRow:
    return PublishedRow(label=network, network=network, activation=name, group=network)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("shufflenetv2_x0_5", "acon-c"),
        ("shufflenetv2_x0_5", "meta-acon"),
        ("tfnet_0_5", "acon-frelu"),
        ("resnet8", "elu"),
    ],
)
def test_counts_without_values_are_those_of_the_real_network(network: str, name: str) -> None:
    real = create(network, activation=name).eval()
    images = torch.zeros(1, 3, 64, 64)
    found = count(row_of(network, name), 64)
    assert found.parameters == sum(parameter.numel() for parameter in real.parameters())
    assert found.multiply_adds == multiply_adds(real, images)
    with torch.no_grad():
        assert found.elementwise == count_elementwise(lambda: real(images))


def test_counting_has_no_side_effect() -> None:
    """The random stream stays where it is, and the next network has its values."""
    state = torch.get_rng_state()
    count(row_of("resnet8", "acon-c"), 32)
    assert torch.equal(torch.get_rng_state(), state)
    assert create("resnet8").state_dict()["stem.conv.weight"].std() > 0


N = 2 * 8 * 6 * 6


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("relu", N),
        ("sigmoid", N),
        ("relu6", 2 * N),
        ("silu", 2 * N),  # σ, ·
        ("swish", 3 * N),  # β·, σ, ·
        ("elu", 3 * N),
        ("softplus", 3 * N),
        ("mish", 5 * N),
        ("acon-b", 6 * N),  # (1 − p)·x, β·, σ, ·, p·x, +
        ("acon-c", 6 * N),
        # 6, the mean; then bn1 over 16 values, bn2, σ and the scale of β over 8, for each of 2 samples
        ("meta-acon", 7 * N + 2 * (2 * 16 + 4 * 8)),
        # relu, the mean, ·; then relu over 16 and σ over 8 values
        ("se-relu", 3 * N + 2 * (16 + 8)),
        ("frelu", 3 * N),  # bn, max
        ("acon-frelu", 8 * N),  # bn1, a − b, σ, ·, +, bn2; β is the constant 1
        ("identity", 0),
    ],
)
def test_operations_of_an_activation_by_hand(name: str, operations: int) -> None:
    layer = activation(name, 8).eval()
    with torch.no_grad():
        assert count_elementwise(lambda: layer(torch.zeros(2, 8, 6, 6))) == operations


def test_operations_of_a_network_by_hand() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.max_pool2d(F.relu(self.norm(self.conv(x))), 3, 2, 1)
            y = torch.cat((y, y), 1)[:, ::2] + y
            return self.out(y.mean((2, 3)))

    large, small = 4 * 8 * 8, 4 * 4 * 4
    network = Small().eval()
    expected = (2 + 1) * large + 8 * small + small + small
    assert count_elementwise(lambda: network(torch.zeros(1, 3, 8, 8))) == expected


def test_an_operation_without_a_count_is_an_error() -> None:
    with pytest.raises(SettingsError, match="aten::cos has no count"):
        count_elementwise(lambda: torch.zeros(3).cos())


def test_the_published_count_of_the_reference_code() -> None:
    found = count(row_of("shufflenetv2_x0_5", "acon-c"), 224)
    assert (found.parameters, round(found.multiply_adds / 1e6, 2)) == (1_379_600, 40.48)


ROWS = {row.call: row for table in published_tables().values() for row in table.rows}


@pytest.mark.parametrize("network", sorted({row.network for row in ROWS.values()}))
def test_every_operation_in_the_tables_has_a_count(network: str) -> None:
    """At 32 pixels, since only the kinds of operations matter."""
    for row in ROWS.values():
        if row.network == network:
            assert count(row, 32).elementwise > 0
