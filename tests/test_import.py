"""What `import aconite` costs and brings along."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aconite

SCRIPT = """
import json, sys, time
import torch
before = set(sys.modules)
start = time.perf_counter()
import aconite
seconds = time.perf_counter() - start
layer = aconite.activation("meta-acon", 8)
layer(torch.randn(2, 8, 3, 3)).sum().backward()
print(json.dumps({
    "seconds": seconds,
    "new": sorted(set(sys.modules) - before),
    "cuda": torch.cuda.is_initialized(),
    "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
    "dtype": str(torch.get_default_dtype()),
    "seed": torch.initial_seed(),
}))
"""
HEAVY = (
    "numpy",
    "lightning",
    "matplotlib",
    "sklearn",
    "scipy",
    "torchvision",
    "onnx",
    "onnxscript",
    "optuna",
    "triton",
    "rich",
    "PIL",
    "jinja2",
    "mlxtend",
    "timm",
    "transformers",
    "torch.utils.flop_counter",
    "torch._dynamo",
    "torch._inductor",
    "torch.onnx",
)


@pytest.fixture(scope="module")
def facts():
    source = str(Path(aconite.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r})\n{SCRIPT}"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    return min((json.loads(run.stdout.splitlines()[-1]) for run in runs), key=lambda f: f["seconds"])


def test_nothing_heavy_comes_along(facts):
    found = [m for m in facts["new"] if any(m == h or m.startswith(h + ".") for h in HEAVY)]
    assert found == []
    assert "aconite.nn" in facts["new"]


def test_only_rooms_that_need_torch_alone(facts):
    rooms = {m.split(".")[1] for m in facts["new"] if m.startswith("aconite.")}
    assert not rooms & {"cli", "lab", "report", "bench", "integrations", "export"}


def test_no_device_is_started(facts):
    assert facts["cuda"] is False


def test_it_is_quick(facts, capsys):
    with capsys.disabled():
        print(f"\n`import aconite` adds {1e3 * facts['seconds']:.0f} ms over `import torch` (wanted: 60)")
    assert facts["seconds"] < 0.5  # a busy machine must not decide a test
