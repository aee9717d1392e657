# SPDX-License-Identifier: GPL-3.0-or-later
"""SMPL's pose correctives on the mesh: off, live (simple drivers on the bones' quaternions) or baked as keys."""

import numpy as np

from . import carriage, takes
from .armature import known_bones, listed
from .body import corrective_features
from .keyframes import Take, bag_of, curves, read_pose, write_curve
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


def follows(mesh, names) -> bool:
    """Whether a mesh's correctives are live by the names (24) that the bones have by now: Blender's drivers do not go along where bones are renamed."""
    data = mesh.data.shape_keys.animation_data
    driver = next((d.driver for d in data.drivers if d.data_path == _path(0)), None) if data is not None else None
    return driver is not None and any(f'"{names[1]}"' in variable.targets[0].data_path for variable in driver.variables)


def set_mode(mesh, rig, mode: str, scene=None) -> None:
    """Change the correctives of a mesh skinned to `rig`. Nothing happens on a body that has none. scene: baked is what is seen there, with
    all layers of the NLA; None: the rig's present action. Raises LgdError; then nothing has changed."""
    if not has_correctives(mesh):
        return
    names = None if mode == "OFF" else known_bones(rig)
    found = _features(rig, names, scene) if mode == "BAKED" else None
    _clear(mesh)
    if mode == "LIVE":
        _drive(mesh, rig, names)
    elif mode == "BAKED":
        _bake(mesh, rig, *found)


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


def _drive(mesh, rig, names) -> None:
    keys = mesh.data.shape_keys
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


def _features(rig, names, scene):
    """Every frame (F,) from the rig's first key to its last, and its keys between them, and the correctives (F, 207) there: they do not run evenly
    from key to key, where some were thinned. Without keys those of the present pose, and no frames."""
    frames = takes.keyed(rig) if scene is not None else np.array(sorted(takes.keys_of_bones(curves(rig))))
    if len(frames):
        whole = np.arange(np.ceil(frames[0]), np.floor(frames[-1]) + 1)
        frames = np.union1d(frames, np.setdiff1d(whole, np.round(frames, 3)))
    data = rig.animation_data
    direct = scene is None or not (carriage.layered(rig) or (data is not None and data.use_tweak_mode) or _otherwise_turned(rig, names))
    if direct or not len(frames):
        return frames, corrective_features(read_pose(rig, names, frames if len(frames) else [0.0])[0])
    carriage.seen_to_move(rig)
    return frames, corrective_features(carriage.at_each(scene, frames, lambda: carriage.turns(rig, names)))


def _otherwise_turned(rig, names) -> list[str]:
    """Bones that are turned by other angles than quaternions, which live correctives do not follow."""
    return [name for name in names if rig.pose.bones[name].rotation_mode != "QUATERNION"]


def unfollowed(rig) -> str:
    """What is to be told of live correctives that stand still with bones whose rotation mode was changed; "" of others."""
    turned = _otherwise_turned(rig, known_bones(rig))
    if not turned:
        return ""
    return f"Live correctives follow quaternions, not the rotation mode that {listed(turned)} of {rig.name} got since: set that to Quaternion, or bake them"


def _bake(mesh, rig, frames, features) -> None:
    keys = mesh.data.shape_keys
    if not len(frames):
        for index, value in enumerate(features[0]):
            keys.key_blocks[key_name(index)].value = float(value)
        return
    bag = bag_of(keys)
    if bag is None:
        take = Take(f"{(takes.playing(rig)[0] or rig.animation_data.action or rig).name} correctives")
        bag = take.bag(keys)
        take.finish(frames[0], frames[-1])
    for index in range(207):
        write_curve(bag, _path(index), 0, frames, features[:, index], "Correctives")
