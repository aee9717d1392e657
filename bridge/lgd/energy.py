# SPDX-License-Identifier: GPL-3.0-or-later
"""The energies of video mode and their gradients in closed form.

Gradients are what the learned steps are fed; nothing here has a hand-set weight against anything else. Forces on points
become gradients of joint rotations through `pull_back` (the Jacobian transposed), so no automatic differentiation
runs at fitting time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.joints import PARENTS
from ..body.smpl import BELOW, BodyModel, Posed, Shaped, pull_back
from ..rotations import log_so3
from .observation import PERSON, Observation, project

EPS_POINT = 0.02  # boxes: reprojection errors below it count squared, above it linearly (Charbonnier)
EPS_ACC = 0.005  # m a frame^2
EPS_SLIDE = 0.01  # m a frame
FEET = (19, 17, 22, 20)  # internal points: left heel, left big toe, right heel, right big toe
LIMIT = 5.0
DAMPING = 0.1  # of `aimed`, boxes^2 a rad^2: below it an axis counts as unseen


@dataclass
class Feedback:
    """What a step sees of the present state. residual (B, T, 30, 2) boxes; energy (B, T) robust reprojection error;
    turn (B, T, 72), place (B, T, 3), shape (B, 10), focal (B, 1): gradients of the reprojection energy; aimed
    (B, T, 72) rad: turn over the energy's curvature, joint by joint; smooth, contact (B, T, 72): gradients of
    acceleration and of sliding; contact_place (B, T, 3); limits (B, T, 69) excess over learned limits."""

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
    turn, push = pull_back(posed, posed.points, shaped.parents, force)
    curvature = weight / (residual.square().sum(-1) + EPS_POINT**2).sqrt() * seen / (depth * size) ** 2
    aimed = _aimed(turn / PERSON, posed, pelvis, shaped.parents, curvature)
    place = torch.stack(
        ((push * pelvis).sum(-1) / PERSON, push[..., 0] * size[..., 0] * pelvis[..., 2] / PERSON,
         push[..., 1] * size[..., 0] * pelvis[..., 2] / PERSON), -1,
    )  # fmt: skip
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


def _aimed(gradient: Tensor, posed: Posed, pelvis: Tensor, parents: Tensor, curvature: Tensor) -> Tensor:
    """Each joint's gradient over its own Gauss-Newton curvature, damped: how far it would turn if it turned alone.

    gradient: (B, T, 24, 3) dE/dw; curvature: (B, T, 30) of the energy across the ray, 1/m^2. Returns (B, T, 24, 3) rad.
    A turn w about joint p moves point x across the rays by (w, (x - p) x r), r the two rows (1, 0, -a), (0, 1, -b) of the
    projection's Jacobian; the curvature is the sum of the outer squares of (x - p) x r = x x r - p x r over the points
    below p. All of it component by component: a thousand products of 3 x 3 matrices take longer.
    """
    x, y, z = (posed.points - pelvis[..., None, :]).unbind(-1)
    a, b = (posed.points[..., :2] / posed.points[..., 2:].clamp_min(0.1)).unbind(-1)
    first, second = (-a * y, z + a * x, -y), (-b * y - z, b * x, x)  # x x r of both rows
    parts = [(first[i] * first[j] + second[i] * second[j]) * curvature for i, j in _UPPER]
    for i in range(3):  # sum of (x x r)_i r
        one, two = first[i] * curvature, second[i] * curvature
        parts += [one, two, -(one * a + two * b)]
    parts += [curvature, -a * curvature, -b * curvature, (a * a + b * b) * curvature]
    below = torch.stack(parts, -2) @ BELOW.to(a)[:, parents].T  # (B, T, 19, 24)
    xx, xy, xz, yy, yz, zz, *mixed, c, ca, cb, cc = below.unbind(-2)
    p = (posed.joints - pelvis[..., None, :]).unbind(-1)
    turned = [_cross(p, mixed[3 * i : 3 * i + 3]) for i in range(3)]  # rows of sum (x x r) (p x r)^T
    none = torch.zeros_like(c)
    half = [_cross(p, row) for row in ((c, none, ca), (none, c, cb), (ca, cb, cc))]
    both = [_cross(p, [half[i][j] for i in range(3)]) for j in range(3)]  # sum (p x r) (p x r)^T
    summed = [
        m - turned[i][j] - turned[j][i] + both[j][i] + (DAMPING if i == j else 0)
        for m, (i, j) in zip((xx, xy, xz, yy, yz, zz), _UPPER, strict=True)
    ]
    # Damped alike in all directions, so it may be solved in the camera's axes.
    torque = (posed.world @ gradient[..., None]).squeeze(-1).unbind(-1)
    found = torch.stack(_solve_symmetric(summed, torque), -1)
    return (posed.world.transpose(-1, -2) @ found[..., None]).squeeze(-1)


_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def _cross(a, b) -> tuple[Tensor, Tensor, Tensor]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _solve_symmetric(matrix: list[Tensor], vector) -> list[Tensor]:
    """x with M x = v for symmetric 3 x 3 matrices given by their upper triangles, by the adjugate."""
    xx, xy, xz, yy, yz, zz = matrix
    axx, axy, axz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    ayy, ayz, azz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    inverse = 1 / (xx * axx + xy * axy + xz * axz)
    u, v, w = vector
    return [
        (axx * u + axy * v + axz * w) * inverse, (axy * u + ayy * v + ayz * w) * inverse,
        (axz * u + ayz * v + azz * w) * inverse,
    ]  # fmt: skip


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
