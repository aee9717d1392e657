# SPDX-License-Identifier: GPL-3.0-or-later
"""Video mode's solve: one clip of internal keypoints at 30 fps in, poses and all that goes with them out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..body.joints import LIMBS
from ..body.landmarks import FAMILY
from ..body.smpl import BodyModel
from ..keypoints.formats import POINT_INDEX
from ..keypoints.tracks import FEW, SEEN
from ..rotations import resample_rotations, resample_values
from .energy import EPS_POINT, reprojection_energy
from .hypotheses import EXCHANGED, OWN, choose, depth_flipped, mirrored_labels, pick, select, stack, turned
from .observation import Observation, observe
from .video import FAMILIES, ClipBody, State, VideoNet

LEGS = [POINT_INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("knee", "ankle")]
CHUNK = 4000  # frames solved in one pass; longer clips go in overlapping pieces
OVERLAP = 128
LONG = 5  # frames: a shorter gap leaves its neighbours as they are
# Of how limbs cross a long gap: 0 evenly, 1 from rest to rest. A foot that stands at an end jumps less the more of it, a hand that
# has far to go more; of 0, 0.2, 0.4, 0.5 and 1 this moved the worst joint least on the 13 clips that `bridge evaluate` hides frames of.
EASED = 0.4
NOBODY = 60  # frames of a gap in which nobody is seen that are solved, at most
FRAMEWISE = "rotations", "pelvis", "up", "contact", "doubt", "path"  # of what is solved


@dataclass
class Solved:
    """A solved clip, T frames at 30 fps, camera frame (OpenCV), m. rotations (T, 24, 3, 3); pelvis (T, 3); betas (10);
    up (T, 3); contact (T, 6) in [0, 1]; doubt (T, 24) expected joint error, m; log_focal: found over told; path (T)
    the hypothesis each frame came from."""

    rotations: Tensor
    pelvis: Tensor
    betas: Tensor
    up: Tensor
    contact: Tensor
    doubt: Tensor
    log_focal: float
    path: Tensor


class VideoSolver:
    """The video network with a body and a layout's landmarks."""

    def __init__(self, net: VideoNet, body: BodyModel, layout: str):
        self.net, self.body = net, body
        offsets, directions, parents = body.landmarks(layout)
        self.landmarks = (offsets[None], directions[None], parents)
        family = FAMILIES.index(FAMILY[layout])
        self.family = torch.nn.functional.one_hot(torch.tensor([family], device=body.device), len(FAMILIES)).float()

    def clip_body(self, count: int, betas: Tensor | None) -> ClipBody:
        offsets, directions, parents = self.landmarks
        fixed = None if betas is None else betas.expand(count, -1)
        return ClipBody(
            self.body, offsets.expand(count, -1, -1), directions.expand(count, -1, -1, -1), parents, fixed
        )

    @torch.no_grad()
    def solve(
        self, rays: Tensor, confidence: Tensor, *, focal_known: bool, static: bool, betas: Tensor | None = None,
        steps: int | None = None, hypotheses: bool = True, start: Callable[[State], State] | None = None,
        should_stop: Callable[[], bool] | None = None, on_progress: Callable[[int, int], None] | None = None,
    ) -> Solved:  # fmt: skip
        """Solve a clip.

        rays: (T, 30, 2); confidence: (T, 30); betas: (10) to keep, or None; hypotheses: try exchanged labels, a turned
        root and flipped depth beside the network's own start; start: change the first estimate (tests of robustness).
        """
        good = (confidence > SEEN).sum(-1) >= FEW
        shown = worth_solving(good)
        rays, confidence = rays[shown], confidence[shown]
        frames = len(rays)
        pieces = chunks(frames)
        options = {"focal_known": focal_known, "static": static, "steps": steps, "hypotheses": hypotheses, "start": start}
        if len(pieces) > 1 and betas is None:
            # One shape for the whole clip: found on each piece, averaged, then kept.
            found, weights = [], []
            for number, (a, b) in enumerate(pieces):
                if should_stop is not None:
                    should_stop()
                solved = self._piece(rays[a:b], confidence[a:b], None, **{**options, "hypotheses": False})
                found.append(solved.betas)
                weights.append(float(confidence[a:b].sum()) + 1e-6)
                if on_progress:
                    on_progress(number + 1, 2 * len(pieces))
            share = torch.tensor(weights, device=rays.device) / sum(weights)
            betas = (torch.stack(found) * share[:, None]).sum(0)
        parts = []
        for number, (a, b) in enumerate(pieces):
            if should_stop is not None:
                should_stop()
            parts.append((a, b, self._piece(rays[a:b], confidence[a:b], betas, **options)))
            if on_progress:
                on_progress(len(pieces) + number + 1 if len(pieces) > 1 else 1, 2 * len(pieces) - (len(pieces) == 1))
        return carry_over(_for_all(_join(parts, frames), shown, len(good)), away_from_gaps(good))

    def _piece(
        self, rays: Tensor, confidence: Tensor, betas: Tensor | None, *, focal_known: bool, static: bool,
        steps: int | None, hypotheses: bool, start,
    ) -> Solved:  # fmt: skip
        flag = lambda value, count: torch.full((count,), float(value), device=rays.device)  # noqa: E731
        rays, confidence = rays[None], confidence[None]
        if hypotheses:
            other = mirrored_labels(rays, confidence)
            rays, confidence = torch.cat((rays, other[0])), torch.cat((confidence, other[1]))
        obs = observe(rays, confidence)
        count, frames = rays.shape[:2]
        known = flag(focal_known, count)
        x = self.net.encode(obs, known, flag(static, count), self.family.expand(count, -1))
        state = self.net.first(x, obs, known)
        if betas is not None:
            state.betas = betas.expand(count, -1)
        if start is not None:
            state = start(state)
        seen = select(obs, [0])
        if hypotheses:
            own, rows = select(state, [0]), [0, 1, 0, 0]
            state, obs, x = stack([state, turned(own), depth_flipped(own)]), select(obs, rows), x[rows]
        left = torch.arange(len(x), device=rays.device)  # the hypotheses still followed
        path = torch.zeros(frames, dtype=torch.long, device=rays.device)  # rows of `left`
        steps = self.net.config.steps if steps is None else steps
        for k in range(steps):
            body = self.clip_body(len(left), betas)
            x, state = self.net.advance(x, state, k, obs, body, flag(focal_known, len(left)), flag(static, len(left)))
            if len(left) > 1 and k == 0:  # the other steps are for those that somewhere are the likeliest
                kept = self._choose(state, obs, betas, left).unique().tolist()
                if EXCHANGED in kept:  # labels as they are told have the last word
                    kept = sorted({OWN, *kept})
                left, x, state, obs = left[kept], x[kept], select(state, kept), select(obs, kept)
        if len(left) > 1 and steps:
            path = self._choose(state, obs, betas, left)
        found = pick(state, path)
        features = x[path, torch.arange(frames, device=rays.device)][None]
        found.contact, doubt = self.net.read(features, found, self.clip_body(1, betas), seen, flag(static, 1))
        if steps:
            found.doubt = doubt
        return _to_camera(found, seen, left[path])

    def _choose(self, state: State, obs: Observation, betas: Tensor | None, hypotheses: Tensor) -> Tensor:
        """Path (T) through the rows of a state; hypotheses: (rows) what each is."""
        body = self.clip_body(len(hypotheses), betas)
        posed = body.posed(state, obs)
        joints = (posed.joints - state.pelvis(obs.size)[:, :, None]) @ state.camera_turn(obs)
        misfit = reprojection_energy(posed, state.size(obs.size), obs)[1].sum(-1) / EPS_POINT
        limbs = list(LIMBS)
        whole = float((obs.confidence[..., LEGS] > 0).float().mean()) > 0.5
        return choose(joints[:, :, limbs], state.doubt[..., limbs], misfit, hypotheses.tolist(), whole)


def _to_camera(state: State, obs: Observation, path: Tensor) -> Solved:
    turn = state.camera_turn(obs)[0]
    back = turn.transpose(-1, -2)
    rotations = state.rotations[0].clone()
    rotations[:, 0] = back @ rotations[:, 0]
    pelvis = (back @ state.pelvis(obs.size)[0][..., None]).squeeze(-1)
    up = (back @ state.up[0][..., None]).squeeze(-1)
    return Solved(
        rotations, pelvis, state.betas[0], torch.nn.functional.normalize(up, dim=-1), state.contact[0].sigmoid(),
        state.doubt[0].exp(), float(state.focal[0, 0]), path,
    )  # fmt: skip


def carry_over(solved: Solved, good: Tensor) -> Solved:
    """Frames in which hardly anything is seen take their pose and place from the frames before and after.

    good: (T) bool. The pelvis moves evenly from one side of a gap to the other, limbs turn a little slower at its ends: a foot
    that stands there is not carried along at once. The ends of the clip hold.
    """
    if bool(good.all()) or not bool(good.any()):
        return solved
    times = torch.arange(len(good), device=good.device, dtype=torch.float32)
    solved.rotations = resample_rotations(solved.rotations[good], times[good], _eased(times, good))
    for name in ("pelvis", "up"):
        setattr(solved, name, resample_values(getattr(solved, name)[good], times[good], times))
    solved.contact = solved.contact * good[:, None]
    return solved


def _eased(times: Tensor, good: Tensor) -> Tensor:
    """Times (T) that pass slower at the ends of gaps of more than LONG frames and faster in their middle."""
    known = times[good]
    after = torch.searchsorted(known, times).clamp_max(len(known) - 1)
    low, high = known[(after - 1).clamp_min(0)], known[after]
    along = ((times - low) / (high - low).clamp_min(1)).clamp(0, 1)
    eased = low + (high - low) * along.lerp(along.square() * (3 - 2 * along), EASED)
    return torch.where((high - low > LONG) & ~good, eased, times)


def away_from_gaps(good: Tensor) -> Tensor:
    """Good frames (T) without those beside a gap of LONG frames or more: there a limb that is missing as well has a seen past
    or a seen future, but not both, and would jump in the next frame."""
    index = good.nonzero().squeeze(-1)
    ends = index.new_tensor([-1]), index.new_tensor([len(good)])
    wide = torch.cat((ends[0], index, ends[1])).diff() > LONG
    sure = good.clone()
    sure[index[wide[:-1] | wide[1:]]] = False
    return sure if bool(sure.any()) else good


def worth_solving(good: Tensor) -> Tensor:
    """The frames (N) of all (T) that are solved: from the first good one to the last, and NOBODY of a longer gap between. What lies before, after
    and between is held or carried across anyway, and solved with the rest it draws the estimated lens off: by 8 % where it is most of a clip."""
    index, frames = good.nonzero().squeeze(-1), torch.arange(len(good), device=good.device)
    if not len(index):
        return frames
    after = torch.searchsorted(index, frames).clamp_max(len(index) - 1)
    before = (torch.searchsorted(index, frames, right=True) - 1).clamp_min(0)
    near = torch.minimum((frames - index[before]).abs(), (index[after] - frames).abs()) <= NOBODY // 2
    return frames[near & (frames >= index[0]) & (frames <= index[-1])]


def _for_all(solved: Solved, shown: Tensor, frames: int) -> Solved:
    """What was solved of some frames (N), told of all: of those between, what the last one before them has."""
    if len(shown) < frames:
        at = (torch.searchsorted(shown, torch.arange(frames, device=shown.device), right=True) - 1).clamp_min(0)
        for name in FRAMEWISE:
            setattr(solved, name, getattr(solved, name)[at])
    return solved


def chunks(frames: int) -> list[tuple[int, int]]:
    """Pieces of at most CHUNK frames that overlap by OVERLAP."""
    if frames <= CHUNK:
        return [(0, frames)]
    count = -(-(frames - OVERLAP) // (CHUNK - OVERLAP))
    length = -(-(frames + (count - 1) * OVERLAP) // count)
    starts = [min(i * (length - OVERLAP), frames - length) for i in range(count)]
    return [(s, s + length) for s in starts]


def _join(parts: list[tuple[int, int, Solved]], frames: int) -> Solved:
    """Pieces laid together in the middle of their overlaps."""
    if len(parts) == 1:
        return parts[0][2]
    cuts = [0, *((parts[i][1] + parts[i + 1][0]) // 2 for i in range(len(parts) - 1)), frames]
    rows: dict[str, list[Tensor]] = {}
    for (a, _, solved), low, high in zip(parts, cuts[:-1], cuts[1:], strict=True):
        for name in FRAMEWISE:
            rows.setdefault(name, []).append(getattr(solved, name)[low - a : high - a])
    joined = {name: torch.cat(values) for name, values in rows.items()}
    first = parts[0][2]
    focal = sum(p.log_focal for *_, p in parts) / len(parts)
    return Solved(betas=first.betas, log_focal=focal, **joined)
