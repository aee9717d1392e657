# SPDX-License-Identifier: GPL-3.0-or-later
"""How weights are exported: in half precision, large matrices in whole numbers of eight bits with a scale for every row.
Files that hold halves alone are read as well.

For the published network at its published width that is half of the file, and half of what a single frame has to read; the
fits move by what is chance in a descent along signs, and are no less accurate (`train/LOG.md`, after run 48).
"""

import torch
from torch import Tensor

LARGE = 2**20  # numbers in a matrix from which on it is kept in eight bits
SCALE = ".scale"


def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (R, C) in eight bits, and each row's scale (R, 1): their product is the matrix to half a step. Rounding the product
    again, or what a factor for every row makes of it, gives the same whole numbers but for their signs."""
    scale = matrix.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (matrix / scale).round().to(torch.int8), scale


def packed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name as they ship."""
    out = {}
    for name, value in weights.items():
        if value.ndim == 2 and value.numel() >= LARGE:
            out[name], out[name + SCALE] = (part.cpu() for part in rounded(value.float()))
        else:
            out[name] = (value.half() if value.is_floating_point() else value).cpu()
    return out


def unpacked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name in single precision, from what `packed` gave."""
    out = {}
    for name, value in weights.items():
        if name.endswith(SCALE):
            continue
        if name + SCALE in weights:
            value = value * weights[name + SCALE]
        out[name] = value.float() if value.is_floating_point() else value
    return out
