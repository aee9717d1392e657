# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL's pose correctives on the mesh: off, live (simple drivers on the bones' quaternions) or baked as keys."""

import numpy as np

from .armature import bone_names
from .body import JOINTS, corrective_features
from .keyframes import bag_of, curves, keys_of, read_pose, write_curve
from .mesh import has_correctives

MODES = ("OFF", "LIVE", "BAKED")
_N = "(w*w+x*x+y*y+z*z)"
# R - I entry by entry. Divided by the squared length, as interpolated keys are not unit quaternions. Blender takes
# these as simple expressions: no Python, no warning about scripts.
ENTRIES = (
    f"-2*(y*y+z*z)/{_N}", f"2*(x*y-w*z)/{_N}", f"2*(x*z+w*y)/{_N}",
    f"2*(x*y+w*z)/{_N}", f"-2*(x*x+z*z)/{_N}", f"2*(y*z-w*x)/{_N}",
    f"2*(x*z-w*y)/{_N}", f"2*(y*z+w*x)/{_N}", f"-2*(x*x+y*y)/{_N}",
)  # fmt: skip


def key_name(index: int) -> str:
    """The shape key of one corrective, 0 to 206."""
    return f"Pose{index:03d}"


def _path(index: int) -> str:
    return f'key_blocks["{key_name(index)}"].value'


def get_mode(mesh) -> str:
    """OFF, LIVE or BAKED, by what is on the mesh."""
    if not has_correctives(mesh):
        return "OFF"
    keys = mesh.data.shape_keys
    data = keys.animation_data
    if data is not None and any(d.data_path == _path(0) for d in data.drivers):
        return "LIVE"
    return "BAKED" if any(c.data_path == _path(0) for c in curves(keys)) else "OFF"


def set_mode(mesh, rig, mode: str) -> None:
    """Change the correctives of a mesh skinned to `rig`. Nothing happens on a body that has none."""
    if not has_correctives(mesh):
        return
    _clear(mesh)
    if mode == "LIVE":
        _drive(mesh, rig)
    elif mode == "BAKED":
        _bake(mesh, rig)


def _clear(mesh) -> None:
    keys = mesh.data.shape_keys
    if keys.animation_data is not None:
        for driver in [d for d in keys.animation_data.drivers if d.data_path.startswith('key_blocks["Pose')]:
            keys.animation_data.drivers.remove(driver)
        bag = bag_of(keys)
        if bag is not None:
            for curve in [c for c in bag.fcurves if c.data_path.startswith('key_blocks["Pose')]:
                bag.fcurves.remove(curve)
    for index in range(207):
        keys.key_blocks[key_name(index)].value = 0.0


def _drive(mesh, rig) -> None:
    keys = mesh.data.shape_keys
    names = bone_names(rig.data) or JOINTS
    for joint in range(1, 24):
        for entry, expression in enumerate(ENTRIES):
            driver = keys.driver_add(_path((joint - 1) * 9 + entry)).driver
            driver.type = "SCRIPTED"
            for axis, letter in enumerate("wxyz"):
                if letter not in expression:
                    continue
                variable = driver.variables.new()
                variable.name = letter
                variable.type = "SINGLE_PROP"
                variable.targets[0].id = rig
                variable.targets[0].data_path = f'pose.bones["{names[joint]}"].rotation_quaternion[{axis}]'
            driver.expression = expression


def _bake(mesh, rig) -> None:
    names = bone_names(rig.data) or JOINTS
    frames = sorted({f for c in curves(rig) if "rotation_quaternion" in c.data_path for f in keys_of(c)[0]})
    keys = mesh.data.shape_keys
    if not frames:
        quats, _ = read_pose(rig, names, [0.0])
        for index, value in enumerate(corrective_features(quats)[0]):
            keys.key_blocks[key_name(index)].value = float(value)
        return
    features = corrective_features(read_pose(rig, names, frames)[0])
    bag = bag_of(keys)
    if bag is None:
        from .keyframes import Take

        take = Take(f"{rig.animation_data.action.name} correctives")
        bag = take.bag(keys)
        take.finish(frames[0], frames[-1])
    for index in range(207):
        write_curve(bag, _path(index), 0, np.array(frames), features[:, index], "Correctives")
