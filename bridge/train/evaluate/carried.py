# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that is carried along: rendered people of a subject that no network has seen walk through a room, filmed from beside, from behind, from
before, by who walks round them and by who stands and turns after them, found by our own detector and fitted as the footage of nobody knows
what camera: its path is looked for where it is seen to travel."""

import contextlib
import dataclasses
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ...body.smpl import BodyModel
from ...camera import camera_matrix
from ...errors import LgdError
from ...keypoints.camera_path import Untold, find_camera_path
from ...keypoints.detect import detect
from ...lgd.assemble import in_world
from ...lgd.fitter import FitOptions, fit
from ...rotations import quaternion_to_matrix
from ..data import Mocap
from ..metrics import procrustes
from ..render import Studio, Wardrobe
from ..room import Room, looking
from .cases import GROUPS
from .rows import Networks

WAYS = ("beside", "behind", "before", "round", "slower", "standing")
SIZE, FOCAL, RATE = (960, 540), 850.0, 30
SHAKE = 0.04  # m: of the hand, and nearly as much at the person
LONG = (75, 150)  # frames
LIMBS, FEET = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21], [10, 11]


def evaluate_carried(folder: Path, mocap: Mocap, body: BodyModel, networks: Networks, clips: int) -> dict:
    """{way: {"untold" | "found" | "true": mm, "way": m, "true_way": m, "focal": times, "turns": degrees, "up": degrees, "slope": mm}}, means over the clips: limb
    joints in the world against the truth, the whole clip laid on the other as one body is by PA-MPJPE, before no camera, the one that was found and the true
    one; how far the person went, how far they did; the focal length found; the path's error; how far its world's up is off, and by how much more the lower foot
    is above its ground in the last fifth than in the first; the share of the clips that are seen to travel.
    Where no path is found what is found is how the camera turns. Raises LgdError without detector or data."""
    files = sorted((folder / "multiview").glob("*.mp4"))
    if not files:
        raise LgdError("bad_input", f"{folder / 'multiview'} holds no clips.", "Set LGD_DATA to the folder that contains the folders mocap, footage and multiview.")
    pictures = [_first(file) for file in files]
    walks, out = mocap.of_subjects(GROUPS["walk"]), {}
    for way in WAYS:
        rows = [_one(walks, body, networks, pictures, way, seed) for seed in range(clips)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # who stands has no path to find: the mean of none is none
            out[way] = {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}
    return out


def _one(walks: Mocap, body: BodyModel, networks: Networks, pictures: list[np.ndarray], way: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        clip = Path(place) / "carried.mp4"
        truth, path = film(clip, walks, body, pictures, way, seed)
        keypoints = detect(clip)
        found = None
        with contextlib.suppress(Untold):
            found = find_camera_path({"path": str(clip)}, keypoints) if keypoints.camera_travels else None
    alone, given = keypoints.person(0), FitOptions(device="cpu")
    with networks.used():
        motions = {
            "untold": fit(dataclasses.replace(alone, camera_turns=None, camera_focal=None), given)[0],
            "found": fit(alone, dataclasses.replace(given, path=found))[0],
            "true": fit(alone, dataclasses.replace(given, T_world_cam=path, focal=FOCAL))[0],
        }
    walked = {kind: in_world(motion.T_world_cam, motion.joints) for kind, motion in motions.items()}
    went = lambda joints: float(np.linalg.norm(joints[-1, 0, :2] - joints[0, 0, :2]))  # noqa: E731
    row = {kind: _apart(joints, truth) for kind, joints in walked.items()}
    row |= {"way": went(walked["found"]), "true_way": went(truth), "seen": float(keypoints.camera_travels is True)}
    row |= dict.fromkeys(("focal", "turns", "up", "slope"), np.nan)
    if found is not None:
        ups = np.broadcast_to(motions["found"].T_world_cam, path.shape)[:, 2, :3]
        row["up"] = float(np.degrees(np.arccos(np.clip((ups * path[:, 2, :3]).sum(-1), -1, 1))).mean())
        above = walked["found"][:, FEET, 2].min(-1) - truth[:, FEET, 2].min(-1)
        row["slope"] = float(1000 * abs(np.median(above[-len(above) // 5 :]) - np.median(above[: len(above) // 5])))
        turns = Rotation.from_matrix(path[:, :3, :3]) * Rotation.from_matrix(found.world[:, :3, :3]).inv()
        row |= {"focal": found.focal / FOCAL, "turns": float(np.degrees((turns.mean().inv() * turns).magnitude().mean()))}
    return row


def film(target: Path, walks: Mocap, body: BodyModel, pictures: list[np.ndarray], way: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a clip of somebody who walks along x; returns their joints (F, 24, 3) m in the world and T_world_cam (F, 4, 4)."""
    rng = np.random.default_rng(seed)
    long = [c for c in range(len(walks.start)) if walks.grounded[c] and walks.length[c] >= LONG[0]]
    begin, count = int(walks.start[long[seed % len(long)]]), min(int(walks.length[long[seed % len(long)]]), LONG[1])
    upright = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    root = walks.trans[begin : begin + count].numpy() @ upright.T
    ahead = Rotation.from_euler("z", -np.arctan2(*(root[-1] - root[0])[1::-1])).as_matrix()
    root = (root - root[0] * (1, 1, 0)) @ ahead.T
    rotations = quaternion_to_matrix(walks.quats[begin : begin + count])
    rotations[:, 0] = torch.as_tensor(ahead @ upright, dtype=torch.float32) @ rotations[:, 0]
    path = _carried(root, way, rng)
    wardrobe = Wardrobe(body)
    colours, dressed = wardrobe.dress(rng)
    betas = torch.zeros(10)
    rest = dressed.rest_joints(betas).reshape(-1, 3)[0]
    vertices = dressed.vertices(rotations, betas, torch.as_tensor(root, dtype=torch.float32) - rest).numpy().astype(float)
    joints = body.shaped(betas[None], "smpl").posed(rotations[None]).joints[0].numpy() + root[:, None]
    room, studio, K = Room(rng, pictures), Studio(*SIZE, rng), camera_matrix(FOCAL, *SIZE)
    studio.grain, studio.blur = 2.0, 0.5
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), RATE, SIZE)
    for shape, world in zip(vertices, path, strict=True):
        studio.image = room.picture(K, world, SIZE)
        seen = (shape - world[:3, 3]) @ world[:3, :3]
        writer.write(studio.picture(seen, seen[:, :2] / seen[:, 2:] * FOCAL + K[:2, 2], wardrobe.faces, colours))
    writer.release()
    return joints, path


def _carried(root: np.ndarray, way: str, rng: np.random.Generator) -> np.ndarray:
    """T_world_cam (F, 4, 4) of a camera in the hand of somebody who goes along with root (F, 3) m."""
    t = np.arange(len(root))[:, None] / RATE
    along, middle = root * (1, 1, 0), root[len(root) // 2] * (1, 1, 0)
    angle = np.linspace(-0.9, 0.9, len(root))
    place = {
        "beside": root * (1, 0, 0) + (0, -4, 1.5),
        "behind": along + (-4, -0.6, 1.5),
        "before": along + (4, -0.8, 1.5),
        "round": middle + np.stack((4 * np.sin(angle), -4 * np.cos(angle), np.full(len(root), 1.5)), -1),
        "standing": middle * (1, 0, 0) + (0, -4, 1.5),
        "slower": np.linspace((0, -4.5, 1.5), (root[-1, 0] / 2, -4.5, 1.5), len(root)),
    }[way]

    def shake() -> np.ndarray:
        return SHAKE * sum(a * np.sin(2 * np.pi * (f * t + rng.uniform(size=3))) for f, a in ((0.3, 1.0), (0.9, 0.4), (2.0, 0.15), (5.0, 0.03)))

    place, target = place + shake(), along + (0, 0, 0.9) + shake()
    return np.stack([looking(p, q, 0.01 * np.sin(2 * s)) for p, q, s in zip(place, target, t[:, 0], strict=True)])


def _apart(found: np.ndarray, truth: np.ndarray) -> float:
    """mm between limb joints, the one clip laid on the other."""
    here, there = (torch.as_tensor(joints[:, LIMBS]).float().reshape(1, -1, 3) for joints in (found, truth))
    return 1000 * float((procrustes(here, there) - there).norm(dim=-1).mean())


def _first(file: Path) -> np.ndarray:
    capture = cv2.VideoCapture(str(file))
    picture = capture.read()[1]
    capture.release()
    return picture
