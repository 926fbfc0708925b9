"""What a user does to a model still works on a converted one: copy, save, load, compile, train, checkpoint, fuse."""

import copy
import inspect
import io

import pytest
import torch
import torch.nn.functional as F
from small_network import images, network
from torch import nn

import aconite
from aconite.errors import SettingsError
from aconite.surgery import convert, deconvert, fuse


def converted_network(to="acon-c", **options):
    return convert(network(), to, example_inputs=images(), **options)


def classes(model):
    return {name: type(module) for name, module in model.named_modules()}


def test_what_stays():
    model = network().eval()
    model.stem.train()
    model.classifier.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    objects = {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    random = torch.get_rng_state()
    converted, changes = convert(model, example_inputs=images(), inplace=True)
    assert converted is model
    assert len(changes) == 8
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(converted.state_dict()[name], value) for name, value in before.items())
    now = {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    assert objects.items() <= now.items()
    assert not model.classifier.weight.requires_grad
    assert [model.training, model.stem.training, model.stem[1].training] == [False, True, True]
    assert not model.bottleneck.relu[0].training
    for name in ("", "stem", "bottleneck", "functional"):
        assert type(model.get_submodule(name)) is type(network().get_submodule(name))
    assert list(model.state_dict())[: len(before)] != []
    assert str(inspect.signature(model.functional.forward)) == "(x, scale: float = 1.0)"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_original_is_untouched():
    model = network()
    before, kinds = copy.deepcopy(model.state_dict()), classes(model)
    converted, _ = convert(model, example_inputs=images())
    assert classes(model) == kinds
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not set(map(id, converted.parameters())) & set(map(id, model.parameters()))


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_it_computed(training):
    model = network().train(training)
    converted, changes = convert(
        model, example_inputs=images(), tolerance=1e-4, where=lambda site: not isinstance(site.original, nn.GELU)
    )
    assert (copy.deepcopy(converted)(images()) - model(images())).abs().max() < 1e-3
    assert all(row.deviation <= 1.06e-4 for row in changes if row.now)
    assert changes.output_deviation < 1e-3 < changes.output_scale


def test_copies_and_files():
    converted, _ = converted_network()
    expected = converted.eval()(images())
    stream = io.BytesIO()
    torch.save(converted, stream)
    stream.seek(0)
    for twin in (copy.deepcopy(converted), torch.load(stream, weights_only=False)):
        assert torch.equal(twin(images()), expected)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert twin(images()).abs().max() == 0  # nothing of it belongs to the first
        assert torch.equal(converted(images()), expected)


def test_state_dicts_fit_a_model_converted_likewise():
    converted, _ = converted_network("meta-acon")
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.add_(0.1)
    twin, _ = converted_network("meta-acon")
    twin.load_state_dict(converted.state_dict(), strict=True)
    assert torch.equal(twin.eval()(images()), converted.eval()(images()))
    # The weights that the model had before have the same keys.
    assert set(network().state_dict()) <= set(converted.state_dict())


@pytest.mark.parametrize("to", ["acon-c", "meta-acon", "acon-a", "acon-b", "swish", "maxout"])
def test_gradients_after_a_match(to):
    converted, _ = converted_network(to)
    assert converted.training
    converted(images()).square().sum().backward()
    for name, parameter in converted.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The true maximum has no gradient where the other line wins.
        if name.endswith(
            (".p1", ".bn2.weight", ".bn2.bias") if to == "maxout" else (".p1", ".p2", ".bn2.weight", ".bn2.bias")
        ):
            assert parameter.grad.abs().max() > 0, name


def test_hooks_of_a_shared_module_come_to_each_layer_once():
    act = nn.PReLU(1)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), act), nn.Sequential(nn.Conv2d(4, 6, 1), act))
    seen = []
    act.register_forward_hook(lambda m, args, y: seen.append(y.shape[1]))
    converted, changes = convert(model, example_inputs=images(), inplace=True, tolerance=0.1)
    assert all(row.deviation <= 0.1 for row in changes)
    seen.clear()
    converted(images())
    assert seen == [4, 6]


def test_hooks_stay_with_their_handles():
    model = network()
    seen = []
    handles = [
        model.stem[1].register_forward_hook(lambda m, args, y: seen.append("stem")),
        model.bottleneck.relu.register_forward_pre_hook(lambda m, args: seen.append("relu")),
    ]
    convert(model, example_inputs=images(), inplace=True)
    seen.clear()
    model(images())
    assert seen == ["stem", "relu", "relu", "relu"]
    for handle in handles:
        handle.remove()
    model(images())
    assert len(seen) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(dtype):
    converted, changes = convert(network().to(dtype), example_inputs=images().to(dtype))
    assert {p.dtype for p in converted.parameters()} == {dtype}
    assert converted(images().to(dtype)).dtype == dtype
    if dtype == torch.float64:
        assert changes.output_deviation < 0.1


def test_device():
    with torch.device("meta"):
        model = network()
    converted, _ = convert(model, example_inputs=images().to("meta"))
    assert all(p.is_meta for p in converted.parameters())


def test_lazy_modules():
    model = nn.Sequential(
        nn.LazyConv2d(8, 1), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3), nn.ReLU()
    )
    _, changes = convert(model, example_inputs=images(), inplace=True)
    assert [row.channels for row in changes] == [8, 3]


def test_fused_models_are_unfused_first_and_converted_ones_fuse():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    fused, _ = fuse(model, images())
    converted, changes = convert(fused, example_inputs=images())
    assert changes.notes == ("the model was fused: it was unfused first",)
    assert [type(module) for module in converted] == [nn.Conv2d, nn.BatchNorm2d, aconite.AconC]
    again, rows = fuse(converted, images())
    assert [row.action for row in rows] == ["fused"]
    assert torch.allclose(again.eval()(images()), converted.eval()(images()), atol=1e-5)
    back, changes = deconvert(again)
    assert [type(module) for module in back] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert changes.notes == ("the model was fused: it was unfused first",)


def test_a_failure_changes_nothing():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 8, 1), nn.ReLU()

        def forward(self, x):
            y = self.act(self.conv(x))
            for child in self.children():  # one more after the conversion
                child(x if child is self.conv else y)
            return F.relu(y)

    model = Failing()
    kinds = classes(model)
    with pytest.raises(SettingsError, match="does not run"):
        convert(model, example_inputs=images(), inplace=True)
    assert classes(model) == kinds
    assert "forward" not in model.__dict__
    assert model.act(torch.tensor([-1.0])) == 0
