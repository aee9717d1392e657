# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's training data and loss: fixed camera, random yaw, +-20 degrees of pitch and roll, 20 % of points dropped.

One deviation, named: with `Phase.footage` the points are what a detector sees through a camera that is not the paper's.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..body.smpl import BodyModel
from ..lgd.observation import look_at
from ..lgd.paper import (
    TO_CAMERA,
    WEIGHTS18,
    Estimate,
    normalise,
    points18,
    pose_body,
    project_fixed,
    select_points,
)
from ..rotations import exp_so3, log_so3
from .data import Windows
from .recipe import TRAIN
from .synthesize import LandmarkSets, synthesize

# A fifth of the points is missing in the mean, as published; single frames cannot tell exchanged labels.
FOOTAGE = replace(
    TRAIN, noise=(0.0, 1.5), missing=(0.0, 0.4), clean_share=0.25, nobody=0.0, limb_swap=0.0, body_swap=0.0, drop_sets=0.1,
    frame_person=0.2,
)  # fmt: skip


@dataclass
class PaperBatch:
    """keypoints (N, 18, 2) px or rays and confidence (N, 18) as detected; the truth: points (N, 18, 2) px as the paper's camera
    sees them, theta (N, 72), betas (N, 10), points3d (N, 18, 3) m."""

    keypoints: Tensor
    confidence: Tensor
    points: Tensor
    theta: Tensor
    betas: Tensor
    points3d: Tensor


def _truth(rotations: Tensor, betas: Tensor, body: BodyModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    points3d = points18(pose_body(theta := log_so3(rotations).flatten(1), betas, body))
    return project_fixed(points3d), theta, betas, points3d


def paper_batch(windows: Windows, body: BodyModel, gen: torch.Generator) -> PaperBatch:
    """Turn single frames (B, 1) every way round before the fixed camera and drop each point with a chance of 0.2."""
    rotations = windows.rotations[:, 0].clone()
    count = len(rotations)
    zero = torch.zeros(count)
    yaw = torch.rand(count, generator=gen) * 2 * math.pi
    lean = (torch.rand(count, 2, generator=gen) * 2 - 1) * math.radians(20)
    turn = exp_so3(torch.stack((lean[:, 0], zero, lean[:, 1]), -1)) @ exp_so3(torch.stack((zero, yaw, zero), -1))
    rotations[:, 0] = turn @ rotations[:, 0]
    truth = _truth(rotations, torch.randn(count, 10, generator=gen).clamp(-2.5, 2.5), body)
    seen = (torch.rand(count, 18, generator=gen) < 0.8).float()
    return PaperBatch(truth[0], seen, *truth)


def footage_batch(windows: Windows, body: BodyModel, sets: LandmarkSets, gen: torch.Generator) -> PaperBatch:
    """Single frames (B, 1) as the detectors of footage see them: the data of video mode.

    The truth is the body before the paper's camera as it is turned to the ray that its pelvis lies on.
    """
    seen = synthesize(windows, sets, FOOTAGE, gen)
    rotations, pelvis = seen.rotations[:, 0].clone(), seen.pelvis[:, 0]
    turn = look_at(pelvis[:, :2] / pelvis[:, 2:])
    rotations[:, 0] = TO_CAMERA @ turn @ rotations[:, 0]
    return PaperBatch(*select_points(seen.rays[:, 0], seen.confidence[:, 0]), *_truth(rotations, seen.betas, body))


def paper_loss(estimates: list[Estimate], batch: PaperBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over the estimates of 0.3 2D + 0.3 3D + pose + shape, all L1. Returns the loss and the last step's parts."""
    target = normalise(batch.points, batch.confidence > 0)
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
    return total / len(estimates), {name: value.detach() for name, value in terms.items()}
