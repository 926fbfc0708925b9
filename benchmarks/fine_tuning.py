"""Fine-tuning with converted activations and without: `docs/fine-tuning.md`'s four steps on a folder of images.

    python benchmarks/fine_tuning.py DATA --out benchmarks/results/fine-tuning.jsonl

`resnet8` learns the first half of the classes, at 16 pixels. Then, with a new classifier, it learns the other half:
once as it is, and once with ReLU converted to ACON-C for each of two learning rates of the activations. All three start
from the same weights and see the same images in the same order. A row is one such training; the error is the last
epoch's.
"""

import argparse
import copy
import dataclasses
import json
from pathlib import Path

import torch
from torch import nn

import aconite
from aconite.lab.data import evaluation_batches, load, training_batches
from aconite.lab.statistics import paired_difference
from aconite.lab.tasks import Classification
from aconite.provenance import provenance
from aconite.whole_file import write_whole

SETTINGS = {
    "model": "resnet8",
    "image_size": 16,
    "batch_size": 64,
    "weight_decay": 5e-4,
    "lr": 0.1,
    "epochs": 8,
    "fine_tuning_lr": 0.02,
    "fine_tuning_epochs": 6,
    "tolerance": 0.1,
}
ARMS = {"relu": None, "acon-c, lr": 1.0, "acon-c, lr / 10": 0.1}  # learning rate of activations over that of weights


def half(data, first, count):
    """The images of ``count`` classes, which become labels from 0."""

    def part(images, labels):
        kept = (labels >= first) & (labels < first + count)
        return images[kept], labels[kept] - first

    train, test = part(data.train_images, data.train_labels), part(data.test_images, data.test_labels)
    parts = dict(zip(("train_images", "train_labels", "test_images", "test_labels"), (*train, *test), strict=True))
    return dataclasses.replace(data, classes=data.classes[first : first + count], **parts)


def trained(network, data, groups, lr, epochs, seed):
    """The test error after the last epoch, in %."""
    task = Classification(network, data, lr=lr, weight_decay=0, label_smoothing=0, schedule="cosine")
    batches = training_batches(data, SETTINGS["batch_size"], seed)
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    task.train()
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)
        for batch in batches:
            optimizer.zero_grad()
            task.training_step(batch).backward()
            optimizer.step()
            schedule.step()
    task.eval()
    with torch.no_grad():
        wrong = sum((task(images).argmax(1) != labels).sum().item() for images, labels in evaluation_batches(data, 500))
    return 100 * wrong / len(data.test_labels)


def fine_tuned(base, data, share, seed):
    network, lr, decay = copy.deepcopy(base), SETTINGS["fine_tuning_lr"], SETTINGS["weight_decay"]
    if share is None:
        groups = aconite.param_groups(network, decay)
    else:
        example = (data.train_images[:4] - 128.0) / 64
        network, _ = aconite.convert(network, "acon-c", example_inputs=example, tolerance=SETTINGS["tolerance"])
        groups = aconite.param_groups(network, decay, lr=lr, activation_lr=share * lr)
    return trained(network, data, groups, lr, SETTINGS["fine_tuning_epochs"], seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the rows, one JSON object a line")
    parser.add_argument("--seeds", metavar="N", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load(options.data, SETTINGS["image_size"])
    count = len(data.classes) // 2
    old, new = half(data, 0, count), half(data, count, count)
    rows = []
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        base = aconite.models.create(SETTINGS["model"], num_classes=count, stem="small")
        groups = aconite.param_groups(base, SETTINGS["weight_decay"])
        trained(base, old, groups, SETTINGS["lr"], SETTINGS["epochs"], seed)
        base.classifier = nn.Linear(base.classifier.in_features, count)
        for arm, share in ARMS.items():
            row = {"data": data.name, "arm": arm, "seed": seed, "error": fine_tuned(base, new, share, seed)}
            rows.append(row | {"settings": SETTINGS | {"content": data.content}, "provenance": provenance()})
            print(f"seed {seed}, {arm}: {row['error']:.1f} %", flush=True)
    errors = {arm: [row["error"] for row in rows if row["arm"] == arm] for arm in ARMS}
    for arm in list(ARMS)[1:]:
        print(f"{arm}: {paired_difference(errors[arm], errors['relu'])}")
    if options.out:
        write_whole(options.out, "".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
