"""Calls find their layers whoever runs the model: the compiler, threads, checkpoints, exceptions, other paths."""

import copy
import functools
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from small_network import Bottleneck, Functional, images, network
from torch import nn
from torch.utils.checkpoint import checkpoint

from aconite.errors import AconiteError, SettingsError
from aconite.surgery import convert, deconvert


def converted_network(to="acon-c", **options):
    return convert(network(), to, example_inputs=images(), **options)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled(fullgraph):
    torch._dynamo.reset()
    converted, _ = converted_network(where=lambda site: not isinstance(site.original, nn.LeakyReLU))
    converted.eval()
    expected = converted(images())
    compiled = torch.compile(converted, backend="eager", fullgraph=fullgraph)
    for _ in range(2):
        assert torch.allclose(compiled(images()), expected, atol=1e-6)
    gradient = torch.autograd.grad(compiled(images()).sum(), converted.bottleneck.relu[1].p1)
    assert torch.allclose(
        gradient[0], torch.autograd.grad(converted(images()).sum(), converted.bottleneck.relu[1].p1)[0]
    )


def test_a_compiled_or_wrapped_model_is_refused():
    with pytest.raises(SettingsError, match="compiled already"):
        convert(torch.compile(network(), backend="eager"), example_inputs=images())
    with pytest.raises(SettingsError, match="wrapped in DataParallel: convert it first"):
        convert(nn.DataParallel(network()), example_inputs=images())
    converted, _ = converted_network()
    with pytest.raises(SettingsError, match=r"nn\.DataParallel cannot copy"):
        converted.bottleneck.relu._replicate_for_data_parallel()


def test_threads_do_not_mix_their_turns():
    converted, _ = converted_network()
    converted.eval()
    inputs = [torch.randn(2, 3, 8, 9) for _ in range(4)]
    expected = [converted(x) for x in inputs]
    wrong = []

    def run(x, y):
        for _ in range(20):
            if not torch.equal(converted(x), y):
                wrong.append(1)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_no_turn_behind(error):
    converted, _ = converted_network()
    converted.eval()
    expected = converted(images())

    def fail(*_):
        raise error

    for module in (converted.bottleneck.conv2, converted.functional.conv2):
        handle = module.register_forward_pre_hook(fail)
        with pytest.raises(error):
            converted(images())
        handle.remove()
        assert torch.equal(F.relu(torch.tensor([-1.0])), torch.zeros(1))
        assert torch.equal(converted(images()), expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_of_whole_modules(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self, on):
            super().__init__()
            self.a, self.b, self.on = Bottleneck(), Functional(), on

        def forward(self, x):
            for block in (self.a, self.b):
                x = checkpoint(block, x, use_reentrant=reentrant) if self.on else block(x)
            return x

    gradients = []
    for on in (True, False):
        torch.manual_seed(0)
        converted, _ = convert(Checkpointed(on).eval(), example_inputs=torch.randn(2, 8, 5, 5))
        x = torch.ones(2, 8, 5, 5, requires_grad=True)
        converted(x).sum().backward()
        gradients.append([x.grad, *(p.grad for p in converted.parameters())])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_checkpoints_inside_a_forward_are_refused():
    class Inside(nn.Module):
        def __init__(self, on):
            super().__init__()
            self.conv, self.act, self.on = nn.Conv2d(8, 8, 1), nn.ReLU(), on

        def forward(self, x):
            def run(x):
                return F.relu(self.conv(self.act(x)) + self.act(self.conv(x + 1)))

            x = self.act(self.conv(x))
            return checkpoint(run, x, use_reentrant=False) if self.on else run(x)

    x = torch.randn(2, 8, 5, 5)
    with pytest.raises(SettingsError, match=r"inside torch\.utils\.checkpoint, which would call it again"):
        convert(Inside(True), example_inputs=x)
    converted, _ = convert(Inside(False), example_inputs=x)
    converted.on = True  # afterwards
    with pytest.raises(AconiteError, match="checkpoint"):
        converted(x).sum().backward()


def test_another_path_than_the_example_is_an_error():
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.act = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.ReLU()

        def forward(self, x, first=True, more=False):
            y = self.act(self.conv1(x)) if first else self.conv1(x)
            y = self.act(self.conv2(y))
            return self.act(y) if more else y

    x = torch.randn(2, 8, 5, 5)
    converted, _ = convert(Early(), example_inputs=x)
    converted(x)
    with pytest.raises(AconiteError, match="call 3, of a module, was not seen"):
        converted(x, more=True)
    with pytest.raises(AconiteError, match=r"has 4 channels|1 calls came"):
        converted(x, first=False)
    with pytest.raises(AconiteError, match="outside of the forward"):
        converted.act(x)


def decorated(method):
    @functools.wraps(method)
    def call(self, *args):
        return method(self, *args)

    return call


class Methods(nn.Module):
    """Users call the first two methods alone."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.ReLU()

    @staticmethod
    def rectified(x):
        return F.relu(x)

    @decorated
    def forward_features(self, x):
        return self.rectified(self.act(self.conv2(self.act(self.conv1(x)))) - 0.1)

    def forward_head(self, x):
        return F.silu(self.act(x.mean((2, 3)) - 0.1))

    @decorated
    def doubled(self, x):
        return 2 * F.silu(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_methods_called_alone(copied):
    torch.manual_seed(0)
    model, x = Methods().eval(), torch.randn(2, 8, 5, 5)
    converted, changes = convert(model, example_inputs=x, tolerance=1e-4)
    assert sorted(row.channels for row in changes) == [4, 8, 8, 8, 8]
    converted = copied(converted)
    assert torch.allclose(converted(x), model(x), atol=1e-3)
    with torch.no_grad():
        for name, parameter in converted.named_parameters():
            if name.endswith((".p1", ".p2")):
                parameter.fill_(2.0)  # every layer doubles
    features = 4 * (2 * converted.conv2(2 * converted.conv1(x)) - 0.1) / 2
    assert torch.allclose(converted.forward_features(x), features, atol=1e-5)
    scores = 4 * (features.mean((2, 3)) - 0.1)
    assert torch.allclose(converted.forward_head(features), scores, atol=1e-5)
    assert torch.allclose(converted(x), scores, atol=1e-5)
    assert torch.allclose(torch.compile(converted, backend="eager", fullgraph=True)(x), scores, atol=1e-5)
    # Not on the way of any call: as the class has it.
    assert "doubled" not in vars(converted)
    assert torch.equal(converted.doubled(x), model.doubled(x))
    back, _ = deconvert(converted)
    assert not {"forward", "forward_features", "forward_head"} & vars(back).keys()
    assert torch.equal(back.forward_features(x), model.forward_features(x))


def test_another_order_in_training():
    class Modes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.wide = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 1)

        def forward(self, x):
            if self.training:
                return F.relu(self.wide(x)).sum() + F.relu(self.conv(x)).sum()
            return F.relu(self.conv(x)).sum()

    x = torch.randn(2, 8, 5, 5)
    for training in (True, False):
        model = Modes().train(training)
        converted, changes = convert(model, example_inputs=x, tolerance=1e-4)
        assert sorted(row.channels for row in changes) == [4, 6]
        for mode in (True, False):
            assert torch.allclose(converted.train(mode)(x), model.train(mode)(x), rtol=1e-3)


def test_torchs_transformer_layers():
    torch.manual_seed(0)
    for activation in ("relu", "gelu", nn.GELU()):
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation=activation).eval()
        x = torch.randn(2, 5, 8)
        converted, changes = convert(layer, example_inputs=x)
        assert [(row.channels, row.channel_dim) for row in changes] == [(16, -1)]
        with torch.no_grad():
            for name, parameter in converted.named_parameters():
                if name.endswith(("p1", "p2")):
                    parameter.fill_(1.0)  # the identity: far from what it was
            fast = converted(x)
        assert torch.allclose(fast, converted(x), atol=1e-5)
        assert (fast - layer(x)).abs().max() > 0.01
        back, _ = deconvert(converted)
        assert back.activation_relu_or_gelu == layer.activation_relu_or_gelu
        assert torch.allclose(back(x), layer(x))


def test_exported():
    converted, _ = converted_network()
    converted.eval()
    program = torch.export.export(converted, (images(),))
    assert torch.allclose(program.module()(images()), converted(images()), atol=1e-5)


def test_distributed_data_parallel(tmp_path):
    converted, _ = converted_network()
    single = copy.deepcopy(converted)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(converted)
        for model in (wrapped, single):
            model(images()).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    for ours, theirs in zip(converted.parameters(), single.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
