# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips as a real detector sees them, to train on beside what `synthesize.py` makes up.

    python -m bridge record --clips 480 --seed 11 --out recording.npz

renders dressed bodies in captured motion (`render.py`), has BlazePose find them, and writes what it said; `bridge train
--detected recording.npz` trains on it. Tables of noise know neither which limbs a detector takes for each other nor how its
errors follow the pose and the view.
"""

import copy
import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import Unreadable, load_arrays, save_arrays
from ..body import joints as J
from ..body.files import load_body
from ..body.smpl import BodyModel, Posed
from ..cli import Parser, natural
from ..commands import output_file
from ..errors import LgdError
from ..keypoints.blazepose import BEYOND, BlazePose
from ..keypoints.borders import confidence_inside
from ..keypoints.formats import POINTS, to_internal
from ..keypoints.repair import reject_outliers, repair_swaps
from ..rotations import matrix_to_quaternion, quaternion_to_matrix
from .data import Sampler, generator, load_mocap
from .recipe import TRAIN, Recipe, fixed_recipe
from .render import Studio, Wardrobe
from .synthesize import Batch, LandmarkSets, synthesize, told_focal
from .synthetic_detector import MIRROR, lose

LAYOUT = "blazepose33"
FRAMES = 48
# How recorded people stand before the camera, and what of a recording is taken away or told wrongly when it is trained on.
CAMERAS = replace(
    fixed_recipe(facing=0.3, level=0.5, any_root=0.1, usual_lens=0.5, usual=(0.95, 0.25), frame_person=0.7), layouts={LAYOUT: 1.0}
)
GAPS = replace(TRAIN, missing=(0.0, 0.15), down_the_tree=0.01, crop_lower=0.05, frame_person=0.0)
PIXELS = 1000.0  # a ray: repairing asks for pixels, of whatever size
FOUND = 0.5  # clips in which somebody is found in less than this share of the frames are not recorded
CLEAR = 0.05  # m: recordings trained on; where the detector is lost by more than this, there is nothing to learn
TRUSTED = 0.6  # confidence from which a point counts for where a detector's landmarks lie
_FLIP = torch.tensor([-1.0, 1.0, 1.0])


class Detections:
    """Recorded clips, all of the same length.

    rays (C, T, 30, 2) for the true focal length, without the landmarks' mean offset; confidence (C, T, 30); quats (C, T, 24, 4)
    with the root in the camera frame; pelvis (C, T, 3) m; betas (C, 10); up (C, T, 3); contact_ok (C).
    """

    FIELDS = ("rays", "confidence", "quats", "pelvis", "betas", "up", "contact_ok")
    rays: Tensor
    confidence: Tensor
    quats: Tensor
    pelvis: Tensor
    betas: Tensor
    up: Tensor
    contact_ok: Tensor

    def __init__(self, recording: dict[str, np.ndarray], sets: LandmarkSets, most: float | None = None):
        """recording: of `record` or `read`; most: m, clips whose points miss by more in the median are left out.

        Raises LgdError where that leaves none.
        """
        self.sets, self.own = sets, sets.layouts.index(LAYOUT)
        self._hold({name: torch.as_tensor(value) for name, value in _repaired(recording).items()})
        self.rays = self.rays - self._offsets()
        if most is not None:
            good = self._misses() < most
            if not good.any():
                raise LgdError("bad_input", "In no recorded clip did the detector see the person well.", "Record more.")
            self._hold({name: getattr(self, name)[good] for name in self.FIELDS})

    def _hold(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def parted(self, every: int) -> tuple["Detections", "Detections"]:
        """All clips but every so-many-th, and those."""
        apart = torch.arange(len(self.rays)) % every == every - 1
        out = copy.copy(self), copy.copy(self)
        for part, rows in zip(out, (~apart, apart), strict=True):
            part._hold({name: getattr(self, name)[rows] for name in self.FIELDS})
        return out

    def draw(self, count: int, frames: int, gen: torch.Generator) -> Batch:
        """`count` windows of at most `frames` frames, half of them mirrored, with gaps and lenses as `GAPS` says."""
        recorded = self.rays.shape[1]
        frames = min(frames, recorded)
        clip = torch.randint(len(self.rays), (count,), generator=gen)
        start = torch.randint(recorded - frames + 1, (count, 1), generator=gen)
        flip = torch.rand(count, generator=gen) < 0.5
        return self._batch(clip, start + torch.arange(frames), flip, GAPS, gen)

    def whole(self, gen: torch.Generator) -> Batch:
        """All clips as they were recorded."""
        count, frames = self.rays.shape[:2]
        still = torch.zeros(count, dtype=torch.bool)
        every = torch.arange(frames).expand(count, -1)
        return self._batch(torch.arange(count), every, still, fixed_recipe(), gen)

    def _batch(self, clip: Tensor, at: Tensor, flip: Tensor, recipe: Recipe, gen: torch.Generator) -> Batch:
        count = len(clip)
        rays, confidence, quats, pelvis, up = (
            getattr(self, name)[clip[:, None], at] for name in ("rays", "confidence", "quats", "pelvis", "up")
        )
        # The mirror image of a picture is a picture of the mirrored person.
        flip = flip[:, None, None]
        rays = torch.where(flip[..., None], (rays * _FLIP[:2])[:, :, MIRROR], rays)
        confidence = torch.where(flip, confidence[:, :, MIRROR], confidence)
        mirrored = (quats * torch.tensor([1.0, 1.0, -1.0, -1.0]))[:, :, list(J.MIRROR)]
        rotations = quaternion_to_matrix(torch.where(flip[..., None], mirrored, quats))
        pelvis, up = (torch.where(flip, v * _FLIP, v) for v in (pelvis, up))
        layout = torch.full((count,), self.own)
        posed = self.sets.shaped(self.betas[clip], layout).posed(rotations, pelvis)

        focal = torch.exp(np.log(0.95) + 0.25 * torch.randn(count, generator=gen))
        gone = lose(rays, _rays(posed.points), focal, torch.zeros(count, dtype=torch.bool), recipe, gen)
        factor, known = told_focal(focal, recipe, gen)
        return Batch(
            rays / factor[:, None, None, None], torch.where(gone, torch.zeros_like(confidence), confidence), rotations,
            pelvis, self.betas[clip], up, -factor.log(), known, torch.ones(count), self.contact_ok[clip],
            layout, posed.joints, posed.points,
        )  # fmt: skip

    def _posed(self) -> Posed:
        layout = torch.full((len(self.betas),), self.own)
        return self.sets.shaped(self.betas, layout).posed(quaternion_to_matrix(self.quats), self.pelvis)

    def _misses(self) -> Tensor:
        """(C) m, median distance of a clip's points from where they are."""
        posed = self._posed()
        miss = (self.rays - _rays(posed.points)).norm(dim=-1) * self.pelvis[..., 2:]
        miss[self.confidence <= 0] = torch.nan
        return miss.flatten(1).nanmedian(1).values

    def _offsets(self) -> Tensor:
        """(C, T, 30, 2) what the landmarks' mean offset in the parent joint's frame does to the rays, both sides alike.

        A rendered body's hips are not a man's: where real ones lie is measured on footage (`landmarks.SHIFTS`), and only how a
        detector errs about them is taken from here. Robust: least squares, reweighted, over points seen with confidence.
        """
        posed = self._posed()
        x, y, z = posed.points.unbind(-1)
        turn = posed.world[:, :, self.sets.parents]
        moves = torch.stack(
            [turn[..., k, :] - (v / z)[..., None] * turn[..., 2, :] for k, v in ((0, x), (1, y))], -2
        )  # (C, T, 30, 2, 3) of a point in its plane of depth, m per m
        misses = self.rays * z[..., None] - posed.points[..., :2]  # m
        out = torch.zeros_like(self.rays)
        for k in range(len(POINTS)):
            other = int(MIRROR[k])
            if other < k:
                continue
            sides = [(k, torch.ones(3))] if other == k else [(k, torch.ones(3)), (other, _FLIP)]
            seen = [self.confidence[:, :, side] > TRUSTED for side, _ in sides]
            if sum(int(s.sum()) for s in seen) < 100:
                continue
            a = torch.cat([moves[:, :, side][s] * mirror for (side, mirror), s in zip(sides, seen, strict=True)])
            b = torch.cat([misses[:, :, side][s] for (side, _), s in zip(sides, seen, strict=True)])
            weight, offset = torch.ones(len(b)), torch.zeros(3)
            for _ in range(20):
                square = torch.einsum("n,nij,nik->jk", weight, a, a) + 1e-6 * torch.eye(3)
                offset = torch.linalg.solve(square, torch.einsum("n,nij,ni->j", weight, a, b))
                weight = 1 / (1 + ((b - a @ offset).norm(dim=-1) / 0.03) ** 2) ** 2
            for side, mirror in sides:
                out[:, :, side] = (moves[:, :, side] @ (offset * mirror)) / z[:, :, side, None]
        return out


def _repaired(recording: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A recording as a fit is given it: labels of left and right repaired over time, jumps told."""
    parts = []
    for rays, confidence in zip(recording["rays"], recording["confidence"], strict=True):
        points, confidence, _ = repair_swaps(rays * PIXELS, confidence)
        parts.append((points / PIXELS, reject_outliers(points, confidence, np.arange(len(points)) / 30)))
    rays, confidence = (np.stack(values).astype(np.float32) for values in zip(*parts, strict=True))
    return {**{name: recording[name] for name in Detections.FIELDS}, "rays": rays, "confidence": confidence}


def _rays(points: Tensor) -> Tensor:
    return points[..., :2] / points[..., 2:].clamp_min(0.2)


def read(files: list[Path]) -> dict[str, np.ndarray]:
    """The recordings of several files as one. Raises LgdError where a file is none, or its clips are of another length."""
    parts: list[dict[str, np.ndarray]] = []
    for file in files:
        try:
            stored = load_arrays(file)
            parts.append({name: stored[name] for name in Detections.FIELDS})
        except (Unreadable, KeyError) as fault:
            raise LgdError("bad_input", f"{file} is no recording of a detector.", "Make one with `bridge record`.") from fault
        if parts[-1]["rays"].shape[1:] != parts[0]["rays"].shape[1:]:
            raise LgdError("bad_input", f"The clips of {file} are not as long as those of {files[0]}.", "Leave one out.")
    return {name: np.concatenate([part[name] for part in parts]) for name in Detections.FIELDS}


def record(
    sampler: Sampler, clips: int, seed: int, frames: int = FRAMES, say: Callable[[str], None] = lambda text: None
) -> dict[str, np.ndarray]:
    """`Detections.FIELDS` of at least `clips` clips in which BlazePose found somebody. Raises LgdError without BlazePose."""
    body = sampler.body
    sets, wardrobe = LandmarkSets(body, [LAYOUT]), Wardrobe(body)
    gen, rng = generator(seed), np.random.default_rng(seed)
    rows: list[tuple] = []
    while len(rows) < clips:
        batch = synthesize(sampler.draw(4, frames, gen), sets, CAMERAS, gen)
        for i in range(4):
            colours, dressed = wardrobe.dress(rng)
            betas = batch.betas[i]
            trans = batch.pelvis[i] - body.rest_joints(betas)[0]
            vertices = dressed.vertices(batch.rotations[i], betas, trans).numpy().astype(float)
            seen = _filmed(vertices, wardrobe.faces, colours, rng)
            if seen is not None and (seen[1].max(-1) > 0).mean() > FOUND:
                quats = matrix_to_quaternion(batch.rotations[i])
                rest = (quats, batch.pelvis[i], betas, batch.up[i], batch.contact_ok[i])
                rows.append((*seen, *(v.numpy() for v in rest)))
        say(f"{len(rows)}/{clips} clips")
    return {name: np.stack([row[k] for row in rows]) for k, name in enumerate(Detections.FIELDS)}


def _filmed(
    vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """What BlazePose sees of a body (T, V, 3) m in the camera's frame: rays (T, 30, 2) and confidence (T, 30); None where no
    picture of a usual size shows it."""
    if vertices[..., 2].min() < 0.15:
        return None
    rays = vertices[..., :2] / vertices[..., 2:]
    low, high = np.quantile(rays.min(1), 0.02, axis=0), np.quantile(rays.max(1), 0.98, axis=0)
    aspect = np.array([(1, 0.75), (0.75, 1), (1, 1), (1, 0.5625), (0.5625, 1)][rng.integers(5)])
    size = np.maximum((high - low).max() * rng.uniform(1.05, 1.8) * aspect, (high - low) * rng.uniform(0.95, 1.1))
    scale = rng.uniform(360, 640) / size.max()
    middle = (low + high) / 2 + rng.uniform(-0.1, 0.1, 2) * size
    width, height = (int(v) for v in size * scale)
    if min(width, height) < 120:
        return None
    half = np.array((width, height)) / 2
    studio, finder = Studio(width, height, rng), BlazePose()
    points, confidence = np.zeros((len(vertices), 33, 2)), np.zeros((len(vertices), 33))
    try:
        for t, shape in enumerate(vertices):
            found, sure = finder.find(studio.picture(shape, (rays[t] - middle) * scale + half, faces, colours), [])
            if len(found):
                points[t] = (found[0] - half) / scale + middle
                confidence[t] = confidence_inside(found[0], sure[0], width, height, BEYOND)
    finally:
        finder.close()
    return to_internal(points, confidence, LAYOUT)


def main(argv: list[str]) -> int:
    """`bridge record`: arguments after the command's name."""
    parser = Parser(prog="bridge record", description="Render people, have BlazePose find them, and keep what it says.")
    parser.add_argument("--clips", type=natural, default=480, help="how many (default: 480, 20 minutes on a core)")
    parser.add_argument("--frames", type=natural, default=FRAMES, help=f"of each clip (default: {FRAMES})")
    parser.add_argument("--seed", type=natural, default=11, help="files of different seeds hold different clips (default: 11)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz file to write")
    options = parser.parse_args(argv)
    target = output_file(options.out)
    torch.set_num_threads(1)
    body = BodyModel(load_body())
    sampler = Sampler(load_mocap(body).of_split("train"), body)
    say = functools.partial(print, file=sys.stderr, flush=True)
    save_arrays(target, record(sampler, options.clips, options.seed, options.frames, say))
    return 0
