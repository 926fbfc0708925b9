"""Our networks as the Hugging Face Hub stores them: config.json and model.safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import MissingExtraError, SettingsError
from aconite.models import create

try:
    from huggingface_hub import PyTorchModelHubMixin
    from safetensors.torch import load_file, save_file
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "huggingface_hub").partition(".")[0], "transformers") from error

__all__ = ["HubNetwork"]


class HubNetwork(nn.Module, PyTorchModelHubMixin, library_name="aconite", tags=["aconite", "image-classification"]):
    """A network of `aconite.models.create` with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The arguments are kept in config.json, so that ``from_pretrained`` builds the same network again. The weights in
    model.safetensors have the network's own keys and also load into what `aconite.models.create` returns.

    Args:
        name: as in `aconite.models.create`, and so are the others; ``activation`` is a name, since it is written to a
            file.
        options: ``num_classes``, ``in_channels``, ``stem``, ``init`` and ``se``.

    Attributes:
        network: the network itself.

    Raises:
        SettingsError: an activation or init that is no name; and whatever `aconite.models.create` refuses.

    >>> import tempfile
    >>> network = HubNetwork("resnet8", activation="acon-c", num_classes=10, stem="small").eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     network.save_pretrained(folder)
    ...     again = HubNetwork.from_pretrained(folder)
    Loading weights from local directory
    >>> images = torch.randn(2, 3, 32, 32)
    >>> torch.equal(network(images), again(images))
    True
    """

    network: nn.Module

    def __init__(self, name: str, *, activation: str = "relu", **options: Any) -> None:
        super().__init__()
        for key, value in {"activation": activation, **options}.items():
            if not isinstance(value, str | int):
                raise SettingsError(f"{key}={value!r} cannot be written to config.json: expected a name or number")
        self.network = create(name, activation=activation, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to class scores (N, num_classes)."""
        return self.network(x)  # type: ignore[no-any-return]

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = {key: value.contiguous() for key, value in self.network.state_dict().items()}
        save_file(weights, save_directory / "model.safetensors", {"format": "pt"})

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        # Whatever `strict` says: the mixin is lenient by default, and a network that is half loaded serves nobody.
        model.network.load_state_dict(load_file(model_file))
        return model.to(torch.device(map_location)).eval()
