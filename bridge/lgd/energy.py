# SPDX-License-Identifier: GPL-3.0-or-later
"""The energies of video mode and their gradients in closed form.

Gradients are what the learned steps are fed; nothing here has a hand-set weight against anything else. Forces on points
become gradients of joint rotations through `pull_back` (the Jacobian transposed), so no automatic differentiation
runs at fitting time. The steps toward the least reprojection error are `newton`'s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.smpl import BodyModel, Posed, Shaped, pull_back
from ..rotations import log_so3
from .newton import Tree, clip_step, pose_step, usual_damping
from .observation import PERSON, Observation, project, running_mean

EPS_POINT = 0.02  # boxes: reprojection errors below it count squared, above it linearly (Charbonnier)
EPS_ACC = 0.005  # m a frame^2
EPS_SLIDE = 0.01  # m a frame
FEET = torch.tensor((19, 17, 22, 20))  # internal points: left heel, left big toe, right heel, right big toe
FEET_JOINTS = torch.tensor((7, 10, 8, 11))  # what each hangs on
LIMIT = 5.0
LASTING_PRIOR = 3.0  # seen frames: a point's lasting offset is drawn to zero as by this many


@dataclass
class Feedback:
    """What a step sees of the present state. residual (B, T, 30, 2) boxes; energy (B, T) robust reprojection error;
    turn (B, T, 72): gradient of the reprojection energy; aimed (B, T, 72) rad and place (B, T, 3) as the state's tau: the
    damped Gauss-Newton step; lasting (B, T, 30, 2) the part of the residual that stays the same over seconds, lasting_aimed,
    lasting_place what it adds to that step; clip (B, 11, 2): the Gauss-Newton steps of betas and log focal length, by their
    damping; smooth, contact (B, T, 72): gradients of acceleration and of sliding; contact_place (B, T, 3); limits
    (B, T, 69) excess over learned limits."""

    residual: Tensor
    energy: Tensor
    turn: Tensor
    aimed: Tensor
    place: Tensor
    lasting: Tensor
    lasting_aimed: Tensor
    lasting_place: Tensor
    clip: Tensor
    smooth: Tensor
    contact: Tensor
    contact_place: Tensor
    limits: Tensor


def _robust(residual: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Charbonnier energy and its derivative. residual: (..., C) -> (...), (..., C)."""
    root = (residual.square().sum(-1, keepdim=True) + eps * eps).sqrt()
    return root.squeeze(-1) - eps, residual / root


def reprojection_energy(posed: Posed, size: Tensor, obs: Observation) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (B, T, 30, 2) boxes, the points' energies (B, T, 30) times their confidence, and those's slopes (B, T, 30, 2)."""
    residual = (project(posed.points, size) - obs.points) * (obs.confidence > 0)[..., None]
    each, slope = _robust(residual, EPS_POINT)
    return residual, each * obs.confidence, slope * obs.confidence[..., None]


def feedback(
    posed: Posed, shaped: Shaped, rotations: Tensor, pelvis: Tensor, size: Tensor, obs: Observation,
    contact: Tensor, static: Tensor, asked: Tensor, limits: Tensor, body: BodyModel, directions: Tensor,
    damping: Tensor,
) -> Feedback:  # fmt: skip
    """All gradients at the present state, which is taken as given: only `damping` is learned, through the steps.

    posed: in the virtual camera's frame; rotations: (B, T, 24, 3, 3); pelvis: (B, T, 3) m; size: (B, T, 1) with the
    focal correction applied; contact: (B, T, 4) in [0, 1]; static: (B); asked: (B, 11) in {0, 1}, which of betas and
    focal length are to be found; limits: (2, 23, 3) rad; directions: (B, 30, 3, 10) of the landmarks; damping:
    (B, T, 25) of the joints' turns and the pelvis's move, as logarithms against the usual.
    """
    count, frames = pelvis.shape[:2]
    flat = lambda g: g.reshape(count, frames, -1).clamp(-LIMIT, LIMIT)  # noqa: E731
    seen = (obs.confidence > 0).to(pelvis)
    residual, each, force2 = reprojection_energy(posed, size, obs)
    energy = each.sum(-1) / seen.sum(-1).clamp_min(4)
    force2 = force2.clamp(-1, 1)
    depth = posed.points[..., 2].clamp_min(0.1)
    unit = PERSON / (depth * size)
    force = torch.cat(
        (force2, -(force2 * posed.points[..., :2]).sum(-1, keepdim=True) / depth[..., None]), -1
    ) * unit[..., None]  # dE/dpoint times a person's height: of order one at any distance
    turn, _ = pull_back(posed, posed.points, shaped.parents, force)
    weight = obs.confidence * seen / (residual.square().sum(-1) + EPS_POINT**2).sqrt()
    lasting = _lasting(residual, weight)
    joints_cam = (posed.joints - pelvis[..., None, :]) @ obs.turn  # row vectors: turn^T applied
    smooth = _smoothness(posed, joints_cam, obs.turn)
    contact_turn, contact_place = _sliding(posed, obs.turn, contact * static[:, None, None])
    vectors = log_so3(rotations[:, :, 1:])
    excess = (vectors - limits[1]).clamp_min(0) + (vectors - limits[0]).clamp_max(0)
    tree = Tree(posed, pelvis, size, shaped.parents, weight, usual_damping(pelvis) * damping.detach().exp())
    clip = clip_step(tree, posed, pelvis, size, residual, body, directions, asked)
    error = tree.weighted(torch.stack((residual, lasting)) if frames > 1 else residual[None])
    aimed, move = pose_step(tree, error, posed.world, damping)
    place = _as_tau(move, pelvis, size)
    if frames == 1:  # nothing lasts
        aimed, place = (torch.cat((v, torch.zeros_like(v))) for v in (aimed, place))
    aimed, place = [flat(v) for v in aimed], [flat(v) for v in place]
    return Feedback(
        residual, energy, flat(turn), aimed[0], place[0], lasting, aimed[1], place[1], clip.clamp(-LIMIT, LIMIT),
        flat(smooth), flat(contact_turn), flat(contact_place), flat(excess),
    )  # fmt: skip


def _as_tau(move: Tensor, pelvis: Tensor, size: Tensor) -> Tensor:
    """Small moves (R, B, T, 3) m of the pelvis (B, T, 3) as changes of a state's tau. size: (B, T, 1)."""
    away = pelvis[..., 2:].clamp_min(0.1)
    closer = move[..., 2:] / away
    return torch.cat((closer, (move[..., :2] / away - pelvis[..., :2] / away * closer) / size), -1)


def _lasting(residual: Tensor, weight: Tensor) -> Tensor:
    """What stays of the residuals (B, T, 30, 2) in the robust mean over the seconds around: a detector that puts a point
    beside the body's landmark does so from frame to frame, while the pose changes. weight: (B, T, 30)."""
    if residual.shape[1] == 1:
        return torch.zeros_like(residual)
    return running_mean(residual, weight, LASTING_PRIOR / EPS_POINT)


def _smoothness(posed: Posed, joints_cam: Tensor, turn: Tensor) -> Tensor:
    """dE/dw (B, T, 24, 3) of the summed acceleration of the joints about the pelvis."""
    if joints_cam.shape[1] < 3:
        return torch.zeros_like(posed.joints)
    second = joints_cam[:, 2:] - 2 * joints_cam[:, 1:-1] + joints_cam[:, :-2]
    _, f = _robust(second, EPS_ACC)
    f = torch.nn.functional.pad(f, (0, 0, 0, 0, 2, 2))
    force = f[:, :-2] - 2 * f[:, 1:-1] + f[:, 2:]
    force = force @ turn.transpose(-1, -2)
    return pull_back(posed, posed.joints, torch.arange(24, device=force.device), force)[0]


def _sliding(posed: Posed, turn: Tensor, contact: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the feet's motion while they touch: rotations (B, T, 24, 3) and pelvis (B, T, 3)."""
    feet = posed.points[:, :, FEET]
    if feet.shape[1] < 2:
        return torch.zeros_like(posed.joints), torch.zeros_like(posed.joints[..., 0, :])
    in_camera = feet @ turn
    touching = torch.minimum(contact[:, 1:], contact[:, :-1])
    _, f = _robust(in_camera[:, 1:] - in_camera[:, :-1], EPS_SLIDE)
    f = torch.nn.functional.pad(f * touching[..., None], (0, 0, 0, 0, 1, 1))
    force = (f[:, :-1] - f[:, 1:]) @ turn.transpose(-1, -2)
    turn, below = pull_back(posed, feet, FEET_JOINTS, force)
    return turn, below[..., 0, :]
