"""SimCLR as the tutorials of `lightly` write it: PIL transforms in DataLoader workers, a plain loop. A peer of peers_pretrain.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from safetensors.torch import save_file
from torch.utils.data import DataLoader


def train(args: argparse.Namespace) -> None:
    """Train, and write the backbone's weights."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    backbone = timm.create_model(args.backbone, num_classes=0)
    head = SimCLRProjectionHead(backbone.num_features, backbone.num_features, 128)
    model = torch.nn.Sequential(backbone, head).train()
    data = LightlyDataset(str(args.images), transform=SimCLRTransform(input_size=args.size))
    loader = DataLoader(
        data, batch_size=args.batch_size, shuffle=True, drop_last=True, num_workers=args.threads, persistent_workers=args.threads > 0
    )
    loss_of = NTXentLoss(temperature=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06 * args.batch_size / 256, momentum=0.9, weight_decay=5e-4)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for _ in range(args.epochs):
        for (one, other), _, _ in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
                first, second = model(one), model(other)
            loss = loss_of(first.float(), second.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rates.step()
    save_file({name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}, args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="weights to write, ending in .safetensors")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
