"""Every test of the native kernels can run under each ISA that this machine and build offer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aconite.kernels import _library

FOUND = _library.load()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        native = here in item.path.parents and item.path.name.startswith("test_native")
        if FOUND.reason is not None and native and "without_library" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=FOUND.reason))


@pytest.fixture(scope="module", params=FOUND.available_isas or ("none",))
def isa(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Loads a copy of the library under one ISA (a library chooses once, when it is loaded)."""
    if FOUND.path is None:
        pytest.skip(str(FOUND.reason))
    name: str = request.param
    copy = tmp_path_factory.mktemp(name) / "libaconite.so"
    shutil.copyfile(FOUND.path, copy)
    before = {key: os.environ.get(key) for key in ("ACONITE_ISA", "ACONITE_LIBRARY")}
    os.environ.update(ACONITE_ISA=name, ACONITE_LIBRARY=str(copy))
    _library.load.cache_clear()
    assert _library.load().isa == name
    yield name
    for key, value in before.items():
        os.environ.pop(key, None)
        if value is not None:
            os.environ[key] = value
    _library.load.cache_clear()
