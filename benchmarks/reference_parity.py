"""Each network of the public reference code beside ours: the same weights in both, the same images through both.

    python benchmarks/reference_parity.py CHECKOUT --out benchmarks/results/reference-parity.jsonl

CHECKOUT is a clone of github.com/nmaac/acon, whose code is run. A state dict of it goes through a file into
`aconite.load_reference` and back, and two random images through both networks in evaluation mode.

A row holds the parameters and the multiply-adds of one image, by torch's counter, which are the same in both or the
script stops; and distances between class scores, the largest absolute difference over the largest absolute score, for
each seed. "float32" and "float64" are ours against theirs; "rounding_theirs" and "rounding_ours" are a network's own
float32 scores against its own float64 scores.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import aconite
from aconite.models import reference_state_dict
from aconite.provenance import provenance
from aconite.whole_file import write_whole

SIZES = (("0.5x", "x0_5"), ("1.0x", "x1_0"), ("1.5x", "x1_5"), ("2.0x", "x2_0"))
CASES = [  # our network and activation; their file, constructor and its arguments
    *(
        (f"shufflenetv2_{ours}", "acon-c", "ACON/ShuffleNetV2_ACON/network.py", "ShuffleNetV2_ACON", size)
        for size, ours in SIZES
    ),
    *(
        (f"shufflenetv2_{ours}", "meta-acon", "MetaACON/ShuffleNet_MetaACON/network.py", "ShuffleNetV2_MetaACON", size)
        for size, ours in SIZES
    ),
    *(
        (f"tfnet_{size}".replace(".", "_"), "acon-frelu", "TFNet/network.py", "TFNet", size)
        for size in (0.5, 1.0, 1.5, 2.0)
    ),
    *(
        (f"resnet{layers}", "acon-c", "ACON/ResNet_ACON/resnet_acon.py", f"resnet{layers}_acon", None)
        for layers in (50, 101, 152)
    ),
    *(
        (
            f"resnet{layers}",
            "meta-acon",
            "MetaACON/ResNet_MetaACON/resnet_metaacon.py",
            f"resnet{layers}_metaacon",
            None,
        )
        for layers in (50, 101, 152)
    ),
]


def module(path, name):
    """Their file as a module; files of one name are told apart by where they lie."""
    spec = importlib.util.spec_from_file_location(name, path)
    found = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def build(checkout, file, constructor, size):
    make = getattr(module(checkout / file, file.replace("/", "_").removesuffix(".py")), constructor)
    with contextlib.redirect_stdout(io.StringIO()):  # they print their size
        return make() if size is None else make(model_size=size)


def unsettle(network, images):
    """Weights that no two parts share, and norms that hold what a batch of images would leave in them.

    What a norm scales is then of order one all the way, as in a trained network. The norms of Meta-ACON's generator see
    one value for each image, too few for statistics, and get arbitrary ones.
    """
    generators = [part for part in network.modules() if hasattr(part, "fc2")]
    arbitrary = {norm for part in generators for norm in (part.bn1, part.bn2)}
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.reset_parameters()  # their ShuffleNets start with zeros for biases
        elif isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the statistics of all batches seen, here one
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    for part in network.train().modules():
        if part in arbitrary or isinstance(part, nn.Dropout):
            part.eval()
    with torch.no_grad():
        network(images)
    return network.eval()


def through_a_file(theirs, ours, folder):
    """Their weights in our network; the way back gives each tensor as it was."""
    state = theirs.state_dict()
    path = Path(folder) / "model.pth.tar"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    aconite.load_reference(ours, path)
    back = reference_state_dict(ours)
    assert back.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in back.items())
    return ours.eval()


def counts(network, images):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2 // len(images)}


def distances(reference, network, images):
    with torch.no_grad():
        scores = {
            (side, dtype): model.to(dtype)(images.to(dtype)).double()
            for dtype in (torch.float32, torch.float64)
            for side, model in (("theirs", reference), ("ours", network))
        }

    def between(one, other):
        return ((scores[one] - scores[other]).abs().max() / scores[other].abs().max()).item()

    single, double = torch.float32, torch.float64
    return {
        "float32": between(("ours", single), ("theirs", single)),
        "float64": between(("ours", double), ("theirs", double)),
        "rounding_theirs": between(("theirs", single), ("theirs", double)),
        "rounding_ours": between(("ours", single), ("ours", double)),
    }


def row_of(checkout, case, seeds):
    name, activation, file, constructor, size = case
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        images = torch.rand(6, 3, 224, 224) * 255
        reference = unsettle(build(checkout, file, constructor, size), images[2:])
        with tempfile.TemporaryDirectory() as folder:
            network = through_a_file(reference, aconite.models.create(name, activation=activation), folder)
        counted = counts(reference, images[:2])
        assert counts(network, images[:2]) == counted
        found.append(distances(reference, network, images[:2]))
    return {
        "network": name,
        "activation": activation,
        "reference": f"{file}: {constructor}({'' if size is None else f'model_size={size!r}'})",
        **counted,
        **{kind: [each[kind] for each in found] for kind in found[0]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", metavar="CHECKOUT", type=Path)
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the rows, one JSON object a line")
    parser.add_argument("--networks", metavar="A,B,…", type=lambda text: text.split(","), help="only these of ours")
    parser.add_argument("--seeds", metavar="N", type=int, default=3, help="sets of weights for each (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    module(options.checkout / "acon.py", "acon")  # what their files import
    command = ["git", "-C", str(options.checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    origin = provenance() | {"reference_commit": commit}
    rows = []
    for case in CASES:
        if options.networks is None or case[0] in options.networks:
            row = row_of(options.checkout, case, options.seeds)
            rows.append(row | {"provenance": origin})
            largest = ", ".join(f"{kind} {max(each):.1e}" for kind, each in row.items() if isinstance(each, list))
            print(f"{row['network']} {row['activation']}: {largest}", flush=True)
    if options.out:
        write_whole(options.out, "".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
