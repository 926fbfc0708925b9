"""Every operator, with and without the native kernel: opcheck, first and second derivatives, transforms, compilation,
export.
"""

import copy
import functools
import io
import shutil

import pytest
import torch
from torch.library import opcheck

from aconite import functional, nn, ops, reference

pytestmark = pytest.mark.usefixtures("with_kernel")


LAYOUTS = {
    "images": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: torch.cat([x, x], 3)[:, :, :, ::2],
    "channels_last sliced": lambda x: torch.cat([x, x], 3).to(memory_format=torch.channels_last)[:, :, :, ::2],
    "expanded": lambda x: x[:1].expand(x.shape),
    "permuted": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
}


def tensors(dtype=torch.float32, shape=(3, 5, 2, 7), grad=True):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    parameters = [torch.randn(shape[1], generator=generator, dtype=dtype) for _ in range(3)]
    return [t.requires_grad_(grad) for t in (x, *parameters)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gate", ["sigmoid", "hard"])
def test_opcheck_acon_c(layout, gate):
    x, p1, p2, beta = tensors()
    x = LAYOUTS[layout](x.detach()).requires_grad_()
    grad = torch.randn(x.shape)
    opcheck(torch.ops.aconite.acon_c.default, (x, p1, p2, beta, 1, gate))
    opcheck(torch.ops.aconite.acon_c.default, (x, None, None, beta, 1, gate))
    opcheck(torch.ops.aconite.acon_c_backward.default, (grad, x, p1, None, beta, 1, gate, [True, True, False, True]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_acon(layout):
    a, *_, beta = tensors()
    a = LAYOUTS[layout](a.detach()).requires_grad_()
    b = torch.randn(a.shape, requires_grad=True)
    opcheck(torch.ops.aconite.acon.default, (a, b, beta, 1, "sigmoid"))
    opcheck(torch.ops.aconite.acon_backward.default, (torch.randn(a.shape), a, b, beta, 1, "sigmoid", [True] * 3))


def meta_arguments(dtype=torch.float32, norm="batch"):
    x, p1, p2, _ = tensors(dtype, (4, 6, 3, 3))
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    weights = [draw(5, 6), draw(6, 5), draw(5), draw(6), draw(5), draw(5), draw(6), draw(6)]
    running = [
        torch.zeros(5, dtype=dtype),
        torch.ones(5, dtype=dtype),
        torch.zeros(6, dtype=dtype),
        torch.ones(6, dtype=dtype),
    ]
    if norm == "none":
        weights[4:] = [None] * 4
        running = [None] * 4
    return x, p1, p2, *weights, *running, norm, 1e-5, 1e-5, 1.5, 1, "sigmoid"


@pytest.mark.parametrize(
    ("norm", "layout"),
    [
        ("batch", "images"),
        ("batch", "channels_last sliced"),
        ("running", "channels_last"),
        ("none", "sliced"),
        ("none", "expanded"),
    ],
)
def test_opcheck_meta(norm, layout, with_kernel):
    if not with_kernel:
        pytest.skip("the one-operator path exists only with the kernel")

    def arguments(dtype):
        x, *rest = meta_arguments(dtype, norm)
        return LAYOUTS[layout](x.detach()).requires_grad_(), *rest

    opcheck(torch.ops.aconite.meta_acon_c.default, arguments(torch.float32))
    # in float64: second derivatives through batch statistics of few values amplify float32's rounding
    exact = arguments(torch.float64)
    y, saved = torch.ops.aconite.meta_acon_c(*exact)
    grad = torch.randn(y.shape, dtype=torch.float64)
    opcheck(torch.ops.aconite.meta_acon_c_backward.default, (grad, saved, *exact))


def test_every_operator_has_an_opcheck():
    checked = {"acon", "acon_c", "meta_acon_c", "batch_norm_acon_c", "batch_norm_meta_acon_c"}
    found = {name.removeprefix("aconite::") for name in torch._C._dispatch_get_all_op_names() if "aconite::" in name}
    assert found == checked | {f"{name}_backward" for name in checked}


@pytest.mark.parametrize("arrange", [lambda x: x, lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)])
def test_compiled_meta_acon_serves_every_layout_and_slope(arrange):
    x, p1, p2, w1, w2, *_ = [t.detach() if isinstance(t, torch.Tensor) else t for t in meta_arguments()]
    x = arrange(x)
    for slopes in ((p1, p2), (p1.expand(len(x), -1).contiguous(), p2), (p1, torch.tensor(0.5))):
        run = functools.partial(functional.meta_acon_c, fc1_weight=w1, fc1_bias=None, fc2_weight=w2, fc2_bias=None)
        expected = run(x, *slopes)
        torch.compiler.reset()
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)(x, *slopes)
        torch.testing.assert_close(compiled, expected)
        assert compiled.stride() == expected.stride()


@pytest.mark.parametrize("norm", ["batch", "running", "none"])
def test_meta_gradients(norm, with_kernel):
    if not with_kernel:
        pytest.skip("the one-operator path exists only with the kernel")
    arguments = meta_arguments(torch.float64, norm)

    def run(*differentiable):
        return torch.ops.aconite.meta_acon_c.default(*differentiable, *arguments[len(differentiable) :])[0]

    present = [t for t in arguments[:11] if t is not None]
    assert torch.autograd.gradcheck(run, present)
    assert torch.autograd.gradgradcheck(run, present)


@pytest.mark.parametrize("gate", ["sigmoid", "hard"])
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_first_and_second_derivatives(gate, channel_dim):
    x, *_ = tensors(torch.float64)
    parameters = [torch.randn(x.shape[channel_dim], dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def run(x, p1, p2, beta):
        return ops.acon_c(x, p1, p2, beta, channel_dim, gate)

    assert torch.autograd.gradcheck(run, (x, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, *parameters))
    b = torch.randn_like(x).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, beta: ops.acon(a, b, beta, channel_dim, gate), (x, b, parameters[0]))
    assert torch.autograd.gradgradcheck(
        lambda a, b, beta: ops.acon(a, b, beta, channel_dim, gate), (x, b, parameters[0])
    )


def test_values_under_transforms_equal_the_reference():
    x, p1, p2, beta = tensors(grad=False)

    def mine(x, p1):
        return functional.acon_c(x, p1, p2, beta).sin().sum()

    def truth(x, p1):
        shape = (-1, 1, 1)
        return reference.acon_c(x, p1.view(shape), p2.view(shape), beta.view(shape)).sin().sum()

    for transform in (
        lambda f: torch.func.grad(f, (0, 1))(x, p1),
        lambda f: torch.func.jvp(f, (x, p1), (torch.ones_like(x), torch.ones_like(p1))),
        lambda f: torch.func.hessian(f, 1)(x, p1),
        lambda f: torch.func.vmap(f, (0, None))(x.unsqueeze(1), p1),
        lambda f: torch.autograd.forward_ad.make_dual and _forward_mode(f, x, p1),
    ):
        torch.testing.assert_close(transform(mine), transform(truth))


def _forward_mode(f, x, p1):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(f(dual, p1)).tangent
    assert tangent is not None
    return tangent.clone()


@pytest.mark.parametrize("name", ["acon-a", "acon-b", "acon-c", "meta-acon", "acon-frelu"])
@pytest.mark.parametrize("layout", ["images", "channels_last"])
def test_a_compiled_layer_computes_the_same(name, layout):
    torch.manual_seed(0)
    layer = nn.activation(name, 6).double()
    twin = copy.deepcopy(layer)
    x = LAYOUTS[layout](torch.randn(4, 6, 3, 5, dtype=torch.float64))
    results = []
    for run, owner in ((torch.compile(layer, fullgraph=True, backend="aot_eager"), layer), (twin, twin)):
        leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = run(leaf)
        y.square().sum().backward()
        results.append([y, leaf.grad, *(p.grad for p in owner.parameters()), *owner.buffers()])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", ["acon-c", "meta-acon"])
def test_an_exported_program_holds_no_operator_of_ours(name):
    torch.manual_seed(0)
    layer = nn.activation(name, 6).eval()
    x = torch.randn(4, 6, 3, 5)
    program = torch.export.export(layer, (x,))
    assert "aconite" not in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_fake_tensors_pass():
    with torch._subclasses.FakeTensorMode():
        layer = nn.MetaAconC(8)
        y = layer(torch.empty(2, 8, 4, 4).to(memory_format=torch.channels_last))
        assert y.shape == (2, 8, 4, 4)
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_autocast_keeps_the_input_dtype():
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), nn.AconC(6), torch.nn.Conv2d(6, 6, 1), nn.MetaAconC(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.randn(2, 3, 4, 4))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_pickle_and_deepcopy_keep_the_function():
    layer = nn.MetaAconC(6)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    x = torch.randn(2, 6, 4)
    for twin in (torch.load(buffer, weights_only=False), copy.deepcopy(layer)):
        torch.testing.assert_close(twin.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0), (1, 1), (1, 1, 1, 1, 1)])
def test_empty_and_single_element_inputs(shape):
    x = torch.randn(shape, requires_grad=True)
    parameters = [torch.ones(shape[1], requires_grad=True) for _ in range(3)]
    y = functional.acon_c(x, *parameters)
    y.sum().backward()
    assert y.shape == x.grad.shape == torch.Size(shape)
    assert all(p.grad.shape == p.shape and p.grad.isfinite().all() for p in parameters)


def test_a_gradient_of_stride_zero_is_read_right():
    x, p1, p2, beta = tensors()
    functional.acon_c(x, p1, p2, beta).sum().backward()
    shaped = [p.detach().view(-1, 1, 1) for p in (p1, p2, beta)]
    expected = reference.acon_c_gradient(torch.ones_like(x), x.detach(), *shaped)
    for found, truth in zip((x.grad, p1.grad, p2.grad, beta.grad), expected, strict=True):
        torch.testing.assert_close(found, truth.view(found.shape), rtol=1e-4, atol=1e-5)


def test_one_tensor_of_x_s_size_is_kept():
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        nn.AconC(8)(x)
    assert sorted(kept) == [8, 8, 8, x.numel()]


@pytest.mark.skipif(shutil.which("c++") is None, reason="Inductor needs a C++ compiler")
def test_inductor_compiles_what_eager_computes(with_kernel):
    if not with_kernel:
        pytest.skip("without the kernel the graph holds the formula, which is the compiler's own business")
    layers = torch.nn.Sequential(nn.AconC(4), nn.MetaAconC(4, r=2))
    whole = torch.randn(2, 4, 3, 6).to(memory_format=torch.channels_last)
    x, grad = whole[:, :, :, ::2], torch.randn(2, 4, 3, 3)  # channels_last, and not dense
    found = []
    for run in (layers, torch.compile(layers)):
        leaf = x.detach().requires_grad_()
        y = run(leaf)
        found.append((y, *torch.autograd.grad(y, (leaf, *layers.parameters()), grad)))
    torch.testing.assert_close(found[1], found[0])
    assert found[1][0].stride() == found[0][0].stride()
