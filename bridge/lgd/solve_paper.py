# SPDX-License-Identifier: GPL-3.0-or-later
"""Paper mode's solve: the published descent frame by frame, then the closed-form place the paper leaves open."""

import math

import numpy as np
import torch

from .. import camera, contact
from ..body.joints import PARENTS
from ..body.smpl import BodyModel
from ..keypoints.formats import POINT_INDEX, to_internal
from ..keypoints.tracks import Keypoints, shows_somebody
from ..rotations import exp_so3, log_so3
from . import paper
from .assemble import Found, reprojection_px
from .observation import look_at

PAPER_BATCH = 4096
HIPS = [POINT_INDEX["left_hip"], POINT_INDEX["right_hip"]]


def solve_paper(
    net: paper.PaperNet, keypoints: Keypoints, model: BodyModel, cam_K: np.ndarray, source: str, betas: np.ndarray | None,
    steps: int, want_trace: bool, progress, stop,
) -> tuple[Found, np.ndarray, dict | None]:
    """Single frames by the paper's steps; one shape and the place of the body afterwards.

    betas: (10) to keep, or None for the confidence-weighted mean. Returns what was found, betas per frame (F, 10), and
    with `want_trace` every step.
    """
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    device = model.device
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
    progress("fit", frames, frames)
    theta, shapes_found, reprojection = (torch.cat(parts, 1) for parts in (thetas, shapes, errors))
    seen = confidence.sum(-1)
    weight = torch.as_tensor(seen / max(seen.sum(), 1e-9), dtype=torch.float32)
    one = (shapes_found[-1] * weight[:, None]).sum(0) if betas is None else torch.as_tensor(betas).float()
    to_camera = _from_papers_camera(rays.cpu(), confidence)
    held = torch.as_tensor(_held(_tells(confidence)))  # frames that show hardly anybody hold the last pose that was seen
    rotations = _in_camera(theta[-1], to_camera)[held]
    placed = _pelvis_by_reprojection(rotations, one, keypoints.layout, model, points, confidence, cam_K)
    trunk = rotations[:, 0].numpy() @ np.array([0.0, 1.0, 0.0])
    upright = np.arccos(np.clip(-trunk[:, 1], -1, 1)) < math.radians(60)
    weights = (seen + 1e-3) * (upright if upright.any() else 1)
    up, agreement = contact.average_direction(trunk, weights)
    found = Found(
        rotations=rotations, pelvis=placed, betas=one, up=up, anchored=False, world_confidence=0.3 * agreement,
        joint_confidence=_carried(confidence), focal_source=source, cam_K=cam_K,
    )  # fmt: skip
    trace = None
    if want_trace:
        trace = _trace(theta, shapes_found, reprojection, keypoints, model, one, points, confidence, cam_K, to_camera, held)
    return found, shapes_found[-1].numpy(), trace


def _from_papers_camera(rays: torch.Tensor, confidence: np.ndarray) -> torch.Tensor:
    """(F, 3, 3) from the paper's frame to the camera's. The paper's body is y-up before a camera that looks straight at it: what lies
    beside the middle of the image is seen as turned by its ray, which is taken as the hips' (all points' where these are not seen)."""
    weight = confidence * 1e-3
    weight[:, HIPS] *= 1e3
    weight = torch.as_tensor(weight / np.maximum(weight.sum(-1, keepdims=True), 1e-9), dtype=torch.float32)
    return look_at((rays * weight[..., None]).sum(1)).transpose(-1, -2) @ paper.TO_CAMERA


def _in_camera(theta: torch.Tensor, to_camera: torch.Tensor) -> torch.Tensor:
    """Local rotations (F, 24, 3, 3), the pelvis's in the camera's frame, of the paper's poses (F, 72)."""
    rotations = exp_so3(theta.unflatten(-1, (24, 3)))
    rotations[:, 0] = to_camera @ rotations[:, 0]
    return rotations


def _held(good: np.ndarray) -> np.ndarray:
    """(F) index of the nearest earlier good frame, or the first good one."""
    index = np.where(good, np.arange(len(good)), -1)
    index = np.maximum.accumulate(index)
    return np.where(index < 0, np.argmax(good), index)


def _pelvis_by_reprojection(rotations, betas, layout, model, points, confidence, cam_K) -> np.ndarray:
    shaped = model.shaped(betas.to(model.device), layout)
    posed = shaped.posed(rotations.to(model.device))
    relative = posed.points.cpu().numpy().astype(float)
    placed = camera.place_by_reprojection(relative, camera.to_rays(points, cam_K), confidence, refined=True)
    placed[~_tells(confidence)] = np.nan  # two or three points put a body anywhere along their ray
    return camera.fill_gaps(placed)


def _tells(confidence: np.ndarray) -> np.ndarray:
    """(F) bool: which frames show enough points (F, K) to tell where the body is and how it stands."""
    return (confidence > paper.SEEN).sum(-1) >= camera.FEW


def _carried(confidence: np.ndarray) -> np.ndarray:
    """Keypoint confidence carried along the tree to the 24 joints (paper mode); 0 where nobody is seen, and the pose is held."""
    own = {16: "left_shoulder", 17: "right_shoulder", 18: "left_elbow", 19: "right_elbow", 20: "left_wrist",
           21: "right_wrist", 1: "left_hip", 2: "right_hip", 4: "left_knee", 5: "right_knee", 7: "left_ankle",
           8: "right_ankle", 15: "nose"}  # fmt: skip
    out = np.zeros((len(confidence), 24))
    hips = confidence[:, HIPS].mean(-1)
    shoulders = confidence[:, [POINT_INDEX["left_shoulder"], POINT_INDEX["right_shoulder"]]].mean(-1)
    out[:, 0] = hips
    for joint in range(1, 24):
        if joint in own:
            out[:, joint] = confidence[:, POINT_INDEX[own[joint]]]
        elif joint in (3, 6, 9, 12, 13, 14):
            out[:, joint] = (hips + shoulders) / 2
        else:
            out[:, joint] = out[:, PARENTS[joint]]
    out[~shows_somebody(confidence)] = 0
    return out


def _trace(theta, betas, reprojection, keypoints, model, one, points, confidence, cam_K, to_camera, held) -> dict:
    """Every step's parameters in the camera frame: poses (S, F, 72), betas (S, F, 10), trans (S, F, 3),
    reprojection (S, F) boxes, reprojection_px (S, F)."""
    poses, places, errors = [], [], []
    rest = model.rest_joints(one.to(model.device)).cpu().numpy()
    for step in theta:
        rotations = _in_camera(step, to_camera)[held]
        pelvis = _pelvis_by_reprojection(rotations, one, keypoints.layout, model, points, confidence, cam_K)
        places.append(pelvis - rest[0])
        poses.append(log_so3(rotations).flatten(1).numpy())
        posed = model.shaped(one.to(model.device), keypoints.layout).posed(rotations.to(model.device))
        landmarks = posed.points.cpu().numpy() + pelvis[:, None]
        errors.append(reprojection_px(landmarks, points, confidence, cam_K))
    return {
        "poses": np.stack(poses).astype(np.float32), "betas": betas.numpy(), "trans": np.stack(places).astype(np.float32),
        "reprojection": reprojection.numpy(), "reprojection_px": np.stack(errors).astype(np.float32),
        "frame_times": np.asarray(keypoints.times(), float),
    }  # fmt: skip
