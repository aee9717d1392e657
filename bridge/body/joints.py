# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL's 24 joints: names, tree, mirror. Pure tables, standard library only."""

NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def _mirror_name(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name[5:]
    if name.startswith("right_"):
        return "left_" + name[6:]
    return name


MIRROR = tuple(NAMES.index(_mirror_name(name)) for name in NAMES)


def _levels() -> tuple[tuple[int, ...], ...]:
    depth = [0] * len(PARENTS)
    for joint, parent in enumerate(PARENTS):
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return tuple(tuple(j for j in range(len(PARENTS)) if depth[j] == d) for d in range(max(depth) + 1))


# Joints of equal depth: kinematics runs over 9 levels instead of 24 joints.
LEVELS = _levels()

# The 12 limb joints all accuracy figures are taken over: hips, knees, ankles, shoulders, elbows, wrists.
LIMBS = (1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21)
