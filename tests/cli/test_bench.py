import json

from aconite.cli import main
from aconite.kernels import native_library


def test_bench_prints_ratios_and_writes_rows(tmp_path, capsys):
    out = tmp_path / "new" / "rows.jsonl"
    options = ["--shapes", "2x8x4x4", "4x8", "--dtypes", "float32", "--passes", "forward", "--seconds", "0.01"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2x8x4x4" in printed
    assert "acon-c published" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(tuple(row["shape"]), row["layout"]) for row in rows} == {
        ((2, 8, 4, 4), "contiguous"),
        ((2, 8, 4, 4), "channels_last"),
        ((4, 8), "contiguous"),
    }
    assert all(row["provenance"]["torch"] for row in rows)
    assert all(row["provenance"]["native"] == native_library().isa for row in rows)
    assert [path.name for path in out.parent.iterdir()] == ["rows.jsonl"]


def test_bench_of_norms_and_networks(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    assert main(["bench", "norms", "--shapes", "2x8x4x4", "--seconds", "0.01", "--out", str(out)]) == 0
    rows = {(row["layout"], row["contender"]): row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["channels_last", "bn + relu"]["to_bn_relu"] == [1.0, 1.0, 1.0]
    kept = rows["contiguous", "fused bn + meta-acon"]["saved_bytes"]
    assert kept < rows["contiguous", "bn + silu"]["saved_bytes"]
    options = ["--shapes", "2x3x32x32", "--layouts", "contiguous", "--seconds", "0.01"]
    assert main(["bench", "networks", *options, "--out", str(out)]) == 0
    rows = {(row["passes"], row["contender"]): row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["inference", "relu"]["to_relu"] == [1.0, 1.0, 1.0]
    assert rows["step", "meta-acon, fused"]["saved_bytes"] < rows["step", "relu"]["saved_bytes"]
    assert "meta-acon published" in capsys.readouterr().out


def test_repeats_keep_the_line_of_the_fastest_peer(tmp_path, monkeypatch):
    def measured(peer, own):
        row = {"shape": [4, 8], "dtype": "float32", "layout": "contiguous", "passes": "forward"}
        times = {"silu": peer, "acon-c": own}
        return [row | {"contender": name, "ms": [0, ms, 9], "to_silu": [0, ms / peer, 9]} for name, ms in times.items()]

    runs = iter([measured(3.0, 1.0), measured(1.0, 2.0), measured(2.0, 1.0)])
    monkeypatch.setattr("aconite.bench.measure", lambda case, **options: next(runs))
    out = tmp_path / "rows.jsonl"
    options = ["--shapes", "4x8", "--dtypes", "float32", "--passes", "forward", "--repeats", "3"]
    assert main(["bench", *options, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["ms"][1] for row in rows] == [1.0, 2.0]


def test_bad_options_are_one_line_and_status_2(capsys):
    for options in (
        ["--shapes", "8"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--repeats", "0"],
        ["--dtypes", "float8"],
        ["networks", "--shapes", "8x8"],
    ):
        assert main(["bench", *options]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("aconite: error: ")
