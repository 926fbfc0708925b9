"""Metrics over two processes, of which one has no image at all or fewer than the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
import torch
from torch import distributed
from aconite.lab.runs import resolve
from aconite.lab.runs.kinds.average_precision import AveragePrecision
from aconite.lab.runs.kinds.segmentation import SegmentationExperiment


class Says(torch.nn.Module):
    def forward(self, images):
        return images


def measured(rank, ranks):
    settings = resolve("segmentation", given={"data": "none", "epochs": 1})
    experiment = SegmentationExperiment(Says(), settings, ("a", "b", "c"))
    results = []
    for images in (3, 1):
        meter = AveragePrecision(("cat", "dog"))
        for number in range(rank, images, ranks):
            draws = torch.Generator().manual_seed(number)
            corners = 100 * torch.rand((4, 2), generator=draws)
            boxes = torch.cat([corners, corners + 40], 1)
            there = {"boxes": boxes, "labels": torch.tensor([1, 2, 1, 2]), "iscrowd": torch.zeros(4).long(),
                     "area": torch.full((4,), 1600.0), "image_id": number}
            # equal scores: which of two boxes comes first is then a matter of the images' order
            found = {"boxes": boxes + 9 * torch.randn((4, 4), generator=draws), "labels": torch.tensor([1, 2, 2, 2]),
                     "scores": torch.tensor([0.5, 0.5, 0.5, 0.7])}
            meter.add([found], [there])
            masks = torch.randint(0, 2, (1, 9, 9), generator=draws)
            experiment.measure((torch.randn((1, 3, 9, 9), generator=draws), masks))
        results.append({**meter.figures(), **experiment.measured()})
    return results


torch.set_num_threads(1)
meeting, rank = sys.argv[1], int(sys.argv[2])
alone = measured(0, 1)
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
print(json.dumps([alone, measured(rank, 2)]))
"""


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path / "meeting", str(rank)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for process in started:
        alone, together = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
        assert json.dumps(together) == json.dumps(alone)  # as words: NaN is unlike itself
        assert 0.1 < alone[0]["map_50"] < 0.99
        assert 0.1 < alone[0]["miou"] < 0.9
