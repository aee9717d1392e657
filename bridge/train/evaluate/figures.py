# SPDX-License-Identifier: GPL-3.0-or-later
"""From predictions to figures: PA-MPJPE, MPJPE, acceleration error, sliding, ground, over many clips."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...body.joints import LIMBS
from ..metrics import acceleration_error, mpjpe, pa_mpjpe, sliding
from .cases import FPS, Case

REST = 0.010  # m a frame: a true sole point slower than this touches (grounded clips)
ROWS = list(LIMBS)


@dataclass
class Prediction:
    """joints (T, 24, 3) m, camera frame; soles (T, 4, 3) m, same; doubt (T, 24) m or confidence (T, 24); betas (10);
    heights (T, 4) m of the soles above the ground that was found, None for the truth."""

    joints: Tensor
    soles: Tensor
    confidence: Tensor
    betas: Tensor
    heights: Tensor | None = None


def limbs(joints: Tensor) -> Tensor:
    """The 12 limb joints (..., 12, 3) of SMPL's 24."""
    return joints[..., ROWS, :]


def hips(joints: Tensor) -> Tensor:
    """Midpoint of the hip joints (..., 3)."""
    return (joints[..., 1, :] + joints[..., 2, :]) / 2


def frame_errors(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """PA-MPJPE and MPJPE (T) in mm of joints (T, 24, 3)."""
    p, t = limbs(predicted), limbs(truth)
    return pa_mpjpe(p, t), mpjpe(p, t, hips(predicted), hips(truth))


def true_contacts(case: Case) -> Tensor:
    """(T, 4) bool: sole points at rest by central differences."""
    if case.frames < 3 or not case.grounded:
        return torch.zeros(case.frames, 4, dtype=torch.bool)
    speed = (case.soles[2:] - case.soles[:-2]).norm(dim=-1) / 2
    speed = torch.cat((speed[:1], speed, speed[-1:]))
    return speed < REST


def to_world(points: Tensor, up: Tensor) -> Tensor:
    """Camera-frame points (..., 3) turned so that z points along `up` (3)."""
    z = up / up.norm()
    x = torch.linalg.cross(z, torch.tensor([0.0, 0.0, 1.0]), dim=-1)
    if x.norm() < 1e-3:
        x = torch.tensor([1.0, 0.0, 0.0])
    x = x / x.norm()
    return points @ torch.stack((x, torch.linalg.cross(z, x, dim=-1), z)).T


@dataclass
class Sums:
    """Running means over clips, by group and figure."""

    values: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)

    def add(self, group: str, name: str, values) -> None:
        values = np.atleast_1d(np.asarray(values, float))
        self.values.setdefault((group, name), []).append(values[np.isfinite(values)])

    def mean(self, group: str, name: str) -> float | None:
        parts = self.values.get((group, name))
        joined = np.concatenate(parts) if parts else np.empty(0)
        return float(joined.mean()) if len(joined) else None

    def table(self) -> dict[str, dict[str, float | None]]:
        out: dict[str, dict[str, float | None]] = {}
        for group, name in self.values:
            out.setdefault(group, {})[name] = self.mean(group, name)
        return out


def score(case: Case, prediction: Prediction, sums: Sums) -> None:
    """Add one clip's figures: pa, mpjpe (mm), acc (m/s^2); of true contacts only: slide (mm a frame), and ground, how far
    from the ground that was found such feet are (mm)."""
    pa, plain = frame_errors(prediction.joints, case.joints)
    ok = case.ok
    sums.add(case.group, "pa", pa[ok])
    sums.add(case.group, "mpjpe", plain[ok])
    if case.frames > 2:
        p, t = (limbs(j) - hips(j)[:, None] for j in (prediction.joints, case.joints))
        sums.add(case.group, "acc", acceleration_error(p, t, FPS)[ok[2:] & ok[1:-1] & ok[:-2]])
    contact = true_contacts(case)
    if contact.any():
        if prediction.heights is not None:
            sums.add(case.group, "ground", 1000 * prediction.heights[contact].abs())
        both = contact[1:] & contact[:-1]
        if both.any():
            mean = float(sliding(to_world(prediction.soles, case.up), contact))
            # Weighted by the number of touching points: repeated, so that the mean over clips is one over contacts.
            sums.add(case.group, "slide", np.full(int(both.sum()), mean))
