# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured on: whole clips of subjects that no network has seen, from four seeded static cameras each, under
several kinds of 2D. The cameras are the same under every condition."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...body.smpl import BodyModel
from ...keypoints.formats import from_internal
from ...keypoints.tracks import Keypoints
from ...rotations import quaternion_to_matrix
from ..data import VAL_HARD, VAL_PLAIN, VAL_WALK, Mocap, Windows
from ..recipe import LAYOUT_SHARE, Recipe, fixed_recipe
from ..synthesize import Batch, LandmarkSets, synthesize
from ..synthetic_detector import spans

GROUPS = {"plain": VAL_PLAIN, "hard": VAL_HARD, "walk": VAL_WALK}
CONDITIONS = {
    "clean": fixed_recipe(),
    "missing": fixed_recipe(missing=(0.2, 0.2)),
    "noise 5%": fixed_recipe(noise=(1, 1), drift=1, missing=(0.05, 0.05)),
    "noise 20%": fixed_recipe(noise=(1, 1), drift=1, missing=(0.2, 0.2)),
    "spans": fixed_recipe(noise=(1, 1), drift=1, missing=(0.05, 0.05)),
}
SPANS = Recipe(limb_spans=0.6, nobody=0.0)  # drawn anew for every SPAN_PIECE frames of the clip
SPAN_PIECE = 96
CAMERAS = 4
CANDIDATES = 8  # cameras drawn, of which the first four that keep the person in view are taken
IN_VIEW = 0.85  # tangent that the pelvis must stay within
FOCAL, IMAGE = 1900.0, (1920, 1080)  # px: rays become pixels of such an image; what lies outside it is kept
FPS = 30.0


@dataclass
class Case:
    """One clip before one camera. rays (T, 30, 2), confidence (T, 30), as detected; the truth in the camera frame:
    rotations (T, 24, 3, 3), joints (T, 24, 3) m, betas (10), up (3), soles (T, 4, 3) m; ok (T) no glitch; grounded:
    captured on flat ground."""

    clip: int
    number: int
    group: str
    layout: str
    rays: Tensor
    confidence: Tensor
    rotations: Tensor
    joints: Tensor
    betas: Tensor
    up: Tensor
    soles: Tensor
    ok: Tensor
    grounded: bool

    @property
    def frames(self) -> int:
        return len(self.rays)

    def keypoints(self) -> Keypoints:
        """The 2D as a detector's file would hold it."""
        points = self.rays.numpy() * FOCAL + (np.array(IMAGE) - 1) / 2
        points, confidence = from_internal(points, self.confidence.numpy(), self.layout)
        return Keypoints(points[None], confidence[None], self.layout, IMAGE, fps=FPS)

    def cut(self, first: int, last: int) -> "Case":
        """Frames first to last (half-open)."""
        rows = slice(first, last)
        names = ("rays", "confidence", "rotations", "joints", "soles", "ok")
        return replace(self, **{n: getattr(self, n)[rows] for n in names})


class Soles:
    """The four points a body stands on."""

    def __init__(self, body: BodyModel):
        offsets, directions, joints = body.soles
        self.body, self.joints = body, torch.as_tensor(joints)
        self.offsets, self.directions = torch.as_tensor(offsets).float(), torch.as_tensor(directions).float()

    def __call__(self, rotations: Tensor, betas: Tensor, pelvis: Tensor) -> Tensor:
        """rotations (T, 24, 3, 3), betas (10), pelvis (T, 3) m -> (T, 4, 3) m."""
        posed = self.body.shaped(betas, "smpl").posed(rotations, pelvis)
        local = self.offsets + self.directions @ betas
        return posed.joints[:, self.joints] + (posed.world[:, self.joints] @ local[:, :, None]).squeeze(-1)


def clip_batch(
    mocap: Mocap, clip: int, sets: LandmarkSets, recipe: Recipe, longest: int | None
) -> tuple[Batch, slice]:
    """A clip before CANDIDATES cameras, and its frames in `mocap`."""
    start, length = int(mocap.start[clip]), int(mocap.length[clip])
    rows = slice(start, start + min(length, longest or length))
    trans = mocap.trans[rows]
    trans = trans - trans[len(trans) // 2] * torch.tensor([1.0, 0.0, 1.0])
    rotations = quaternion_to_matrix(mocap.quats[rows])
    windows = Windows(
        rotations.expand(CANDIDATES, *rotations.shape), trans.expand(CANDIDATES, *trans.shape),
        mocap.grounded[clip].expand(CANDIDATES),
    )  # fmt: skip
    # The draws of cameras, shapes and layouts come before those of the noise: one seed, the same cameras.
    gen = torch.Generator().manual_seed(7000 + clip)
    return synthesize(windows, sets, recipe, gen), rows


def visible(batch: Batch) -> list[int]:
    """CAMERAS of the candidates: the first that keep the person in view, else those that nearly do."""
    ray = (batch.pelvis[..., :2] / batch.pelvis[..., 2:].clamp_min(0.1)).abs().amax((1, 2))
    inside = [i for i in range(CANDIDATES) if ray[i] < IN_VIEW]
    others = sorted((i for i in range(CANDIDATES) if i not in inside), key=lambda i: float(ray[i]))
    return (inside + others)[:CAMERAS]


def make_cases(
    mocap: Mocap, soles: Soles, groups: tuple[str, ...], condition: str, cameras: int = CAMERAS,
    longest: int | None = None, most_clips: int | None = None,
) -> list[Case]:  # fmt: skip
    """Cases of the clips of some groups under one condition.

    cameras: how many of the four; longest: frames taken of each clip; most_clips: of each group.
    """
    sets = LandmarkSets(soles.body, list(LAYOUT_SHARE))
    out: list[Case] = []
    for group in groups:
        clips = [i for i, s in enumerate(mocap.subject) if s in GROUPS[group]]
        for clip in clips[:most_clips]:
            batch, rows = clip_batch(mocap, clip, sets, CONDITIONS[condition], longest)
            confidence = batch.confidence
            if condition == "spans":
                confidence = _with_spans(confidence, clip)
            for number, b in enumerate(visible(batch)[:cameras]):
                out.append(Case(
                    clip, number, group, sets.layouts[int(batch.layout[b])], batch.rays[b], confidence[b],
                    batch.rotations[b], batch.joints[b], batch.betas[b], batch.up[b, 0],
                    soles(batch.rotations[b], batch.betas[b], batch.pelvis[b]), mocap.ok[rows],
                    bool(mocap.grounded[clip]),
                ))  # fmt: skip
    return out


def cases_of(batch: Batch, soles: Soles, group: str, layouts: list[str]) -> list[Case]:
    """A case of every clip of a batch, contacts left aside. layouts: those that `batch.layout` counts."""
    ok = torch.ones(batch.rays.shape[1], dtype=torch.bool)
    return [
        Case(
            b, 0, group, layouts[int(batch.layout[b])], batch.rays[b], batch.confidence[b], batch.rotations[b], batch.joints[b],
            batch.betas[b], batch.up[b, 0], soles(batch.rotations[b], batch.betas[b], batch.pelvis[b]), ok, False,
        )
        for b in range(len(batch.rays))
    ]  # fmt: skip


def _with_spans(confidence: Tensor, clip: int) -> Tensor:
    gen = torch.Generator().manual_seed(9000 + clip)
    confidence = confidence.clone()
    for first in range(0, confidence.shape[1], SPAN_PIECE):
        piece = confidence[:, first : first + SPAN_PIECE]
        gone = torch.zeros(piece.shape, dtype=torch.bool)
        spans(gone, SPANS, gen)
        piece[gone] = 0
    return confidence
