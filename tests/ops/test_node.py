"""The compiled node computes what the bound call in Python computes, and leaves to it what is not the plain case."""

import copy
import dataclasses
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from aconite.errors import KernelUnavailableError, ShapeError
from aconite.kernels import native_library
from aconite.nn import (
    AconC,
    BatchNormAconC1d,
    BatchNormAconC2d,
    BatchNormAconC3d,
    BatchNormMetaAconC2d,
    MetaAconC,
    kept_calls,
    norm_activation,
)
from aconite.ops import build_node, compiled_node, node

needs_node = pytest.mark.skipif(
    native_library().reason is not None or compiled_node().reason is not None,
    reason=str(native_library().reason or compiled_node().reason),
)


class Pair(nn.Module):
    """A norm and what is behind it, as `aconite.fuse` runs them."""

    def __init__(self, norm, activation=None):
        super().__init__()
        self.norm, self.activation = norm, activation

    def forward(self, x):
        return norm_activation(x, self.norm, self.activation)


LAYERS = {
    "AconC": lambda: AconC(8),
    "hard AconC": lambda: AconC(8, gate="hard"),
    "MetaAconC": lambda: MetaAconC(8),
    "MetaAconC without norms": lambda: MetaAconC(8, norm=None),
    "MetaAconC without biases": lambda: MetaAconC(8, norm=None, bias=False),
    "frozen MetaAconC": lambda: MetaAconC(8).eval(),
    "BatchNormAconC2d": lambda: BatchNormAconC2d(8),
    "no affine": lambda: BatchNormAconC2d(8, affine=False),
    "no tracking": lambda: BatchNormAconC2d(8, track_running_stats=False),
    "cumulative": lambda: BatchNormAconC2d(8, momentum=None),
    "frozen BatchNormAconC2d": lambda: BatchNormAconC2d(8).eval(),
    "BatchNormMetaAconC2d": lambda: BatchNormMetaAconC2d(8),
    "frozen BatchNormMetaAconC2d": lambda: BatchNormMetaAconC2d(8).eval(),
    "BatchNormMetaAconC2d without norms": lambda: BatchNormMetaAconC2d(8, norm=None),
    "norm alone": lambda: Pair(nn.BatchNorm2d(8)),
    "norm and ReLU": lambda: Pair(nn.BatchNorm2d(8), nn.ReLU()),
    "norm and SiLU": lambda: Pair(nn.BatchNorm2d(8), nn.SiLU()),
    "norm and MetaAconC": lambda: Pair(nn.BatchNorm2d(8), MetaAconC(8)),
}


def images(shape=(6, 8, 5, 5), dtype=torch.float32, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def made(name, dtype=torch.float32):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    return layer.double() if dtype is torch.float64 else layer


def trained(layer, x, steps=3):
    """Of every step y and the gradients of x and of all parameters, and what is in the buffers afterwards."""
    found = []
    for k in range(steps):
        leaf = (x + k).requires_grad_()
        y = layer(leaf)
        found += [y.detach(), *torch.autograd.grad(y.square().sum(), (leaf, *layer.parameters()))]
    return found + [buffer.clone() for buffer in layer.buffers()]


def in_python(monkeypatch, layer, x, steps=3):
    with monkeypatch.context() as patch:
        patch.setattr(kept_calls, "compiled", lambda *_: None)
        return trained(copy.deepcopy(layer), x, steps)


def taken(layer, x):
    """Whether the next call of the layer is the node's."""
    layer(x)
    return layer(x.detach().clone().requires_grad_()).grad_fn.name() == "AconiteBackward"


@needs_node
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_same_bits_as_python(name, dtype, layout, monkeypatch):
    layer, x = made(name, dtype), images(dtype=dtype).to(memory_format=layout)
    expected = in_python(monkeypatch, layer, x)
    found = trained(layer, x)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        assert got.stride() == wanted.stride()
    assert taken(layer, x)


@needs_node
@pytest.mark.parametrize(("kind", "shape"), [(BatchNormAconC1d, (6, 8)), (BatchNormAconC3d, (4, 8, 3, 3, 2))])
def test_other_ranks(kind, shape, monkeypatch):
    layer, x = kind(8), images(shape)
    expected = in_python(monkeypatch, layer, x)
    for got, wanted in zip(trained(layer, x), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert taken(layer, x)


@needs_node
@pytest.mark.parametrize("name", LAYERS)
def test_without_gradients(name, monkeypatch):
    layer, x = made(name), images()
    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(kept_calls, "compiled", lambda *_: None)
        twin = copy.deepcopy(layer)
        expected = [twin(x) for _ in range(3)]
    with torch.no_grad():
        found = [layer(x) for _ in range(3)]
    assert taken(layer, x)
    for got, wanted in zip(found, expected, strict=True):
        assert not got.requires_grad
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    with torch.inference_mode():
        y = layer.eval()(x)
        assert layer(x).is_inference()
    torch.testing.assert_close(layer(x), y.clone(), rtol=0, atol=0)


@needs_node
@pytest.mark.parametrize("name", ["AconC", "MetaAconC", "BatchNormAconC2d", "BatchNormMetaAconC2d"])
def test_frozen_parameters_and_images(name):
    layer, x = made(name), images()
    assert taken(layer, x)
    layer.p1.requires_grad_(False)
    y = layer(leaf := x.clone().requires_grad_())
    y.sum().backward()
    assert layer.p1.grad is None
    assert layer.p2.grad is not None
    assert leaf.grad is not None
    layer.requires_grad_(False)
    assert not layer(x).requires_grad
    layer(leaf).sum().backward()
    layer.requires_grad_(True)
    assert layer(x).grad_fn.next_functions[0][0] is None  # nobody asks for the images' gradient


@needs_node
@pytest.mark.parametrize("name", ["AconC", "MetaAconC", "BatchNormAconC2d", "BatchNormMetaAconC2d"])
def test_what_autograd_promises(name):
    layer, x = made(name), images()
    assert taken(layer, x)
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    first = torch.autograd.grad(y.sum(), leaf, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(y.sum(), leaf)[0], first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), leaf)
    y = layer(inner := leaf * 1)
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = layer(leaf)
    with torch.no_grad():
        layer.p1.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with torch.autograd.detect_anomaly(check_nan=False):
        layer(leaf).sum().backward()
    y = layer(leaf)
    y.mul_(2)  # the result is nobody else's
    y.sum().backward()


@needs_node
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant, monkeypatch):
    layer, x = made("AconC"), images()
    expected = in_python(monkeypatch, layer, x, 1)
    assert taken(layer, x)
    leaf = x.clone().requires_grad_()
    y = checkpoint(layer, leaf, use_reentrant=reentrant)
    y.square().sum().backward()
    for got, wanted in zip([leaf.grad, *(p.grad for p in layer.parameters())], expected[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@needs_node
def test_saved_for_backward_is_one_image(monkeypatch):
    sizes = []

    def seen(tensor):
        sizes.append(tensor.numel())
        return tensor

    layer, x = made("AconC"), images()
    assert taken(layer, x)
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        layer(x.requires_grad_()).sum().backward()
    assert sorted(sizes) == [8, 8, 8, x.numel()]


@needs_node
def test_a_mistake_in_python_s_part_of_a_gradient_is_told(monkeypatch):
    layer, x = AconC(8), images()
    bound = []
    monkeypatch.setattr(kept_calls, "compiled", lambda *given: bound.append(given) or node.compiled(*given))
    assert taken(layer, x)
    (given, question, like), *_ = bound

    def fails(*_):
        raise ZeroDivisionError("in the gradient of the gradient")

    call = node.compiled(dataclasses.replace(given, gradient=fails), question, like)
    y = call(x.requires_grad_(), layer.__dict__, None)
    with pytest.raises(ZeroDivisionError, match="in the gradient of the gradient"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@needs_node
def test_several_threads(monkeypatch):
    layer = made("BatchNormMetaAconC2d").eval()
    inputs = [images(seed=seed) for seed in range(4)]
    expected = [in_python(monkeypatch, layer, x, 1) for x in inputs]
    assert taken(layer, inputs[0])
    found, failed = {}, []

    def work(k):
        try:
            for _ in range(20):
                leaf = inputs[k].clone().requires_grad_()
                y = layer(leaf)
                found[k] = [y.detach(), torch.autograd.grad(y.square().sum(), leaf)[0]]
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for k, wanted in enumerate(expected):
        for got, value in zip(found[k], wanted, strict=False):
            torch.testing.assert_close(got, value, rtol=0, atol=0)


class Watches(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def in_a_mode(ask):
    with Watches():
        ask()


def in_forward_mode(ask):
    with torch.autograd.forward_ad.dual_level():
        ask()


@needs_node
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "watched",
    [
        in_a_mode,
        in_forward_mode,
        lambda ask: torch.func.grad(lambda w: ask() or w * 2)(torch.tensor(1.0)),
        lambda ask: torch.jit.trace(lambda t: ask() or t + 1, torch.ones(2), check_trace=False),
    ],
    ids=["mode", "forward mode", "transform", "trace"],
)
def test_it_declines_while_something_watches(watched):
    layer, x, found = made("AconC"), images(), []
    assert taken(layer, x)
    run = layer.__dict__["_aconite_calls"].compiled[0]
    watched(lambda: found.append(run(x, layer.__dict__, None)))
    assert found == [None]
    assert run(x, layer.__dict__, None) is not None


@needs_node
def test_a_norm_whose_buffers_python_has_to_move_is_left_to_python():
    layer, x = BatchNormAconC2d(8), images()
    layer.running_mean = torch.zeros(16)[::2]
    layer(x)
    assert layer(x.requires_grad_()).grad_fn.name() != "AconiteBackward"


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("ACONITE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(KernelUnavailableError, match=r"/bin/false cannot build the node for torch"):
        build_node()
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    with pytest.raises(KernelUnavailableError, match="name it in CXX"):
        build_node()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_used(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv("ACONITE_CACHE", str(file / "below"))
    with pytest.raises(KernelUnavailableError, match="name a folder in ACONITE_CACHE"):
        build_node()


def test_without_a_home(monkeypatch):
    def fails():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(node, "_path", fails)
    monkeypatch.delenv("ACONITE_NODE", raising=False)
    assert "Could not determine home directory" in node.compiled_node.__wrapped__().reason
    with pytest.raises(KernelUnavailableError, match="name a folder in ACONITE_CACHE"):
        build_node()


@needs_node
def test_a_node_that_others_may_write_is_not_run(monkeypatch, tmp_path):
    monkeypatch.setenv("ACONITE_CACHE", str(tmp_path))
    path = tmp_path / compiled_node().path.name
    path.write_bytes(compiled_node().path.read_bytes())
    path.chmod(0o777)
    assert "others may write" in node.compiled_node.__wrapped__().reason


@needs_node
def test_a_gradient_of_another_shape_is_not_read_beyond_its_end():
    layer, x = made("AconC"), images()
    assert taken(layer, x)
    y = layer(x.requires_grad_())
    beyond = torch.ones_like(x)
    with torch.no_grad(), pytest.raises(ShapeError, match=r"\(1, 8, 5, 5\) does not belong"):  # as the engine runs it
        y.grad_fn(beyond[:1])


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("", "run `aconite build-node`"),
        ("import os; os.environ['ACONITE_NODE'] = '0'", "ACONITE_NODE=0 is set"),
        (
            "from aconite.ops import node; node._path().write_bytes(b'no library'); node._path().chmod(0o644)",
            "cannot be loaded",
        ),
    ],
)
def test_without_it_python_runs_and_the_reason_is_told(prepare, reason, tmp_path):
    code = f"""{prepare}
import torch
from aconite.nn import AconC
from aconite.ops import compiled_node
layer = AconC(4)
for _ in range(3):
    y = layer(torch.ones(2, 4, requires_grad=True))
y.sum().backward()
print(y.grad_fn.name() != "AconiteBackward", compiled_node().reason)"""
    environment = os.environ | {"ACONITE_CACHE": str(tmp_path)}
    environment.pop("ACONITE_NODE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("True ")
    assert reason in done.stdout
