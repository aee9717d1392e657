# SPDX-License-Identifier: GPL-3.0-or-later
"""Real footage with 3D truth: the man on the beam, fitted from each single camera and judged against the points that
the same detector's 2D triangulates to in all cameras."""

from pathlib import Path

import numpy as np
import torch

from ...errors import LgdError
from ...keypoints.detect import detect
from ...keypoints.formats import LAYOUTS
from ...keypoints.tracks import Keypoints
from ...lgd.fitter import FitOptions, fit
from ..metrics import mpjpe, pa_mpjpe
from .figures import limbs
from .rows import Networks

PARTS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
NAMES = tuple(f"{side}_{part}" for part in PARTS for side in ("left", "right"))  # the order of joints.LIMBS
# Where the 2D comes from (None: our own detector, now, in the clip itself), the 3D points that it is judged by, its layout.
SOURCES = {
    "openpose": ("kp2d", "xyz", "body25b"), "blazepose": ("kp2d_blaze", "xyz_blaze", "blazepose33"),
    "detector": (None, "xyz_blaze", "blazepose33"),
}  # fmt: skip
SWAP_FAR = (
    2.0  # a frame counts as wrong where its PA is above so many times the median of the frames never swapped
)
EXCHANGED = [i ^ 1 for i in range(len(NAMES))]  # of NAMES, with left and right exchanged


def evaluate_multiview(
    folder: Path, networks: Networks, modes: tuple[str, ...], cameras: tuple[int, ...]
) -> dict:
    """{source: {mode: {"given" | "unknown": {camera: figures, "mean": figures}}}}, mm; the source "detector" where BlazePose is
    installed. Raises LgdError without data."""
    path = folder / "multiview" / "beam_walk.npz"
    if not path.is_file():
        raise LgdError("bad_input", f"{path} is not there.", "Set LGD_DATA to the folder that contains the folders mocap, footage and multiview.")
    file = np.load(path)
    out: dict = {}
    for source, (seen, truth, layout) in SOURCES.items():
        try:
            views = {c: _stored(file, seen, layout, c) if seen else detect(path.parent / f"cam0{c + 1}.mp4") for c in cameras}
        except LgdError as fault:
            if fault.code != "setup_incomplete":
                raise
            continue
        for mode in modes:
            for known in ("given", "unknown"):
                results = {f"camera {c + 1}": _one(file, views[c], truth, mode, known, c, networks) for c in cameras}
                keys = ("pa", "mpjpe", "pa_joints", "mpjpe_joints")
                results["mean"] = {k: float(np.mean([results[n][k] for n in results])) for k in keys}
                out.setdefault(source, {}).setdefault(mode, {})[known] = results
    return out


def _stored(file, seen: str, layout: str, c: int) -> Keypoints:
    size = tuple(int(v) for v in file["image_size"][c])
    points = file[seen][c]
    times = np.arange(len(points)) / float(file["fps"])
    return Keypoints(points[None, ..., :2], np.nan_to_num(points[None, ..., 2]), layout, size, frame_times=times)


def _one(file, keypoints: Keypoints, truth: str, mode: str, known: str, c: int, networks: Networks) -> dict:
    k = file["K"][c]
    focal = float((k[0, 0] + k[1, 1]) / 2) if known == "given" else None
    with networks.used():
        motion = fit(keypoints, FitOptions(mode=mode, focal=focal, device="cpu"))[0]
    rows = [LAYOUTS[keypoints.layout].names.index(n) for n in NAMES]
    target = torch.as_tensor(file[truth][:, rows] @ file["R"][c].T + file["t"][c].reshape(3)).float()
    out = {}
    for suffix, found in (
        ("", motion.keypoints_3d[:, rows]),
        ("_joints", limbs(torch.as_tensor(motion.joints))),
    ):
        pa, plain = _errors(torch.as_tensor(found).float(), target)
        out["pa" + suffix], out["mpjpe" + suffix] = float(np.nanmean(pa)), float(np.nanmean(plain))
        if not suffix:
            frames = pa
    out["focal_over_true"] = float(np.asarray(motion.cam_K).reshape(-1, 3, 3)[:, 0, 0].mean() / k[0, 0])
    swapped = exchanged(keypoints, rows, target.numpy(), k)
    if swapped.any():
        usual = float(np.nanmedian(frames[~swapped]))
        out["swapped_frames"], out["swapped_frames_wrong"] = int(swapped.sum()), int((frames[swapped] > SWAP_FAR * usual).sum())
        out["swapped_frames_pa"], out["other_frames_pa"] = float(np.nanmean(frames[swapped])), usual
    return out


def exchanged(keypoints: Keypoints, rows: list[int], target: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(F) bool: whether the detector took left for right, seen by its points `rows`, in the order of NAMES, and by where they are: target (F, 12, 3) m."""
    points = np.where(keypoints.confidence[0, :, rows].T[..., None] > 0, keypoints.keypoints[0][:, rows], np.nan)
    places = target[..., :2] / target[..., 2:] * k[[0, 1], [0, 1]] + k[:2, 2]
    own, other = (np.linalg.norm(p - places, axis=-1) for p in (points, points[:, EXCHANGED]))
    return np.nansum(other - own, 1) < 0


def _errors(found: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """PA-MPJPE and MPJPE (F) about the hip midpoint of points (F, 12, 3), over those whose truth is there; NaN where
    fewer than eight are, and without both hips no MPJPE."""
    good = torch.isfinite(target).all(-1) & torch.isfinite(found).all(-1)
    pa, plain = np.full(len(found), np.nan), np.full(len(found), np.nan)
    for f in range(len(found)):
        rows = good[f]
        if rows.sum() < 8:
            continue
        p, t = found[f][rows], target[f][rows]
        pa[f] = float(pa_mpjpe(p, t))
        if rows[:2].all():
            plain[f] = float(mpjpe(p, t, found[f][:2].mean(0), target[f][:2].mean(0)))
    return pa, plain
