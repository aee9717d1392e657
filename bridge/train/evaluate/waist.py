# SPDX-License-Identifier: GPL-3.0-or-later
"""Real people seen to the waist, as webcams see them, whose legs nobody knows.

`desk`: a man at a desk before four calibrated cameras, BlazePose's points as stored, judged by what these triangulate to
(PyPI's source package caliscope 0.7.5, BSD-2: its folder tests/sessions/4_cam_recording as `waist/desk`). `signers`: 600
clips of people who spell with their fingers, all facing the camera and their hands before them (PyPI's source package
spoken-to-signed 0.4.0: its *.pose files as `waist/signers`; read with the package pose-format).
"""

import tomllib
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch

from ...errors import LgdError
from ...keypoints.blazepose import BEYOND
from ...keypoints.borders import confidence_inside
from ...keypoints.formats import LAYOUTS
from ...keypoints.tracks import Keypoints
from ...lgd.fitter import FitOptions, fit
from ..metrics import mpjpe, pa_mpjpe
from .rows import Networks

LAYOUT = "blazepose33"
NAMES = LAYOUTS[LAYOUT].names
ARMS = [NAMES.index(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist") for side in ("left", "right")]
AGREE = 25.0  # px: the most by which cameras may miss a point that they triangulate, three at least


def ready(folder: Path) -> None:
    """Raises LgdError where the data is there but not what reads it: to be known before hours of other sections."""
    if (folder / "waist" / "signers").is_dir() and find_spec("pose_format") is None:
        raise LgdError("setup_incomplete", "The package pose-format is missing, which reads the signers.", "pip install pose-format")


def evaluate_waist(folder: Path, networks: Networks) -> dict:
    """{"desk": {camera: {"given" | "unknown": figures}}, "signers": figures}, as far as the data is there; figures: PA and MPJPE
    (mm, about the shoulders' midpoint) of shoulders, elbows and wrists; % of the frames whose shoulders face the other way; %
    of the hands held before the chest that come out behind the shoulders."""
    folder = folder / "waist"
    out = {}
    with networks.used():
        if (folder / "desk").is_dir():
            out["desk"] = _desk(folder / "desk")
        if files := sorted((folder / "signers").rglob("*.pose")):
            out["signers"] = _signers(files)
    return out


def _desk(folder: Path) -> dict:
    cameras = list(tomllib.loads((folder / "camera_array.toml").read_text())["cameras"].values())
    table = np.genfromtxt(folder / "recordings/recording_1/HOLISTIC/xy_HOLISTIC.csv", delimiter=",", skip_header=1)
    table = table[table[:, 4] < len(NAMES)]  # then come hands and the face's outline
    frame, camera, point = table[:, [0, 1, 4]].astype(int).T
    rays = np.full((len(cameras), frame.max() + 1, len(NAMES), 2), np.nan)
    for c, known in enumerate(cameras):
        own = camera == c
        matrix, bends = np.array(known["matrix"]), np.array(known["distortions"])
        rays[c, frame[own], point[own]] = cv2.undistortPoints(table[own, 5:7].reshape(-1, 1, 2), matrix, bends)[:, 0]
    truth = _triangulated(rays, cameras)
    return {f"camera {c + 1}": _from_one(rays[c], truth, known) for c, known in enumerate(cameras)}


def _triangulated(rays: np.ndarray, cameras: list[dict]) -> np.ndarray:
    """(F, 33, 3) m, of the arms' points: where the most cameras agree, NaN where no three do."""
    views = np.stack([np.column_stack((c["rotation"], c["translation"])) for c in cameras])
    out = np.full((*rays.shape[1:3], 3), np.nan)
    for f, k in np.ndindex(rays.shape[1], len(ARMS)):
        seen = rays[:, f, ARMS[k]]
        have = np.flatnonzero(np.isfinite(seen[:, 0]))
        for group in (g for n in range(len(have), 2, -1) for g in combinations(have, n)):
            rows = [seen[c, axis] * views[c, 2] - views[c, axis] for c in group for axis in (0, 1)]
            place = np.linalg.svd(np.array(rows))[2][-1]
            local = views[list(group)] @ (place / place[3])
            missed = np.linalg.norm(local[:, :2] / local[:, 2:] - seen[list(group)], axis=-1)
            if (missed * [cameras[c]["matrix"][0][0] for c in group]).max() < AGREE:
                out[f, ARMS[k]] = place[:3] / place[3]
                break
    return out


def _from_one(rays: np.ndarray, truth: np.ndarray, camera: dict) -> dict:
    """Fitted from one camera's rays (F, 33, 2), its picture turned upright as somebody would who opens it."""
    focal = camera["matrix"][0][0]
    upright = np.eye(3)
    upright[:2, :2] = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), -camera["rotation_count"] % 4)
    size = np.array(camera["size"][:: -1 if camera["rotation_count"] % 2 else 1])
    points = np.nan_to_num(rays @ upright[:2, :2].T) * focal + size / 2
    inside = np.isfinite(rays[..., 0]) & (points > 0).all(-1) & (points < size).all(-1)
    keypoints = Keypoints(points[None], inside[None].astype(np.float32), LAYOUT, tuple(size), frame_times=np.arange(len(points)) / 30)
    local = (truth @ np.array(camera["rotation"]).T + camera["translation"]) @ upright.T
    target = torch.as_tensor(local[:, ARMS]).float()
    out = {}
    for known in ("given", "unknown"):
        motion = fit(keypoints, FitOptions(mode="video", focal=focal if known == "given" else None, device="cpu"))[0]
        found = torch.as_tensor(motion.keypoints_3d[:, ARMS]).float()
        pa, plain = [], []
        for p, t in zip(found, target, strict=True):
            good = torch.isfinite(t).all(-1)
            if good.sum() >= 5 and good[:2].all():
                pa.append(float(pa_mpjpe(p[good], t[good])))
                plain.append(float(mpjpe(p[good], t[good], p[:2].mean(0), t[:2].mean(0))))
        across = ((found[:, 0] - found[:, 1]) * (target[:, 0] - target[:, 1])).sum(-1)
        away = 100 * float((across < 0).sum() / torch.isfinite(across).sum())
        out[known] = {"pa": float(np.mean(pa)), "mpjpe": float(np.mean(plain)), "away": away}
    return out


def _signers(files: list[Path]) -> dict:
    from pose_format import Pose

    clips, frames, away, hands, behind = 0, 0, 0, 0, 0
    left, right = ARMS[:2]
    for file in files:
        pose = Pose.read(file.read_bytes())
        size = np.array([pose.header.dimensions.width, pose.header.dimensions.height])
        points = np.ma.filled(pose.body.data, 0)[:, 0, : len(NAMES), :2]
        told = np.ma.filled(pose.body.confidence, 0)[:, 0, : len(NAMES)]
        confidence = confidence_inside(points, told, *size, BEYOND)
        if len(points) < 6 or (confidence[:, ARMS] > 0.5).mean() < 0.5:
            continue
        times = np.arange(len(points)) / pose.body.fps
        keypoints = Keypoints(points[None], confidence[None], LAYOUT, tuple(size), frame_times=times)
        found = fit(keypoints, FitOptions(mode="video", device="cpu"))[0].keypoints_3d
        facing = found[:, left, 0] > found[:, right, 0]
        chest = points[:, [left, right], 1].mean(1) + 1.2 * np.abs(points[:, left, 0] - points[:, right, 0])
        held = (confidence[:, ARMS[4:]] > 0.5) & (points[:, ARMS[4:], 1] < chest[:, None]) & facing[:, None]
        depth = found[:, ARMS[4:], 2] - found[:, [left, right], 2].mean(1, keepdims=True)
        clips, frames, away = clips + 1, frames + len(points), away + int((~facing).sum())
        hands, behind = hands + int(held.sum()), behind + int((held & (depth > 0)).sum())
    return {"clips": clips, "frames": frames, "away": 100 * away / max(frames, 1), "behind": 100 * behind / max(hands, 1)}
