# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits before a camera that moves in a known way, turns in the hand or zooms: what it films, as a steadier camera beside it would have.

A camera's shake is no motion of the person, and where nobody is seen a person stays in the world, not in the picture. So the
keypoints are turned into those of a camera that stands still, where the real one nearly does, and else follows it smoothly;
while nobody is seen it does not follow. The fit before it is then told in the real camera's frame again.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from .. import camera
from ..keypoints.repair import label_states, relabelled
from ..keypoints.tracks import Keypoints, shows_somebody, stands_still
from ..motion import Motion
from .assemble import reprojection_px

SMOOTH = 0.5  # s: what the steadier camera's path is averaged over
STILL_TURN, STILL_MOVE = 0.35, 0.08  # rad, and of the person's distance: a camera that moves less is seen as from one that stands
NEAR = 1e-3  # of the distance: nearer paths see the same
STAYS = 2e-3  # m: a camera that moves less does not move
FAR = 1e3  # m: what is this far away is moved by a camera's turns alone
FARTHEST = 1.0  # rad: what a camera sees that turns farther from the middle of its turns is not all before one that stands still
# Times that the background grows or shrinks through a clip before a camera that zooms; how much more (log) for each rad that it turns, since by
# rays of a lens that is guessed too long it seems to (0.14 at 0.7 of the longer side); s that the zoom is averaged over.
ZOOMS, BY_TURNING, ZOOM_SMOOTH = 1.1, 0.2, 0.1
EDGE = 0.15  # of the distance in front of the steadier camera, below which it sees nothing


def fit_steadied(
    keypoints: Keypoints, world: np.ndarray, cam_K: np.ndarray, smooth: bool,
    fit: Callable[[Keypoints, np.ndarray], tuple[Motion, dict | None]],
) -> tuple[Motion, dict | None]:  # fmt: skip
    """One person's fit before a camera that moves along world (F, 4, 4), with cam_K (3, 3) or (F, 3, 3).

    fit: (keypoints with cam_K, T_world_cam) to a motion and a trace. smooth: steady the camera; False leaves what is seen as
    it is filmed. From turning the camera alone first, since how far the points are is not known yet; then from its path.
    """
    times = np.asarray(keypoints.times(), float)
    seen = shows_somebody(keypoints.confidence[0])
    if not seen.any():
        return fit(dataclasses.replace(keypoints, cam_K=cam_K), world)
    places = camera.fill_gaps(np.where(seen[:, None], world[:, :3, 3], np.nan))
    stays = np.ptp(places, axis=0).max() < STAYS
    path = steady_path(world, seen, times, np.inf if stays else 0.0, smooth)
    if path.ndim == 3:
        path[:, :3, 3] = places
    depth = np.full(keypoints.confidence.shape[1:], FAR)
    steadied = as_seen_from(path, keypoints, cam_K, world, depth)
    motion, trace = fit(steadied, path)
    if smooth:  # the labels that were fitted
        keypoints = relabelled(keypoints, label_states(steadied))
    motion = as_filmed(motion, path, keypoints, cam_K, world)
    if smooth and path.ndim == 3:
        pelvis = np.maximum(motion.joints[:, :1, 2], 0.3)
        depth = np.where(np.isfinite(motion.keypoints_3d[..., 2]), motion.keypoints_3d[..., 2], pelvis)
        depth = np.clip(depth, 0.5 * pelvis, 2 * pelvis)
        distance = float(np.median(pelvis[seen]))
        path = steady_path(world, seen, times, distance, smooth)
        if path.ndim == 2 or np.linalg.norm(path[:, :3, 3] - places, axis=-1).max() > NEAR * distance:
            motion, trace = fit(as_seen_from(path, keypoints, cam_K, world, depth), path)
            motion = as_filmed(motion, path, keypoints, cam_K, world)
    return motion, trace and _trace_as_filmed(trace, motion, path, world)


def fit_handheld(
    keypoints: Keypoints, turns: np.ndarray, cam_K: np.ndarray, fit: Callable[[Keypoints], tuple[Motion, dict | None]]
) -> tuple[Motion, dict | None]:
    """One person's fit before a camera that turns where it stands, in a world of its own, which the fit finds.

    turns: (F, 3, 3) from each frame's camera axes to those of one that stands still. fit: keypoints with cam_K to a motion and a trace.
    """
    world = np.tile(np.eye(4), (len(turns), 1, 1))
    world[:, :3, :3] = turns
    still = _pose(Rotation.from_matrix(turns).mean().as_quat()[None], np.zeros((1, 3)))[0]
    steadied = as_seen_from(still, keypoints, cam_K, world, np.full(keypoints.confidence.shape[1:], FAR))
    motion, trace = fit(dataclasses.replace(steadied, camera_turns=None, lines=_lines_seen_from(still, keypoints.lines, cam_K, world)))
    keypoints = relabelled(keypoints, label_states(steadied))
    world = motion.T_world_cam @ np.linalg.inv(still) @ world
    # The world is that of the first frame with somebody in it (contracts), not of the middle of all: its camera looks along +Y.
    forward = world[int(np.argmax(shows_somebody(keypoints.confidence[0]))), :3, 2]
    turn = _pose(Rotation.from_euler("z", np.arctan2(forward[0], forward[1])).as_quat()[None], np.zeros((1, 3)))[0]
    path, world = turn @ motion.T_world_cam, turn @ world
    return as_filmed(motion, path, keypoints, cam_K, world), trace and _trace_as_filmed(trace, motion, path, world)


def zooms(keypoints: Keypoints, focal: float) -> bool:
    """Whether the camera is seen to zoom: the background grows or shrinks, and not as before one that travels or turns far. focal: px, about."""
    turns = keypoints.camera_turns
    if turns is None or keypoints.camera_travels is not False:
        return False
    turned = float(np.linalg.norm(np.ptp(turns[:, :2], axis=0))) / focal
    return bool(turns[:, 3].max() > ZOOMS * np.exp(BY_TURNING * turned) * turns[:, 3].min())


def fit_zoomed(
    keypoints: Keypoints, centre: np.ndarray, fit: Callable[[Keypoints], tuple[Motion, dict | None]]
) -> tuple[Motion, dict | None]:  # fmt: skip
    """One person's fit before a camera that zooms (`zooms`), as if it had kept its first lens; the motion's cam_K is (F, 3, 3).

    centre: (2) px of the lens. fit: keypoints to a motion, with one lens, and a trace.
    """
    size = np.exp(camera.smooth_in_time(np.log(keypoints.camera_turns[:, 3:]), np.ones(keypoints.frames), np.asarray(keypoints.times(), float), ZOOM_SMOOTH))
    size = size / size[0]  # what a picture is enlarged by to lie on the first
    seen = keypoints.confidence[..., None] > 0
    turns = np.column_stack((keypoints.camera_turns[:, :2] / keypoints.camera_turns[0, 3], keypoints.camera_turns[:, 2], np.ones(len(size))))
    lines = keypoints.lines
    if lines is not None:
        frames, ends = lines[:, 0].astype(np.int64), lines[:, 1:].reshape(-1, 2, 2)
        lines = np.column_stack((frames, (centre + (ends - centre) * size[frames, None]).reshape(-1, 4)))
    kept = dataclasses.replace(
        keypoints, keypoints=np.where(seen, centre + (keypoints.keypoints - centre) * size[:, None], 0),
        camera_turns=None if stands_still(turns, keypoints.image_size) else turns, lines=lines,
    )  # fmt: skip
    motion, trace = fit(kept)
    cam_K = np.tile(motion.cam_K, (len(size), 1, 1))
    cam_K[:, [0, 1], [0, 1]] /= size
    seen = motion.confidence[..., None] > 0
    points = np.where(seen, centre + (motion.keypoints - centre) / size[:, None], 0)
    return dataclasses.replace(motion, cam_K=cam_K, keypoints=points, reprojection_px=motion.reprojection_px / size[:, 0]), trace


def widest(turns: np.ndarray) -> float:
    """How far (rad) turns (F, 3, 3) go from the middle of them all."""
    turned = Rotation.from_matrix(turns)
    return float((turned.mean().inv() * turned).magnitude().max())


def steady_path(world: np.ndarray, seen: np.ndarray, times: np.ndarray, distance: float, smooth: bool) -> np.ndarray:
    """The steadier camera (4, 4) or (F, 4, 4) for world (F, 4, 4), the real one's path.

    seen: (F) bool, where somebody is; distance: m to them (0: never stand still); smooth: False follows the real path wherever
    somebody is seen.
    """
    turns, places = _quaternions(world), world[:, :3, 3]
    known = turns[seen]
    mean = known.mean(0) / max(np.linalg.norm(known.mean(0)), 1e-9)
    turned = 2 * np.arccos(np.clip(known @ mean, 0, 1)).max()
    middle = (places[seen].min(0) + places[seen].max(0)) / 2
    moved = np.linalg.norm(places[seen] - middle, axis=-1).max()
    if smooth and turned < STILL_TURN and moved < STILL_MOVE * distance:
        return _pose(mean[None], middle[None])[0]
    path = np.concatenate([turns, places], -1)[seen]
    if smooth:
        path = camera.smooth_in_time(path, np.ones(len(path)), times[seen], SMOOTH)
    whole = np.full((len(world), 7), np.nan)
    whole[seen] = path
    whole = camera.fill_gaps(whole)
    return _pose(whole[:, :4], whole[:, 4:])


def as_seen_from(
    path: np.ndarray, keypoints: Keypoints, cam_K: np.ndarray, world: np.ndarray, depth: np.ndarray
) -> Keypoints:
    """One person's keypoints as the camera `path` ((4, 4) or (F, 4, 4)) would see them; its lens is the real one's median.

    depth: (F, K) m, the points' distance along the real camera's axis.
    """
    frames = keypoints.frames
    points = keypoints.keypoints[0].astype(float)
    rays = camera.to_rays(points, cam_K)
    at = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) * depth[..., None]
    relative = np.linalg.inv(np.broadcast_to(path, (frames, 4, 4))) @ world
    there = np.einsum("fab,fkb->fka", relative[:, :3, :3], at) + relative[:, None, :3, 3]
    visible = there[..., 2] > EDGE * depth
    K = np.median(np.broadcast_to(cam_K, (frames, 3, 3)), axis=0)
    pixels = camera.project(there, K)
    return dataclasses.replace(
        keypoints, keypoints=np.where(visible[..., None], pixels, 0)[None], confidence=keypoints.confidence * visible, cam_K=K,
    )  # fmt: skip


def _lines_seen_from(still: np.ndarray, lines: np.ndarray | None, cam_K: np.ndarray, world: np.ndarray) -> np.ndarray | None:
    """`Keypoints.lines` as a camera (4, 4) would see them that stands where the real one does, which turns along world (F, 4, 4)."""
    if lines is None or cam_K.ndim == 3:
        return None
    frames, ends = lines[:, 0].astype(np.int64), lines[:, 1:].reshape(-1, 2, 2)
    rays = np.concatenate((camera.to_rays(ends, cam_K), np.ones((len(ends), 2, 1))), -1)
    there = np.einsum("nab,nkb->nka", still[:3, :3].T @ world[frames, :3, :3], rays)
    seen = (there[..., 2] > EDGE).all(-1)
    return np.column_stack((frames[seen], camera.project(there[seen], cam_K).reshape(-1, 4)))


def as_filmed(motion: Motion, path: np.ndarray, keypoints: Keypoints, cam_K: np.ndarray, world: np.ndarray) -> Motion:
    """A motion found before the camera `path` in the frame of the real one, whose keypoints these are."""
    back = np.linalg.inv(world) @ np.broadcast_to(path, world.shape)
    turn, move = back[:, :3, :3], back[:, None, :3, 3]
    moved = lambda points: np.einsum("fab,fkb->fka", turn, points) + move  # noqa: E731
    rest = motion.joints[:, 0] - motion.trans
    joints, landmarks = moved(motion.joints), moved(motion.keypoints_3d)
    poses = motion.poses.copy()
    poses[:, :3] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
    points, confidence = keypoints.keypoints[0], keypoints.confidence[0]
    told = np.isfinite(landmarks).all(-1)
    error = reprojection_px(np.nan_to_num(landmarks), points, confidence * told, cam_K)
    return dataclasses.replace(
        motion, poses=poses, joints=joints, trans=joints[:, 0] - rest, keypoints_3d=landmarks, T_world_cam=world, cam_K=cam_K,
        keypoints=points, confidence=confidence, reprojection_px=error,
    )  # fmt: skip


def _trace_as_filmed(trace: dict, motion: Motion, path: np.ndarray, world: np.ndarray) -> dict:
    """Every step's poses (S, F, 72) and trans (S, F, 3) in the real camera's frame."""
    back = np.linalg.inv(world) @ np.broadcast_to(path, world.shape)
    rest = motion.joints[:, 0] - motion.trans
    poses, trans = trace["poses"].astype(float), trace["trans"] + rest
    trans = np.einsum("fab,sfb->sfa", back[:, :3, :3], trans) + back[:, :3, 3] - rest
    turn = Rotation.from_matrix(back[:, :3, :3])
    for step in poses:
        step[:, :3] = (turn * Rotation.from_rotvec(step[:, :3])).as_rotvec()
    return trace | {"poses": poses.astype(np.float32), "trans": trans.astype(np.float32)}


def _quaternions(world: np.ndarray) -> np.ndarray:
    """(F, 4) of the cameras' turns, none farther from the one before than its opposite."""
    q = Rotation.from_matrix(world[:, :3, :3]).as_quat()
    turned = np.cumprod(np.where((q[1:] * q[:-1]).sum(-1) < 0, -1, 1))
    return q * np.concatenate([[1], turned])[:, None]


def _pose(turns: np.ndarray, places: np.ndarray) -> np.ndarray:
    out = np.tile(np.eye(4), (len(turns), 1, 1))
    out[:, :3, :3] = Rotation.from_quat(turns).as_matrix()
    out[:, :3, 3] = places
    return out
