# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera in the hand: the calibrated clip's four cameras, their pictures turned about the camera's place by known angles, and zoomed, found by
our own detector and fitted as the footage of nobody knows what camera."""

import dataclasses
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ...camera import camera_matrix
from ...errors import LgdError
from ...keypoints.detect import detect
from ...keypoints.formats import LAYOUTS
from ...keypoints.turned_rays import turns_of
from ...lgd.assemble import in_world
from ...lgd.fitter import FitOptions, fit
from ...motion import Motion
from ..metrics import procrustes
from .multiview import NAMES
from .rows import Networks

# Degrees: how far the hand shakes, and how far the camera pans along the clip; how many times it zooms in. What is left of the picture's sides.
WAYS = {"still": (0.0, 0.0, 1.0), "in the hand": (2.0, 0.0, 1.0), "panned": (0.5, 15.0, 1.0), "zoomed": (0.5, 5.0, 1.5)}
LEFT = 0.75


def evaluate_handheld(folder: Path, networks: Networks, cameras: tuple[int, ...]) -> dict:
    """{way: {"untold" | "followed": mm, "turns": degrees}}, means over the cameras: limb points in the world against the truth, the whole
    clip laid on the other as one body is by PA-MPJPE; the error of what is told of the camera; the share of the clips that are seen to travel, which none
    does. "lens" (%) and "up" (degrees) of who fits with no lens told, how far they are off, and the same by the person alone. Raises LgdError without data or detector."""
    path = folder / "multiview" / "beam_walk.npz"
    if not path.is_file():
        raise LgdError("bad_input", f"{path} is not there.", "Set LGD_DATA to the folder that contains the folders mocap, footage and multiview.")
    file = np.load(path)
    truth = torch.as_tensor(file["xyz_blaze"][:, [LAYOUTS["blazepose33"].names.index(n) for n in NAMES]]).float()
    out: dict = {}
    upright = file["R"] @ (0.0, 0.0, 1.0)  # in each camera's axes
    for way, (shake, pan, zoom) in WAYS.items():
        rows: list[dict[str, float]] = []
        for c in cameras:
            with tempfile.TemporaryDirectory() as place:
                clip = Path(place) / "turned.mp4"
                turned = _turned(path.parent / f"cam0{c + 1}.mp4", clip, file["K"][c], shake, pan, zoom, seed=c)
                keypoints = detect(clip).person(0)
            true = turned[0].T @ turned
            width, height = keypoints.image_size
            focal = float(file["K"][c][0, 0])
            row = {}
            with networks.used():
                for kind, turns in (("untold", None), ("followed", keypoints.camera_turns)):
                    seen = dataclasses.replace(keypoints, camera_turns=turns)
                    row[kind] = _apart(fit(seen, FitOptions(focal=focal, device="cpu"))[0], truth)
                for kind, seen in (("", keypoints), ("_person", dataclasses.replace(keypoints, lines=None, camera_focal=None))):
                    motion = fit(seen, FitOptions(device="cpu"))[0]
                    lens, world = motion.cam_K.reshape(-1, 3, 3)[0, 0, 0], motion.T_world_cam.reshape(-1, 4, 4)[0]
                    row[f"lens{kind}"] = 100 * abs(float(np.log(lens / focal)))
                    row[f"up{kind}"] = float(np.degrees(np.arccos(np.clip(world[2, :3] @ turned[0].T @ upright[c], -1, 1))))
            told = np.tile((0.0, 0, 0, 1), (len(true), 1)) if keypoints.camera_turns is None else keypoints.camera_turns
            off = (Rotation.from_matrix(true).inv() * Rotation.from_matrix(turns_of(told, camera_matrix(focal, width, height)))).magnitude()
            rows.append({**row, "turns": float(np.degrees(off).mean()), "travels": float(keypoints.camera_travels is True)})
        out[way] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return out


def _turned(source: Path, target: Path, K: np.ndarray, shake: float, pan: float, zoom: float, seed: int) -> np.ndarray:
    """Write a clip's middle as a camera with lens K (3, 3) px would film it that turns and zooms in meanwhile; returns (F, 3, 3) from each frame's axes to the clip's own."""
    capture = cv2.VideoCapture(str(source))
    rate, pictures = capture.get(cv2.CAP_PROP_FPS), []
    while (read := capture.read())[0]:
        pictures.append(read[1])
    capture.release()
    height, width = pictures[0].shape[:2]
    left, top = int(width * (1 - LEFT) / 2), int(height * (1 - LEFT) / 2)
    size = (width - 2 * left) // 2 * 2, (height - 2 * top) // 2 * 2
    rng, t = np.random.default_rng(seed), np.arange(len(pictures)) / rate
    waves = [a * np.sin(2 * np.pi * (f * t + rng.uniform(size=(3, 1)))) for f, a in ((0.3, 1.0), (0.9, 0.4), (2.5, 0.15), (7.0, 0.03))]
    angles = np.radians(shake) * sum(waves) * np.array([[1.0], [1], [0.5]])
    angles[1] += np.radians(pan) * np.linspace(-0.5, 0.5, len(t))
    turns = Rotation.from_rotvec(angles.T).as_matrix()
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    for picture, turn, size_of in zip(pictures, turns, np.geomspace(1, zoom, len(t)), strict=True):
        seen = cv2.warpPerspective(picture, K @ np.diag([size_of, size_of, 1]) @ turn.T @ np.linalg.inv(K), (width, height), borderMode=cv2.BORDER_REFLECT)
        writer.write(seen[top : top + size[1], left : left + size[0]])
    writer.release()
    return turns


def _apart(motion: Motion, truth: torch.Tensor) -> float:
    """mm between limb points in the world and truth (F, 12, 3) m, the one clip laid on the other."""
    rows = [LAYOUTS[motion.layout].names.index(n) for n in NAMES]
    found = in_world(motion.T_world_cam, motion.keypoints_3d[:, rows])
    good = torch.isfinite(truth).all(-1)
    laid = procrustes(torch.as_tensor(found).float()[good], truth[good])
    return 1000 * float((laid - truth[good]).norm(dim=-1).mean())
