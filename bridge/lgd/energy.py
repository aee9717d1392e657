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
from ..body.smpl import BodyModel, Posed, Shaped, pull_back
from ..rotations import log_so3, times
from .observation import PERSON, Observation, project

EPS_POINT = 0.02  # boxes: reprojection errors below it count squared, above it linearly (Charbonnier)
EPS_ACC = 0.005  # m a frame^2
EPS_SLIDE = 0.01  # m a frame
FEET = (19, 17, 22, 20)  # internal points: left heel, left big toe, right heel, right big toe
LIMIT = 5.0
# Of `aimed`, in boxes a rad^2 (the pelvis's move: a m^2): less curvature than that counts as unseen.
DAMPING, DAMPING_ROOT, DAMPING_PLACE = 0.3, 0.1, 0.03
# A point's lasting offset: mean over this many frames before and after, drawn to zero as by this many seen frames more.
LASTING, LASTING_PRIOR = 60, 3.0


@dataclass
class Feedback:
    """What a step sees of the present state. residual (B, T, 30, 2) boxes; energy (B, T) robust reprojection error;
    turn (B, T, 72), shape (B, 10), focal (B, 1): gradients of the reprojection energy; aimed (B, T, 72) rad and place
    (B, T, 3) as the state's tau: the damped Gauss-Newton step; lasting (B, T, 30, 2) the part of the residual that stays
    the same over seconds, lasting_aimed, lasting_place what it adds to that step; smooth, contact (B, T, 72): gradients of
    acceleration and of sliding; contact_place (B, T, 3); limits (B, T, 69) excess over learned limits."""

    residual: Tensor
    energy: Tensor
    turn: Tensor
    aimed: Tensor
    place: Tensor
    lasting: Tensor
    lasting_aimed: Tensor
    lasting_place: Tensor
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


def reprojection_energy(posed: Posed, size: Tensor, obs: Observation) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (B, T, 30, 2) boxes, the points' energies (B, T, 30) times their confidence, and those's slopes (B, T, 30, 2)."""
    residual = (project(posed.points, size) - obs.points) * (obs.confidence > 0)[..., None]
    each, slope = _robust(residual, EPS_POINT)
    return residual, each * obs.confidence, slope * obs.confidence[..., None]


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
    residual, each, force2 = reprojection_energy(posed, size, obs)
    weight = obs.confidence
    number = seen.sum(-1).clamp_min(4)
    energy = each.sum(-1) / number
    force2 = force2.clamp(-1, 1)
    depth = posed.points[..., 2].clamp_min(0.1)
    unit = PERSON / (depth * size)
    force = torch.cat(
        (force2, -(force2 * posed.points[..., :2]).sum(-1, keepdim=True) / depth[..., None]), -1
    ) * unit[..., None]  # dE/dpoint times a person's height: of order one at any distance
    turn, below = pull_back(posed, posed.points, shaped.parents, force)
    curvature = weight * seen / (residual.square().sum(-1) + EPS_POINT**2).sqrt()
    lasting = _lasting(residual, curvature)
    errors = torch.stack((residual, lasting)) if frames > 1 else residual[None]
    aimed, move = _aimed(posed, pelvis, size, shaped.parents, errors, curvature)
    away = pelvis[..., 2:].clamp_min(0.1)
    closer = move[..., 2:] / away
    place = torch.cat((closer, (move[..., :2] / away - pelvis[..., :2] / away * closer) / size), -1)
    if frames == 1:  # nothing lasts
        aimed, place = (torch.cat((v, torch.zeros_like(v))) for v in (aimed, place))
    relative = (depth - pelvis[..., 2:]) / depth
    focal = (force2 * (residual + obs.points)).sum(-1).mul(relative).sum(-1).mean(1, keepdim=True)
    shape = _shape_gradient(posed, shaped.parents, force, below, body, directions)

    joints_cam = (posed.joints - pelvis[..., None, :]) @ obs.turn  # row vectors: turn^T applied
    smooth = _smoothness(posed, joints_cam, obs.turn)
    contact_turn, contact_place = _sliding(posed, obs.turn, contact * static[:, None, None])
    vectors = log_so3(rotations[:, :, 1:])
    excess = (vectors - limits[1]).clamp_min(0) + (vectors - limits[0]).clamp_max(0)
    flat = lambda g: g.reshape(count, frames, -1).clamp(-LIMIT, LIMIT)  # noqa: E731
    return Feedback(
        residual, energy, flat(turn), flat(aimed[0]), flat(place[0]), lasting, flat(aimed[1]), flat(place[1]),
        shape.clamp(-LIMIT, LIMIT), focal.clamp(-LIMIT, LIMIT), flat(smooth), flat(contact_turn), flat(contact_place),
        flat(excess),
    )  # fmt: skip


def _lasting(residual: Tensor, weight: Tensor) -> Tensor:
    """What stays of the residuals (B, T, 30, 2) in the robust mean over the seconds around: a detector that puts a point
    beside the body's landmark does so from frame to frame, while the pose changes. weight: (B, T, 30)."""
    frames = residual.shape[1]
    if frames == 1:
        return torch.zeros_like(residual)
    sums = torch.cat((residual * weight[..., None], weight[..., None]), -1).cumsum(1)
    sums = torch.nn.functional.pad(sums, (0, 0, 0, 0, 1, 0))
    at = torch.arange(frames, device=residual.device)
    around = sums[:, (at + LASTING + 1).clamp_max(frames)] - sums[:, (at - LASTING).clamp_min(0)]
    return around[..., :2] / (around[..., 2:] + LASTING_PRIOR / EPS_POINT)


def _aimed(posed: Posed, pelvis: Tensor, size: Tensor, parents: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The damped Gauss-Newton (Levenberg-Marquardt) step of all joints and the pelvis together, with no matrix larger
    than 6 x 6: the system has the shape of a tree, as a robot's equations of motion have, and is solved as theirs are, by
    Featherstone's articulated-body algorithm (1983).

    residual: (R, B, T, 30, 2) boxes, R of them, each solved for; weight: (B, T, 30) of its square. Returns the turns
    (R, B, T, 24, 3) rad in the joints' own axes and the pelvis's moves (R, B, T, 3) m.
    A joint j turning by w moves a point x below it by w x (x - p_j) = w x x + v, v = p_j x w: one twist (w, v) about the
    pelvis for all points below. The rows of a point's projection against twists are (x x r, r).
    Components come first and frames last within: all products of small matrices then are sums over whole rows of frames.
    """
    shape = pelvis.shape[:2]
    flat = lambda v: v.flatten(0, 1).movedim(0, -1)  # noqa: E731
    origin = flat(pelvis)
    points, joints = flat(posed.points).transpose(0, 1), flat(posed.joints).transpose(0, 1)  # (3, 30 | 24, N)
    x, y, z = points - origin[:, None]
    depth = points[2].clamp_min(0.1)
    a, b = points[0] / depth, points[1] / depth
    root = flat(weight).sqrt()
    scale = root / (depth * size.flatten())
    none = torch.zeros_like(z)
    first = torch.stack((-a * y, z + a * x, -y, none + 1, none, -a)) * scale  # (6, 30, N)
    second = torch.stack((-b * y - z, b * x, x, none, none + 1, -b)) * scale
    on = torch.nn.functional.one_hot(parents, 24).to(first).T  # (24, 30)
    pairs = torch.cat([(first[i] * first[i:]).addcmul_(second[i], second[i:]) for i in range(6)])
    inertia = (on @ pairs)[_FULL].unflatten(0, (6, 6))  # (6, 6, 24, N)
    error = residual.flatten(1, 2).permute(3, 0, 2, 1) * root  # (2, R, 30, N)
    bias = on @ (first[:, None] * error[0]).addcmul_(second[:, None], error[1])  # (6, R, 24, N)
    px, py, pz = joints - origin[:, None]
    none = torch.zeros_like(px)
    arm = torch.stack((none, pz, -py, -pz, none, px, py, -px, none)).unflatten(0, (3, 3))  # v = p x w = arm^T w

    kept = []
    for level, above in reversed(_LEVELS):
        m, f, p = inertia[:, :, level], bias[:, :, level], arm[:, :, level]
        u = times(m[:, 3:], p.transpose(0, 1)) + m[:, :3]  # (6, 3, n, N) M S
        inverse = _inverse(times(p, u[3:]) + u[:3], DAMPING)
        torque = times(p, f[3:]) + f[:3]
        kept.append((u, inverse, torque, p))
        gain = times(u, inverse)
        m = m - times(gain, u.transpose(0, 1))
        f = f - times(gain, torque)
        for child, parent in enumerate(above):
            inertia[:, :, parent] += m[:, :, child]
            bias[:, :, parent] += f[:, :, child]
    twists = torch.empty_like(bias)
    twists[:, :, 0] = _root_twist(inertia[:, :, 0], bias[:, :, 0])
    turns = [twists[:3, :, :1]]
    for (level, above), (u, inverse, torque, p) in zip(_LEVELS, reversed(kept), strict=True):
        before = twists[:, :, above]
        turn = -times(inverse, times(u.transpose(0, 1), before) + torque)
        twists[:, :, level] = before + torch.cat((turn, times(p.transpose(0, 1), turn)))
        turns.append(turn)
    # Damped alike in all directions, so solved in the camera's axes.
    unflat = lambda v: v.movedim((1, -1), (0, 1)).unflatten(1, shape)  # noqa: E731
    turned = unflat(torch.cat(turns, 2)).transpose(-1, -2)  # (R, B, T, 24, 3)
    return (posed.world.transpose(-1, -2) @ turned[..., None]).squeeze(-1), unflat(twists[3:, :, 0])


_PAIRS = [(i, j) for i in range(6) for j in range(i, 6)]
_FULL = [_PAIRS.index((min(i, j), max(i, j))) for i in range(6) for j in range(6)]
# SMPL numbers its joints level by level: a level's joints as a slice, and their parents.
_LEVELS = [(slice(level[0], level[-1] + 1), [PARENTS[j] for j in level]) for level in LEVELS[1:]]


def _root_twist(inertia: Tensor, bias: Tensor) -> Tensor:
    """The pelvis's twists (6, R, N), its turn and its move damped each in its own measure."""
    mixed, move = inertia[:3, 3:], _inverse(inertia[3:, 3:], DAMPING_PLACE)
    gain = times(mixed, move)
    inverse = _inverse(inertia[:3, :3] - times(gain, mixed.transpose(0, 1)), DAMPING_ROOT)
    turn = -times(inverse, bias[:3] - times(gain, bias[3:]))
    place = -times(move, bias[3:] + times(mixed.transpose(0, 1), turn))
    return torch.cat((turn, place))


def _inverse(matrix: Tensor, damping: float) -> Tensor:
    """Of symmetric (3, 3, ...) matrices plus `damping` on the diagonal, by the adjugate."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = matrix
    xx, yy, zz = xx + damping, yy + damping, zz + damping
    axx, axy, axz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    ayy, ayz, azz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    parts = torch.stack((axx, axy, axz, axy, ayy, ayz, axz, ayz, azz))
    return (parts / (xx * axx + xy * axy + xz * axz)).unflatten(0, (3, 3))


def _shape_gradient(
    posed: Posed, parents: Tensor, force: Tensor, below: Tensor, body: BodyModel, directions: Tensor
) -> Tensor:
    """Mean over time of dE/dbeta (B, 10): bones pull on all points below them, with the force `below` (B, T, 24, 3), offsets
    on their own."""
    up = [max(p, 0) for p in PARENTS]
    bones, local = (
        torch.einsum("btjik,btji->bjk", posed.world[..., rows, :, :], pull) / force.shape[1]
        for rows, pull in ((up, below), (parents, force))
    )
    bones[..., 0, :] = 0
    directions_bones = body.joint_shapes - body.joint_shapes[up]
    return torch.einsum("bjc,jcs->bs", bones, directions_bones) + torch.einsum("bkc,bkcs->bs", local, directions)


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
    turn, below = pull_back(posed, feet, joints, force)
    return turn, below[..., 0, :]
