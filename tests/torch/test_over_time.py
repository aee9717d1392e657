# SPDX-License-Identifier: GPL-3.0-or-later
"""What video mode does over time: the choice among hypotheses, and averages."""

import itertools

import pytest
import torch

from bridge.lgd.hypotheses import choose
from bridge.lgd.observation import smooth_weighted


def cost_of(path, joints, doubt, misfit, odds) -> float:
    """What a path costs, as `choose` has it, frame by frame."""
    total = 0.0
    for t, here in enumerate(path):
        total += float(doubt[here, t].sum() + misfit[here, t] - odds[here].log())
        if t and (before := path[t - 1]) != here:
            leap, stay, stayed = (
                (joints[a, t] - joints[b, t - 1]).norm(dim=-1) for a, b in ((here, before), (here, here), (before, before))
            )
            spread = torch.maximum(doubt[here, t], doubt[before, t - 1]).exp()
            total += float(((leap - torch.maximum(stay, stayed)).clamp_min(0) / spread).sum())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_path_chosen_is_the_cheapest_of_all(seed):
    gen = torch.Generator().manual_seed(seed)
    joints = torch.randn(3, 6, 12, 3, generator=gen) * 0.05
    doubt = torch.randn(3, 6, 12, generator=gen) * 0.3 - 1
    misfit, odds = torch.rand(3, 6, generator=gen) * 3, torch.tensor([0.4, 0.3, 0.3])
    case = joints, doubt, misfit, odds
    best = min(itertools.product(range(3), repeat=6), key=lambda path: cost_of(path, *case))
    assert choose(*case).tolist() == list(best)


@pytest.mark.parametrize("frames", [2, 7, 64, 65, 150])
def test_averages_over_time_are_gaussian_and_weighted(frames):
    gen = torch.Generator().manual_seed(0)
    values, weights = torch.randn(2, frames, 3, generator=gen), torch.rand(2, frames, generator=gen) + 0.1
    away = torch.arange(frames)[:, None] - torch.arange(frames)
    band = torch.exp(-0.5 * (away / 3.0) ** 2) * (away.abs() <= 9) * weights[:, None]
    expected = (band @ values) / band.sum(-1, keepdim=True)
    assert torch.allclose(smooth_weighted(values, weights, 3.0), expected, atol=2e-3)
