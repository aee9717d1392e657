# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip of the project's own body, waving and stepping: footage for the demo where there is no network.

python demo/stand_in.py OUT.mp4
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from bridge.body import joints
from bridge.body.files import load_body

SIZE = (720, 960)
FRAMES, FPS = 90, 30.0
FOCAL, DISTANCE = 1100.0, 4.2
SKIN, SHIRT, TROUSERS = (150, 175, 215), (70, 120, 60), (110, 70, 50)  # BGR


def rotation(vector: np.ndarray) -> np.ndarray:
    """(3) rad axis-angle to (3, 3)."""
    return cv2.Rodrigues(np.asarray(vector, np.float64))[0]


def pose_at(phase: float) -> dict[str, tuple]:
    """Joint rotations in rad at a phase in [0, 2 pi): a step on the spot, one arm waving."""
    lift, other = max(np.sin(phase), 0.0), max(-np.sin(phase), 0.0)
    return {
        "pelvis": (0, 0.35 * np.sin(phase / 2), 0),
        "left_hip": (-0.8 * lift, 0, 0.05), "left_knee": (1.1 * lift, 0, 0),
        "right_hip": (-0.8 * other, 0, -0.05), "right_knee": (1.1 * other, 0, 0),
        "left_shoulder": (0, -0.3 * other, -1.15), "left_elbow": (0, -0.5 * lift, 0),
        "right_shoulder": (0, 0.2, 0.4 - 0.3 * np.cos(phase)), "right_elbow": (0, 1.3 + 0.4 * np.sin(2 * phase), 0),
    }  # fmt: skip


def posed(body: dict, pose: dict[str, tuple]) -> np.ndarray:
    """(V, 3) m: the body's vertices by linear blend skinning, y up, facing +z."""
    rest = np.asarray(body["J_regressor"]) @ body["v_template"]
    world = np.zeros((24, 4, 4))
    for joint, name in enumerate(joints.NAMES):
        local = np.eye(4)
        local[:3, :3] = rotation(pose.get(name, (0, 0, 0)))
        parent = joints.PARENTS[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
        world[joint] = world[parent] @ local if joint else local
    moved = world.copy()
    moved[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], rest)
    blend = np.einsum("vj,jab->vab", body["weights"], moved)
    return np.einsum("vab,vb->va", blend[:, :3, :3], body["v_template"]) + blend[:, :3, 3]


def colours(body: dict) -> np.ndarray:
    """(F, 3) BGR of each face: a shirt, trousers and skin, by the joint that moves it most."""
    of_joint = np.array([SKIN] * 24, float)
    for joint, name in enumerate(joints.NAMES):
        if name in ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee"):
            of_joint[joint] = TROUSERS
        elif "spine" in name or "collar" in name or "shoulder" in name:
            of_joint[joint] = SHIRT
    strongest = np.asarray(body["weights"]).argmax(1)
    return of_joint[strongest[np.asarray(body["f"])[:, 0]]]


def draw(picture: np.ndarray, vertices: np.ndarray, faces: np.ndarray, tint: np.ndarray) -> None:
    """Paint the faces from far to near, shaded by a light beside the camera."""
    camera = vertices * (1, -1, -1) + (0, 0.05, DISTANCE)
    pixels = camera[:, :2] / camera[:, 2:] * FOCAL + (SIZE[0] / 2, SIZE[1] / 2)
    corners = camera[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    shade = 0.35 + 0.65 * np.clip(normal @ (np.array([-0.4, -0.5, -0.75]) / 0.985), 0, 1)
    front = np.einsum("fa,fa->f", normal, corners[:, 0]) < 0
    for face in np.argsort(-corners[:, :, 2].mean(1)):
        if front[face]:
            points = np.round(pixels[faces[face]] * 8).astype(np.int32)
            cv2.fillConvexPoly(picture, points, (tint[face] * shade[face]).tolist(), cv2.LINE_AA, 3)


def main() -> None:
    """Write the clip."""
    body = load_body()
    faces, tint = np.asarray(body["f"], np.int64), colours(body)
    backdrop = np.full((SIZE[1], SIZE[0], 3), 205, np.uint8)
    floor = int(SIZE[1] * 0.78)
    backdrop[floor:] = np.linspace(150, 175, SIZE[1] - floor)[:, None, None].astype(np.uint8)
    target = Path(sys.argv[-1])
    part = target.with_name("part-" + target.name)
    film = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE)
    for frame in range(FRAMES):
        picture = backdrop.copy()
        draw(picture, posed(body, pose_at(4 * np.pi * frame / FRAMES)), faces, tint)
        film.write(picture)
    film.release()
    part.replace(target)


if __name__ == "__main__":
    main()
