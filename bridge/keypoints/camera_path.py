# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of a camera that travels, from what stands still around the people: structure from motion by COLMAP (pycolmap).

No size, no place and no gravity come of it: `lgd/scale.py` takes those from the person.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ..camera import assumed_focal, bend
from ..errors import LgdError
from .apart import Apart, check_installed
from .background import free_of_people
from .colmap import check_space, lens, looked_at, write
from .tracks import Keypoints, rate_beside_pauses
from .video import open_footage

RATE, LEAST, MOST = 15, 6, 600  # pictures a second, those between lie between; fewer for clips of more than MOST, since the search takes minutes then
STARTS = (0.75, 1.3, 0.55)  # of the assumed focal length: where it is looked for; mapping has wrong ends, and which it finds hangs on that
AGAIN = (0.65, 1.4)  # of the told one: where it is looked for too
# px of 640: points of right ends miss by 0.4 to 0.7, by 0.95 in grainy pictures; those of wrong ones, each in the clip where the right one has
# less, by 0.6 to 1.1. The best end is right if it misses by less than the first, or by less than the second and another search ends in the same.
CLEAR, UNCLEAR = 0.7, 1.5
SAME, ALIKE = 0.04, 1.1  # of the focal length, and times the error: ends that are the same
MUCH = 0.6  # of the most observations: ends of fewer leave out what does not fit
WHOLE, GAP = 0.8, 0.7  # of the pictures; s: what may be left between those that were placed
# What no camera's path is: one that moves by less than this share of the distance of what is seen, one that jumps about (mean change of its
# step, in steps), one of so few points, and one through no lens (focal length in longer sides; in told ones, of which it is the inverse too).
TRAVELS, JUMPS, FEW, LENSES, TOLD = 0.03, 0.5, 80, (0.5, 3.5), 1.1
STRIDE = 0.1  # s: of the steps in which a slow camera must not jump about
BREAKS, AROUND = 4, 1.0  # times what is fast within so many s around: a step that no camera takes, where two halves do not fit together
NO_SHIFT = "too little of it can be followed, or it does not shift as before a camera that travels"
HARDLY = "the camera hardly travels"
FAILED = "COLMAP, which looks for it, failed, as the worker's log tells"

Progress = Callable[[str, int, int], None]


class Untold(Exception):
    """The background does not tell the camera's path; the text says why, as part of a sentence."""


@dataclass(frozen=True)
class CameraPath:
    """world (F, 4, 4) camera to world, points (N, 3) of the background in it, both in a unit, place and attitude of their own; focal px of
    the footage's pictures; error: px, mean of what the points miss by in the pictures as they were looked at; rather: the focal length that
    fits better than the one that was told."""

    world: np.ndarray
    points: np.ndarray
    focal: float
    error: float
    rather: float | None = None

    def turned_to(self, frame: int) -> CameraPath:
        """The same, in the axes and from the place of one frame's camera."""
        first = np.linalg.inv(self.world[frame])
        return dataclasses.replace(self, world=first @ self.world, points=self.points @ first[:3, :3].T + first[:3, 3])


@dataclass(frozen=True)
class Reconstruction:
    """Where a search of COLMAP's ends. focal: px of the small pictures; error: px, mean of what the points miss by; observations: how many of
    them are seen, all pictures together; frames (N) whose pictures were placed, poses (N, 4, 4) camera to world; points (M, 3)."""

    focal: float
    error: float
    observations: int
    frames: np.ndarray
    poses: np.ndarray
    points: np.ndarray


def find_camera_path(
    source: dict, keypoints: Keypoints, cam_K: np.ndarray | None = None, distortion: np.ndarray | None = None,
    on_progress: Progress | None = None, should_stop: Callable[[], bool] | None = None,
) -> CameraPath:  # fmt: skip
    """Where the camera was in each frame of `keypoints`, which are those of the footage.

    source: as in a request (path, frames, fps, counted); cam_K (3, 3): the lens, where it is told, with OpenCV's distortion (4, 5 or 8), of
    which the keypoints are free.
    Raises Untold where the background does not tell; LgdError: bad_input where the pictures are not the keypoints',
    setup_incomplete without pycolmap, disk, cancelled.
    """
    check_installed()
    progress = on_progress or (lambda stage, done, total: None)
    filmed = keypoints
    if cam_K is not None and distortion is not None:  # people are where the lens shows them
        filmed = dataclasses.replace(keypoints, keypoints=bend(keypoints.keypoints, cam_K, distortion))
    with Apart(should_stop) as apart:
        size, looked = _write_pictures(source, filmed, progress, apart)
        scale = size[0] / keypoints.image_size[0]
        any_lens = tuple(max(size) * share for share in LENSES)
        if cam_K is None:
            usual = assumed_focal(*keypoints.image_size)
            tries, lenses = [(share * usual, True) for share in STARTS], any_lens
        else:
            told = cam_K[0, 0]
            tries, lenses = [(told, False), *((share * told, True) for share in AGAIN)], (told / TOLD * scale, told * TOLD * scale)
        seen_by = [lens(focal, cam_K, distortion, scale, size) for focal, _ in tries]
        progress("camera", 0, 1 + len(tries))
        ends = _searched(apart, seen_by, [free for _, free in tries], lambda done: progress("camera", 1 + done, 1 + len(tries)))
    if all(end is None for end in ends):
        raise Untold(NO_SHIFT)
    ends = [end for end in ends if end is not None and not _jumps_about(end, np.asarray(keypoints.times(), float))]
    if not ends:
        raise Untold("what is found is no path of a camera")
    best = _best(ends, lenses)
    if best is not None:
        path = _path(best, keypoints, looked, scale)
        free = _best(ends, any_lens)
        better = free is not None and not lenses[0] < free.focal < lenses[1]
        return dataclasses.replace(path, rather=free.focal / scale) if better else path
    raise Untold("what is found does not fit together" + ("" if cam_K is None else ", as if its lens were not the one that was told"))


def _searched(apart: Apart, seen_by: list[tuple[str, str]], free: list[bool], progress: Callable[[int], None]) -> list[Reconstruction | None]:
    """The ends of searches from several lenses, of which some may be free; None of those that find nothing. Raises Untold where COLMAP fails."""
    if apart("extract", {"seen_by": seen_by[0]}) == [None]:
        raise Untold(FAILED)
    found = apart("reconstruct", *({"seen_by": by, "free_lens": may} for by, may in zip(seen_by, free, strict=True)), on_progress=progress)
    if found == [None] * len(found):
        raise Untold(FAILED)
    return [Reconstruction(**{k: v if v.ndim else v.item() for k, v in end.items()}) if end else None for end in found]


def _best(ends: list[Reconstruction], lenses: tuple[float, float]) -> Reconstruction | None:
    """Of the ends of several searches the right one, or None where that is not told. Wrong ones are bent: their lens is none (px of the small
    pictures), or little of what is seen hangs together, or it misses by more."""
    inside = [end for end in ends if lenses[0] < end.focal < lenses[1]]
    most = max((end.observations for end in inside), default=0)
    inside = [end for end in inside if end.observations > MUCH * most]
    best = min(inside, key=lambda end: end.error, default=None)
    if best is None:
        return None
    same = [end for end in inside if abs(end.focal / best.focal - 1) < SAME and end.error < ALIKE * best.error]
    return same[0] if best.error < CLEAR or (best.error < UNCLEAR and len(same) > 1) else None


def _write_pictures(source: dict, keypoints: Keypoints, progress: Progress, apart: Apart) -> tuple[tuple[int, int], list[int]]:
    """Small pictures, and where nobody is in them; returns their size and which frames they are of."""
    frames = source.get("frames")
    footage = open_footage(source["path"], tuple(frames) if frames else None, source.get("fps"), source.get("counted"))
    width, height = keypoints.image_size
    if (footage.width, footage.height) != (width, height):
        raise LgdError("bad_input", f"The keypoints are of pictures of {width} x {height} px, the footage's have {footage.width} x {footage.height}.", "Detect again.")
    rate = rate_beside_pauses(keypoints.times())  # an hour's pause is nothing to look through
    if keypoints.frames / rate > MOST / LEAST:
        raise Untold(f"it is looked for in ranges of at most {MOST // LEAST} s, and this one has {keypoints.frames / rate:.0f}")
    every = max(round(rate / RATE), math.ceil(keypoints.frames / MOST), 1)
    looked, count, size = [], 0, (0, 0)
    for index, picture in footage:
        apart.check()
        count += 1
        if index >= keypoints.frames or (index % every and index < keypoints.frames - 1):  # the last one too: past what is looked at the camera would stand
            continue
        small = looked_at(picture)
        size = small.shape[1], small.shape[0]
        scale = size[0] / width
        people = [p[c > 0] * scale for p, c in zip(keypoints.keypoints[:, index], keypoints.confidence[:, index], strict=True) if (c > 0).any()]
        write(apart.place, index, small, free_of_people(small.shape, people))
        looked.append(index)
        progress("background", index, keypoints.frames)
    check_space(apart.place, len(looked), len(STARTS))
    if abs(count - keypoints.frames) > (2 if footage.kind == "video" else 0):  # a video's last pictures may come or not
        raise LgdError("bad_input", f"The keypoints have {keypoints.frames} frames and the footage {count} in this range.", "Detect again.")
    return size, looked


def _path(found: Reconstruction, keypoints: Keypoints, looked: list[int], scale: float) -> CameraPath:
    """A reconstruction as a path through all frames. Raises Untold."""
    times, at, poses = np.asarray(keypoints.times(), float), found.frames, found.poses
    if len(at) < max(WHOLE * len(looked), 2):
        raise Untold(f"it tells in {len(at)} of {len(looked)} pictures alone")
    ends = times[[0, *at, -1]]
    between = np.searchsorted(at, np.setdiff1d(looked, at))  # where pictures were not placed: a pause of the footage itself leaves nothing out
    worst = max(between, key=lambda gap: ends[gap + 1] - ends[gap], default=None)
    if worst is not None and ends[worst + 1] - ends[worst] > GAP:
        raise Untold(f"it does not tell from {ends[worst]:.1f} to {ends[worst + 1]:.1f} s of the range")
    world = np.tile(np.eye(4), (keypoints.frames, 1, 1))
    inside = np.clip(times, times[at[0]], times[at[-1]])
    world[:, :3, :3] = Slerp(times[at], Rotation.from_matrix(poses[:, :3, :3]))(inside).as_matrix()
    world[:, :3, 3] = np.stack([np.interp(inside, times[at], poses[:, k, 3]) for k in range(3)], -1)
    places, points = poses[:, :3, 3], found.points
    if len(points) < FEW:
        raise Untold("too little of it stays in sight, or the camera stays where it is")
    away = np.linalg.norm(points[None] - places[:: max(len(places) // 20, 1), None], axis=-1)
    if np.linalg.norm(np.ptp(places, axis=0)) < TRAVELS * np.median(away):
        raise Untold(HARDLY)
    return CameraPath(world, points, found.focal / scale, found.error)


def _jumps_about(found: Reconstruction, times: np.ndarray) -> bool:
    """Whether its steps change as no camera's do, or it breaks somewhere; times: (F) s of all frames."""
    places = found.poses[:, :3, 3]
    if len(places) < 3:
        return False
    at = times[found.frames]
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=-1) / np.diff(at)
    around = [np.percentile(speeds[np.abs(at[1:] - t) < AROUND], 80) for t in at[1:]]
    if (speeds > BREAKS * np.maximum(around, 1e-12)).any():
        return True
    lag = max(round(STRIDE / float(np.median(np.diff(at)))), 1)
    return min(_jumps(places), _jumps(places[::lag])) > JUMPS  # of a slow camera, steps from picture to picture are as small as their errors


def _jumps(places: np.ndarray) -> float:
    """The mean change of the steps between places (N, 3), in steps."""
    steps = np.diff(places, axis=0)
    return float(np.linalg.norm(np.diff(steps, axis=0), axis=-1).mean() / max(np.linalg.norm(steps, axis=-1).mean(), 1e-12)) if len(steps) > 1 else 0.0
