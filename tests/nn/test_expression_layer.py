"""The layer of a formula: values, gradients, and everything that happens to a layer in its life."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import aconite
from aconite import functional as af
from aconite import models
from aconite.errors import SettingsError, ShapeError
from aconite.nn import Expression, from_activation, param_groups

FORMULAS = [
    "x * sigmoid(beta * x)",
    "smax(p1 * x, p2 * x, beta)",
    "smax(tanh(x), abs(x), beta)",
    "smax(0, tanh(x), beta)",
    "max(x, 0) + p * min(x, 0)",
    "exp(-beta * (x - sin(x)) ** 2)",
    "beta * x + (1 - beta1) * atan(x)",
    "x / (abs(x) + eps) * (1 + beta ** 2)",
    "sinc(beta * x) + erf(x)",
    "log(abs(x) + eps) + softplus(p1 * x)",
    "sqrt(abs(x) + eps) / (exp(-beta * x) + eps)",
]
SIGMOID = torch.sigmoid


def restated(x: Tensor, v: dict[str, Tensor], formula: str) -> Tensor:
    """The formulas above once more, by hand."""
    b, b1, p, p1, p2 = (v.get(name, torch.zeros(())) for name in ("beta", "beta1", "p", "p1", "p2"))

    def smax(left: Tensor, right: Tensor) -> Tensor:
        return (left * (b * left).exp() + right * (b * right).exp()) / ((b * left).exp() + (b * right).exp())

    values: list[Tensor] = [
        x * SIGMOID(b * x),
        smax(p1 * x, p2 * x),
        smax(x.tanh(), x.abs()),
        smax(x.tanh(), torch.zeros_like(x)),
        torch.where(x > 0, x, p * x),
        (-b * (x - x.sin()) ** 2).exp(),
        b * x + (1 - b1) * x.atan(),
        x / (x.abs() + 1e-3) * (1 + b * b),
        (b * x).sin() / (b * x) + x.erf(),
        (x.abs() + 1e-3).log() + (1 + (p1 * x).exp()).log(),
        (x.abs() + 1e-3).sqrt() / ((-b * x).exp() + 1e-3),
    ]
    return values[FORMULAS.index(formula)]


def random_layer(formula: str, channels: int = 3, **options: object) -> Expression:
    layer = Expression(formula, channels, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(channels))
    return layer


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 5, 2, dtype=torch.float64)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dim", [1, -1, 0])
def test_values_and_gradients(formula: str, dim: int, x: Tensor) -> None:
    layer = random_layer(formula, channel_dim=dim)
    x = x.movedim(1, dim).requires_grad_()
    shape = [1] * x.ndim
    shape[dim] = 3
    inputs = [x, *layer.parameters()]
    views = {name: p.view(shape) for name, p in layer.named_parameters()}
    ours, theirs = layer(x), restated(x, views, formula)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("formula", FORMULAS)
def test_gradcheck(formula: str, x: Tensor) -> None:
    layer = random_layer(formula)
    values = tuple(p.detach().clone().requires_grad_() for p in layer.parameters())
    names = [name for name, _ in layer.named_parameters()]

    def call(sample: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (sample,))  # type: ignore[no-any-return]

    torch.autograd.gradcheck(call, (x[:1, :, :2].clone().requires_grad_(), *values))


@pytest.mark.parametrize(
    ("formula", "kernel"),
    [
        ("x * sigmoid(beta * x)", lambda x, v: af.acon_a(x, v["beta"])),
        ("x / (1 + exp(-beta * x))", lambda x, v: af.acon_a(x, v["beta"])),
        ("x * sigmoid(x)", lambda x, v: af.acon_a(x)),
        ("smax(x, p * x, beta)", lambda x, v: af.acon_b(x, v["p"], v["beta"])),
        (
            "p2 * x + (p1 - p2) * x * sigmoid(beta * (p1 - p2) * x)",
            lambda x, v: af.acon_c(x, v["p1"], v["p2"], v["beta"]),
        ),
        ("smax(tanh(x), abs(x), beta)", lambda x, v: af.acon(x.tanh(), x.abs(), v["beta"])),
    ],
)
def test_the_family_runs_on_its_kernels(
    formula: str, kernel: object, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the kernel's result, and the kernel is what runs."""
    layer = Expression(formula, 3)
    x = x.float()
    expected = kernel(x, dict(layer.named_parameters()))  # type: ignore[operator]
    assert torch.equal(layer(x), expected)
    seen: list[str] = []
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        layer(x)
    assert any("aconite.acon" in name for name in seen), seen
    assert not any("sigmoid" in name or "exp" in name for name in seen), seen


def test_where_the_parameters_start() -> None:
    torch.manual_seed(0)
    formula = "smax(p1 * x, p2 * x, beta) + p3 * tanh(beta2 * x)"
    layer = Expression(formula, 5000)
    for name in ("p1", "p2", "p3"):
        assert abs(float(getattr(layer, name).detach().std()) - 1) < 0.05
    assert abs(float((layer.p1 * layer.p3).detach().mean())) < 0.05
    assert abs(float((layer.p2 * layer.p3).detach().mean())) < 0.05
    assert torch.equal(layer.beta, torch.ones(5000))
    assert torch.equal(layer.beta2, torch.ones(5000))
    layer = Expression(formula, 4, init="swish")
    assert [float(getattr(layer, name).detach()[0]) for name in ("p1", "p2", "p3", "beta")] == [1, 0, 0, 1]
    near = Expression(formula, 5000, init="near-swish")
    assert abs(float(near.p1.detach().mean()) - 1) < 0.01
    assert abs(float(near.p3.detach().std()) - 0.1) < 0.01
    match = from_activation(nn.LeakyReLU(0.1))
    layer = Expression("smax(p1 * x, p2 * x, beta)", 3, init=match)
    x = torch.linspace(-3, 3, 9).expand(1, 3, 9)
    torch.testing.assert_close(layer(x), nn.functional.leaky_relu(x, 0.1), atol=0.011, rtol=0)


def test_dtypes(x: Tensor) -> None:
    for formula in FORMULAS:
        layer = Expression(formula, 3, init="near-swish")
        for dtype in (torch.bfloat16, torch.float16):
            half = x.to(dtype)
            y = layer(half)
            assert y.dtype == dtype
            torch.testing.assert_close(y, layer(half.float()).to(dtype), rtol=1e-2, atol=1e-3)
        assert layer(x).dtype == torch.float64
        layer(x.float()).sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_lazy_channels(x: Tensor) -> None:
    for formula in FORMULAS:
        torch.manual_seed(0)
        lazy = Expression(formula)
        optimiser = torch.optim.SGD(param_groups(lazy, 1e-4), lr=0.1)
        twin = pickle.loads(pickle.dumps(lazy))
        torch.manual_seed(1)
        y = lazy(x.float())
        torch.manual_seed(1)
        built = Expression(formula, 3)
        assert torch.equal(y, built(x.float()))
        assert repr(lazy) == repr(built)
        twin.load_state_dict(built.state_dict())
        assert torch.equal(twin(x.float()), y)
        y.square().sum().backward()
        optimiser.step()
        assert not torch.equal(next(lazy.parameters()), next(built.parameters()))


def test_copies_and_state_dicts(x: Tensor) -> None:
    for formula in FORMULAS:
        layer = random_layer(formula)
        stream = io.BytesIO()
        torch.save(layer.state_dict(), stream)
        stream.seek(0)
        again = Expression(formula, 3).double()
        again.load_state_dict(torch.load(stream, weights_only=True))
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), again):
            assert torch.equal(twin(x), layer(x))
        assert all(p.shape == (3,) for p in layer.parameters())


def test_no_weight_decay_and_a_rate_of_their_own() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Expression("p1 * x * sigmoid(beta * x)", 8))
    groups = {group["name"]: group for group in param_groups(model, 1e-2, 0.1, activation_lr=0.01)}
    assert len(groups["activations"]["params"]) == 2
    assert groups["activations"]["weight_decay"] == 0
    assert groups["activations"]["lr"] == 0.01


@pytest.mark.parametrize("formula", FORMULAS)
def test_compile_to_one_graph(formula: str, x: Tensor) -> None:
    torch.compiler.reset()
    layer = random_layer(formula)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="eager")
    y, z = layer(x), compiled(x)
    torch.testing.assert_close(z, y)
    y.sum().backward(), z.sum().backward()
    for ours, theirs in zip(compiled.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("formula", FORMULAS)
def test_an_exported_graph_holds_plain_operations(formula: str, x: Tensor) -> None:
    layer = random_layer(formula)
    exported = torch.export.export(layer, (x,))
    targets = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert targets
    assert all(target.startswith("aten.") for target in targets), targets
    torch.testing.assert_close(exported.module()(x), layer(x))


class Each(nn.Module):
    """All formulas of one input: exported once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(random_layer(formula).float() for formula in FORMULAS)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in self.layers)


def test_onnx(x: Tensor, tmp_path: Path) -> None:
    """At zero and far out as well, where the guards of logarithm, root and division count, and for any batch."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    layers, batch = Each().eval(), torch.export.Dim("batch")
    torch.onnx.export(
        layers, (x.float(),), tmp_path / "layers.onnx", dynamo=True, verbose=False, dynamic_shapes={"x": {0: batch}}
    )
    session = runtime.InferenceSession(tmp_path / "layers.onnx", providers=["CPUExecutionProvider"])
    far = torch.tensor([0.0, 1e-6, -1e-3, 7.0, -7.0]).view(5, 1, 1, 1).expand(5, 3, 5, 2).contiguous()
    for inputs in (x.float(), far):
        found = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        for formula, ours, theirs in zip(FORMULAS, found, layers(inputs), strict=True):
            torch.testing.assert_close(
                torch.from_numpy(ours),
                theirs.detach(),
                rtol=1e-4,
                atol=1e-5,
                msg=lambda text, f=formula: f"{f}: {text}",
            )


@pytest.mark.parametrize("formula", FORMULAS)
def test_func_transforms(formula: str, x: Tensor) -> None:
    layer = random_layer(formula)
    gradient = torch.func.grad(lambda t: layer(t).sum())(x)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    torch.testing.assert_close(gradient, leaf.grad)


def test_by_name_in_networks(x: Tensor) -> None:
    layer = aconite.activation("x * sigmoid(beta * x)", 3)
    assert isinstance(layer, Expression)
    assert isinstance(aconite.activation("x"), Expression)
    assert isinstance(aconite.activation("-x", inplace=True), Expression)
    torch.manual_seed(0)
    ours = models.create("resnet8", activation="x / (1 + exp(-beta * x))", num_classes=10, in_channels=1, stem="tiny")
    torch.manual_seed(0)
    theirs = models.create("resnet8", activation="swish", num_classes=10, in_channels=1, stem="tiny")
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: Expression("beta", 3), SettingsError, "does not depend on x"),
        (lambda: Expression("x - x", 3), SettingsError, "does not depend on x"),
        (lambda: Expression("beta * x", 0), SettingsError, "channels=0"),
        (lambda: Expression("beta * x", 3)(torch.zeros(2, 4)), ShapeError, "Expression has 3 channels"),
        (lambda: Expression("x", 3, init="silu"), SettingsError, "init='silu'"),
        (lambda: aconite.activation("x * (beta", 3), SettingsError, "expected ')' at its end"),
        (lambda: aconite.activation("x * beta", 3, r=8), SettingsError, "does not take these options"),
    ],
)
def test_mistakes(call: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as raised:
        call()  # type: ignore[operator]
    assert words in str(raised.value)


def test_inputs_without_a_batch_or_values() -> None:
    layer = Expression("x * tanh(beta * x)", 3, channel_dim=-1)
    assert layer(torch.zeros(3)).shape == (3,)
    assert layer(torch.zeros(0, 3)).shape == (0, 3)
    free = Expression("sin(x)")
    assert free(torch.ones(())).shape == ()
    assert free(torch.randn(2, 3, 4).transpose(0, 2)).shape == (4, 3, 2)
