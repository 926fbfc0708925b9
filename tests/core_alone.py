"""Run by `make core` in an environment with torch and nothing else: no pytest, no numpy."""

import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # torch's own, at its import without numpy

import torch  # noqa: E402

import aconite  # noqa: E402
from aconite.kernels import native_library  # noqa: E402
from aconite.ops import compiled_node  # noqa: E402

ABSENT = ("numpy", "lightning", "matplotlib", "sklearn", "scipy", "torchvision", "PIL", "rich", "pytest")
present = [name for name in ABSENT if importlib.util.find_spec(name)]
assert not present, f"this environment must hold torch alone, but has {present}"

x = torch.randn(2, 24, 9, 9, requires_grad=True)
flat = torch.randn(4, 24)
for name in aconite.activations():
    layer = aconite.activation(name, 24)
    out = layer(x)
    assert out.shape == x.shape, name
    assert out.isfinite().all(), name
    out.square().mean().backward()
    if name not in ("frelu", "acon-frelu"):
        assert layer.eval()(flat).shape == flat.shape, name

expected = (1.2 * x - 0.3 * x) * torch.sigmoid(2 * (1.2 * x - 0.3 * x)) + 0.3 * x
assert torch.allclose(aconite.functional.acon_c(x, 1.2, 0.3, 2.0), expected, atol=1e-5)

node = compiled_node()
for layer in (aconite.AconC(24), aconite.MetaAconC(24), aconite.BatchNormMetaAconC2d(24)):
    layer.eval()
    out = [layer(x) for _ in range(3)]
    assert torch.equal(out[0], out[2])
    if native_library().available and node.reason is None:
        assert out[2].grad_fn.name() == "AconiteBackward"
        loss = [torch.autograd.grad(y.square().sum(), x)[0] for y in out]
        assert torch.equal(loss[0], loss[2])

for name in aconite.models.list_models():
    if name in ("resnet8", "shufflenetv2_x0_5"):
        model = aconite.models.create(name, activation="meta-acon", num_classes=10, stem="small")
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), Path(folder) / "model.pt")
            model.load_state_dict(torch.load(Path(folder) / "model.pt", weights_only=True))

try:
    import aconite.lab
except aconite.errors.MissingExtraError as error:
    assert "aconite[lab]" in str(error), error
else:
    raise AssertionError("aconite.lab must name the extra that it needs")

loaded = [name for name in ABSENT if name in sys.modules]
assert not loaded, loaded
names = len(aconite.activations())
print(f"core alone: torch {torch.__version__}, {names} activations, node {node.reason or 'compiled'}, all good")
