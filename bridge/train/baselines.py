# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting by generic optimisers, to measure the learned descent against: SMPLify, and its energy under L-BFGS and Adam.

SMPLify is Bogo et al., ECCV 2016, written anew from the paper: robust (Geman-McClure) reprojection, a mixture of Gaussians
over poses (fitted here on the train split), a shape prior, exponential penalties on knees and elbows that bend
backwards, the camera's place from the torso first, two starts (facing and turned away) for people seen from the side,
four stages with falling priors. Two differences: the interpenetration term (capsules on the official mesh) is left out,
and L-BFGS with a line search of its own for every frame takes the place of the dogleg. The true focal length and
the layout's own landmarks on the body are given. Frames are independent problems solved side by side.

No public fitter stands beside these: of what installs from PyPI, smplfitter 0.6.0 and keypoints2body 0.1.0 fit 3D points,
not 2D ones, and body-models 0.26.2 has forward models only.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..body.smpl import BodyModel, Posed, Shaped
from ..errors import LgdError
from ..keypoints.formats import POINT_INDEX
from ..rotations import exp_so3, log_so3
from .data import Mocap
from .minimise import Minimum, adam, lbfgs

PIXELS = 300.0  # every frame is scaled so that the person's box has this longer side; sigma is meant for such pixels
SIGMA = 100.0
# Prior weights of the four stages (pose, shape), as published; squared in the energy.
STAGES = ((404.0, 100.0), (404.0, 50.0), (57.4, 10.0), (4.78, 5.0))
ANGLE = 3.17  # of the pose weight: published as 0.317 times ten exponentials
PRIOR_SHARE = 1.0  # of the published prior weights; on train frames 0.3 and 0.1 were no better
SIDE_VIEW = 0.12  # of the box: shoulders closer than this are seen from the side
TORSO = tuple(POINT_INDEX[f"{s}_{p}"] for s in ("left", "right") for p in ("shoulder", "hip"))
# Axis-angle coordinates of the pose that must not bend the wrong way, with the sign that is wrong:
# left elbow y, right elbow y, left knee x, right knee x.
BENDS = ((18 * 3 + 1, 1.0), (19 * 3 + 1, -1.0), (4 * 3, -1.0), (5 * 3, -1.0))
POSE, BETAS, PLACE = slice(0, 72), slice(72, 82), slice(82, 85)
# rad, betas, log depth and tangents.
ADAM_RATES = torch.cat((torch.full((72,), 0.03), torch.full((10,), 0.05), torch.full((3,), 0.01)))
LBFGS_SCALE = torch.cat((torch.full((72,), 1.0), torch.full((10,), 1.0), torch.full((3,), 0.1)))
LIMIT = {"lbfgs": 400, "adam": 3000}  # iterations
STAGE_LIMIT = 100  # of the stages before the last, as published


@dataclass(frozen=True)
class PosePrior:
    """Mixture over body poses (69 axis-angle coordinates): means (K, 69), whitening (K, 69, 69) with
    |L (x - m)|^2 the Mahalanobis distance, offset (K) such that 0.5 |..|^2 + offset = -log of the weighted density,
    lowest offset 0."""

    means: Tensor
    whitening: Tensor
    offset: Tensor

    def __call__(self, pose: Tensor) -> Tensor:
        """(N, 69) -> (N): the published min over the components of -log of each weighted density."""
        away = torch.einsum("kab,nkb->nka", self.whitening, pose[:, None] - self.means)
        return (0.5 * away.square().sum(-1) + self.offset).amin(-1)

    @property
    def mean(self) -> Tensor:
        """The likeliest component's mean (69)."""
        return self.means[self.offset.argmin()]


def fit_prior(
    poses: Tensor, components: int = 8, rounds: int = 25, seed: int = 0, floor: float = 2e-3
) -> PosePrior:
    """A mixture of Gaussians by expectation-maximisation. poses: (N, 69) rad; floor: rad^2 added to every variance."""
    gen = torch.Generator().manual_seed(seed)
    x = poses.double()
    means = x[torch.randperm(len(x), generator=gen)[:components]]
    for _ in range(10):  # k-means first
        nearest = torch.cdist(x, means).argmin(-1)
        for k in range(components):
            if (nearest == k).any():
                means[k] = x[nearest == k].mean(0)
    share = torch.nn.functional.one_hot(nearest, components).double()
    for _ in range(rounds):
        weight = share.sum(0).clamp_min(1e-6)
        means = (share.T @ x) / weight[:, None]
        chol, log_det = [], []
        for k in range(components):
            away = (x - means[k]) * share[:, k, None].sqrt()
            factor = torch.linalg.cholesky(
                away.T @ away / weight[k] + floor * torch.eye(x.shape[1], dtype=x.dtype)
            )
            chol.append(factor)
            log_det.append(2 * factor.diagonal().log().sum())
        distance = torch.stack(
            [
                torch.linalg.solve_triangular(c, (x - m).T, upper=False).square().sum(0)
                for c, m in zip(chol, means)
            ],
            -1,
        )
        score = (weight / len(x)).log() - 0.5 * (distance + torch.stack(log_det))
        share = score.softmax(-1)
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    whitening = torch.stack([torch.linalg.solve_triangular(c, eye, upper=False) for c in chol])
    offset = 0.5 * torch.stack(log_det) - (weight / len(x)).log()
    return PosePrior(means.float(), whitening.float(), (offset - offset.min()).float())


def train_prior(train: Mocap, count: int = 20000, seed: int = 0) -> PosePrior:
    """The prior of evenly drawn glitch-free frames of the train split."""
    from ..rotations import quaternion_to_matrix

    good = train.ok.nonzero().squeeze(-1)
    gen = torch.Generator().manual_seed(seed)
    rows = good[torch.randperm(len(good), generator=gen)[:count]]
    return fit_prior(log_so3(quaternion_to_matrix(train.quats[rows, 1:])).flatten(1), seed=seed)


@dataclass
class Frames:
    """Single frames to fit. rays (N, 30, 2) = pixel offsets over the true focal length; confidence (N, 30), 0 = not
    seen; offsets (N, 30, 3), directions (N, 30, 3, 10), parents (30): each frame's landmarks on the body."""

    rays: Tensor
    confidence: Tensor
    offsets: Tensor
    directions: Tensor
    parents: Tensor

    def __len__(self) -> int:
        return len(self.rays)

    def rows(self, index) -> "Frames":
        return Frames(
            self.rays[index],
            self.confidence[index],
            self.offsets[index],
            self.directions[index],
            self.parents,
        )


@dataclass
class Fit:
    """Fitted frames: joints (N, 24, 3) m, camera frame; reprojection (N) mean px at a box of PIXELS; energy (N);
    iterations (N), all stages together; converged (N) bool."""

    joints: Tensor
    reprojection: Tensor
    energy: Tensor
    iterations: Tensor
    converged: Tensor


class Smplify:
    """The energy of SMPLify for a set of frames, and the ways to minimise it.

    A frame's unknowns (85): axis-angle pose (72), betas (10), and its place: log of depth over a first guess, x/z, y/z.
    """

    def __init__(self, body: BodyModel, prior: PosePrior, frames: Frames):
        self.body, self.prior, self.frames = body, prior, frames
        seen = frames.confidence > 0
        far = torch.full_like(frames.rays, 1e6)
        low = torch.where(seen[..., None], frames.rays, far).amin(1)
        high = torch.where(seen[..., None], frames.rays, -far).amax(1)
        side = (high - low).amax(-1).clamp(1e-4, 1e3)
        side = torch.where(seen.sum(-1) > 1, side, torch.ones_like(side))
        self.side = side
        self.focal = PIXELS / side  # px over rays
        self.centre = torch.where(seen.any(-1)[:, None], (low + high) / 2, torch.zeros_like(low))

    def posed(self, x: Tensor, rows: Tensor) -> tuple[Posed, Tensor]:
        """Joints and landmarks in the camera frame, and the projected landmarks in rays."""
        betas, f = x[:, BETAS], self.frames
        offsets = f.offsets[rows] + torch.einsum("nkcs,ns->nkc", f.directions[rows], betas)
        rest = self.body.rest_joints(betas)
        depth = self._depth(rows) * x[:, 82].clamp(-3, 3).exp()
        place = torch.stack((x[:, 83] * depth, x[:, 84] * depth, depth), -1)
        posed = Shaped(rest, offsets, f.parents).posed(exp_so3(x[:, POSE].unflatten(-1, (24, 3))), place)
        return posed, posed.points[..., :2] / posed.points[..., 2:].clamp_min(0.1)

    def _depth(self, rows: Tensor) -> Tensor:
        return 1.6 / self.side[rows]

    def _residual(self, x: Tensor, rows: Tensor) -> Tensor:
        _, projected = self.posed(x, rows)
        return (projected - self.frames.rays[rows]) * self.focal[rows, None, None]

    def energy(self, x: Tensor, rows: Tensor, pose_weight: float, shape_weight: float) -> Tensor:
        """All terms (N), in px^2 of a box of PIXELS."""
        pose_weight, shape_weight = pose_weight * PRIOR_SHARE, shape_weight * PRIOR_SHARE
        square = self._residual(x, rows).square().sum(-1)
        robust = SIGMA**2 * square / (SIGMA**2 + square)
        total = (self.frames.confidence[rows].square() * robust).sum(-1)
        total = total + pose_weight**2 * self.prior(x[:, 3:72])
        bends = torch.stack([sign * x[:, column] for column, sign in BENDS], -1)
        total = total + (ANGLE * pose_weight) ** 2 * bends.clamp(max=3).mul(2).exp().sum(-1)
        return total + shape_weight**2 * x[:, BETAS].square().sum(-1)

    def _torso(self, x: Tensor, rows: Tensor) -> Tensor:
        """Reprojection of the torso's points, with a weak hold on the depth guessed from their distances."""
        weight = self.frames.confidence[rows]
        square = self._residual(x, rows).square().sum(-1) * weight
        some = (weight[:, TORSO] > 0).sum(-1) >= 3
        return torch.where(some, square[:, TORSO].sum(-1), square.sum(-1)) + 100 * x[:, 82].square()

    def start(self, away: bool) -> Tensor:
        """The mean pose facing the camera, or turned away, with root and place from the torso: (N, 85)."""
        count = len(self.frames)
        x = torch.zeros(count, 85)
        turn = torch.diag(
            torch.tensor([1.0, -1.0, -1.0])
        )  # y-up body facing +z to a camera that looks along +z
        spin = exp_so3(torch.tensor([0.0, math.pi - 1e-3, 0.0]))
        root = log_so3(turn @ spin if away else turn)
        x[:, :3] = root
        x[:, 3:72] = self.prior.mean
        x[:, 83:85] = self.centre
        free = torch.tensor([0, 1, 2, 82, 83, 84])

        def torso(y: Tensor, rows: Tensor) -> Tensor:
            full = x[rows].clone()
            full[:, free] = y
            return self._torso(full, rows)

        scale = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])
        x[:, free] = lbfgs(torso, x[:, free], 60, scale=scale).x
        return x

    @cached_property
    def both_starts(self) -> tuple[Tensor, Tensor]:
        """The better start (N, 85) by the torso, and the other one for rows that are seen from the side."""
        every = torch.arange(len(self.frames))
        facing, away = self.start(False), self.start(True)
        worse = self._torso(away, every) < self._torso(facing, every)
        first = torch.where(worse[:, None], away, facing)
        other = torch.where(worse[:, None], facing, away)
        return first, other

    def from_the_side(self) -> Tensor:
        """(N) rows to be tried both ways round: shoulders close together in the image, or not both seen."""
        left, right = POINT_INDEX["left_shoulder"], POINT_INDEX["right_shoulder"]
        seen = (self.frames.confidence[:, [left, right]] > 0).all(-1)
        apart = (self.frames.rays[:, left] - self.frames.rays[:, right]).norm(dim=-1) / self.side
        return ~seen | (apart < SIDE_VIEW)

    def smplify(self) -> Fit:
        """SMPLify: four stages with falling priors, the cheaper of two starts where the person is seen from the side."""
        first, other = self.both_starts
        found = self._stages(first, torch.arange(len(self.frames)))
        again = self.from_the_side().nonzero().squeeze(-1)
        if len(again):
            second = self._stages(other[again], again)
            better = second.energy < found.energy[again]
            found.x[again[better]] = second.x[better]
            found.energy[again[better]] = second.energy[better]
            found.iterations[again] += second.iterations
            found.converged[again[better]] = second.converged[better]
        return self._result(found)

    def _stages(self, x: Tensor, rows: Tensor) -> Minimum:
        total = torch.zeros(len(x), dtype=torch.long)
        for weights in STAGES:
            limit = LIMIT["lbfgs"] if weights is STAGES[-1] else STAGE_LIMIT
            found = lbfgs(
                lambda y, which, w=weights: self.energy(y, rows[which], *w), x, limit, scale=LBFGS_SCALE
            )
            x, total = found.x, total + found.iterations
        return Minimum(x, found.energy, total, found.converged)

    def generic(self, method: str, iterations: int | None, rate: float = 1.0) -> Fit:
        """The last stage's energy from the better start by "lbfgs" or "adam": a number of iterations, or (None) until it
        changes by less than 1e-4. rate: factor on Adam's step sizes."""
        start, _ = self.both_starts
        energy = lambda y, which: self.energy(y, which, *STAGES[-1])  # noqa: E731
        limit, tolerance = (LIMIT[method], 1e-4) if iterations is None else (iterations, 0.0)
        if method == "lbfgs":
            found = lbfgs(energy, start, limit, tolerance, LBFGS_SCALE)
        else:
            rates = ADAM_RATES * rate * (1.0 if iterations is None else FEW_STEPS)
            found = adam(energy, start, limit, rates, tolerance)
        return self._result(found)

    def _result(self, found: Minimum) -> Fit:
        rows = torch.arange(len(self.frames))
        posed, projected = self.posed(found.x, rows)
        seen = (self.frames.confidence > 0).float()
        error = ((projected - self.frames.rays) * self.focal[:, None, None]).norm(dim=-1)
        mean = (error * seen).sum(-1) / seen.sum(-1).clamp_min(1)
        return Fit(posed.joints, mean, found.energy, found.iterations, found.converged)


FEW_STEPS = 0.9  # Adam's rates at a few steps, over those at convergence: of 0.3, 0.9, 3 and 9 the best on train frames


def frames_of(body: BodyModel, layout: str, rays: Tensor, confidence: Tensor) -> Frames:
    """Frames of one layout. rays: (N, 30, 2); confidence: (N, 30)."""
    offsets, directions, parents = body.landmarks(layout)
    count = len(rays)
    return Frames(
        rays, confidence, offsets.expand(count, -1, -1), directions.expand(count, -1, -1, -1), parents
    )


def cached_prior(train: Mocap, path: Path | None = None, count: int = 20000) -> PosePrior:
    """`train_prior`, kept in a file where one is named."""
    if path is not None and path.is_file():
        try:
            kept = torch.load(path, weights_only=True)
            told = kept.pop("count"), kept.pop("frames")
            prior = PosePrior(**kept)
        except Exception as fault:  # noqa: BLE001 (torch raises whatever its readers do)
            raise LgdError("bad_input", f"{path} holds no prior.", "Name a file that --prior has written, or a new one.") from fault
        if told != (count, len(train.quats)):
            raise LgdError("bad_input", f"The prior in {path} was fitted to {told[0]} of {told[1]} frames, not to {count} of {len(train.quats)}.", "Name another file.")
        return prior
    if path is not None and not path.parent.is_dir():
        raise LgdError("disk", f"There is no folder {path.parent} to keep the prior in.", "Make it, or name another file.")
    prior = train_prior(train, count)
    if path is not None:
        kept = {"means": prior.means, "whitening": prior.whitening, "offset": prior.offset}
        torch.save({**kept, "count": count, "frames": len(train.quats)}, path)
    return prior
