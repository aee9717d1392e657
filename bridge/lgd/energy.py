# SPDX-License-Identifier: GPL-3.0-or-later
"""The energies of video mode and their gradients in closed form.

Gradients are what the learned steps are fed; nothing here has a hand-set weight against anything else. Forces on points
become gradients of joint rotations through `pull_back` (the Jacobian transposed), so no automatic differentiation
runs at fitting time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.joints import LEVELS, PARENTS
from ..body.smpl import BELOW, BodyModel, Posed, Shaped, pull_back
from ..rotations import log_so3
from .observation import PERSON, Observation, project

EPS_POINT = 0.02  # boxes: reprojection errors below it count squared, above it linearly (Charbonnier)
EPS_ACC = 0.005  # m a frame^2
EPS_SLIDE = 0.01  # m a frame
FEET = (19, 17, 22, 20)  # internal points: left heel, left big toe, right heel, right big toe
LIMIT = 5.0
# Of `aimed`, in boxes a rad^2 (the pelvis's move: a m^2): less curvature than that counts as unseen.
DAMPING, DAMPING_ROOT, DAMPING_PLACE = 0.3, 0.1, 0.03


@dataclass
class Feedback:
    """What a step sees of the present state. residual (B, T, 30, 2) boxes; energy (B, T) robust reprojection error;
    turn (B, T, 72), shape (B, 10), focal (B, 1): gradients of the reprojection energy; aimed (B, T, 72) rad and place
    (B, T, 3) as the state's tau: the damped Gauss-Newton step; smooth, contact (B, T, 72): gradients of acceleration and
    of sliding; contact_place (B, T, 3); limits (B, T, 69) excess over learned limits."""

    residual: Tensor
    energy: Tensor
    turn: Tensor
    aimed: Tensor
    place: Tensor
    shape: Tensor
    focal: Tensor
    smooth: Tensor
    contact: Tensor
    contact_place: Tensor
    limits: Tensor


def _robust(residual: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Charbonnier energy and its derivative. residual: (..., C) -> (...), (..., C)."""
    root = (residual.square().sum(-1, keepdim=True) + eps * eps).sqrt()
    return root.squeeze(-1) - eps, residual / root


def feedback(
    posed: Posed, shaped: Shaped, rotations: Tensor, pelvis: Tensor, size: Tensor, obs: Observation,
    contact: Tensor, static: Tensor, limits: Tensor, body: BodyModel, directions: Tensor,
) -> Feedback:  # fmt: skip
    """All gradients at the present state.

    posed: in the virtual camera's frame; rotations: (B, T, 24, 3, 3); pelvis: (B, T, 3) m; size: (B, T, 1) with the
    focal correction applied; contact: (B, T, 4) in [0, 1]; static: (B); limits: (2, 23, 3) rad;
    directions: (B, 30, 3, 10) of the landmarks.
    """
    count, frames = pelvis.shape[:2]
    seen = (obs.confidence > 0).to(pelvis)
    projected = project(posed.points, size)
    residual = (projected - obs.points) * seen[..., None]
    each, force2 = _robust(residual, EPS_POINT)
    weight = obs.confidence
    number = seen.sum(-1).clamp_min(4)
    energy = (each * weight).sum(-1) / number
    force2 = (force2 * weight[..., None]).clamp(-1, 1)
    depth = posed.points[..., 2].clamp_min(0.1)
    unit = PERSON / (depth * size)
    force = torch.cat(
        (force2, -(force2 * posed.points[..., :2]).sum(-1, keepdim=True) / depth[..., None]), -1
    ) * unit[..., None]  # dE/dpoint times a person's height: of order one at any distance
    turn, _ = pull_back(posed, posed.points, shaped.parents, force)
    curvature = weight * seen / (residual.square().sum(-1) + EPS_POINT**2).sqrt()
    aimed, move = _aimed(posed, pelvis, size, shaped.parents, residual, curvature)
    away = pelvis[..., 2:].clamp_min(0.1)
    closer = move[..., 2:] / away
    place = torch.cat((closer, (move[..., :2] / away - pelvis[..., :2] / away * closer) / size), -1)
    relative = (depth - pelvis[..., 2:]) / depth
    focal = (force2 * projected).sum(-1).mul(relative).sum(-1).mean(1, keepdim=True)
    shape = _shape_gradient(posed, shaped.parents, force, body, directions)

    joints_cam = (posed.joints - pelvis[..., None, :]) @ obs.turn  # row vectors: turn^T applied
    smooth = _smoothness(posed, joints_cam, obs.turn)
    contact_turn, contact_place = _sliding(posed, obs.turn, contact * static[:, None, None])
    vectors = log_so3(rotations[:, :, 1:])
    excess = (vectors - limits[1]).clamp_min(0) + (vectors - limits[0]).clamp_max(0)
    flat = lambda g: g.reshape(count, frames, -1).clamp(-LIMIT, LIMIT)  # noqa: E731
    return Feedback(
        residual, energy, flat(turn), flat(aimed), flat(place), shape.clamp(-LIMIT, LIMIT), focal.clamp(-LIMIT, LIMIT), flat(smooth),
        flat(contact_turn), flat(contact_place), flat(excess),
    )  # fmt: skip


def _aimed(posed: Posed, pelvis: Tensor, size: Tensor, parents: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The damped Gauss-Newton (Levenberg-Marquardt) step of all joints and the pelvis together, with no matrix larger
    than 6 x 6: the system has the shape of a tree, as a robot's equations of motion have, and is solved as theirs are, by
    Featherstone's articulated-body algorithm (1983).

    residual: (B, T, 30, 2) boxes; weight: (B, T, 30) of its square. Returns the turns (B, T, 24, 3) rad in the joints'
    own axes and the pelvis's move (B, T, 3) m.
    A joint j turning by w moves a point x below it by w x (x - p_j) = w x x + v, v = p_j x w: one twist (w, v) about the
    pelvis for all points below. The rows of a point's projection against twists are (x x r, r).
    """
    x, y, z = (posed.points - pelvis[..., None, :]).unbind(-1)
    depth = posed.points[..., 2].clamp_min(0.1)
    a, b = (posed.points[..., :2] / depth[..., None]).unbind(-1)
    scale = weight.sqrt() / (depth * size)
    none = torch.zeros_like(scale)
    first = torch.stack((-a * y, z + a * x, -y, none + 1, none, -a), -1)
    second = torch.stack((-b * y - z, b * x, x, none, none + 1, -b), -1)
    rows = torch.cat((first, second), -2) * scale.repeat(1, 1, 2)[..., None]  # (B, T, 60, 6)
    error = (residual * weight.sqrt()[..., None]).transpose(-1, -2).flatten(2)
    on = torch.nn.functional.one_hot(parents.repeat(2), 24).to(rows).T  # (24, 60)
    inertia = (on @ (rows[..., _ROW] * rows[..., _COLUMN]))[..., _FULL].unflatten(-1, (6, 6))
    bias = on @ (rows * error[..., None])
    place = posed.joints - pelvis[..., None, :]
    px, py, pz = place.unbind(-1)
    none = torch.zeros_like(px)
    arm = torch.stack((none, pz, -py, -pz, none, px, py, -px, none), -1).unflatten(-1, (3, 3))  # v = arm^T w = p x w

    kept = []
    inertias, biases = _by_level(inertia), _by_level(bias)
    for level in range(len(LEVELS) - 1, 0, -1):
        m, f = inertias[level], biases[level]
        p = arm[..., LEVELS[level], :, :]
        u = m[..., :3] + m[..., 3:] @ p.transpose(-1, -2)  # (.., 6, 3) M S
        d = u[..., :3, :] + p @ u[..., 3:, :]
        inverse = _inverse(d, DAMPING)
        gain = u @ inverse
        torque = f[..., :3] + (p @ f[..., 3:, None]).squeeze(-1)
        kept.append((u, inverse, torque, p))
        m = m - gain @ u.transpose(-1, -2)
        f = f - (gain @ torque[..., None]).squeeze(-1)
        for child, parent in enumerate(_ABOVE[level]):
            inertias[level - 1][..., parent, :, :] += m[..., child, :, :]
            biases[level - 1][..., parent, :] += f[..., child, :]
    twist = _root_twist(inertias[0][..., 0, :, :], biases[0][..., 0, :])
    move = twist[..., 3:]
    twist = twist[..., None, :]
    turns = [twist[..., :3]]
    for level in range(1, len(LEVELS)):
        u, inverse, torque, p = kept[-level]
        above = twist[..., _ABOVE[level], :]
        turn = -(inverse @ (torque[..., None] + u.transpose(-1, -2) @ above[..., None])).squeeze(-1)
        twist = above + torch.cat((turn, (p.transpose(-1, -2) @ turn[..., None]).squeeze(-1)), -1)
        turns.append(turn)
    # Damped alike in all directions, so solved in the camera's axes.
    turned = (posed.world.transpose(-1, -2) @ torch.cat(turns, -2)[..., None]).squeeze(-1)
    return turned, move


_PAIRS = [(i, j) for i in range(6) for j in range(i, 6)]
_ROW, _COLUMN = [i for i, _ in _PAIRS], [j for _, j in _PAIRS]
_FULL = [_PAIRS.index((min(i, j), max(i, j))) for i in range(6) for j in range(6)]
_ABOVE = [[]] + [[upper.index(PARENTS[j]) for j in level] for upper, level in zip(LEVELS[:-1], LEVELS[1:])]


def _by_level(values: Tensor) -> list[Tensor]:
    """(B, T, 24, ...) split along the joints into the tree's levels; SMPL numbers its joints level by level."""
    return [part.clone() for part in values.split([len(level) for level in LEVELS], 2)]


def _root_twist(inertia: Tensor, bias: Tensor) -> Tensor:
    """The pelvis's twist (..., 6), its turn and its move damped each in its own measure."""
    mixed, move = inertia[..., :3, 3:], _inverse(inertia[..., 3:, 3:], DAMPING_PLACE)
    gain = mixed @ move
    inverse = _inverse(inertia[..., :3, :3] - gain @ mixed.transpose(-1, -2), DAMPING_ROOT)
    turn = -(inverse @ (bias[..., :3, None] - gain @ bias[..., 3:, None]))
    place = -(move @ (bias[..., 3:, None] + mixed.transpose(-1, -2) @ turn))
    return torch.cat((turn, place), -2).squeeze(-1)


def _inverse(matrix: Tensor, damping: float) -> Tensor:
    """Of symmetric (..., 3, 3) matrices plus `damping` on the diagonal, by the adjugate."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    xx, yy, zz = xx + damping, yy + damping, zz + damping
    axx, axy, axz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    ayy, ayz, azz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    parts = torch.stack((axx, axy, axz, axy, ayy, ayz, axz, ayz, azz), -1)
    return (parts / (xx * axx + xy * axy + xz * axz)[..., None]).unflatten(-1, (3, 3))


def _shape_gradient(posed: Posed, parents: Tensor, force: Tensor, body: BodyModel, directions: Tensor) -> Tensor:
    """Mean over time of dE/dbeta (B, 10): bones pull on all points below them, offsets on their own."""
    below = BELOW.to(force)[:, parents] @ force  # (B, T, 24, 3) force on each joint
    up = [max(p, 0) for p in PARENTS]
    bones = (posed.world[..., up, :, :].transpose(-1, -2) @ below[..., None]).squeeze(-1)
    bones[..., 0, :] = 0
    directions_bones = body.joint_shapes - body.joint_shapes[up]
    local = (posed.world[..., parents, :, :].transpose(-1, -2) @ force[..., None]).squeeze(-1)
    return torch.einsum("bjc,jcs->bs", bones.mean(1), directions_bones) + torch.einsum(
        "bkc,bkcs->bs", local.mean(1), directions
    )


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
    joints = torch.tensor([7, 10, 8, 11], device=force.device)
    return pull_back(posed, feet, joints, force)
