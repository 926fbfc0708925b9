"""What a user does to a model still works on a fused one: copy, save, load, train on, wrap, undo."""

import copy
import gc
import io
import random
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import aconite.models
from aconite.errors import AconiteError, SettingsError
from aconite.nn import AconA, AconB, AconC, MetaAconC
from aconite.surgery import fuse, unfuse
from aconite.surgery import fused as fused_classes

KINDS = (AconA, AconB, AconC, MetaAconC, nn.ReLU, nn.SiLU)


def everything():
    """Each kind of activation once, after a norm of its own."""
    torch.manual_seed(0)
    layers = [AconA(8), AconB(8), AconC(8), MetaAconC(8), nn.ReLU(inplace=True), nn.SiLU()]
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), layer) for layer in layers]
    return nn.Sequential(*blocks, nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))


def images():
    return torch.randn(4, 8, 5, 6, generator=torch.Generator().manual_seed(1))


def classes(model):
    return {name: type(module) for name, module in model.named_modules()}


def outputs(model):
    """Of a copy, so that a forward in training mode leaves no trace."""
    return copy.deepcopy(model)(images())


def assert_equal_outputs(a, b):
    assert torch.allclose(outputs(a), outputs(b), atol=1e-5)


def test_the_original_is_untouched():
    model = everything()
    before, kinds = copy.deepcopy(model.state_dict()), classes(model)
    fused, _ = fuse(model, images())
    assert classes(model) == kinds
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not set(map(id, fused.parameters())) & set(map(id, model.parameters()))
    assert fuse(model, images(), inplace=True)[0] is model


@pytest.mark.parametrize("training", [True, False])
def test_the_example_run_leaves_no_trace(training):
    model = nn.Sequential(everything(), nn.Dropout()).train(training)
    model[0][1].eval()
    model[0][2][1].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    objects = {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    needs = {name: value.requires_grad for name, value in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    x = images()
    states = torch.get_rng_state(), random.getstate()
    fuse(model, x, inplace=True)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert torch.equal(x, images())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: value.requires_grad for name, value in model.named_parameters()} == needs
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: id(value) for name, value in (*model.named_parameters(), *model.named_buffers())} == objects
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_works_in_place_leaves_the_example_alone():
    x = torch.linspace(-1, 1, 4 * 8).view(4, 8, 1, 1)
    before = x.clone()
    fuse(nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm2d(8), nn.ReLU(inplace=True)), x)
    assert torch.equal(x, before)


def test_a_failing_example_leaves_no_trace_either():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(8)

        def forward(self, x):
            self.bn(x)
            raise RuntimeError("no")

    model = Picky()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SettingsError, match="RuntimeError: no"):
        fuse(model, images(), inplace=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model.bn._forward_hooks
    assert type(model.bn) is nn.BatchNorm2d


def test_unfuse_restores_classes_exactly():
    model = everything()
    fused, changes = fuse(model, images())
    assert all(row.action == "fused" for row in changes.rows[:-1])
    assert all(isinstance(module, kind) for module, kind in zip(fused.modules(), classes(model).values(), strict=True))
    back, undone = unfuse(fused)
    assert classes(back) == classes(model)
    assert [module.__dict__.keys() for module in back.modules()] == [m.__dict__.keys() for m in model.modules()]
    assert [(row.norm, row.activation, row.kind) for row in undone] == [
        (row.norm, row.activation, row.kind) for row in changes
    ]
    assert undone.summary == "7 BatchNorms: 7 unfused"
    assert type(fused[0][1]) is fused_classes.FusedBatchNorm2d  # a copy was unfused
    assert unfuse(fused, inplace=True)[0] is fused
    assert classes(fused) == classes(model)
    assert_equal_outputs(back, model)


def test_unfusing_what_is_not_fused_is_an_error():
    with pytest.raises(SettingsError, match="nothing to unfuse"):
        unfuse(everything())


def test_fusing_twice_is_fusing_once():
    once, changes = fuse(everything(), images(), norms="paired")
    assert type(once[7]) is nn.BatchNorm2d
    twice, more = fuse(once, images())
    assert type(twice[7]) is fused_classes.FusedBatchNorm2d
    assert more.rows[:-1] == changes.rows[:-1]
    assert_equal_outputs(twice, everything())


def test_state_dicts_both_ways():
    model = everything()
    fused, _ = fuse(model, images())
    assert list(fused.state_dict()) == list(model.state_dict())
    assert [name for name, _ in fused.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert [name for name, _ in fused.named_modules()] == [name for name, _ in model.named_modules()]
    with torch.no_grad():
        for value in fused.parameters():
            value.add_(0.1)
    model.load_state_dict(fused.state_dict())
    assert_equal_outputs(model, fused)
    fresh, _ = fuse(everything(), images())
    fresh.load_state_dict(model.state_dict())
    assert_equal_outputs(model, fresh)


def test_an_optimiser_built_before():
    model, fused = everything(), everything()
    optimisers = [
        torch.optim.SGD(aconite.param_groups(m, weight_decay=1e-2), lr=0.1, momentum=0.9) for m in (model, fused)
    ]
    fuse(fused, images(), inplace=True)
    for _ in range(3):
        for m, optimiser in zip((model, fused), optimisers, strict=True):
            optimiser.zero_grad()
            m(images()).square().mean().backward()
            optimiser.step()
    for (name, value), found in zip(model.state_dict().items(), fused.state_dict().values(), strict=True):
        assert torch.allclose(found, value, rtol=1e-3, atol=1e-4), name
    names = [[group["name"], len(group["params"])] for group in aconite.param_groups(fused, weight_decay=1e-2)]
    assert names == [[group["name"], len(group["params"])] for group in optimisers[0].param_groups]


def test_copy_pickle_and_device_moves():
    fused, _ = fuse(everything(), images())
    file = io.BytesIO()
    torch.save(fused, file)
    file.seek(0)
    for twin in (copy.deepcopy(fused), torch.load(file, weights_only=False)):
        assert classes(twin) == classes(fused)
        for norm, activation in ((block[1], block[2]) for block in list(twin)[:6]):
            assert norm.fused_activation is activation
        assert_equal_outputs(twin, fused)
        assert not set(map(id, twin.parameters())) & set(map(id, fused.parameters()))
        for value in twin.parameters():
            value.data.zero_()
        assert not torch.allclose(outputs(twin), outputs(fused))
    doubled = copy.deepcopy(fused).double()
    assert doubled(images().double()).dtype == torch.float64
    assert torch.allclose(outputs(fused), unfuse(doubled)[0](images().double()).float(), atol=1e-5)


def test_functional_call_and_vmap():
    fused, _ = fuse(everything().eval(), images())
    model = unfuse(fused)[0]
    state = {name: value * 0.5 for name, value in fused.state_dict().items()}
    expected = torch.func.functional_call(model, state, (images(),))
    assert torch.allclose(torch.func.functional_call(fused, state, (images(),)), expected, atol=1e-5)
    batches = images().unsqueeze(0).repeat(3, 1, 1, 1, 1)
    assert torch.allclose(torch.vmap(fused)(batches)[2], model(images()), atol=1e-5)


def test_checkpointing():
    fused, _ = fuse(everything(), images())
    model = unfuse(fused)[0]
    for m in (model, fused):
        torch.utils.checkpoint.checkpoint_sequential(m, 3, images(), use_reentrant=False).sum().backward()
    for (name, value), found in zip(model.named_parameters(), fused.parameters(), strict=True):
        assert torch.allclose(found.grad, value.grad, atol=1e-4), name


def test_a_replaced_norm_does_not_lose_the_activation_unnoticed():
    fused, _ = fuse(everything(), images())
    with pytest.raises(AconiteError, match=r"the norm was replaced.*unfuse"):
        nn.SyncBatchNorm.convert_sync_batchnorm(fused).eval()(images())
    with pytest.raises(AconiteError, match="FusedReLU is fused"):
        fuse(everything(), images())[0][4][2](images())


def test_hooks_added_later_run_once():
    fused, _ = fuse(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), images())
    plain, seen = unfuse(fused)[0], []
    for module in fused:
        module.register_forward_hook(lambda m, args, y: seen.append((m, y)))
    y = fused(images())
    assert [module for module, _ in seen] == list(fused)
    assert torch.allclose(y, plain(images()), atol=1e-5)
    assert torch.equal(fused[0].running_mean, plain[0].running_mean)


def test_a_deleted_model_frees_its_memory_at_once():
    fused, _ = fuse(everything(), images())
    fused(images())
    gone = weakref.ref(fused[0][1]), weakref.ref(fused[0][2])
    gc.disable()
    try:
        del fused
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def test_the_mark_on_a_fused_output_does_not_outlive_the_activation():
    fused, _ = fuse(nn.Sequential(nn.BatchNorm2d(8), AconC(8)), images())
    assert not fused(images()).__dict__
    with pytest.raises(AconiteError):
        fused[1](fused(images()))


def test_data_parallel_is_refused():
    fused, _ = fuse(everything(), images())
    with pytest.raises(SettingsError, match="DistributedDataParallel"):
        fused[0][1]._replicate_for_data_parallel()


def test_lazy_layers_keep_their_parameters():
    model = nn.Sequential(nn.LazyConv2d(8, 1), nn.LazyBatchNorm2d(), AconC(), nn.Conv2d(8, 8, 1))
    parameters = list(model.parameters())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    fused, changes = fuse(model, images(), inplace=True)
    assert [row.action for row in changes] == ["fused"]
    assert all(a is b for a, b in zip(fused.parameters(), parameters, strict=True))
    assert int(fused[1].num_batches_tracked) == 0
    assert torch.equal(fused[1].running_mean, torch.zeros(8))
    fused(images()).sum().backward()
    optimiser.step()


def test_distributed(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        fused, _ = fuse(everything(), images())
        model = unfuse(fused)[0]
        wrapped = nn.parallel.DistributedDataParallel(fused)
        wrapped(images()).square().sum().backward()
        model(images()).square().sum().backward()
        for (name, value), found in zip(model.named_parameters(), wrapped.parameters(), strict=True):
            assert torch.allclose(found.grad, value.grad, rtol=1e-3, atol=1e-3), name
    finally:
        torch.distributed.destroy_process_group()


def test_every_fused_class_is_told_apart_in_print():
    fused, _ = fuse(everything(), images())
    assert "FusedBatchNorm2d(8, eps=1e-05" in repr(fused)
    assert "then FusedMetaAconC" in repr(fused)
    assert {type(m).__name__ for m in fused.modules() if isinstance(m, KINDS)} == {
        f"Fused{kind.__name__}" for kind in KINDS
    }
    assert all(
        type(m) in fused_classes.NORMS.values()
        for block in fused
        for m in block.children()
        if isinstance(m, _BatchNorm)
    )
