"""Finding, loading and refusing: availability is data."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aconite import kernels
from aconite.errors import KernelUnavailableError, SettingsError
from aconite.kernels import _library, cpu
from aconite.kernels.layout import dense, parameter_strides


def ask(code: str, **environment: str) -> str:
    """Run code in a fresh process, where the library is not loaded yet."""
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_missing_library_is_a_reason_not_an_error() -> None:
    code = (
        "from aconite import kernels; from aconite.kernels import cpu; import torch; l = kernels.native_library(); "
        "print(l.available, l.reason, cpu.supports(torch.ones(2, 3)))"
    )
    out = ask(code, ACONITE_LIBRARY="/nonexistent/libaconite.so")
    assert out.startswith("False /nonexistent/libaconite.so does not exist")


def test_a_file_that_is_no_library_is_a_reason(tmp_path: Path) -> None:
    bad = tmp_path / "libaconite.so"
    bad.write_bytes(b"not a library")
    out = ask("from aconite import kernels; print(kernels.native_library().reason)", ACONITE_LIBRARY=str(bad))
    assert "cannot be loaded" in out


def test_a_library_of_another_abi_is_a_reason() -> None:
    code = "from aconite.kernels import _library; _library.ABI_VERSION = 99; print(_library.load().reason)"
    assert "this package ABI 99: build it anew" in ask(code)


def test_a_torch_without_a_thread_pool_means_one_thread_and_info_says_so() -> None:
    code = """
import ctypes, torch
class Library(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if "libtorch_cpu" in str(name):
            raise OSError("no pool")
        super().__init__(name, *arguments, **options)
ctypes.CDLL = Library
import aconite
from aconite.cli import main
main(["info"])
torch.set_num_threads(2)
x = torch.randn(64, 64, 32, 32)
y = aconite.functional.acon_c(x, 1.2, -0.3, 0.7)
torch.testing.assert_close(y, aconite.reference.acon_c(x, 1.2, -0.3, 0.7))
"""
    assert "threads: one thread (this torch lends no thread pool: no pool)" in ask(code)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_as_many_threads_as_torch_is_told() -> None:
    code = """
import os, torch, aconite
x, p = torch.randn(64, 64, 32, 32), torch.ones(64)
def threads(count):
    torch.set_num_threads(count)
    aconite.functional.acon_c(x, p, p, p)
    return len(os.listdir("/proc/self/task"))
alone = threads(1)
print(threads(4) - alone)
"""
    assert ask(code).strip() == "3"


def test_an_isa_that_the_machine_lacks_is_named() -> None:
    out = ask("from aconite import kernels; print(kernels.native_library().reason)", ACONITE_ISA="avx1024")
    assert "ACONITE_ISA=avx1024" in out
    assert "baseline" in out


@pytest.mark.skipif(sys.platform != "linux", reason="the linker option is ELF's")
def test_only_the_c_functions_are_exported() -> None:
    """The C++ runtime is linked in; another library must not find its symbols here."""
    path = kernels.native_library().path
    assert path is not None
    library = ctypes.CDLL(path)
    assert hasattr(library, "aconite_acon_c_forward")
    runtime = ("_ZNSt9exceptionD1Ev", "_ZN10__cxxabiv111__terminateEPFvvE", "__cxa_throw", "_Unwind_Resume", "_Znwm")
    assert [name for name in runtime if hasattr(library, name)] == []


def test_the_record_is_whole() -> None:
    library = kernels.native_library()
    assert library.available
    assert library.abi_version == _library.ABI_VERSION
    assert library.isa in library.available_isas
    assert library.available_isas[0] == "baseline"
    assert [kernel.available for kernel in kernels.kernels() if kernel.name == "native"] == [True]


def test_refusals_say_why() -> None:
    p = [torch.ones(3) for _ in range(3)]
    assert cpu.supports(torch.ones(2, 3), *p) is None
    assert "torch.int64" in str(cpu.supports(torch.ones(2, 3, dtype=torch.int64), *p))
    assert "meta" in str(cpu.supports(torch.ones(2, 3, device="meta"), *p))
    assert "neither scalar" in str(cpu.supports(torch.ones(2, 3, 4), *p, torch.ones(3, 4)))
    assert "does not exist" in str(cpu.supports(torch.ones(3), *p))
    assert "dense" in str(cpu.supports(torch.ones(2, 3).to_sparse(), *p))
    with pytest.raises(KernelUnavailableError, match="neither scalar"):
        cpu.acon_c_forward(torch.ones(2, 3, 4), torch.ones(4), torch.ones(4), torch.ones(4))
    with pytest.raises(SettingsError, match="'soft'"):
        cpu.acon_c_forward(torch.ones(2, 3), *p, gate="soft")


def test_views_of_dense_tensors() -> None:
    x = torch.empty(2, 3, 4, 5)
    assert dense(x.shape, x.stride(), 1) == (2, 3, 20, 0, True)
    last = x.to(memory_format=torch.channels_last)
    assert dense(last.shape, last.stride(), 1) == (2, 3, 20, 1, True)
    assert dense(x.shape, x.stride(), -1) == (2, 5, 12, 1, True)
    assert dense(x.shape, x.stride(), 2) == (6, 4, 5, 0, False)
    assert dense(x.shape, x.stride(), -4) == (1, 2, 60, 0, True)
    assert dense((4, 3), (3, 1), 1) == (4, 3, 1, 1, True)
    assert dense((1, 3, 7), (999, 7, 1), 1) == (1, 3, 7, 0, True)  # a size-one dimension's stride means nothing
    assert dense((2, 3), (0, 1), 1) is None
    assert dense((2, 3), (6, 2), 1) is None


def test_parameter_strides_by_shape() -> None:
    shape = (2, 3, 4)
    assert parameter_strides((3,), shape, 1) == (0, 1)
    assert parameter_strides((), shape, 1) == parameter_strides((1,), shape, 1) == (0, 0)
    assert parameter_strides((2, 3), shape, 1) == (3, 1)
    assert parameter_strides((2, 1), shape, 1) == (1, 0)
    assert parameter_strides((1, 3, 1), shape, 1) == (0, 1)
    assert parameter_strides((2, 3, 1), shape, 1) == (3, 1)
    assert parameter_strides((2, 1, 1), shape, 1) == (1, 0)
    assert parameter_strides((4,), shape, 1) is None
    assert parameter_strides((3,), (3, 3), -2) == (0, 1)
