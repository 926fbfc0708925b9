"""Draw the README's figure from a finished run: python docs/demo_curves.py runs/demo

The figure is the report's own, of the run's rows; nothing is smoothed or left out.
"""

import json
import sys
from pathlib import Path

import matplotlib

from aconite.report import training_curves


def main(run: Path, target: Path) -> None:
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text("utf-8").splitlines()]
    cells = [row for row in rows if row["kind"] == "cell"]
    train, test = ({cell["activation"]: [] for cell in cells} for _ in range(2))
    for cell in cells:
        train[cell["activation"]].append(cell["train_errors"])
        test[cell["activation"]].append(cell["test_errors"])
    with matplotlib.rc_context({"svg.hashsalt": "aconite"}):
        training_curves(train, test).savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "assets" / "demo-curves.svg")
