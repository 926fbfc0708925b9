"""The two orders in which an image tensor lies in memory."""

from __future__ import annotations

import torch

from aconite.errors import SettingsError

__all__ = ["LAYOUTS", "check_layout"]

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def check_layout(layout: str) -> None:
    """Refuse a name that is not in `LAYOUTS`."""
    if layout not in LAYOUTS:
        raise SettingsError(f"layout={layout!r}: expected one of {', '.join(LAYOUTS)}")
