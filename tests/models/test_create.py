"""What `create` promises for every network: seeds, shapes, batches of one, and clear refusals."""

import copy
import functools
import io

import pytest
import torch
from torch import nn

from aconite.errors import SettingsError, UnknownNameError
from aconite.models import create, list_models, stem_for
from aconite.nn import activations, from_activation

SMALLEST = ("shufflenetv2_x0_5", "resnet8", "mobilenetv2_x0_17", "tfnet_0_5")
FAMILIES = (*SMALLEST, "resnet18")


def seeded(seed, name="resnet8", **options):
    torch.manual_seed(seed)
    return create(name, num_classes=3, stem="tiny", **options)


def test_the_names():
    assert list_models() == (
        *(f"mobilenetv2_{size}" for size in ("x0_17", "x0_25", "x0_6", "x1_0", "x1_4")),
        *("resnet18", "resnet50", "resnet101", "resnet152"),
        *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56"),
        *("shufflenetv2_x0_5", "shufflenetv2_x1_0", "shufflenetv2_x1_5", "shufflenetv2_x2_0"),
        *("tfnet_0_5", "tfnet_1_0", "tfnet_1_5", "tfnet_2_0"),
    )


# ---- seeds


@pytest.mark.parametrize("activation", activations())
@pytest.mark.parametrize("name", SMALLEST)
def test_every_other_weight_is_the_same_for_every_activation(name, activation):
    shared = seeded(0, name, activation="relu").state_dict()
    stream = torch.get_rng_state()
    model = seeded(0, name, activation=activation).state_dict()
    assert torch.equal(torch.get_rng_state(), stream)
    assert shared.keys() <= model.keys()
    assert all(torch.equal(model[key], value) for key, value in shared.items())
    own = model.keys() - shared.keys()
    assert all(".act." in f".{key}" for key in own), "weights outside activations that ReLU's network lacks"


@pytest.mark.parametrize("name", FAMILIES)
def test_one_seed_one_network(name):
    first, again, other = (seeded(seed, name, activation="meta-acon").state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(again[key], value) for key, value in first.items())
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
    site = next(key for key in first if key.endswith(".p1"))
    assert not torch.equal(first[site], other[site])


def test_calls_in_a_row_differ_and_so_do_sites():
    first, second = seeded(0, activation="acon-c"), create("resnet8", num_classes=3, activation="acon-c")
    assert not torch.equal(first.stem.conv.weight, second.stem.conv.weight)
    assert not torch.equal(first.stem.act.p1, first.stages[0][0].act.p1)


def test_a_factory_that_draws_disturbs_nothing():
    def noisy(channels):
        torch.randn(channels)
        return nn.PReLU(channels)

    plain, drawn = seeded(0), seeded(0, activation=noisy)
    assert all(torch.equal(drawn.state_dict()[key], value) for key, value in plain.state_dict().items())


def test_the_default_device_changes_neither_weights_nor_stream():
    seeded(0, activation="acon-c")
    stream = torch.get_rng_state()
    with torch.device("meta"):
        model = seeded(0, activation="acon-c")
    assert torch.equal(torch.get_rng_state(), stream)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("init", ["swish", from_activation(nn.SiLU())])
@pytest.mark.parametrize("name", SMALLEST)
def test_acon_c_started_as_silu_is_the_silu_network(name, init):
    x = torch.randn(2, 3, 12, 12)
    acon, silu = seeded(0, name, activation="acon-c", init=init), seeded(0, name, activation="silu")
    torch.testing.assert_close(acon.eval()(x), silu.eval()(x))


def test_a_factory_gets_each_width_and_keeps_its_own_weights():
    widths = []

    def factory(channels):
        widths.append(channels)
        conv = nn.Conv2d(channels, channels, 1)
        nn.init.constant_(conv.weight, 0.125)
        return conv

    model = seeded(0, activation=factory)
    assert widths == [16, 16, 16, 32, 32, 64, 64]
    assert torch.equal(model.stem.act.weight, torch.full((16, 16, 1, 1), 0.125))


# ---- images in, scores out


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 224])
@pytest.mark.parametrize("activation", ["relu", "meta-acon"])
@pytest.mark.parametrize("name", SMALLEST)
def test_shapes(name, activation, size, in_channels):
    model = create(name, activation=activation, num_classes=7, in_channels=in_channels, stem=stem_for(size)).eval()
    with torch.no_grad():
        assert model(torch.randn(2, in_channels, size, size)).shape == (2, 7)
        assert model(torch.randn(1, in_channels, size, size + 5)).shape == (1, 7)


@pytest.mark.parametrize("size", [8, 28, 96])
@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_one_trains(name, activation, size):
    model = create(name, activation=activation, num_classes=3, stem=stem_for(size)).train()
    model(torch.randn(1, 3, size, size)).logsumexp(1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_under_too_coarse_a_stem_a_batch_of_one_is_batchnorms_to_refuse():
    model = create("shufflenetv2_x0_5", num_classes=3, stem="imagenet").train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.randn(1, 3, 32, 32))


# A constant added before a BatchNorm is taken out again, so these parameters' gradients are rounding error.
EATEN = (".conv.bias", ".fc1.bias", ".fc2.bias", ".act.bn1.bias", ".conv_frelu.bias")


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        *(("resnet8", activation) for activation in activations()),
        *(("shufflenetv2_x0_5", activation) for activation in ("relu", "acon-c", "meta-acon", "se-relu", "frelu")),
    ],
)
def test_every_parameter_learns(name, activation):
    torch.manual_seed(0)
    model = create(name, activation=activation, num_classes=3, stem="tiny").train()
    nn.functional.cross_entropy(model(torch.randn(6, 3, 16, 16)), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert key.endswith(EATEN) or parameter.grad.any(), key


@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
@pytest.mark.parametrize("name", SMALLEST)
def test_channels_last_stays_so_and_computes_the_same(name, activation):
    model, x = seeded(0, name, activation=activation).eval(), torch.randn(2, 3, 16, 16)
    expected = model(x)
    layouts = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and ".act." not in path:
            module.register_forward_hook(
                lambda _module, _inputs, output, path=path: layouts.update(
                    {path: output.is_contiguous(memory_format=torch.channels_last)}
                )
            )
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)
    assert layouts
    assert all(layouts.values()), [path for path, kept in layouts.items() if not kept]


@pytest.mark.parametrize("name", [name for name in list_models() if name not in ("resnet101", "resnet152")])
def test_state_dict_round_trip(name):
    source, target = seeded(0, name, activation="meta-acon"), seeded(1, name, activation="meta-acon")
    stored = io.BytesIO()
    torch.save(source.state_dict(), stored)
    stored.seek(0)
    target.load_state_dict(torch.load(stored))
    x = torch.randn(2, 3, 8, 8)
    expected = source.eval()(x)
    assert torch.equal(target.eval()(x), expected)
    assert torch.equal(copy.deepcopy(source)(x), expected)


# ---- refusals


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"network 'shuflenetv2_x0_5': did you mean 'shufflenetv2_x0_5'\?"):
        create("shuflenetv2_x0_5")
    with pytest.raises(UnknownNameError, match="did you mean 'meta-acon'"):
        create("resnet8", activation="meta-acn")
    with pytest.raises(UnknownNameError, match="stem 'huge'; known: imagenet, small, tiny"):
        create("resnet8", stem="huge")


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
def test_counts_are_whole_and_positive(argument, value):
    with pytest.raises(SettingsError, match=f"{argument}={value!r}: expected a whole number of at least 1"):
        create("resnet8", **{argument: value})


@pytest.mark.parametrize(
    ("activation", "says"),
    [
        (nn.ReLU(), "which every site would share"),
        (nn.ELU, r"activation=ELU would take .* give a name, or lambda channels: torch.nn.ELU\(\)"),
        (None, "expected a name or a factory"),
        (lambda channels: torch.relu, "16 channels: expected a Module"),
        (lambda channels: nn.ReLU, "16 channels: expected a Module"),
    ],
)
def test_an_activation_is_a_name_or_a_factory_of_modules(activation, says):
    with pytest.raises(SettingsError, match=says):
        create("resnet8", activation=activation)


def test_init_is_for_names():
    with pytest.raises(SettingsError, match="init='swish' speaks to a named activation"):
        create("resnet8", activation=functools.partial(nn.PReLU, init=0.1), init="swish")
