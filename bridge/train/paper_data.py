# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's training data and loss: fixed camera, random yaw, +-20 degrees of pitch and roll, 20 % of points dropped.

Two deviations, named: `Phase.noise` disturbs the points as a detector does, `Phase.tilt` tilts the camera further.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.smpl import BodyModel
from ..lgd.paper import INTERNAL, WEIGHTS18, Estimate, normalise, points18, pose_body, project_fixed
from ..rotations import exp_so3, log_so3
from .data import Windows
from .synthesize import TRAIN, table_noise


@dataclass
class PaperBatch:
    """keypoints (N, 18, 2) px as detected, seen (N, 18) in {0, 1}; points (N, 18, 2) px, theta (N, 72), betas (N, 10),
    points3d (N, 18, 3) m: the truth."""

    keypoints: Tensor
    points: Tensor
    seen: Tensor
    theta: Tensor
    betas: Tensor
    points3d: Tensor


def paper_batch(windows: Windows, body: BodyModel, gen: torch.Generator, noise: float = 0.0, tilt: float = 20.0) -> PaperBatch:
    """Turn single frames (B, 1) every way round before the fixed camera and drop each point with a chance of 0.2.

    noise: most gain of the noise tables; every frame has its own, a third of them none; tilt: most pitch and roll, degrees.
    """
    rotations = windows.rotations[:, 0].clone()
    count = len(rotations)
    zero = torch.zeros(count)
    yaw = torch.rand(count, generator=gen) * 2 * math.pi
    lean = (torch.rand(count, 2, generator=gen) * 2 - 1) * math.radians(tilt)
    turn = exp_so3(torch.stack((lean[:, 0], zero, lean[:, 1]), -1)) @ exp_so3(torch.stack((zero, yaw, zero), -1))
    rotations[:, 0] = turn @ rotations[:, 0]
    theta = log_so3(rotations).flatten(1)
    betas = torch.randn(count, 10, generator=gen).clamp(-2.5, 2.5)
    points3d = points18(pose_body(theta, betas, body))
    seen = (torch.rand(count, 18, generator=gen) < 0.8).float()
    points = project_fixed(points3d)
    keypoints = points
    if noise:
        gain = (torch.rand(count, 1, 1, 1, generator=gen) * 1.5 - 0.5).clamp_min(0) * noise
        keypoints = project_fixed(points3d + table_noise(points3d[:, None].shape, INTERNAL, gain, TRAIN.own_noise, gen)[:, 0])
    return PaperBatch(keypoints, points, seen, theta, betas, points3d)


def paper_loss(estimates: list[Estimate], batch: PaperBatch) -> tuple[Tensor, dict[str, float]]:
    """Mean over the estimates of 0.3 2D + 0.3 3D + pose + shape, all L1. Returns the loss and the last step's parts."""
    target = normalise(batch.points, batch.seen > 0)
    weights = WEIGHTS18[:, None]
    total = torch.zeros(())
    for estimate in estimates:
        terms = {
            "points": 0.3 * ((estimate.points - target).abs() * weights).mean(),
            "joints": 0.3 * ((estimate.points3d - batch.points3d).abs() * weights).mean(),
            "pose": (estimate.theta - batch.theta).abs().mean(),
            "betas": (estimate.betas - batch.betas).abs().mean(),
        }
        total = total + sum(terms.values())
    return total / len(estimates), {name: float(value.detach()) for name, value in terms.items()}
