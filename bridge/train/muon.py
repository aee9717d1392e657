# SPDX-License-Identifier: GPL-3.0-or-later
"""Muon (Jordan et al. 2024) for the hidden linear layers, in single precision.

torch.optim.Muon orthogonalises in bfloat16, which CPUs without its instructions do forty times slower than float32; and
it takes one matrix at a time, where ours are few shapes that fit in batched products.
"""

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly, by five Newton-Schulz rounds. matrices: (N, R, C), R <= C."""
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.transpose(-1, -2)
        x = a * x + (b * square + c * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum steps with all singular values made one, scaled to the size of Adam's steps so that rates carry over."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                average = state["momentum"]
                average.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(average, group["momentum"])
                wide = ahead if ahead.shape[0] <= ahead.shape[1] else ahead.T
                shapes.setdefault(tuple(wide.shape), []).append((p, wide))
            for (rows, columns), members in shapes.items():
                steps = orthogonalised(torch.stack([wide for _, wide in members]))
                size = 0.2 * max(rows, columns) ** 0.5
                for (p, _), step in zip(members, steps):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(step if p.shape == step.shape else step.T, alpha=-group["lr"] * size)
