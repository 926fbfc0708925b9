import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aconite.bench import Case, cases, measure, ratios, saved_bytes, take_turns
from aconite.bench.peers import PublishedAconC, compile_peer
from aconite.errors import SettingsError
from aconite.nn import AconC


def test_every_contender_is_called_once_a_round_in_changing_order():
    called = []
    contenders = {name: lambda name=name: called.append(name) for name in "abc"}
    times = take_turns(contenders, seconds=0, fewest=20, shortest=0)
    assert {name: len(values) for name, values in times.items()} == {"a": 20, "b": 20, "c": 20}
    turns = called[-120:]
    assert turns[::2] == turns[1::2]  # each turn's first call is not timed
    rounds = ["".join(turns[i : i + 6 : 2]) for i in range(0, 120, 6)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 2


def test_a_call_is_timed_in_seconds():
    times = take_turns({"sleep": lambda: time.sleep(0.002)}, seconds=0, fewest=3)
    assert all(0.002 <= value < 1 for value in times["sleep"])


def test_freed_memory_is_kept_where_the_allocator_knows_how():
    script = "from aconite.bench import keep_freed_memory; import sys; sys.exit(not keep_freed_memory())"
    expected = 0 if platform.libc_ver()[0] == "glibc" else 1
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == expected


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not Path("/proc/self/statm").exists(), reason="glibc's way")
def test_kept_memory_can_be_given_back():
    script = """
import os, torch
from aconite.bench import give_back_freed_memory, keep_freed_memory
held = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
keep_freed_memory()
block = torch.ones(50_000_000)
below = torch.ones(100)  # so that the block is not at the heap's end
del block
kept = held()
give_back_freed_memory()
assert held() < kept - 150e6, (kept, held())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_ratios_compare_within_a_round():
    assert ratios([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == (2.0, 2.0, 2.0)


def test_saved_bytes_leaves_out_what_exists_anyway():
    layer = AconC(8)
    x = torch.randn(2, 8, 4, requires_grad=True)
    assert saved_bytes(lambda: layer(x)) == 4 * (x.numel() + 3 * 8)
    assert saved_bytes(lambda: layer(x), layer.parameters()) == 4 * x.numel()


def test_rows_name_their_case_and_their_peer():
    rows = {row["contender"]: row for row in measure(Case(shape=(2, 16, 4, 4)), seconds=0)}
    assert {"copy", "relu", "silu", "acon-c", "acon-c published", "meta-acon", "se + relu"} <= rows.keys()
    assert rows["silu"]["to_silu"] == [1.0, 1.0, 1.0]
    assert rows["acon-c"]["saved_bytes"] == rows["silu"]["saved_bytes"] == 4 * 2 * 16 * 16
    assert rows["acon-c published"]["saved_bytes"] >= 3 * rows["silu"]["saved_bytes"]
    assert all(row["shape"] == [2, 16, 4, 4] and row["rounds"] >= 5 and min(row["ms"]) > 0 for row in rows.values())


@pytest.mark.parametrize("passes", ["forward", "training"])
def test_two_dimensional_inputs_have_no_image_peers(passes):
    names = [row["contender"] for row in measure(Case(shape=(4, 8), passes=passes, dtype="bfloat16"), seconds=0)]
    assert "acon-c" in names
    assert "se + relu" not in names


def test_cases_exist_once_and_channels_last_has_four_dimensions():
    found = list(cases([(2, 3, 4, 5), (2, 3)]))
    assert len(found) == len(set(found)) == 2 * (2 + 1) * 2
    assert all(len(case.shape) == 4 for case in found if case.layout == "channels_last")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [("dtype", "float8", "bfloat16"), ("passes", "both", "training"), ("layout", "x", "last")],
)
def test_a_misspelt_case_is_refused(field, value, text):
    with pytest.raises(SettingsError, match=text):
        Case(shape=(2, 3, 4, 4), **{field: value})


def test_what_is_timed_as_compiled_is_compiled_in_every_line_of_a_long_table(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 2)
    for length in range(2, 7):
        compile_peer(PublishedAconC(4, 3), backend=backend)(torch.ones(2, 4, length))
    assert len(graphs) == 5
