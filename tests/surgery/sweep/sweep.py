"""Convert the architectures of torchvision, timm and transformers with fresh weights and small inputs; a row for each.

    python tests/surgery/sweep/sweep.py --out benchmarks/results/convert-sweep.jsonl [torchvision timm transformers]

Rows that the file has already are kept, so that a run can be broken off and go on.

A row says how many call sites there are, how many are converted, why others are left, how far the layers and the output
moved, whether a state dict fits a second conversion, and how many gradients are zero or not finite. timm.txt holds one
name for every pair of a file of timm and a first word of a name in it.
"""

import argparse
import json
import random
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves

from aconite.errors import SettingsError
from aconite.nn import AconC
from aconite.surgery import convert, deconvert
from aconite.whole_file import write_whole

EXACT = ("ReLU", "LeakyReLU", "PReLU", "SiLU", "Swish")
"""Activations that an ACON-C meets to within the tolerance everywhere."""
LARGEST = 60e6
"""Parameters; a model with more is examined without values, on the meta device."""


def torchvision_models():
    import torchvision.models as zoo

    for name in zoo.list_models():
        if "quantized" not in name:
            yield name, lambda name=name: torchvision_case(name)


def torchvision_case(name):
    import torchvision.models as zoo

    options = {"weights": None}
    size, module = 64, zoo.get_model_builder(name).__module__
    if "detection" in module:
        options |= {"weights_backbone": None, "num_classes": 3, "min_size": 96, "max_size": 96}
        if name.startswith("ssd"):
            options = {"weights": None, "weights_backbone": None, "num_classes": 3}
        return zoo.get_model(name, **options), ([torch.rand(3, 96, 96), torch.rand(3, 80, 96)],), True
    if "segmentation" in module:
        options |= {"weights_backbone": None, "num_classes": 3}
    elif name.startswith("vit"):
        size = 56 if name.endswith("14") else 64
        options |= {"image_size": size}
    elif name.startswith(("googlenet", "inception")):
        options |= {"init_weights": False}
        size = 128 if name.startswith("inception") else 64
    elif name == "maxvit_t":
        size = 224
    regnet = name.startswith("regnet")  # reads its widths from a tensor, which a meta tensor does not tell
    with torch.device("cpu" if regnet else "meta"):
        model = zoo.get_model(name, **options)
    fixed = name.startswith(("mvit", "s3d"))
    size = 224 if fixed else size
    large = fixed or sum(p.numel() for p in model.parameters()) > LARGEST
    if regnet and large:
        model.to("meta")
    elif not large:
        model = zoo.get_model(name, **options)
    with torch.device("meta" if large else "cpu"):
        if "optical_flow" in module:
            return model, (torch.rand(2, 3, 128, 128), torch.rand(2, 3, 128, 128), 2), False
        if "video" in module:
            return model, torch.randn(2, 3, 16, size, size), False
        return model, torch.randn(2, 3, size, size), False


def timm_models():
    for name in Path(__file__).with_name("timm.txt").read_text("utf-8").split():
        yield name, lambda name=name: timm_case(name)


def timm_case(name):
    import timm

    problem = count = None
    for size in (64, 96, 128, 192, 224, 256, None):
        options = {"num_classes": 5}
        shape = timm.get_pretrained_cfg(name).input_size
        if size is not None:
            if size >= max(shape):
                continue
            shape = (3, size, size)
        for extra in ({"img_size": size}, {}):
            if size is None and extra:
                continue
            try:
                if count is None:
                    with torch.device("meta"):
                        count = sum(p.numel() for p in timm.create_model(name, **options, **extra).parameters())
                with torch.device("cpu" if count <= LARGEST else "meta"), torch.no_grad():
                    model = timm.create_model(name, **options, **extra)
                    x = torch.randn(2, *shape)
                    model.eval()(x)
                return model, x, False
            except Exception as error:
                problem = error
    return f"does not run: {problem}"


def transformers_models():
    for name in ("vit", "bert", "llama", "gpt2", "t5", "distilbert", "convnext", "segformer", "clip", "wav2vec2"):
        yield name, lambda name=name: transformers_case(name)


def transformers_case(name):
    import transformers as hub

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    words = {"input_ids": torch.arange(1, 15).view(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    pixels = {"pixel_values": torch.randn(2, 3, 32, 32)}
    match name:
        case "vit":
            return hub.ViTModel(hub.ViTConfig(**small, image_size=32, patch_size=8)), pixels, False
        case "bert":
            return hub.BertModel(hub.BertConfig(**small, vocab_size=50)), words, False
        case "llama":
            config = hub.LlamaConfig(**small, num_key_value_heads=2, vocab_size=50)
            return hub.LlamaForCausalLM(config), words | {"use_cache": False}, False
        case "gpt2":
            config = hub.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50)
            return hub.GPT2Model(config), words | {"use_cache": False}, False
        case "t5":
            config = hub.T5Config(d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, vocab_size=50)
            return hub.T5Model(config), words | {"decoder_input_ids": words["input_ids"], "use_cache": False}, False
        case "distilbert":
            config = hub.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=50)
            return hub.DistilBertModel(config), words, False
        case "convnext":
            return hub.ConvNextModel(hub.ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1] * 4)), pixels, False
        case "segformer":
            sizes = {"hidden_sizes": [8, 16, 32, 64], "depths": [1] * 4, "decoder_hidden_size": 16}
            return hub.SegformerForSemanticSegmentation(hub.SegformerConfig(**sizes)), pixels, False
        case "clip":
            config = hub.CLIPVisionConfig(**small, image_size=32, patch_size=8)
            return hub.CLIPVisionModel(config), pixels, False
        case "wav2vec2":
            config = hub.Wav2Vec2Config(**small, conv_dim=[16] * 7, num_conv_pos_embeddings=16, mask_time_prob=0.0)
            return hub.Wav2Vec2Model(config), {"input_values": torch.randn(2, 3200)}, False
    raise ValueError(name)


def examine(library, name, build):
    """The row of one architecture."""
    row = {"library": library, "model": name}
    random.seed(0)
    torch.manual_seed(0)
    case = build()
    if isinstance(case, str):
        return row | {"skipped": case}
    model, inputs, detector = case
    model.eval()
    meta = next(model.parameters()).is_meta
    if not detector and not meta:
        healthy(model)
    try:
        converted, changes = convert(model, example_inputs=inputs)
    except SettingsError as error:
        if "nothing to convert" in str(error):
            return row | {"nothing": str(error)}
        raise
    measured = [r for r in changes if r.deviation is not None]
    exact = [r.deviation for r in measured if r.was in EXACT]
    fits = [r.deviation for r in measured if r.was not in EXACT]
    row |= {
        "values": not meta,
        "sites": len(changes),
        "converted": sum(r.now is not None for r in changes),
        "was": dict(sorted(Counter(r.was for r in changes if r.now).items())),
        "left": dict(Counter(f"{r.was}: {r.reason}" for r in changes if not r.now)),
        "notes": list(changes.notes),
        "largest_exact": max(exact, default=None),
        "largest_fit": max(fits, default=None),
        "output_deviation": changes.output_deviation,
        "output_scale": changes.output_scale,
    }
    twin, _ = convert(model, example_inputs=inputs)
    twin.load_state_dict(converted.state_dict(), strict=True)
    row["state_dict"] = True
    back, _ = deconvert(converted)
    row["deconverted"] = list(back.state_dict()) == list(model.state_dict()) and str(back) == str(model)
    row |= {} if detector or meta else gradients(converted, inputs)
    return row


def healthy(model):
    """Fresh weights that are zero by design (last norms, layer scales) would hide whatever comes before them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and parameter.abs().max() < 1e-3:
                parameter.add_(0.1 + 0.1 * torch.rand(parameter.shape, generator=generator))


def gradients(model, inputs):
    """How many of the new layers have a gradient that is not finite, or zero throughout."""
    layers = [module for module in model.modules() if isinstance(module, AconC)]
    kwargs = inputs if isinstance(inputs, dict) else {}
    args = () if kwargs else inputs if isinstance(inputs, tuple) else (inputs,)
    outputs = [y for y in tree_leaves(model(*args, **kwargs)) if isinstance(y, torch.Tensor) and y.requires_grad]
    sum((y * torch.randn_like(y)).sum() for y in outputs).backward()
    grads = [[layer.p1.grad, layer.p2.grad] for layer in layers]
    return {
        "no_gradient": sum(g is None for pair in grads for g in pair),
        "not_finite": sum(not g.isfinite().all() for pair in grads for g in pair if g is not None),
        "zero": sum(not g.any() for pair in grads for g in pair if g is not None),
    }


LIBRARIES = {"torchvision": torchvision_models, "timm": timm_models, "transformers": transformers_models}


def rows(libraries, chosen=lambda name: True):
    """The rows of all architectures of these libraries that have a chosen name."""
    warnings.filterwarnings("ignore")
    for library in libraries:
        for name, build in LIBRARIES[library]():
            if chosen(name):
                try:
                    yield examine(library, name, build)
                except Exception as error:
                    yield {"library": library, "model": name, "error": f"{type(error).__name__}: {error}"[:300]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="*", default=list(LIBRARIES))
    parser.add_argument("--out", type=Path, required=True, help="rows that are there already are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = (
        [json.loads(line) for line in arguments.out.read_text("utf-8").splitlines()] if arguments.out.exists() else []
    )
    there = {(row["library"], row["model"]) for row in found}
    for library in arguments.libraries:
        for row in rows([library], lambda name, library=library: (library, name) not in there):
            print(json.dumps(row), flush=True)
            found.append(row)
            write_whole(arguments.out, "".join(f"{json.dumps(row)}\n" for row in found).encode())


if __name__ == "__main__":
    sys.exit(main())
