# SPDX-License-Identifier: GPL-3.0-or-later
"""Accuracy figures on joints: PA-MPJPE, MPJPE, acceleration error, foot sliding. All in mm and seconds."""

import torch
from torch import Tensor


def procrustes(predicted: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """`predicted` moved, turned and scaled onto `truth` by least squares (Umeyama 1991).

    predicted, truth: (..., J, 3); weights: (..., J) or None. Returns (..., J, 3).
    """
    w = torch.ones_like(truth[..., 0]) if weights is None else weights
    w = (w / w.sum(-1, keepdim=True).clamp_min(1e-9))[..., None]
    mean_p, mean_t = (predicted * w).sum(-2, keepdim=True), (truth * w).sum(-2, keepdim=True)
    p, t = predicted - mean_p, truth - mean_t
    u, s, vh = torch.linalg.svd((p * w).transpose(-1, -2) @ t)
    sign = torch.sign(torch.linalg.det(u @ vh))
    flip = torch.ones_like(s)
    flip[..., 2] = sign
    rotation = (u * flip[..., None, :]) @ vh
    scale = (s * flip).sum(-1) / (p * p * w).sum((-1, -2)).clamp_min(1e-12)
    return scale[..., None, None] * p @ rotation + mean_t


def pa_mpjpe(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean joint error after Procrustes alignment of each frame, mm. (..., J, 3) m -> (...)."""
    return (procrustes(predicted, truth) - truth).norm(dim=-1).mean(-1) * 1000


def mpjpe(predicted: Tensor, truth: Tensor, root_p: Tensor, root_t: Tensor) -> Tensor:
    """Mean joint error with the roots (..., 3) laid on each other, mm."""
    return ((predicted - root_p[..., None, :]) - (truth - root_t[..., None, :])).norm(dim=-1).mean(-1) * 1000


def acceleration_error(predicted: Tensor, truth: Tensor, fps: float) -> Tensor:
    """Mean norm of the difference of second differences, m/s^2. (T, J, 3) m, roots removed -> (T - 2)."""
    second = lambda x: x[2:] - 2 * x[1:-1] + x[:-2]  # noqa: E731
    return (second(predicted) - second(truth)).norm(dim=-1).mean(-1) * fps**2


def sliding(predicted: Tensor, contact: Tensor) -> Tensor:
    """Horizontal motion of foot points while they touch, mm a frame.

    predicted: (T, 4, 3) m in a world with z up; contact: (T, 4) bool, true contacts. Returns the mean, NaN without any.
    """
    both = contact[1:] & contact[:-1]
    step = (predicted[1:] - predicted[:-1])[..., :2].norm(dim=-1) * 1000
    return step[both].mean()
