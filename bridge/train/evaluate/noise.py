# SPDX-License-Identifier: GPL-3.0-or-later
"""What the synthetic detector's noise alone costs: no network, no missing points, every depth true."""

import torch

from ...keypoints.formats import POINT_INDEX
from ..data import Mocap
from ..metrics import pa_mpjpe
from ..recipe import LAYOUT_SHARE, fixed_recipe
from ..synthesize import LandmarkSets
from .cases import CAMERAS, FPS, GROUPS, Soles, clip_batch, visible
from .multiview import NAMES

NOISE = fixed_recipe(noise=(1, 1), drift=1)  # of the noisy conditions, without their missing points
LASTING = 96  # frames; what of the noise stays the same for so long is no different from another person's body
TRANSIENT = int(FPS)  # frames of the shorter mean


def noise_alone(mocap: Mocap, soles: Soles, longest: int | None = None, most_clips: int | None = None) -> dict:
    """{group: {"points", "second", "lasting"}}: PA-MPJPE (mm) of the twelve limb landmarks where the detector saw them, put
    at their true depths; the same with the noise averaged over a second, and over LASTING frames."""
    sets = LandmarkSets(soles.body, list(LAYOUT_SHARE))
    rows = [POINT_INDEX[name] for name in NAMES]
    out = {}
    for group in ("plain", "hard"):
        sums = {"points": [], "second": [], "lasting": []}
        clips = [i for i, s in enumerate(mocap.subject) if s in GROUPS[group]][:most_clips]
        for clip in clips:
            batch, part = clip_batch(mocap, clip, sets, NOISE, longest)
            ok = mocap.ok[part]
            for b in visible(batch)[:CAMERAS]:
                truth = batch.points[b][:, rows]
                depth = truth[..., 2:]
                noise = torch.cat((batch.rays[b][:, rows] * depth, depth), -1) - truth
                for name, frames in (("points", 1), ("second", TRANSIENT), ("lasting", LASTING)):
                    mean = torch.cat([n.mean(0, keepdim=True).expand_as(n) for n in noise.split(frames)])
                    sums[name].append(pa_mpjpe(truth + mean, truth)[ok])
        out[group] = {name: float(torch.cat(values).mean()) for name, values in sums.items()}
    return out
