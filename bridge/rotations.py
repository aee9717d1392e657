# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations in torch: axis-angle, matrices, the 6D form, quaternions. Batched over leading dimensions."""

import torch
from torch import Tensor

SHORT = 32  # frames: below, the number of operations is what takes time


_SKEW = torch.tensor([[0, 0, 0, 0, 0, -1.0, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0]])


def skew(v: Tensor) -> Tensor:
    """Cross-product matrix. v: (..., 3). Returns (..., 3, 3) with skew(v) @ x = v x x."""
    return (v @ _SKEW.to(v)).unflatten(-1, (3, 3))


def _rodrigues(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|v|^2, sin|v| / |v| and (1 - cos|v|) / |v|^2 of v (..., 3), each (..., 1); finite, as their gradients, where v is zero."""
    square = (v * v).sum(-1, keepdim=True)
    angle = square.clamp_min(1e-12).sqrt()
    half = 0.5 * angle
    of_half = half.sin() / half
    return square, angle.sin() / angle, 0.5 * of_half * of_half


def exp_so3(v: Tensor) -> Tensor:
    """Rotation matrix of an axis-angle vector (Rodrigues). v: (..., 3) rad. Returns (..., 3, 3)."""
    square, a, b = _rodrigues(v)
    outer = (b * v)[..., None] * v[..., None, :]
    return torch.addcmul(outer, a[..., None], skew(v)) + (1 - b * square)[..., None] * torch.eye(3, dtype=v.dtype, device=v.device)


def log_so3(matrix: Tensor) -> Tensor:
    """Axis-angle vector of a rotation matrix, |v| <= pi. matrix: (..., 3, 3). Returns (..., 3) rad.

    From the skew part, and where that vanishes, near half a turn, through the quaternion.
    """
    m = matrix.flatten(-2).unbind(-1)
    sines = torch.stack((m[7] - m[5], m[2] - m[6], m[3] - m[1]), -1) / 2
    cosine = (m[0] + m[4] + m[8] - 1) / 2
    square = (sines * sines).sum(-1)
    small = (square < 1e-12) & (cosine > 0)
    sine = torch.where(small, torch.ones_like(square), square.clamp_min(1e-24)).sqrt()
    out = sines * torch.where(small, torch.ones_like(sine), torch.atan2(sine, cosine) / sine)[..., None]
    near_half = cosine < -0.99
    if matrix.device.type != "cpu":  # to ask would wait for a GPU, and cannot be recorded
        out = torch.where(near_half[..., None], _log_of_quaternion(matrix_to_quaternion(matrix)), out)
    elif bool(near_half.any()):
        out[near_half] = _log_of_quaternion(matrix_to_quaternion(matrix[near_half]))
    return out


def _log_of_quaternion(q: Tensor) -> Tensor:
    w, xyz = q[..., :1], q[..., 1:]
    norm = xyz.norm(dim=-1, keepdim=True)
    return xyz * (2 * torch.atan2(norm, w) / norm.clamp_min(1e-12))


def times(a: Tensor, b: Tensor) -> Tensor:
    """Product of small matrices whose components come first: (M, K, ...), (K, N, ...) -> (M, N, ...). As sums over whole
    rows of frames it takes a third of the time of a batched product of matrices this small."""
    if a.shape[-1] < SHORT:
        return (a[:, :, None] * b).sum(1)
    columns, rows = a[:, :, None].unbind(1), b.unbind()
    out = columns[0] * rows[0]
    for column, row in zip(columns[1:], rows[1:], strict=True):
        out.addcmul_(column, row)
    return out


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of vectors whose components come first: (3, ...), (3, ...) -> (3, ...)."""
    (ax, ay, az), (bx, by, bz) = a, b
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))


def components_first(v: Tensor, lead: torch.Size, rank: int) -> Tensor:
    """v, whose leading dimensions broadcast to `lead` and whose last `rank` are a tensor, as (components..., N), N = all of
    `lead` flattened."""
    return v.expand(*lead, *v.shape[-rank:]).reshape(-1, *v.shape[-rank:]).movedim(0, -1)


def components_last(v: Tensor, lead: torch.Size) -> Tensor:
    """The inverse of `components_first`, as a view."""
    v = v.movedim(-1, 0)
    return v.unflatten(0, lead) if lead else v[0]


def gradient_of_vector(v: Tensor, turn: Tensor) -> Tensor:
    """Gradient of an energy with respect to an axis-angle vector v (..., 3) rad, from its gradient `turn` (..., 3) with respect to
    w in exp(v) exp(w): the right Jacobian transposed."""
    square, a, b = _rodrigues(v)
    across = torch.linalg.cross(v, turn)
    c = (1 - a) / square.clamp_min(1e-12)
    return turn + b * across + c * torch.linalg.cross(v, across)


def from_6d(six: Tensor) -> Tensor:
    """Rotation matrix from its first two columns, orthonormalised (Zhou et al. 2019). six: (..., 6) -> (..., 3, 3)."""
    a, b = six[..., :3], six[..., 3:]
    x = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    b = b - (x * b).sum(-1, keepdim=True) * x
    y = b / b.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), -1)


def to_6d(matrix: Tensor) -> Tensor:
    """First two columns of a rotation matrix. matrix: (..., 3, 3) -> (..., 6)."""
    return torch.cat((matrix[..., 0], matrix[..., 1]), -1)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z), w >= 0. matrix: (..., 3, 3) -> (..., 4)."""
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    squares = torch.stack(
        (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), -1
    ).clamp_min(0)
    a = matrix[..., 2, 1] - matrix[..., 1, 2]
    b = matrix[..., 0, 2] - matrix[..., 2, 0]
    c = matrix[..., 1, 0] - matrix[..., 0, 1]
    d = matrix[..., 1, 0] + matrix[..., 0, 1]
    e = matrix[..., 0, 2] + matrix[..., 2, 0]
    f = matrix[..., 2, 1] + matrix[..., 1, 2]
    s0, s1, s2, s3 = squares.unbind(-1)
    rows = torch.stack(
        (
            torch.stack((s0, a, b, c), -1),
            torch.stack((a, s1, d, e), -1),
            torch.stack((b, d, s2, f), -1),
            torch.stack((c, e, f, s3), -1),
        ),
        -2,
    )
    best = squares.argmax(-1)
    q = torch.gather(rows, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return torch.where(q[..., :1] < 0, -q, q)


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Rotation matrix of a quaternion (w, x, y, z) of any length. q: (..., 4) -> (..., 3, 3)."""
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True).clamp_min(1e-12)).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def resample_rotations(matrices: Tensor, times: Tensor, new_times: Tensor, smooth: bool = False) -> Tensor:
    """Rotations at new times, turning evenly between neighbours; the ends are held.

    matrices: (F, ..., 3, 3) at times (F) s, rising; new_times: (G) s; smooth: without a kink at the neighbours, for what
    moves on from one to the next. Returns (G, ..., 3, 3).
    """
    if len(times) == 1:
        return matrices.expand(len(new_times), *matrices.shape[1:])
    steps = log_so3(matrices[:-1].transpose(-1, -2) @ matrices[1:])
    left, along = _along(steps, times, new_times, smooth)
    return matrices[left] @ exp_so3(along)


def resample_values(values: Tensor, times: Tensor, new_times: Tensor, smooth: bool = False) -> Tensor:
    """Values at new times in straight lines, or smoothly; the ends are held. values: (F, ...), times (F) s, new_times (G) s
    -> (G, ...)."""
    if len(times) == 1:
        return values.expand(len(new_times), *values.shape[1:])
    left, along = _along(values[1:] - values[:-1], times, new_times, smooth)
    return values[left] + along


def _along(steps: Tensor, times: Tensor, new_times: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
    """The neighbour (G) before each new time, and what lies between it and that time (G, ...): a part of the `steps`
    (F - 1, ...) from each neighbour to the next. Smooth is the Hermite cubic whose speed at a neighbour is that of the
    parabola through it and the two beside it."""
    left = (torch.searchsorted(times, new_times.contiguous()) - 1).clamp(0, len(steps) - 1)
    column = lambda v: v.to(steps.dtype).reshape(-1, *([1] * (steps.dim() - 1)))  # noqa: E731
    spans = times[1:] - times[:-1]
    s = column(((new_times - times[left]) / spans[left]).clamp(0, 1))
    if not smooth:
        return left, steps[left] * s
    spans = column(spans)
    speed = steps / spans
    inner = (speed[:-1] * spans[1:] + speed[1:] * spans[:-1]) / (spans[1:] + spans[:-1])
    speed = torch.cat((speed[:1], inner, speed[-1:]))
    before, after = speed[left] * spans[left], speed[left + 1] * spans[left]
    return left, s * (1 - s) ** 2 * before + s * s * (3 - 2 * s) * steps[left] - s * s * (1 - s) * after
