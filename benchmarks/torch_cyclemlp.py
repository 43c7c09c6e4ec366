"""CycleMLP in PyTorch, for peers.py: one of its sides, run by a Python that has PyTorch (and no PaddlePaddle).

Written for speed on a CPU: channels last, fused AdamW, the faster form of the shift. Eager, that is a depthwise
convolution with one-hot kernels on the same memory (faster than slices of a padded map, than index_select, and than
moved maps times 0 and 1); under torch.compile, moved maps times 0 and 1, which it fuses with what is around them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sides import work_when_told
from torch import nn

BRANCHES = 3


class CycleFC(nn.Module):
    """The shift, then a product. `axis` 1 is along H, 2 along W."""

    compiled = False

    def __init__(self, channels: int, step: int, axis: int) -> None:
        super().__init__()
        self.step, self.axis = step, axis
        offsets = (torch.arange(channels) + step // 2) % step
        shape = (channels, 1, step, 1) if axis == 1 else (channels, 1, 1, step)
        self.register_buffer("kernel", F.one_hot(offsets, step).float().reshape(shape))
        self.padding = (step // 2, 0) if axis == 1 else (0, step // 2)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.compiled:
            before, after = self.step // 2, self.step - 1 - self.step // 2
            padded = F.pad(x, (0, 0, 0, 0, before, after) if self.axis == 1 else (0, 0, before, after))
            masks = self.kernel.reshape(x.shape[-1], self.step)
            parts = [padded.narrow(self.axis, i, x.shape[self.axis]) * masks[:, i] for i in range(self.step)]
            return self.linear(sum(parts))
        y = F.conv2d(x.permute(0, 3, 1, 2), self.kernel, padding=self.padding, groups=x.shape[-1])
        return self.linear(y.permute(0, 2, 3, 1))


class Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Mixer(nn.Module):
    def __init__(self, c: int, step: int) -> None:
        super().__init__()
        self.mlp_c, self.proj = nn.Linear(c, c, bias=False), nn.Linear(c, c)
        self.sfc_h, self.sfc_w = CycleFC(c, step, 2), CycleFC(c, step, 1)
        self.reweight = Mlp(c, c // 4, BRANCHES * c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
        a = self.reweight((h + w + c).mean((1, 2))).reshape(x.shape[0], 1, 1, -1, BRANCHES).softmax(-1)
        return self.proj(h * a[..., 0] + w * a[..., 1] + c * a[..., 2])


class Block(nn.Module):
    def __init__(self, c: int, ratio: float, step: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn, self.mlp = Mixer(c, step), Mlp(c, int(c * ratio), c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CycleMLP(nn.Module):
    """`[B, 3, H, W]`, channels last in memory → logits."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dims, size = config["embed_dims"], config["patch_size"]
        self.stem = nn.Conv2d(3, dims[0], size, config["patch_stride"], config["patch_padding"][0])
        self.network = nn.ModuleList()
        for i, (dim, ratio, depth) in enumerate(
            zip(dims, config["mlp_ratios"], config["depths"], strict=True)
        ):
            if i:
                self.network.append(nn.Conv2d(dims[i - 1], dim, 3, 2, 1))
            self.network.append(
                nn.Sequential(*[Block(dim, ratio, config["step_size"]) for _ in range(depth)])
            )
        self.norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], config["num_classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        for i, layer in enumerate(self.network):
            x = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if i % 2 else layer(x)
        return self.head(self.norm(x).mean((1, 2)))


def load(folder: str) -> CycleMLP:
    """With the weights that peers.py left in a folder."""
    network = CycleMLP(json.loads(Path(folder, "config.json").read_text()))
    state = dict(network.state_dict())
    for name, value in np.load(f"{folder}/weights.npz").items():
        mine = name.replace("patch_embed.proj", "stem")
        if "sfc_" in name:
            value = value.reshape(value.shape[:2]) if value.ndim == 4 else value
            mine = name.replace("sfc_h.", "sfc_h.linear.").replace("sfc_w.", "sfc_w.linear.")
        elif value.ndim == 2:
            value = value.T
        if ".proj." in mine and "attn" not in mine:
            mine = mine.replace(".proj.", ".")
        assert state[mine].shape == value.shape, name
        state[mine] = torch.from_numpy(np.ascontiguousarray(value))
    network.load_state_dict(state)
    return network


def main(side: str, folder: str, work: str, batch: int, size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    network = load(folder).to(memory_format=torch.channels_last)
    x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    CycleFC.compiled = side == "PyTorch compile"
    run = torch.compile(network) if side == "PyTorch compile" else network
    once: Callable[[], Any]
    if work == "logits":
        with torch.no_grad():
            image = torch.from_numpy(np.load(f"{folder}/image.npy"))
            logits = network.eval()(image).numpy()
            CycleFC.compiled = True
            np.testing.assert_allclose(
                network(image).numpy(), logits, rtol=0, atol=1e-4 * np.abs(logits).max()
            )
            np.save(f"{folder}/logits.npy", logits)
        return
    if work == "training step":
        labels = torch.randint(0, 10, (batch,))
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=0.05, fused=True)

        def once() -> None:
            F.cross_entropy(run(x), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    else:
        network.eval()

        @torch.no_grad()
        def once() -> None:
            run(x)

    work_when_told(once)


if __name__ == "__main__":
    _, _, side, folder, work, *numbers = sys.argv
    main(side, folder, work, *map(int, numbers))
