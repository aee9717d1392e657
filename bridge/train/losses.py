# SPDX-License-Identifier: GPL-3.0-or-later
"""Training losses of video mode, over the estimates of all steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..lgd.energy import FEET
from ..lgd.observation import Observation, locate_pelvis, look_at, project
from ..lgd.video import ClipBody, State
from .synthesize import Batch

# Wrists and ankles 8, elbows and knees 4, shoulders and hips 2, others 1 (the paper's weights).
JOINT_WEIGHTS = torch.ones(24)
JOINT_WEIGHTS[[7, 8, 20, 21]] = 8
JOINT_WEIGHTS[[4, 5, 18, 19]] = 4
JOINT_WEIGHTS[[1, 2, 16, 17]] = 2
JOINT_WEIGHTS[[10, 11]] = 3
JOINT_WEIGHTS = JOINT_WEIGHTS / JOINT_WEIGHTS.mean()
DECAY = 0.7
FIRST = 1.5  # what the first estimate weighs, whatever the number of steps: they all start from the depths that it guesses


@dataclass
class Target:
    """The truth as the virtual camera sees it."""

    rotations: Tensor
    tau: Tensor
    joints: Tensor  # (B, T, 24, 3) m about the pelvis
    projected: Tensor  # (B, T, 30, 2) boxes, without noise
    feet: Tensor  # (B, T, 4, 3) m, camera frame
    contact: Tensor  # (B, T, 6) in [0, 1]
    up: Tensor
    focal: Tensor  # (B, 1)
    betas: Tensor


def target_of(batch: Batch, obs: Observation) -> Target:
    """What the network should have said for this batch."""
    focal = batch.log_focal[:, None]
    turn = look_at(obs.centre * (-focal).exp()[:, None])
    size = obs.size * (-focal).exp()[:, None]
    rotations = batch.rotations.clone()
    rotations[:, :, 0] = turn @ batch.rotations[:, :, 0]
    pelvis = (turn @ batch.pelvis[..., None]).squeeze(-1)
    back = turn.transpose(-1, -2)
    joints = (batch.joints - batch.pelvis[:, :, None]) @ back
    projected = project(batch.points @ back, size)
    moving = torch.cat((batch.points[:, :, FEET], batch.joints[:, :, 20:22]), 2)
    contact = torch.zeros_like(moving[..., 0])
    if moving.shape[1] > 2:
        speed = (moving[:, 2:] - moving[:, :-2]).norm(dim=-1) / 2
        contact[:, 1:-1] = torch.sigmoid((0.010 - speed) / 0.002)
        contact[:, 0], contact[:, -1] = contact[:, 1], contact[:, -2]
    up = (turn @ batch.up[..., None]).squeeze(-1)
    return Target(
        rotations, locate_pelvis(pelvis, size), joints, projected.clamp(-4, 4), batch.points[:, :, FEET], contact, up,
        focal * (1 - batch.focal_known[:, None]), batch.betas,
    )  # fmt: skip


def video_loss(
    states: list[State], body: ClipBody, obs: Observation, target: Target, batch: Batch, motion: float | Tensor = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over the steps, later ones weighing more. Returns the loss and its parts at the last step.

    motion: share of the terms on motion over time. A network that comes from single frames jitters so much that these
    terms at full weight would at first pull it away from the poses it knows.
    """
    total = torch.zeros(())
    parts: dict[str, Tensor] = {}
    last = len(states) - 1
    weights = [DECAY ** (last - k) for k in range(len(states))]
    weights[0] = max(weights[0], FIRST)
    for k, (state, weight) in enumerate(zip(states, weights, strict=True)):
        terms = _terms(state, body, obs, target, batch, motion)
        total = total + weight * sum(terms.values())
        if k == last:
            parts = {name: value.detach() for name, value in terms.items()}
    return total / sum(weights), parts


def _terms(
    state: State, body: ClipBody, obs: Observation, target: Target, batch: Batch, motion: float | Tensor
) -> dict[str, Tensor]:
    posed = body.posed(state, obs)
    size = state.size(obs.size)
    pelvis = state.pelvis(obs.size)
    joints = posed.joints - pelvis[:, :, None]
    error = joints - target.joints
    distance = error.norm(dim=-1)
    terms = {
        "joints": 5 * (distance * JOINT_WEIGHTS).mean(),
        "rotations": 2 * (state.rotations - target.rotations).abs().mean(),
        "points": 3 * (project(posed.points, size) - target.projected).abs().clamp(max=1).mean(),
        "betas": 0.3 * (state.betas - target.betas).abs().mean(),
        "tau": 0.5 * (state.tau - target.tau).abs().clamp(max=2).mean(),
        "focal": 0.3 * (state.focal - target.focal).abs().mean(),
        "up": 0.3 * (state.up - target.up).abs().mean(),
        "doubt": 0.05 * (state.doubt - (distance.detach() + 1e-3).log()).abs().mean(),
    }
    frames = joints.shape[1]
    if frames > 2:
        velocity = error[:, 1:] - error[:, :-1]
        terms["velocity"] = motion * 12 * velocity.abs().mean()
        terms["acceleration"] = motion * 14 * (velocity[:, 1:] - velocity[:, :-1]).abs().mean()
        turn = state.camera_turn(obs)
        feet = posed.points[:, :, FEET] @ turn
        slip = (feet - target.feet)[:, 1:] - (feet - target.feet)[:, :-1]
        steady = batch.static[:, None, None]
        terms["feet"] = motion * 2 * (slip.norm(dim=-1) * steady).mean()
        still = target.contact[:, 1:, :4] * steady * batch.contact_ok[:, None, None]
        terms["slide"] = motion * 4 * ((feet[:, 1:] - feet[:, :-1]).norm(dim=-1) * still).mean()
        touch = torch.nn.functional.binary_cross_entropy_with_logits(state.contact, target.contact, reduction="none")
        terms["contact"] = 1.0 * (touch * batch.contact_ok[:, None, None]).mean()
    return terms


def doubt_loss(doubt: Tensor, state: State, body: ClipBody, obs: Observation, target: Target) -> Tensor:
    """Negative log-likelihood of the joints' errors about the hips, each as the length of an exponential distribution whose mean is
    its doubt (B, T, 24; log m)."""
    joints = body.posed(state, obs).joints
    about = lambda j: j - j[:, :, 1:3].mean(2, keepdim=True)  # noqa: E731
    error = (about(joints) - about(target.joints)).norm(dim=-1)
    return (error * (-doubt).exp() + doubt).mean()


def touch_loss(logits: Tensor, target: Target, batch: Batch) -> Tensor:
    """Cross-entropy of the points at rest, on clips whose contacts are as captured."""
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.contact, reduction="none")
    true = batch.contact_ok[:, None, None].expand_as(each)
    return (each * true).sum() / true.sum().clamp_min(1)
