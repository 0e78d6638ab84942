"""Two processes with half a batch each make the step of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

# One interpreter that forks before it computes: importing torch takes longer than all of the rest.
SCRIPT = """
import os, sys
from datetime import timedelta
import torch, torch.distributed as dist
from torch import nn
from isograft.ssl.dino import DINO
from isograft.ssl.simclr import nt_xent
from isograft.ssl.vicreg import vicreg_terms

def results(rank, ranks):
    images = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))[:, rank * 8 // ranks : (rank + 1) * 8 // ranks]
    losses = {
        "simclr": lambda views: nt_xent(list(views), 0.2),
        "vicreg": lambda views: sum(w * t for w, t in zip((25, 25, 1), vicreg_terms(list(views)))),
    }
    out = {}
    for name, loss_of in losses.items():
        torch.manual_seed(1)
        network = nn.Linear(12, 6)
        loss = loss_of(network(images))
        loss.backward()
        # What data-parallel training does: average the loss and the gradients over ranks.
        for tensor in (loss.detach(), network.weight.grad):
            if ranks > 1:
                dist.all_reduce(tensor)
                tensor /= ranks
        out[name] = (loss.detach(), network.weight.grad)
    torch.manual_seed(1)
    method = DINO(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), 6, outputs=10, hidden=8, bottleneck=4, local_views=0)
    method([view.reshape(-1, 3, 2, 2) for view in images])
    return {**out, "centre": method.centre}

folder = sys.argv[1]
child = os.fork()
rank = 1 if child == 0 else 0
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60))
halves = results(rank, 2)
dist.barrier()
dist.destroy_process_group()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
torch.save({"halves": halves, "whole": results(0, 1)}, f"{folder}/results.pt")
"""


def test_two_processes_make_the_step_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    source = str(Path(__file__).resolve().parents[3] / "src")
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, check=True, timeout=200)
    results = torch.load(tmp_path / "results.pt")
    whole, halves = results["whole"], results["halves"]
    for name in ("simclr", "vicreg"):
        torch.testing.assert_close(halves[name], whole[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(halves["centre"], whole["centre"])
    assert float(whole["centre"].abs().max()) > 0
