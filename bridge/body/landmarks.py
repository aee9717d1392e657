# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a keypoint layout's points sit on the body: rigid offsets from a parent joint, linear in betas (numpy only).

A detector's hips and shoulders are not SMPL's joints, and detectors differ. Three families share the surface points
(face, feet, knuckles) and differ in hips, shoulders and neck. Shifts are fractions of the leg length (hip to knee to
ankle) of the template, outward, up and forward, measured once on triangulated detections and never per take.
"""

import numpy as np

from ..keypoints.formats import LAYOUTS, POINT_INDEX, POINTS

# smplx's vertex ids of the surface points; official SMPL files and the default body share them.
_SMPL_VERTICES = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
}  # fmt: skip

# point -> (joint it coincides with, joint it moves with)
_ON_JOINTS = {
    "shoulder": (16, 13), "elbow": (18, 18), "wrist": (20, 20), "hip": (1, 0), "knee": (4, 4), "ankle": (7, 7),
}  # fmt: skip
_SURFACE_PARENTS = {"big_toe": 10, "small_toe": 10, "heel": 7, "index": 20, "pinky": 20}

# Shifts (outward, up, forward) over leg length for each family: one body and one motion fitted to the triangulated
# OpenPose and BlazePose points of the same man at once, shrunk by a third toward the default body's own points. How high heels and
# ankles are was told apart from that fit, in which the ankle's turn takes it up: by his flat foot's points (LOG, 2026-11-29).
# BlazePose's knuckles: 0.33 and 0.285 of the forearm from the wrist and 0.13 from each other, as three people's are (LOG, 2026-11-30).
_OPENPOSE = {
    "hip": (0.026, 0.014, 0.0), "shoulder": (-0.006, 0.028, -0.016), "knee": (0.014, 0.0, 0.0),
    "ankle": (0.0, 0.018, 0.0), "heel": (0.0, 0.036, 0.0),
    "toe": (-0.015, 0.010, -0.012), "nose": (0.0, 0.002, -0.008), "eye": (0.0, 0.0, -0.006), "ear": (0.003, 0.0, 0.005),
    "upper_neck": (0.0, -0.030, 0.012), "head_top": (0.0, 0.02, 0.03),
}  # fmt: skip
SHIFTS = {
    "joints": {},
    "coco": _OPENPOSE,
    "openpose": _OPENPOSE,
    "blaze": {
        "hip": (0.015, -0.014, -0.006), "shoulder": (0.003, 0.020, -0.016), "knee": (0.014, -0.006, -0.003),
        "ankle": (0.0, 0.024, 0.0),
        "toe": (-0.004, 0.0, -0.003), "heel": (0.0, 0.036, 0.008), "nose": (0.0, 0.0, -0.006), "ear": (-0.010, 0.0, 0.020),
        "index": (-0.025, -0.003, -0.015), "pinky": (-0.020, -0.003, 0.025),
    },
}  # fmt: skip
FAMILY = {
    "coco17": "coco", "halpe26": "coco", "body25": "openpose", "body25b": "openpose", "blazepose33": "blaze",
    "smpl": "joints",
}  # fmt: skip


def available_points(layout: str) -> np.ndarray:
    """(30) bool: the internal points that a keypoint layout has."""
    have = np.zeros(len(POINTS), bool)
    have[LAYOUTS[layout].internal[LAYOUTS[layout].internal >= 0]] = True
    return have


def landmark_offsets(data: dict, layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of the 30 internal points from their parent joints.

    data: dict of `load_body`; layout: a keypoint layout, or "smpl" for points on SMPL's joints.
    Returns offsets (30, 3) m, directions (30, 3, 10) m per beta, parents (30) int.
    """
    template, shapes = np.asarray(data["v_template"], float), np.asarray(data["shapedirs"], float)[..., :10]
    regressor = np.asarray(data["J_regressor"], float)
    # Template and the ten shape directions side by side: all that follows is linear in them.
    vertices = np.concatenate((template[..., None], shapes), -1)
    joints = np.einsum("jv,vcs->jcs", regressor, vertices)
    rest = joints[..., 0]
    leg = np.linalg.norm(rest[1] - rest[4]) + np.linalg.norm(rest[4] - rest[7])
    named = dict(zip(data.get("landmark_names", ()), data.get("landmark_vertices", ()), strict=True))
    surface = {name.removesuffix("_mcp"): int(v) for name, v in {**_SMPL_VERTICES, **named}.items()}
    surface.setdefault("head_top", int(np.argmax(template[:, 1])))
    shifts = SHIFTS[FAMILY[layout]]

    place = np.zeros((len(POINTS), 3, 11))
    parents = np.zeros(len(POINTS), np.int64)
    for name, index in POINT_INDEX.items():
        side, _, part = name.partition("_")
        right = side == "right"
        if part in _ON_JOINTS:
            at, parents[index] = (j + right if j else 0 for j in _ON_JOINTS[part])
            place[index] = joints[at]
        elif name in surface:
            place[index] = vertices[surface[name]]
            parents[index] = _SURFACE_PARENTS[part] + right if part in _SURFACE_PARENTS else 15
        elif part in ("index", "pinky"):  # official files name no knuckles: the hand joint stands in
            place[index], parents[index] = joints[22 + right], 20 + right
        kind = name if side not in ("left", "right") else part.rsplit("_", 1)[-1]
        out, up, forward = shifts.get(kind, (0.0, 0.0, 0.0))
        place[index, :, 0] += np.array([-out if right else out, up, forward]) * leg
    shoulders, hips = (
        (place[POINT_INDEX[f"left_{p}"]] + place[POINT_INDEX[f"right_{p}"]]) / 2 for p in ("shoulder", "hip")
    )
    place[POINT_INDEX["mid_hip"]], parents[POINT_INDEX["mid_hip"]] = hips, 0
    neck = POINT_INDEX["neck"]
    if layout in ("body25b", "halpe26"):  # their neck is the head's base
        place[neck], parents[neck] = (joints[12] + joints[15]) / 2, 12
        place[neck, :, 0] += np.array(shifts["upper_neck"]) * leg
    else:
        place[neck], parents[neck] = shoulders, 9
    local = place - joints[parents]
    return local[..., 0], local[..., 1:], parents


def sole_offsets(data: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The four points a body stands on: under the left heel, left toes, right heel, right toes.

    Returns offsets (4, 3) m from the ankle or foot joint, directions (4, 3, 10) m per beta, joints (4).
    """
    template, shapes = np.asarray(data["v_template"], float), np.asarray(data["shapedirs"], float)[..., :10]
    weights, regressor = np.asarray(data["weights"]), np.asarray(data["J_regressor"], float)
    offsets, directions, joints = [], [], np.array([7, 10, 8, 11])
    for joint in joints:
        own = np.flatnonzero(weights[:, joint] > 0.5)
        lowest = own[template[own, 1] <= template[own, 1].min() + 0.006]
        offsets.append(template[lowest].mean(0) - regressor[joint] @ template)
        offsets[-1][1] = template[own, 1].min() - regressor[joint] @ template[:, 1]
        directions.append(shapes[lowest].mean(0) - np.einsum("v,vcs->cs", regressor[joint], shapes))
    return np.stack(offsets), np.stack(directions), joints


# The joints whose skin may lie on the ground: neither feet, which have their soles, nor what lies between others.
_LAID = (0, 1, 2, 4, 5, 6, 9, 15, 16, 17, 18, 19, 20, 21, 22, 23)


def skin_points(data: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of a body but its feet may lie on the ground: of every part's skin the points that are farthest out, in 14 directions.

    Returns offsets (K, 3) m from their joint, directions (K, 3, 10) m per beta, joints (K); K is 196 of the default body.
    """
    template, shapes = np.asarray(data["v_template"], float), np.asarray(data["shapedirs"], float)[..., :10]
    weights, regressor = np.asarray(data["weights"]), np.asarray(data["J_regressor"], float)
    out = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if abs(x) + abs(y) + abs(z) in (1, 3)], float)
    points, joints = [], []
    for joint in _LAID:
        own = np.flatnonzero(weights[:, joint] > 0.5)
        if len(own):
            taken = np.unique(own[(template[own] @ out.T).argmax(0)])
            points += taken.tolist()
            joints += [joint] * len(taken)
    offsets = template[points] - (regressor @ template)[joints]
    directions = shapes[points] - np.einsum("jv,vcs->jcs", regressor, shapes)[joints]
    return offsets, directions, np.array(joints)
