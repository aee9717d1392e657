# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit one person's keypoints: `fit(keypoints, options) -> Motion`. Both modes start and end here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .. import camera, contact
from ..body.files import load_body
from ..body.landmarks import sole_offsets
from ..body.smpl import BodyModel
from ..errors import LgdError
from ..keypoints.formats import LAYOUTS, to_internal
from ..keypoints.repair import reject_outliers, repair_swaps
from ..keypoints.tracks import Keypoints
from ..motion import Motion
from ..places import version
from ..rotations import exp_so3, log_so3, resample_linear, resample_rotations
from . import paper
from .checkpoint import load_network, weights_name
from .solve_video import VideoSolver

RATE = 30.0  # frames a second that video mode works at
SLOW = 15.0  # below: in-betweens are guesses, contacts are not claimed
PAPER_BATCH = 4096
FOCAL_RANGE = (0.5, 3.5)  # of the image's longer side: what an estimate may be

Progress = Callable[[str, int, int], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class FitOptions:
    """All a fit depends on beside its keypoints.

    focal: px, or None; T_world_cam: (4, 4) or (F, 4, 4) of a known camera; steps: learned steps, or None for the
    mode's own; device: auto, cpu, cuda, mps; betas: (10) to keep; body: an SMPL file, or None; trace: keep every
    step (paper mode).
    """

    mode: str = "video"
    focal: float | None = None
    T_world_cam: np.ndarray | None = None
    steps: int | None = None
    device: str = "auto"
    betas: np.ndarray | None = None
    body: str | None = None
    seed: int = 0
    trace: bool = False


def fit(
    keypoints: Keypoints, options: FitOptions = FitOptions(), on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> tuple[Motion, dict | None]:  # fmt: skip
    """Fit one person.

    keypoints: one track (P == 1). Returns the Motion and, in paper mode with `trace`, a dict of every step's
    parameters. Raises LgdError: no_person where nothing is seen, bad_input, setup_incomplete, cancelled.
    """
    if keypoints.people != 1:
        raise LgdError("bad_input", "A fit takes one person at a time.", "Choose a person.")
    if not (keypoints.confidence > 0).any():
        raise LgdError("no_person", "No point of the person is seen in any frame.", "Choose another range or person.")
    if options.steps is not None and not 0 <= options.steps <= 8:
        raise LgdError("bad_input", f"{options.steps} steps were asked for.", "Choose 0 to 8 steps.")
    device = pick_device(options.device)
    torch.manual_seed(options.seed)
    model, data = _body(options.body, str(device))
    cam_K, source = _intrinsics(keypoints, options)
    stop = _stopper(should_stop)
    progress = on_progress or (lambda stage, done, total: None)
    run = _fit_video if options.mode == "video" else _fit_paper
    return run(keypoints, options, model, data, cam_K, source, device, progress, stop)


def pick_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda or mps. Raises LgdError where the machine has none of that kind."""
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if have["cuda"] else "cpu"  # MPS is slower than the CPU for networks this small
    if name not in have:
        raise LgdError("bad_input", f"The device {name} is not known.", "Choose auto, cpu, cuda or mps.")
    if not have[name]:
        raise LgdError("bad_input", f"This machine offers no {name} device.", "Choose auto or cpu.")
    return torch.device(name)


@lru_cache(maxsize=4)
def _body(path: str | None, device: str) -> tuple[BodyModel, dict]:
    data = load_body(None if path is None else Path(path))
    return BodyModel(data, device), data


@lru_cache(maxsize=4)
def _network(mode: str, device: str):
    return load_network(mode, device)


def _stopper(should_stop: Stop | None) -> Callable[[], None]:
    def check() -> None:
        if should_stop is not None and should_stop():
            raise LgdError("cancelled", "The fit was cancelled.")

    return check


def _intrinsics(keypoints: Keypoints, options: FitOptions) -> tuple[np.ndarray, str]:
    """The camera matrix told, or assumed: (3, 3) or (F, 3, 3), and where it comes from."""
    width, height = keypoints.image_size
    if options.focal is not None:
        if not options.focal > 0:
            raise LgdError("bad_input", "The focal length must be above 0 px.", "Leave it out if it is not known.")
        return camera.camera_matrix(options.focal, width, height), "given"
    if keypoints.cam_K is not None:
        return np.asarray(keypoints.cam_K, float), "file"
    return camera.camera_matrix(camera.assumed_focal(width, height), width, height), "assumed"


# ------------------------------------------------------------------------------------------------ video


def _fit_video(keypoints, options, model, data, cam_K, source, device, progress, stop):
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    progress("repair", 0, 1)
    points, confidence, _ = repair_swaps(points, confidence)
    confidence = reject_outliers(points, confidence)
    times = np.asarray(keypoints.times(), float)
    solver = VideoSolver(_network("video", str(device)), model, keypoints.layout)
    rays = camera.to_rays(points, cam_K)
    grid, grid_rays, grid_confidence = to_rate(rays, confidence, times)
    as_torch = lambda a: torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=device)  # noqa: E731
    betas = None if options.betas is None else as_torch(options.betas)
    static = options.T_world_cam is None or options.T_world_cam.ndim == 2
    stop()

    def solve(known: bool, scale: float, hypotheses: bool):
        return solver.solve(
            as_torch(grid_rays / scale), as_torch(grid_confidence), focal_known=known, static=static, betas=betas,
            steps=options.steps, hypotheses=hypotheses, should_stop=stop,
            on_progress=lambda done, total: progress("fit", done, total),
        )  # fmt: skip

    if source == "assumed":
        # The longer side bounds what a lens may be; the network's estimate is told to a second, full solve.
        guess = solve(False, 1.0, False)
        longer = max(keypoints.image_size)
        focal = float(np.asarray(cam_K)[0, 0])
        low, high = (math.log(r * longer / focal) for r in FOCAL_RANGE)
        scale = math.exp(float(np.clip(guess.log_focal, low, high)))
        cam_K = cam_K.copy()
        cam_K[0, 0] *= scale
        cam_K[1, 1] *= scale
        source = "estimated"
        solved = solve(True, scale, True)
    else:
        solved = solve(True, 1.0, True)
    progress("place", 0, 1)
    if grid is None:
        at = lambda x: x  # noqa: E731
        rotations = solved.rotations
    else:
        old, new = torch.as_tensor(grid), torch.as_tensor(times)
        at = lambda x: resample_linear(x.cpu(), old, new)  # noqa: E731
        rotations = resample_rotations(solved.rotations.cpu(), old, new)
    slow = _mean_rate(times) < SLOW
    doubt = at(solved.doubt).cpu().numpy()
    contacts = at(solved.contact).cpu().numpy()[:, :4]
    up, agreement = contact.average_direction(at(solved.up).cpu().numpy(), confidence.sum(-1) + 1e-3)
    result = _Result(
        rotations=rotations.cpu(), pelvis=at(solved.pelvis).cpu().numpy().astype(float), betas=solved.betas.cpu(),
        contacts=np.zeros_like(contacts) if slow else contacts, up=up,
        world_confidence=float(np.clip(1 - (1 - agreement) * 20, 0.05, 0.95)),
        joint_confidence=_confidence_of(doubt, confidence), doubt=doubt, focal_source=source, cam_K=cam_K,
    )  # fmt: skip
    return _finish(keypoints, options, model, data, result, slow), None


def to_rate(
    rays: np.ndarray, confidence: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Points of any timing at RATE frames a second.

    rays: (F, 30, 2), confidence: (F, 30), times: (F) s. Returns the grid's times (T) (None where the source already
    runs at that rate), rays (T, 30, 2), confidence (T, 30). Points are interpolated between the neighbours that see
    them; a gap longer than a third of a second, or than the source's own spacing, stays a gap; what lies between
    two frames counts less the farther both are.
    """
    frames = len(times)
    if frames == 1:
        return None, rays, confidence
    gaps = np.diff(times)
    if np.abs(gaps * RATE - 1).max() < 0.08:
        return None, rays, confidence
    grid = np.arange(times[0], times[-1] + 0.5 / RATE, 1 / RATE)
    longest = max(1 / 3, 1.5 * float(np.median(gaps)))
    out = np.zeros((len(grid), *rays.shape[1:]))
    seen = np.zeros((len(grid), rays.shape[1]))
    if np.median(gaps) < 0.75 / RATE:  # faster than the grid: the frames round each grid time are averaged
        rays, confidence = _box_filter(rays, confidence, times, 0.5 / RATE)
    for k in range(rays.shape[1]):
        good = confidence[:, k] > 0.05
        if not good.any():
            continue
        t, c = times[good], confidence[good, k]
        right = np.searchsorted(t, grid).clip(1, max(1, len(t) - 1)) if len(t) > 1 else np.zeros(len(grid), int)
        left = np.maximum(right - 1, 0)
        span = np.maximum(t[right] - t[left], 1e-9)
        s = ((grid - t[left]) / span).clip(0, 1)
        out[:, k] = rays[good, k][left] * (1 - s)[:, None] + rays[good, k][right] * s[:, None]
        away = np.minimum(np.abs(grid - t[left]), np.abs(grid - t[right]))
        inside = ((span <= longest) & (grid >= t[left] - 0.6 / RATE) & (grid <= t[right] + 0.6 / RATE)) | (away < 0.6 / RATE)
        fade = 1 / (1 + np.maximum(away * RATE - 0.5, 0) / 3)
        seen[:, k] = np.where(inside, (c[left] * (1 - s) + c[right] * s) * fade, 0)
    return grid, out, seen


def _box_filter(rays: np.ndarray, confidence: np.ndarray, times: np.ndarray, half: float):
    """Confidence-weighted mean of the frames within `half` seconds of each frame."""
    low, high = np.searchsorted(times, times - half), np.searchsorted(times, times + half, side="right")
    weight = np.where(confidence > 0.05, confidence, 0)
    total = np.concatenate((np.zeros((1, *weight.shape[1:])), np.cumsum(weight, 0)))
    moved = np.concatenate((np.zeros((1, *rays.shape[1:])), np.cumsum(rays * weight[..., None], 0)))
    sums = total[high] - total[low]
    mean = (moved[high] - moved[low]) / np.maximum(sums, 1e-9)[..., None]
    return np.where(weight[..., None] > 0, mean, rays), weight


def _mean_rate(times: np.ndarray) -> float:
    return RATE if len(times) < 2 else (len(times) - 1) / max(times[-1] - times[0], 1e-9)


def _confidence_of(doubt: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Confidence (F, 24) from the expected joint error (F, 24) m: 0.5 at 10 cm; 0 where nobody is seen."""
    value = 1 / (1 + (doubt / 0.1) ** 2)
    nobody = (confidence > 0.05).sum(-1) < 3
    value[nobody] = 0
    return value


# ------------------------------------------------------------------------------------------------ paper


def _fit_paper(keypoints, options, model, data, cam_K, source, device, progress, stop):
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    net = _network("paper", str(device))
    steps = 3 if options.steps is None else options.steps
    frames = len(points)
    rays = torch.as_tensor(camera.to_rays(points, cam_K), dtype=torch.float32, device=device)
    thetas, shapes, errors = [], [], []
    for first in range(0, frames, PAPER_BATCH):
        stop()
        progress("fit", first, frames)
        rows = slice(first, first + PAPER_BATCH)
        selected = paper.select_points(
            rays[rows], torch.as_tensor(confidence[rows], dtype=torch.float32, device=device)
        )
        with torch.no_grad():
            estimates = net(*selected, model, steps=steps)
        thetas.append(torch.stack([e.theta for e in estimates]).cpu())
        shapes.append(torch.stack([e.betas for e in estimates]).cpu())
        errors.append(torch.stack([e.reprojection for e in estimates]).cpu())
    theta, betas, reprojection = (torch.cat(parts, 1) for parts in (thetas, shapes, errors))
    seen = confidence.sum(-1)
    weight = torch.as_tensor(seen / max(seen.sum(), 1e-9), dtype=torch.float32)
    one = (betas[-1] * weight[:, None]).sum(0) if options.betas is None else torch.as_tensor(options.betas).float()
    rotations = exp_so3(theta[-1].unflatten(-1, (24, 3)))
    # The paper's body is y-up before its camera; frames in which nobody is seen hold the last pose that was.
    rotations[:, 0] = paper.TO_CAMERA @ rotations[:, 0]
    rotations = rotations[torch.as_tensor(_held(seen > 0))]
    placed = _pelvis_by_reprojection(rotations, one, keypoints.layout, model, points, confidence, cam_K)
    trunk = rotations[:, 0].numpy() @ np.array([0.0, 1.0, 0.0])
    upright = np.arccos(np.clip(-trunk[:, 1], -1, 1)) < math.radians(60)
    weights = (seen + 1e-3) * (upright if upright.any() else 1)
    up, agreement = contact.average_direction(trunk, weights)
    result = _Result(
        rotations=rotations, pelvis=placed, betas=one, contacts=None, up=up,
        world_confidence=0.3 * agreement, joint_confidence=_carried(points, confidence), doubt=None,
        focal_source=source, cam_K=cam_K,
    )  # fmt: skip
    motion = _finish(keypoints, options, model, data, result, _mean_rate(np.asarray(keypoints.times())) < SLOW)
    motion.betas_per_frame = betas[-1].numpy()
    trace = None
    if options.trace:
        trace = _trace(theta, betas, reprojection, keypoints, model, one, points, confidence, cam_K)
    return motion, trace


def _held(good: np.ndarray) -> np.ndarray:
    """(F) index of the nearest earlier good frame, or the first good one."""
    index = np.where(good, np.arange(len(good)), -1)
    index = np.maximum.accumulate(index)
    return np.where(index < 0, np.argmax(good), index)


def _pelvis_by_reprojection(rotations, betas, layout, model, points, confidence, cam_K) -> np.ndarray:
    shaped = model.shaped(betas.to(model.device), layout)
    posed = shaped.posed(rotations.to(model.device))
    relative = posed.points.cpu().numpy().astype(float)
    placed = camera.place_by_reprojection(relative, camera.to_rays(points, cam_K), confidence)
    return camera.fill_gaps(placed)


def _carried(points: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Keypoint confidence carried along the tree to the 24 joints (paper mode)."""
    from ..body.joints import PARENTS
    from ..keypoints.formats import POINT_INDEX

    own = {16: "left_shoulder", 17: "right_shoulder", 18: "left_elbow", 19: "right_elbow", 20: "left_wrist",
           21: "right_wrist", 1: "left_hip", 2: "right_hip", 4: "left_knee", 5: "right_knee", 7: "left_ankle",
           8: "right_ankle", 15: "nose"}  # fmt: skip
    out = np.zeros((len(confidence), 24))
    hips = confidence[:, [POINT_INDEX["left_hip"], POINT_INDEX["right_hip"]]].mean(-1)
    shoulders = confidence[:, [POINT_INDEX["left_shoulder"], POINT_INDEX["right_shoulder"]]].mean(-1)
    out[:, 0] = hips
    for joint in range(1, 24):
        if joint in own:
            out[:, joint] = confidence[:, POINT_INDEX[own[joint]]]
        elif joint in (3, 6, 9, 12, 13, 14):
            out[:, joint] = (hips + shoulders) / 2
        else:
            out[:, joint] = out[:, PARENTS[joint]]
    return out


def _trace(theta, betas, reprojection, keypoints, model, one, points, confidence, cam_K) -> dict:
    """Every step's parameters in the camera frame: poses (S, F, 72), betas (S, F, 10), trans (S, F, 3),
    reprojection (S, F) boxes, reprojection_px (S, F)."""
    poses, places, errors = [], [], []
    rest = model.rest_joints(one.to(model.device)).cpu().numpy()
    for step in theta:
        rotations = exp_so3(step.unflatten(-1, (24, 3)))
        rotations[:, 0] = paper.TO_CAMERA @ rotations[:, 0]
        pelvis = _pelvis_by_reprojection(rotations, one, keypoints.layout, model, points, confidence, cam_K)
        places.append(pelvis - rest[0])
        poses.append(log_so3(rotations).flatten(1).numpy())
        posed = model.shaped(one.to(model.device), keypoints.layout).posed(rotations.to(model.device))
        landmarks = posed.points.cpu().numpy() + pelvis[:, None]
        errors.append(_reprojection(landmarks, points, confidence, cam_K))
    return {
        "poses": np.stack(poses).astype(np.float32), "betas": betas.numpy(), "trans": np.stack(places).astype(np.float32),
        "reprojection": reprojection.numpy(), "reprojection_px": np.stack(errors).astype(np.float32),
        "frame_times": np.asarray(keypoints.times(), float),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ both


@dataclass
class _Result:
    """What a mode found, F frames of the source. pelvis (F, 3) m; contacts (F, 4) or None: by height and speed;
    up (3) of the camera frame; doubt (F, 24) m or None."""

    rotations: torch.Tensor
    pelvis: np.ndarray
    betas: torch.Tensor
    contacts: np.ndarray | None
    up: np.ndarray
    world_confidence: float
    joint_confidence: np.ndarray
    doubt: np.ndarray | None
    focal_source: str
    cam_K: np.ndarray


def _reprojection(landmarks: np.ndarray, points: np.ndarray, confidence: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """(F) mean distance in px over the points seen, NaN where none is."""
    error = np.linalg.norm(camera.project(landmarks, cam_K) - points, axis=-1)
    seen = confidence > 0
    total = np.where(seen, error, 0).sum(-1)
    return np.where(seen.any(-1), total / np.maximum(seen.sum(-1), 1), np.nan)


def _soles(data: dict, posed_joints: np.ndarray, world: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Sole points (F, 4, 3) m, camera axes and origin of `posed_joints`."""
    offsets, directions, parents = sole_offsets(data)
    local = offsets + directions @ betas
    return posed_joints[:, parents] + np.einsum("fjab,jb->fja", world[:, parents], local)


def _finish(keypoints: Keypoints, options: FitOptions, model: BodyModel, data: dict, found: _Result, slow: bool) -> Motion:
    """Kinematics, world, contacts and all the fields of a Motion."""
    times = np.asarray(keypoints.times(), float)
    betas = found.betas.to(model.device)
    posed = model.shaped(betas, keypoints.layout).posed(found.rotations.to(model.device))
    relative, frames_world = posed.joints.cpu().numpy().astype(float), posed.world.cpu().numpy().astype(float)
    landmarks = posed.points.cpu().numpy().astype(float)
    shape = found.betas.cpu().numpy().astype(float)
    pelvis = found.pelvis
    soles = _soles(data, relative, frames_world, shape)
    seen = (keypoints.confidence[0] > 0.05).sum(-1) >= 3
    world, given = options.T_world_cam, options.T_world_cam is not None
    if found.contacts is not None and found.contacts.any() and (not given or np.ndim(world) == 2):
        depth_doubt = np.clip(found.doubt[:, 0:1] * 0 + 0.02 * pelvis[:, 2:3], 0.02, 1)
        doubt = np.concatenate((depth_doubt / 4, depth_doubt / 4, depth_doubt), -1)
        rate = np.clip(_mean_rate(times) / RATE, 0.5, 4)
        pelvis = contact.anchor_root(pelvis, soles, found.contacts, doubt, slip=0.004 / rate)
    if given:
        world = np.asarray(world, float)
    else:
        turn = contact.world_from_up(found.up)
        heights = (soles + pelvis[:, None]) @ turn.T
        touching = found.contacts if found.contacts is not None else np.zeros((len(pelvis), 4))
        ground = contact.ground_height(heights, touching, seen)
        first = int(np.argmax(seen))
        world = np.eye(4)
        world[:3, :3] = turn
        start = turn @ pelvis[first]
        world[:3, 3] = -np.array([start[0], start[1], ground])
    contacts = found.contacts
    if contacts is None:
        turn = np.broadcast_to(world, (len(pelvis), 4, 4))
        placed = np.einsum("fab,fkb->fka", turn[:, :3, :3], soles + pelvis[:, None]) + turn[:, None, :3, 3]
        contacts = np.zeros((len(pelvis), 4)) if slow else contact.contacts_by_height(placed, times)
    rest = model.rest_joints(betas).cpu().numpy()[0]
    landmarks = landmarks + pelvis[:, None]
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    return Motion(
        poses=log_so3(found.rotations.double()).flatten(1).numpy(), betas=shape, trans=pelvis - rest, joints=relative + pelvis[:, None],
        cam_K=found.cam_K, focal_source=found.focal_source, T_world_cam=world,
        world_confidence=1.0 if given else found.world_confidence, mocap_framerate=_mean_rate(times),
        frame_times=times, gender=str(data["gender"]), body_model=str(data["id"]),
        reprojection_px=_reprojection(landmarks, points, confidence, found.cam_K),
        joint_confidence=found.joint_confidence, contacts=contacts, keypoints=keypoints.keypoints[0],
        confidence=keypoints.confidence[0], layout=keypoints.layout, image_size=np.asarray(keypoints.image_size),
        person_id=int(keypoints.person_ids[0]) if keypoints.person_ids is not None else 0,
        keypoints_3d=_layout_points(landmarks, keypoints.layout), mode=options.mode, weights=weights_name(options.mode),
        bridge_version=version(),
    )  # fmt: skip


def _layout_points(landmarks: np.ndarray, layout: str) -> np.ndarray:
    """Internal points (F, 30, 3) in the layout's own order (F, K, 3); NaN for what the body has no landmark for."""
    internal = LAYOUTS[layout].internal
    out = landmarks[:, np.maximum(internal, 0)].copy()
    out[:, internal < 0] = np.nan
    return out

