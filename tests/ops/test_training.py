"""Training with the native kernels: the loss follows the reference's, on one process and on two."""

import copy
import os
import socket

import pytest
import torch
import torch.multiprocessing
from torch import nn

import aconite
from aconite import kernels, reference

needs_native = pytest.mark.skipif(not kernels.native_library().available, reason=str(kernels.native_library().reason))


class ReferenceAconC(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.p1, self.p2, self.beta = (nn.Parameter(p.detach().clone()) for p in (layer.p1, layer.p2, layer.beta))

    def forward(self, x):
        return reference.acon_c(x, *(p.view(-1, 1, 1) for p in (self.p1, self.p2, self.beta)))


def network():
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), aconite.AconC(outputs)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def task():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(64, 3, 12, 12, generator=generator)
    return images, images.mean((2, 3)).matmul(torch.randn(3, 4, generator=generator)).argmax(1)


def losses(model, memory_format, steps=60):
    images, labels = task()
    optimiser = torch.optim.SGD(aconite.param_groups(model, 1e-4), lr=0.05, momentum=0.9)
    found = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images.to(memory_format=memory_format)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


@needs_native
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_loss_curve_follows_the_reference(memory_format):
    mine = network()
    truth = copy.deepcopy(mine)
    for name, child in mine.named_children():
        if isinstance(child, aconite.AconC):
            setattr(truth, name, ReferenceAconC(child))
    followed, expected = losses(mine, memory_format), losses(truth, memory_format)
    assert expected[-1] < 0.5 * expected[0]
    torch.testing.assert_close(followed[:20], expected[:20], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(followed, expected, rtol=0.05, atol=0.01)


def _worker(rank, port, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(_network())
    model(_half(rank)).square().mean().backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], path)
    torch.distributed.destroy_process_group()


def _network():
    """Frozen norms: a process's own batch statistics are not those of the whole batch."""
    fused = aconite.BatchNormAconC2d(8), aconite.BatchNormMetaAconC2d(8, norm=None)
    return nn.Sequential(nn.Conv2d(3, 8, 1), aconite.AconC(8), *fused, aconite.MetaAconC(8, norm=None)).eval()


def _half(rank):
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2)).chunk(2)[rank]


def test_two_processes_average_the_gradients(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, tmp_path / "grads.pt"), nprocs=2)
    torch.manual_seed(0)
    model = _network()
    model(torch.cat([_half(0), _half(1)])).square().mean().backward()
    torch.testing.assert_close(torch.load(tmp_path / "grads.pt"), [p.grad for p in model.parameters()])
