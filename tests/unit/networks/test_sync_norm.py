"""Two processes with half a batch each train to the weights of one process with the whole batch, batch norms and teachers included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from isograft.networks.sync_norm import synchronised

METHODS = ("simclr", "vicreg", "byol", "dino", "mae", "supervised", "simclr-adamw")

# One interpreter that forks before it computes: importing torch takes longer than all of the rest.
SCRIPT = """
import os, sys
from datetime import timedelta
import torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from timm.layers.norm_act import BatchNormAct2d
from isograft.networks.backbones import build_backbone
from isograft.networks.sync_norm import synchronised
from isograft.ssl.method import build_method

SMALL = {
    "supervised": {"classes": 3, "smoothing": 0.1},
    "byol": {"hidden": 32, "width": 16}, "vicreg": {"width": 32},
    "dino": {"outputs": 32, "hidden": 32, "bottleneck": 16, "local_views": 0},
}
CPU = torch.device("cpu")

def train(name, rank, ranks):
    method, _, optimizer = name.partition("-")
    torch.manual_seed(1)
    backbone = build_backbone("test_vit", {"patch_size": 8}, 32) if method == "mae" else build_backbone("test_resnet", {}, 32)
    network = build_method(method, backbone, backbone.num_features, **SMALL.get(method, {}))
    dtype = torch.float32 if method in ("dino", "mae") else torch.float64  # which they refuse; else rounding, which grows, hides no mistake
    network = network.to(dtype)
    wrapped = DistributedDataParallel(network, find_unused_parameters=True, broadcast_buffers=False) if ranks > 1 else network
    trained = [p for p in network.parameters() if p.requires_grad]
    steps = torch.optim.AdamW(trained, 1e-3, eps=1e-3) if optimizer else torch.optim.SGD(trained, 0.02, momentum=0.9)
    noise = torch.Generator().manual_seed(0)
    with synchronised(network, CPU):
        for step in range(3):
            labels = torch.arange(16) % 3
            labels[:5] = -1  # images without a label, more of them in one half of the batch
            views = torch.randn(2, 16, 3, 32, 32, generator=noise)[:, rank * 16 // ranks : (rank + 1) * 16 // ranks].to(dtype)
            labels = labels[rank * 16 // ranks : (rank + 1) * 16 // ranks]
            output = wrapped([view.contiguous() for view in views], labels)
            output.loss.backward()
            steps.step()
            steps.zero_grad()
            network.after_step((step + 1) / 4)
    return {key: value.clone() for key, value in network.state_dict().items()}

def norm(rank, ranks):
    torch.manual_seed(2)
    layer = nn.Sequential(nn.BatchNorm1d(5, momentum=None), BatchNormAct2d(4), nn.BatchNorm2d(4, affine=False))
    inputs = [torch.randn(12, 5) * 3 + 100, torch.randn(12, 4, 3, 3) - 7, torch.randn(12, 4, 2, 2)]
    out = {}
    with synchronised(layer, CPU):
        for number, (one, whole) in enumerate(zip(layer, inputs)):
            part = whole[rank * 12 // ranks : (rank + 1) * 12 // ranks].clone().requires_grad_()
            for _ in range(2):
                answer = one(part)
            (answer * answer.detach().cos()).sum().backward()
            parts = [answer.detach(), part.grad]
            for tensor in parts:
                if ranks > 1:
                    both = [torch.empty_like(tensor) for _ in range(2)]
                    dist.all_gather(both, tensor.contiguous())
                    tensor = torch.cat(both)
                out[f"{number}-{len(out)}"] = tensor
            for parameter in one.parameters():
                if ranks > 1:
                    dist.all_reduce(parameter.grad)
                out[f"{number}-{len(out)}"] = parameter.grad
            one.eval()
            out[f"{number}-eval"] = one(whole[:2]).detach()
    return {**out, **layer.state_dict()}

folder, methods = sys.argv[1], sys.argv[2:]
child = os.fork()
rank = 1 if child == 0 else 0
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=200))
halves = {"norm": norm(rank, 2), **{name: train(name, rank, 2) for name in methods}}
dist.barrier()
dist.destroy_process_group()
if child == 0:
    torch.save(halves, f"{folder}/second.pt")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
whole = {"norm": norm(0, 1), **{name: train(name, 0, 1) for name in methods}}
torch.save({"halves": halves, "whole": whole}, f"{folder}/results.pt")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The state of every method after three steps, in two processes (both of them) and in one."""
    folder = tmp_path_factory.mktemp("ranks")
    source = str(Path(__file__).resolve().parents[3] / "src")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder), *METHODS], env=environment, check=True, timeout=400)
    return {**torch.load(folder / "results.pt"), "second": torch.load(folder / "second.pt")}


def test_a_norm_over_two_processes_gives_what_torch_gives_for_the_whole_batch_forward_and_backward(trained: dict[str, Any]) -> None:
    halves, whole = trained["halves"]["norm"], trained["whole"]["norm"]
    assert halves.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(halves[name], whole[name], rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_to_the_weights_of_one_with_the_whole_batch(method: str, trained: dict[str, Any]) -> None:
    halves, whole = trained["halves"][method], trained["whole"][method]
    assert halves.keys() == whole.keys()
    for name in whole:
        close = (2e-3, 2e-4) if whole[name].dtype == torch.float32 else (1e-5, 1e-7)
        torch.testing.assert_close(halves[name], whole[name], rtol=close[0], atol=close[1], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", METHODS)
def test_both_processes_end_in_the_same_bytes(method: str, trained: dict[str, Any]) -> None:
    first, second = trained["halves"][method], trained["second"][method]
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_alone_a_network_stays_what_it_is() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    with synchronised(network, torch.device("cpu")):
        assert type(network[0]) is nn.BatchNorm1d
