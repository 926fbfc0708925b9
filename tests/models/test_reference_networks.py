"""The networks under the reference code's names, against a restatement of its networks.

The restatement is run once to make the checkpoint: each tensor is drawn when the forward pass first asks for it, so
that names and shapes follow from the equations.
"""

import pytest
import torch
import torch.nn.functional as F

from aconite.models import create, load_reference, reference_state_dict
from aconite.models.registry import layout

# ---- the reference code's networks, restated


class Weights(dict):
    """The reference code's state dict; what is not there yet is drawn, unless ``x`` is on the meta device."""

    def make(self, name, x, *shape, low, high):
        if name not in self:
            self[name] = low + (high - low) * torch.rand(shape, dtype=x.dtype, device=x.device)
        return self[name]

    def conv(self, x, name, outputs, kernel=1, stride=1, groups=1):
        inputs = x.shape[1] // groups
        bound = (inputs * kernel**2) ** -0.5
        weight = self.make(f"{name}.weight", x, outputs, inputs, kernel, kernel, low=-bound, high=bound)
        bias = self.make(f"{name}.bias", x, outputs, low=-bound, high=bound)
        return F.conv2d(x, weight, bias, stride, kernel // 2, groups=groups)

    def linear(self, x, name, outputs):
        weight = self.make(f"{name}.weight", x, outputs, x.shape[1], low=-0.1, high=0.1)
        return x @ weight.T + self.make(f"{name}.bias", x, outputs, low=-0.1, high=0.1)

    def norm(self, x, name, fit=True):
        """Running statistics near those of x, so that a deep network keeps its values in range."""
        channels = x.shape[1]
        weight = self.make(f"{name}.weight", x, channels, low=0.5, high=1.5)
        bias = self.make(f"{name}.bias", x, channels, low=-0.5, high=0.5)
        if f"{name}.running_mean" not in self and fit:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self[f"{name}.running_mean"] = mean + 0.1 * variance.sqrt()
            self[f"{name}.running_var"] = 1.2 * variance + 1e-3
        mean = self.make(f"{name}.running_mean", x, channels, low=-0.5, high=0.5)
        variance = self.make(f"{name}.running_var", x, channels, low=0.5, high=1.5)
        self.setdefault(f"{name}.num_batches_tracked", torch.tensor(7, device=x.device))
        return column(weight) * (x - column(mean)) / column(variance + 1e-5).sqrt() + column(bias)

    def slope(self, x, name):
        return self.make(name, x, 1, x.shape[1], 1, 1, low=-1.0, high=1.5)

    def acon_c(self, x, name, beta=None):
        p1, p2 = self.slope(x, f"{name}.p1"), self.slope(x, f"{name}.p2")
        beta = self.slope(x, f"{name}.beta") if beta is None else beta
        return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x

    def meta_acon(self, x, name, r=16):
        z = self.conv(x.mean((2, 3), keepdim=True), f"{name}.fc1", max(r, x.shape[1] // r))
        z = self.conv(self.norm(z, f"{name}.bn1", fit=False), f"{name}.fc2", x.shape[1])
        return self.acon_c(x, name, torch.sigmoid(self.norm(z, f"{name}.bn2", fit=False)))

    def acon_frelu(self, x, name, stride=1):
        near = self.norm(self.conv(x, f"{name}.conv_frelu", x.shape[1], 3, stride, x.shape[1]), f"{name}.bn1")
        own = F.max_pool2d(x, 3, 2, 1) if stride == 2 else x
        return self.norm((own - near) * torch.sigmoid(own - near) + near, f"{name}.bn2")


def column(vector):
    return vector.reshape(-1, 1, 1)


def shufflenet(w, x, act, widths, last):
    def unit(x, name, middle, outputs, stride):
        x = act(w, w.norm(w.conv(x, f"{name}.0", middle), f"{name}.1"), f"{name}.2")
        x = w.norm(w.conv(x, f"{name}.3", middle, 3, stride, middle), f"{name}.4")
        return act(w, w.norm(w.conv(x, f"{name}.5", outputs), f"{name}.6"), f"{name}.7")

    x = act(w, w.norm(w.conv(x, "first_conv.0", 24, 3, 2), "first_conv.1"), "first_conv.2")
    x, index = F.max_pool2d(x, 3, 2, 1), 0
    for width, blocks in zip(widths, (4, 8, 4), strict=True):
        for block in range(blocks):
            name, inputs = f"features.{index}", x.shape[1]
            if block == 0:
                side = w.conv(x, f"{name}.branch_proj.0", inputs, 3, 2, inputs)
                side = w.conv(w.norm(side, f"{name}.branch_proj.1"), f"{name}.branch_proj.2", inputs)
                side = act(w, w.norm(side, f"{name}.branch_proj.3"), f"{name}.branch_proj.4")
                x = torch.cat((side, unit(x, f"{name}.branch_main", width // 2, width - inputs, 2)), 1)
            else:
                x = torch.cat((x[:, ::2], unit(x[:, 1::2], f"{name}.branch_main", width // 2, width // 2, 1)), 1)
            index += 1
    x = act(w, w.norm(w.conv(x, "conv_last.0", last), "conv_last.1"), "conv_last.2")
    return w.linear(x.mean((2, 3)), "classifier.0", 1000)


def tfnet(w, x, width):
    x = w.norm(w.conv(x, "first_conv.0", width, 3, 2), "first_conv.1").relu()
    index = 0
    for blocks in (2, 3, 8, 3):
        for block in range(blocks):
            name, inputs = f"features.{index}", x.shape[1]
            y = w.norm(w.conv(x, f"{name}.branch_main.0", inputs), f"{name}.branch_main.1")
            y = w.conv(w.acon_frelu(y, f"{name}.branch_main.2"), f"{name}.branch_main.3", inputs)
            y = w.norm(y, f"{name}.branch_main.4")
            x = w.acon_frelu(torch.cat((x, y), 1) if block == 0 else x + y, f"{name}.acon", 2 if block == 0 else 1)
            index += 1
    x = w.acon_frelu(w.norm(w.conv(x, "conv_last.0", 1024), "conv_last.1"), "conv_last.2")
    return w.linear(x.mean((2, 3)), "classifier.0", 1000)


def resnet(w, x, act, blocks, basic):
    x = F.max_pool2d(w.norm(w.conv(x, "conv1", 64, 7, 2), "bn1").relu(), 3, 2, 1)
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
        for block in range(count):
            name, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = w.norm(w.conv(x, f"{name}.conv1", width, 3 if basic else 1, stride), f"{name}.bn1")
            y = act(w, y, f"{name}.acon1") if basic else y.relu()
            y = w.norm(w.conv(y, f"{name}.conv2", width, 3), f"{name}.bn2")
            if not basic:
                y = w.norm(w.conv(act(w, y, f"{name}.acon"), f"{name}.conv3", 4 * width), f"{name}.bn3")
            if x.shape != y.shape:
                x = w.norm(w.conv(x, f"{name}.downsample.0", y.shape[1], 1, stride), f"{name}.downsample.1")
            x = act(w, x + y, f"{name}.acon2") if basic else (x + y).relu()
    return w.linear(x.mean((2, 3)), "fc", 1000)


SHUFFLENETS = {"x0_5": ((48, 96, 192), 1024), "x1_0": ((116, 232, 464), 1024)}
SHUFFLENETS |= {"x1_5": ((176, 352, 704), 1024), "x2_0": ((244, 488, 976), 2048)}
RESNETS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}


def restated(name, activation):
    """The network as a function of weights and images."""
    family, _, size = name.partition("_")
    if family == "tfnet":
        return lambda w, x: tfnet(w, x, int(16 * float(size.replace("_", "."))))
    act = Weights.acon_c
    if activation == "meta-acon":
        r = 8 if size == "x0_5" else 16
        act = lambda w, x, at: w.meta_acon(x, at, r)  # noqa: E731
    if name in RESNETS:
        return lambda w, x: resnet(w, x, act, RESNETS[name], basic=name == "resnet18")
    return lambda w, x: shufflenet(w, x, act, *SHUFFLENETS[size])


NETWORKS = (
    *((f"shufflenetv2_{size}", activation) for activation in ("acon-c", "meta-acon") for size in SHUFFLENETS),
    *((name, "acon-c") for name in RESNETS),
    *((name, "meta-acon") for name in RESNETS if name != "resnet18"),
    *((f"tfnet_{size}", "acon-frelu") for size in ("0_5", "1_0", "1_5", "2_0")),
)
SMALLEST = (
    ("shufflenetv2_x0_5", "acon-c"),
    ("shufflenetv2_x0_5", "meta-acon"),
    ("resnet18", "acon-c"),
    ("resnet50", "meta-acon"),
    ("tfnet_0_5", "acon-frelu"),
)


def checkpoint(name, activation, seed=0):
    torch.manual_seed(seed)
    weights = Weights()
    with torch.no_grad():
        restated(name, activation)(weights, torch.rand(4, 3, 64, 64) * 255)
    return dict(weights)


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


# ---- ours are the same


@pytest.mark.parametrize(("name", "activation"), NETWORKS)
def test_names_and_shapes_are_the_reference_codes(name, activation):
    weights = Weights()
    restated(name, activation)(weights, torch.zeros(1, 3, 64, 64, device="meta"))
    ours = reference_state_dict(layout(name, activation, num_classes=1000, in_channels=3))
    assert shapes(ours) == shapes(weights)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("name", "activation"), SMALLEST)
def test_outputs_are_the_reference_codes(name, activation, dtype, tolerance):
    weights = Weights(
        {key: value.to(dtype) if value.ndim else value for key, value in checkpoint(name, activation).items()}
    )
    model = create(name, activation=activation).to(dtype).eval()
    x = torch.rand(2, 3, 64, 96, dtype=dtype) * 255
    with torch.no_grad():
        expected = restated(name, activation)(weights, x)
        assert load_reference(model, weights) is model
        got = model(x)
    assert expected.std() > 1e-2
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("name", "activation"), SMALLEST)
def test_the_way_back(name, activation):
    weights = checkpoint(name, activation)
    back = reference_state_dict(load_reference(create(name, activation=activation), weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in back.items())
