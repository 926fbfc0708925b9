import pytest

from aconite.errors import SettingsError
from aconite.models import stem_for


@pytest.mark.parametrize(
    ("image_size", "stem"),
    [(1, "tiny"), (8, "tiny"), (16, "tiny"), (23, "tiny"), (24, "small"), (28, "small"), (64, "small"),
     (95, "small"), (96, "imagenet"), (224, "imagenet"), (4096, "imagenet")],
)  # fmt: skip
def test_bounds(image_size, stem):
    assert stem_for(image_size) == stem


@pytest.mark.parametrize("image_size", [0, -8, 8.0, "8", True, None])
def test_only_whole_pixels(image_size):
    with pytest.raises(SettingsError, match="image_size="):
        stem_for(image_size)
