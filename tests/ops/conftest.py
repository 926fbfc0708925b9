import pytest

from aconite import kernels
from aconite.kernels import _library, _plan, acon_call, dispatch

NATIVE = pytest.param(
    True, marks=pytest.mark.skipif(not kernels.native_library().available, reason="no native library")
)


@pytest.fixture(params=[NATIVE, False], ids=["native", "composite"])
def with_kernel(request, monkeypatch):
    """Every test that uses it runs with the native kernel and without."""
    if not request.param:
        monkeypatch.setattr(dispatch, "_native", lambda: False)
        monkeypatch.setattr(_plan, "_served", set())
        for module in (_plan, acon_call):
            monkeypatch.setattr(module, "load", lambda: _library.Library(path=None, reason="switched off"))
    return request.param
