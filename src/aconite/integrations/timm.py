"""timm: our networks and activations under timm's names, and any timm model with our activations. Importing registers.

Networks are ``timm.create_model("aconite_shufflenetv2_x0_5", activation="acon-c")``; activations are names for timm's
``act_layer``, in models with the channels at dimension 1: `create` serves the others.

>>> import timm
>>> timm.create_model("resnet18", act_layer="acon-c").act1
AconC(None)
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from aconite import models
from aconite.errors import MissingExtraError, SettingsError
from aconite.nn import Init, activations
from aconite.nn import activation as named_activation
from aconite.surgery import ConvertChanges, convert

try:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.layers import create_act
    from timm.models import FeatureHookNet, build_model_with_cfg, generate_default_cfgs, register_model
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "timm").partition(".")[0], "vision") from error

__all__ = ["TimmNetwork", "create", "stock_classifier", "stock_features"]


class TimmNetwork(nn.Module):
    """One of our networks with the methods that timm's users expect; its state-dict keys are the network's.

    ``forward_features`` gives the last feature map (N, C, H, W), ``forward_head`` the class scores of it. With
    ``features_only`` timm's index i is the map after ``stages[i]``, as in `aconite.models.create`.

    >>> network = TimmNetwork(models.create("resnet18", num_classes=10))
    >>> network.num_features, network.feature_info[-1]
    (512, {'num_chs': 512, 'reduction': 32, 'module': 'stages.3'})
    """

    def __init__(self, network: nn.Module, drop_rate: float | None = None) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self.body = [name for name in self._modules if name not in ("dropout", "classifier")]
        if drop_rate is not None:
            self.dropout = nn.Dropout(drop_rate)
        whole: Any = network
        self.num_features = self.head_hidden_size = whole.classifier.in_features
        self.num_classes = whole.classifier.out_features
        self.feature_info = [
            {"num_chs": channels, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (channels, stride) in enumerate(zip(whole.channels, whole.strides, strict=True))
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """Images to the last feature map."""
        for name in self.body:
            x = getattr(self, name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to class scores; with ``pre_logits`` to what the classifier sees."""
        x = x.mean((2, 3))
        if "dropout" in self._modules:
            x = self.dropout(x)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new last layer, with torch's first weights, in the place of the old; 0 classes leave none.

        Raises:
            SettingsError: another pooling than the mean.
        """
        _check_pool(global_pool)
        weight = next(self.parameters())
        self.classifier: nn.Module = nn.Identity()
        if num_classes:
            self.classifier = nn.Linear(self.num_features, num_classes, device=weight.device, dtype=weight.dtype)
        self.num_classes = num_classes


def _check_pool(global_pool: str | None) -> None:
    if global_pool not in (None, "avg"):
        raise SettingsError(f"global_pool={global_pool!r}: these networks take the mean over positions, 'avg'")


def _network(
    name: str,
    *,
    activation: str | Callable[[int], nn.Module] = "relu",
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float | None = None,
    global_pool: str | None = None,
    se: bool = False,
    stem: str = "imagenet",
    init: Init = "paper",
) -> TimmNetwork:
    """What `aconite.models.create` builds, in timm's words."""
    _check_pool(global_pool)
    network = models.create(
        name, activation=activation, num_classes=num_classes or 1, in_channels=in_chans, se=se, stem=stem, init=init
    )
    wrapped = TimmNetwork(network, drop_rate)
    if num_classes == 0:
        wrapped.reset_classifier(0)
    return wrapped


def _features(model: TimmNetwork, out_indices: Any = None, **options: Any) -> nn.Module:
    """timm's feature extractor that leaves the paths of modules as they are; every stage unless told."""
    if out_indices is None:
        out_indices = tuple(range(len(model.feature_info)))
    return FeatureHookNet(model, out_indices, no_rewrite=False, **options)


def _register_networks() -> None:
    for name in models.list_models():

        def entry(pretrained: bool = False, *, _name: str = name, **options: Any) -> nn.Module:
            own = {} if "feature_cls" in options else {"out_indices": None, "feature_cls": _features}
            build = functools.partial(_network, _name)
            return build_model_with_cfg(build, f"aconite_{_name}", pretrained, feature_cfg=own, **options)

        entry.__name__ = entry.__qualname__ = f"aconite_{name}"
        globals()[entry.__name__] = register_model(entry)  # timm adds the name to __all__


default_cfgs = generate_default_cfgs(
    {f"aconite_{name}": {"first_conv": "stem.conv", "classifier": "classifier"} for name in models.list_models()}
)


def _unsized(name: str, **_: Any) -> NoReturn:
    raise SettingsError(
        f"act_layer={name!r} holds weights whose sizes timm wants to know before the first input: write "
        f"aconite.integrations.timm.create(…, activation={name!r})"
    )


def _register_activations() -> None:
    layers: Any = create_act._ACT_LAYER_DEFAULT
    for name in activations():
        convolves = any(isinstance(module, nn.Conv2d) for module in named_activation(name).modules())
        build: Any = _unsized if convolves else named_activation
        layers.setdefault(name, functools.partial(build, name))  # timm's own, "swish" for instance, stay


def create(
    name: str,
    *,
    activation: str | Callable[..., nn.Module] = "acon-c",
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any] | None = None,
    where: Any = "all",
    init: Any = "match",
    tolerance: float = 0.01,
    allow_pooling: bool = False,
    activation_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[nn.Module, ConvertChanges]:
    """Build a timm model, then put other activations in the place of its own with `aconite.surgery.convert`.

    The way for every model whose channels are not at dimension 1 throughout, and for activations with a generator.

    Args:
        name: as ``timm.create_model`` takes it.
        activation: what `aconite.surgery.convert` calls ``to``.
        example_inputs: what the model runs on; two images of the model's own size unless given.
        where: which sites, as in `aconite.surgery.convert`.
        init: as in `aconite.surgery.convert`: ``"match"`` goes on from the model's own activations, ``"paper"``,
            ``"swish"`` and ``"near-swish"`` are for training from scratch.
        tolerance: as in `aconite.surgery.convert`.
        allow_pooling: as in `aconite.surgery.convert`.
        activation_options: of the layers' constructor, ``{"r": 8}`` for instance.
        options: of ``timm.create_model``, such as ``pretrained``, ``num_classes``, ``in_chans``, ``img_size``.

    Returns:
        The model, and `aconite.surgery.convert`'s changes.

    Raises:
        SettingsError: as `aconite.surgery.convert`.

    >>> model, changes = create("mobilenetv3_small_050", activation="meta-acon", num_classes=10, init="paper")
    >>> model(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    model = timm.create_model(name, **options)
    if example_inputs is None:
        size = resolve_model_data_config(model)["input_size"]  # type: ignore[no-untyped-call]
        example_inputs = torch.zeros(2, *size)
    return convert(
        model,
        activation,
        example_inputs=example_inputs,
        where=where,
        init=init,
        inplace=True,
        tolerance=tolerance,
        allow_pooling=allow_pooling,
        **(activation_options or {}),
    )


def stock_classifier(name: str, *, classes: int, channels: int, image_size: int) -> nn.Module:
    """An untrained timm model for images of a size.

    Raises:
        SettingsError: timm has no model of this name.
    """
    _check_name(name)
    options: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(name, **options)


def stock_features(name: str, *, out_indices: Sequence[int], channels: int) -> nn.Module:
    """The feature maps of an untrained timm model; ``channels`` and ``strides`` say what they are.

    Parameters are called as in the model, behind ``model.``.

    Raises:
        SettingsError: timm has no model of this name, or the model no such maps.
    """
    _check_name(name)
    try:
        body: Any = timm.create_model(
            name, features_only=True, feature_cls="getter", out_indices=tuple(out_indices), in_chans=channels
        )
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise SettingsError(f"timm gives no feature maps {tuple(out_indices)} of {name}: {error}") from error
    body.channels, body.strides = tuple(body.feature_info.channels()), tuple(body.feature_info.reduction())
    return body  # type: ignore[no-any-return]


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise SettingsError(f"timm has no model {name!r}" + (f": did you mean {' or '.join(near)}?" if near else ""))


_register_networks()
_register_activations()
