# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies and motions for the tests, and the reference they are compared with: SMPL's skinning in plain numpy."""

from pathlib import Path

import numpy as np

from lgd_blender_addon.scene import axes
from lgd_blender_addon.scene.body import PARENTS, Body, corrective_features, make_body

ROOT = Path(__file__).resolve().parents[2]

# A plain T-pose skeleton, metres, Y up, left = +x.
JOINTS = np.array([
    [0, 0, 0], [0.08, -0.09, 0], [-0.08, -0.09, 0], [0, 0.11, -0.02], [0.1, -0.48, 0], [-0.1, -0.48, 0],
    [0, 0.24, 0], [0.09, -0.9, -0.04], [-0.09, -0.9, -0.04], [0, 0.3, 0.02], [0.12, -0.96, 0.08], [-0.12, -0.96, 0.08],
    [0, 0.51, -0.02], [0.08, 0.42, -0.01], [-0.08, 0.42, -0.01], [0, 0.6, 0.03], [0.18, 0.45, -0.02],
    [-0.18, 0.45, -0.02], [0.44, 0.44, -0.04], [-0.44, 0.44, -0.04], [0.7, 0.45, -0.05], [-0.7, 0.45, -0.05],
    [0.79, 0.44, -0.06], [-0.79, 0.44, -0.06],
]) + [0.0, -0.2, 0.03]  # fmt: skip


def synthetic_data(vertices: int = 6890, seed: int = 7) -> dict:
    """An SMPL body file's content: a closed tube round the skeleton's limbs with random but smooth tables."""
    rng = np.random.default_rng(seed)
    ring = 10
    count = vertices // ring
    bones = [(PARENTS[j], j) for j in range(1, 24)] + [(15, 15)]
    share = np.array_split(np.arange(count), len(bones))
    points = np.empty((count * ring, 3))
    weights = np.zeros((count * ring, 24))
    faces = []
    row = 0
    angle = np.linspace(0, 2 * np.pi, ring, endpoint=False)
    for (a, b), rings in zip(bones, share, strict=True):
        tail = JOINTS[b] if a != b else JOINTS[15] + [0, 0.18, 0]
        axis = tail - JOINTS[a]
        side = np.cross(axis, [0.3, 0.2, 0.9])
        side /= np.linalg.norm(side)
        up = np.cross(axis, side)
        up /= np.linalg.norm(up)
        for k in range(len(rings)):
            s = k / (len(rings) - 1)
            circle = (0.05 * np.sin(np.pi * min(max(s, 0.1), 0.9))) * (
                np.outer(np.cos(angle), side) + np.outer(np.sin(angle), up)
            )
            points[row : row + ring] = JOINTS[a] + s * axis + circle
            weights[row : row + ring, a] += 1 - s
            weights[row : row + ring, b] += s
            if k:
                low, high = row - ring, row
                for i in range(ring):
                    j = (i + 1) % ring
                    faces += [(low + i, low + j, high + j), (low + i, high + j, high + i)]
            row += ring
    points = points[:row]
    weights = weights[:row] / weights[:row].sum(1, keepdims=True)
    # What the rings leave over, so that the number of vertices is the official one.
    extra = vertices - row
    points = np.concatenate([points, points[:extra] + 0.001])
    weights = np.concatenate([weights, weights[:extra]])
    faces += [(row + i, row + i + 1, row + i + 2) for i in range(max(extra - 2, 0))]
    near = ((points[None] - JOINTS[:, None]) ** 2).sum(-1)
    regressor = np.exp(-near / 0.003)
    regressor /= regressor.sum(1, keepdims=True)
    stretch = rng.normal(0, 0.02, (10, 3, 3))
    shapedirs = np.einsum("kij,vj->vik", stretch, points)
    posedirs = rng.normal(0, 0.004, (1, 3, 207)) * np.sin(9 * points.sum(-1))[:, None, None] + rng.normal(
        0, 5e-4, (vertices, 3, 207)
    )
    return {
        "v_template": points, "shapedirs": shapedirs, "posedirs": posedirs, "weights": weights,
        "J_regressor": regressor, "f": np.array(faces), "kintree_table": np.array([PARENTS, range(24)]),
        "gender": "neutral", "id": "smpl-neutral-synthetic",
    }  # fmt: skip


def synthetic_body() -> Body:
    return make_body(synthetic_data())


def default_body() -> Body:
    file = ROOT / "bridge" / "body" / "default_body.npz"
    if file.exists():
        from bridge.body.files import load_body

        return make_body(load_body(None))
    data = synthetic_data()
    data.update(posedirs=None, id="lgd-default-000000000000")
    return make_body(data)


def forward(body: Body, quats, betas, trans, skin: bool = True):
    """SMPL (Loper et al. 2015) in its own frame: joints (24, 3) and vertices (V, 3) for one pose's quaternions (24, 4)."""
    rest = body.joints(betas)
    turns = axes.matrices(quats / np.linalg.norm(quats, axis=-1, keepdims=True))
    world, place = [turns[0]], [rest[0]]
    for j in range(1, 24):
        p = PARENTS[j]
        world.append(world[p] @ turns[j])
        place.append(place[p] + world[p] @ (rest[j] - rest[p]))
    world, place = np.array(world), np.array(place)
    if not skin:
        return place + trans, None
    shaped = body.vertices(betas)
    if body.posedirs is not None:
        shaped = shaped + body.posedirs @ corrective_features(quats[None])[0]
    moved = np.einsum("jab,jvb->jva", world, shaped[None] - rest[:, None]) + place[:, None]
    return place + trans, np.einsum("vj,jva->va", body.weights, moved) + trans


def random_pose(rng, frames: int = 1, size: float = 0.5):
    """Smooth random axis-angle poses (F, 72)."""
    time = np.linspace(0, 2 * np.pi, frames, endpoint=False)[:, None]
    return size * (
        rng.normal(size=(1, 72)) + 0.6 * rng.normal(size=(1, 72)) * np.sin(time + rng.uniform(0, 6, (1, 72)))
    )


def write_motion(
    path, body: Body, frames: int = 40, seed: int = 3, fps: float = 25.0, size=(1280, 720), **changes
):
    """A motion.npz as the contracts describe it: a person about 4 m before a camera 1.4 m high that looks down a little."""
    rng = np.random.default_rng(seed)
    betas = rng.normal(0, 0.7, 10)
    poses = random_pose(rng, frames, 0.25)
    poses[:, :3] = [np.pi * 0.98, 0.05, 0.1]  # upright before an OpenCV camera
    trans = np.array([0.1, 0.15, 4.0]) + 0.3 * np.stack(
        [np.sin(np.linspace(0, 3, frames)), 0.0 * np.arange(frames), np.cos(np.linspace(0, 3, frames))], -1
    )
    fx = 1100.0
    cam_K = np.array([[fx, 0, (size[0] - 1) / 2 + 12.0], [0, fx, (size[1] - 1) / 2 - 7.0], [0, 0, 1]])
    pitch = np.radians(6.0)
    # Camera axes in the world: right, down, forward.
    forward_axis = np.array([0, np.cos(pitch), -np.sin(pitch)])
    right = np.array([1.0, 0, 0])
    R = np.stack([right, np.cross(forward_axis, right), forward_axis], -1)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, [0.05, -4.1, 1.4]
    quats = axes.quaternions(poses.reshape(frames, 24, 3))
    joints = np.array([forward(body, quats[f], betas, trans[f], skin=False)[0] for f in range(frames)])
    landmarks = joints[:, [15, 12, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 10, 11, 0]]
    project = landmarks @ cam_K.T
    data = dict(
        poses=poses, betas=betas, trans=trans, joints=joints, cam_K=cam_K, focal_source="given", T_world_cam=T,
        world_confidence=0.9, mocap_framerate=fps, frame_times=np.arange(frames) / fps, gender=body.gender,
        body_model=body.id, reprojection_px=rng.uniform(1, 3, frames), joint_confidence=np.ones((frames, 24)),
        contacts=np.zeros((frames, 4)), keypoints=project[..., :2] / project[..., 2:], confidence=np.ones((frames, 17)),
        layout="coco17", image_size=np.array(size), person_id=0, keypoints_3d=landmarks, mode="video",
        weights="test", bridge_version="0",
    )  # fmt: skip
    data.update(changes)
    np.savez(path, **data)
    return path
