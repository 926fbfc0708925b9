"""The kernels on ARM: built by a cross-compiler, run in an emulator, held against this machine's own."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from aconite.kernels import native_library

HERE = Path(__file__).parent
SOURCES = HERE.parents[2]
COMPILERS = {"CXX": "aarch64-linux-gnu-g++", "CC": "aarch64-linux-gnu-gcc"}
MISSING = [name for name in (*COMPILERS.values(), "qemu-aarch64", "cmake", "cc") if shutil.which(name) is None]
# Of a line's largest number. Half types: one unit in the last place; float32: batch norms over two samples.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 2**-10, "bfloat16": 2**-7}


def _built(folder, *options):
    subprocess.run(["cmake", "-S", SOURCES, "-B", folder, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", folder, "--parallel", "2"], check=True, capture_output=True)
    return folder / "libaconite.so"


def _printed(program, compiler, library, *before, **environment):
    sources = [f"-I{SOURCES / 'csrc'}", HERE / "every_kernel.c", library, "-lm"]
    subprocess.run([compiler, *sources, f"-Wl,-rpath,{library.parent}", "-o", program], check=True)
    ended = subprocess.run([*before, program], capture_output=True, check=True, text=True, env=os.environ | environment)
    lines = {}
    for line in ended.stdout.splitlines():
        case, name, *numbers = line.split()
        lines[case, name] = [float(number) for number in numbers]
    return ended.stderr.strip(), lines


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with x86-64")
def test_arm_computes_what_this_machine_computes(tmp_path):
    assert native_library().isa, native_library().reason
    own = _built(tmp_path / "own")
    arm = _built(
        *(tmp_path / "arm", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
        f"-DCMAKE_CXX_COMPILER={COMPILERS['CXX']}",
    )
    isa, expected = _printed(tmp_path / "own-program", "cc", own)
    assert isa == native_library().isa
    emulator = "qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"
    isa, found = _printed(tmp_path / "arm-program", COMPILERS["CC"], arm, *emulator)
    assert isa == "baseline"
    assert found.keys() == expected.keys()
    assert len(found) > 1000
    for (case, name), numbers in expected.items():
        scale = max(map(abs, numbers)) or 1.0
        off = max(abs(a - b) for a, b in zip(numbers, found[case, name], strict=True)) / scale
        assert off <= TOLERANCE[case.split("/")[1]], f"{case} {name}: {off}"
