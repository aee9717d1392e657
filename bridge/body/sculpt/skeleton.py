# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL's 24 joints in MakeHuman's rig: positions, skinning weights, and the way into the T-pose."""

import re

import numpy as np

from bridge.body.joints import MIRROR, NAMES, PARENTS

# MakeHuman's hip centres lie 111 mm off the midline of a 1.70 m body; anatomy puts them near 87 mm.
HIP_INWARD = 0.8
COLLAR_LIFT = np.deg2rad(10.0)
# SMPL's rest pose is not a plumb T: the trunk leans back, the ankles stand behind the hips, the elbows are a little
# bent. Rotations recorded for SMPL only mean the same on another body whose limbs point the same way at rest.
LEAN = {
    "pelvis": -3.0,
    "spine1": -6.0,
    "spine2": -6.0,
    "spine3": -6.0,
    "neck": -3.0,
    "head": 0.0,
}
THIGH = np.array([0.03, -1.0, 0.0])
SHANK = np.array([-0.02, -1.0, -0.09])
UPPER_ARM = np.array([1.0, -0.03, -0.07])
FOREARM = np.array([1.0, 0.02, 0.0])
MAX_INFLUENCES = 7
FLIP = np.array([-1.0, 1.0, 1.0])

# Joint -> bones whose heads are averaged (".L" is left; right joints mirror the left ones).
_HEADS = {
    "pelvis": ("spine05", "spine04"),
    "left_hip": ("upperleg01.L",),
    "left_knee": ("lowerleg01.L",),
    "left_ankle": ("foot.L",),
    "left_foot": tuple(f"toe{i}-1.L" for i in range(1, 6)),
    "spine1": ("spine03",),
    "spine2": ("spine02",),
    "spine3": ("spine01",),
    "neck": ("neck01",),
    "head": ("head",),
    "left_collar": ("clavicle.L", "shoulder01.L"),
    "left_shoulder": ("upperarm01.L",),
    "left_elbow": ("lowerarm01.L",),
    "left_wrist": ("wrist.L",),
    "left_hand": tuple(f"finger{i}-1.L" for i in range(2, 6)),
}
# Knuckles that orient the hand; they follow the 24 joints in `Skeleton.heads`.
_KNUCKLES = ("finger2-1.L", "finger3-1.L", "finger5-1.L")

_WEIGHT_RULES = (
    (r"root|pelvis|spine0[45]", "pelvis"),
    (r"spine03", "spine1"),
    (r"spine02", "spine2"),
    (r"spine01|breast", "spine3"),
    (r"neck0", "neck"),
    (r"clavicle|shoulder01", "collar"),
    (r"upperarm", "shoulder"),
    (r"lowerarm", "elbow"),
    (r"wrist|metacarpal|finger1", "wrist"),
    (r"finger", "hand"),
    (r"upperleg", "hip"),
    (r"lowerleg", "knee"),
    (r"foot", "ankle"),
    (r"toe", "foot"),
)


def joint_of_bone(bone: str) -> int:
    """The SMPL joint that carries a MakeHuman bone's weights (face, jaw, eyes and tongue: the head)."""
    side = {"L": "left_", "R": "right_"}.get(bone.rpartition(".")[2], "")
    for pattern, joint in _WEIGHT_RULES:
        if re.match(pattern, bone):
            return NAMES.index(joint) if joint in NAMES else NAMES.index(side + joint)
    return NAMES.index("head")


def merge_weights(bones: dict[str, np.ndarray], kept: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Skinning weights (n, 24) on the kept vertices, symmetric, at most 7 joints each, rows summing to one.

    mirror: (n) index of each kept vertex's mirror image among the kept ones.
    """
    weights = np.zeros((len(kept), 24))
    for bone in sorted(bones):
        weights[:, joint_of_bone(bone)] += bones[bone][kept]
    weights = weights + weights[mirror][:, list(MIRROR)]
    order = np.sort(weights, 1)
    weights = np.where(
        weights >= np.maximum(order[:, [-MAX_INFLUENCES]], 1e-3 * order[:, [-1]]),
        weights,
        0,
    )
    return weights / weights.sum(1, keepdims=True)


class Skeleton:
    """Where the joints of a MakeHuman mesh are.

    rows of `matrix` (27, n): the 24 joints, then the left index, middle and little knuckles, as means of vertices.
    """

    def __init__(
        self,
        heads: dict[str, np.ndarray],
        slot: np.ndarray,
        mirror: np.ndarray,
        count: int,
    ):
        """heads: bone -> base-mesh ids; slot: base-mesh id -> row of the mesh; mirror: (count) rows' images."""
        self.matrix = np.zeros((24 + len(_KNUCKLES), count))
        for joint, name in enumerate(NAMES):
            if name.startswith("right_"):
                continue
            for bone in _HEADS[name]:
                ids = slot[heads[bone]]
                np.add.at(self.matrix[joint], ids, 1.0 / (len(ids) * len(_HEADS[name])))
            if MIRROR[joint] == joint:
                self.matrix[joint] = 0.5 * (self.matrix[joint] + self.matrix[joint][mirror])
            else:
                self.matrix[MIRROR[joint]] = self.matrix[joint][mirror]
        for row, bone in enumerate(_KNUCKLES):
            ids = slot[heads[bone]]
            np.add.at(self.matrix[24 + row], ids, 1.0 / len(ids))

    def places(self, mesh: np.ndarray) -> np.ndarray:
        """(27, 3) joints and knuckles of a mesh (n, 3), hips moved to their anatomical width."""
        places = self.matrix @ mesh
        for joint in (1, 2):
            places[joint, 0] *= HIP_INWARD
        return places


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal columns: `first`, then `second` made orthogonal to it, then their cross product."""
    a = _unit(first)
    b = _unit(second - a * (a @ second))
    return np.stack([a, b, np.cross(a, b)], 1)


def _swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns direction `start` into `end`."""
    a, b = _unit(start), _unit(end)
    axis = np.cross(a, b)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + a @ b)


def _lean(degrees: float) -> np.ndarray:
    """A turn about X; negative leans back."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def to_t_pose(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Global rotations (24, 3, 3) from MakeHuman's pose to the T-pose and the joints there (24, 3), pelvis at 0.

    The elbow's hinge becomes the vertical, palms face down, thumbs point forward, feet keep their direction.
    """
    at = {name: places[i] for i, name in enumerate(NAMES)}
    index, middle, little = places[24:]
    down = np.array([0, -1.0, 0])
    upper, fore = (
        at["left_elbow"] - at["left_shoulder"],
        at["left_wrist"] - at["left_elbow"],
    )
    hinge = np.cross(upper, fore)
    c, s = np.cos(COLLAR_LIFT), np.sin(COLLAR_LIFT)
    turn = {name: np.eye(3) for name in NAMES}
    turn.update({name: _lean(angle) for name, angle in LEAN.items()})
    turn["left_collar"] = turn["spine3"] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turn["left_shoulder"] = _frame(UPPER_ARM, down) @ _frame(upper, hinge).T
    turn["left_elbow"] = _frame(FOREARM, down) @ _frame(fore, hinge).T
    hand = _frame(middle - at["left_wrist"], little - index)
    turn["left_wrist"] = turn["left_hand"] = _frame(np.array([1.0, 0, 0]), np.array([0, 0, -1.0])) @ hand.T
    turn["left_hip"] = _swing(at["left_knee"] - at["left_hip"], THIGH)
    turn["left_knee"] = _swing(at["left_ankle"] - at["left_knee"], SHANK)
    rotations = np.stack([turn[name] for name in NAMES])
    for joint, other in enumerate(MIRROR):
        if NAMES[joint].startswith("right_"):
            rotations[joint] = rotations[other] * FLIP[:, None] * FLIP
    joints = np.zeros((24, 3))
    for joint in range(1, 24):
        parent = PARENTS[joint]
        joints[joint] = joints[parent] + rotations[parent] @ (places[joint] - places[parent])
    return rotations, joints


def unpose(
    mesh: np.ndarray,
    weights: np.ndarray,
    places: np.ndarray,
    rotations: np.ndarray,
    joints: np.ndarray,
) -> np.ndarray:
    """The T-posed mesh (n, 3) that linear blend skinning with `weights` takes back to `mesh` exactly."""
    back = rotations.transpose(0, 2, 1)
    shift = places[:24] - np.einsum("jab,jb->ja", back, joints)
    blended = (weights @ back.reshape(24, 9)).reshape(-1, 3, 3)
    x = mesh - weights @ shift
    rows = [blended[:, i] for i in range(3)]
    adjugate = [
        np.cross(rows[1], rows[2]),
        np.cross(rows[2], rows[0]),
        np.cross(rows[0], rows[1]),
    ]
    determinant = (rows[0] * adjugate[0]).sum(1)
    return sum(adjugate[i] * x[:, [i]] for i in range(3)) / determinant[:, None]
