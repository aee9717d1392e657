# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig's animation, edits included, back to arrays and files."""

import os
from pathlib import Path

import bpy
import numpy as np

from .._bridge import LgdError
from . import mesh, result
from .armature import bone_names, rest_pelvis
from .axes import rig_to_world, world_to_camera
from .camera import camera_for_solver
from .keyframes import curves, find_curve, keys_of, read_pose
from .motion import Motion, load_motion

MOTION, AMASS, SMPL = "MOTION", "AMASS", "SMPL"


def key_frames(rig) -> np.ndarray:
    """The Blender frames (F,) at which the rig's pelvis or any bone has keys."""
    frames = {f for c in curves(rig) if c.data_path.startswith("pose.bones") for f in keys_of(c)[0]}
    if not frames:
        raise LgdError("bad_input", f"{rig.name} has no keys.", "Select a rig with an action.")
    return np.array(sorted(frames))


def stored_motion(rig) -> Motion | None:
    """The motion as it was solved, from the rig's present action."""
    action = rig.animation_data.action if rig.animation_data else None
    data = action.get(result.STORED_PROPERTY) if action is not None else None
    return load_motion(bytes(data)) if data is not None else None


def solved_frames(motion: Motion, frames: np.ndarray) -> np.ndarray | None:
    """The frame of a stored motion (F,) that lies at each Blender frame (F,), of keys that are still where the solve put them;
    None where others are among them. A reversed strip's come in falling order."""
    keys, order = motion.extra.get("key_frames"), motion.extra.get("key_order")
    if keys is None or order is None:  # of an older version
        return None
    index = np.searchsorted(keys, frames).clip(0, len(keys) - 1)
    return order[index] if np.abs(keys[index] - frames).max() < 1e-3 else None


def world_motion(scene, rig):
    """The animation in Blender's Z-up world, what moves the root bone and the armature's object included: frames (F,),
    poses (F, 72) rad, trans (F, 3) m, betas (10,), J_0 (3,)."""
    skin = result.skin_of(rig)
    names = bone_names(rig.data)
    if skin is None or names is None:
        raise LgdError(
            "bad_input", f"{rig.name} is no SMPL rig with its body.", "Select a rig of this add-on."
        )
    frames = key_frames(rig)
    quats, location = read_pose(rig, names, frames)
    pelvis = rest_pelvis(rig, names)
    poses, trans = rig_to_world(quats, location, pelvis)
    moved = _carriage(scene, rig, names, frames)
    if np.abs(moved - np.eye(4)).max() > 1e-6:
        moved = np.broadcast_to(moved, (len(frames), 4, 4))
        turn = moved[:, :3, :3] / np.linalg.norm(moved[:, :3, :3], axis=1, keepdims=True)  # a person is not scaled
        place = (pelvis + trans)[:, :, None]
        shift = (moved[:, :3, :3] - turn) @ place + moved[:, :3, 3:]
        back = np.tile(np.eye(4), (len(frames), 1, 1))
        back[:, :3, :3] = turn.swapaxes(1, 2)
        back[:, :3, 3:] = -back[:, :3, :3] @ shift
        poses, trans = world_to_camera(poses, trans, pelvis, back)
    return frames, poses, trans, mesh.get_shape(skin), pelvis


def _carriage(scene, rig, names, frames) -> np.ndarray:
    """(1 or F, 4, 4) what the bone above the pelvis and the armature's object do to the body in the world."""
    root = rig.pose.bones[names[0]].parent
    own = tuple(f'pose.bones["{bpy.utils.escape_identifier(name)}"]' for name in names) + ("[",)
    moves = rig.parent is not None or len(rig.constraints) or (root is not None and len(root.constraints))
    moves = moves or any(not c.data_path.startswith(own) for c in curves(rig))

    def now():
        held = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        if root is None:
            return np.array(held.matrix_world)
        return np.array(held.matrix_world @ held.pose.bones[root.name].matrix @ root.bone.matrix_local.inverted())

    if not moves:
        return now()[None]
    before, sub, found = scene.frame_current, scene.frame_subframe, []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
        found.append(now())
    scene.frame_set(before, subframe=sub)
    return np.array(found)


def write_motion(scene, rig, path: str, form: str = MOTION) -> int:
    """Write the rig's animation to an .npz, whole or not at all; returns the number of frames.

    form: MOTION (in the camera's frame, what File > Import > LGD Motion reads), AMASS (SMPL+H, 156 columns, Z up) or SMPL (72, Z up).
    """
    frames, poses, trans, betas, pelvis = world_motion(scene, rig)
    skin = result.skin_of(rig)
    rate = scene.render.fps / scene.render.fps_base
    stored = stored_motion(rig)
    rows = None if stored is None else solved_frames(stored, frames)
    times = (frames - frames[0]) / rate
    if rows is not None and (np.diff(rows) > 0).all():
        times = stored.frame_times[rows]  # the footage's own
    fps = float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else rate
    gender = str(skin.get("smpl_gender", "neutral"))
    if form == AMASS:
        wide = np.zeros((len(poses), 156))
        wide[:, :66] = poses[:, :66]
        data = {
            "poses": wide, "trans": trans, "betas": np.pad(betas, (0, 6)), "gender": gender, "mocap_framerate": fps,
            "dmpls": np.zeros((len(poses), 8)),
        }  # fmt: skip
    elif form == SMPL:
        data = {"poses": poses, "trans": trans, "betas": betas, "gender": gender, "mocap_framerate": fps}
    else:
        data = _camera_motion(scene, rig, skin, frames, poses, trans, betas, pelvis, times, fps, stored, rows)
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **data)
        os.replace(part, target)
    except OSError as error:
        raise LgdError("disk", f"The file {target.name} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
    return len(frames)


def _camera_motion(scene, rig, skin, frames, poses, trans, betas, pelvis, times, fps, stored, rows) -> dict:
    size = stored.image_size if stored is not None else (scene.render.resolution_x, scene.render.resolution_y)
    if stored is not None and (rows is not None or stored.T_world_cam.ndim == stored.cam_K.ndim == 2):
        T, K = (a if a.ndim == 2 else a[rows] for a in (stored.T_world_cam, stored.cam_K))
    else:  # nothing was solved, or keys were added or taken out: the camera as it is at those that are
        camera = result.camera_of(scene, rig) or scene.camera
        if camera is None:
            raise LgdError(
                "bad_input", "There is no camera to express the motion in.", "Choose the form SMPL or AMASS."
            )
        found = camera_for_solver(scene, camera, size, frames)
        T, K = found["T_world_cam"], found["cam_K"]
    poses, trans = world_to_camera(poses, trans, pelvis, T)
    data = {
        "poses": poses.astype(np.float32), "trans": trans.astype(np.float32), "betas": betas.astype(np.float32),
        "gender": str(skin.get("smpl_gender", "neutral")), "body_model": str(skin.get("lgd_body", "")),
        "T_world_cam": T, "cam_K": K, "image_size": np.array(size), "frame_times": times, "mocap_framerate": fps,
        "person_id": stored.person_id if stored is not None else 0, "mode": "edited",
    }  # fmt: skip
    for name, prop in (("reprojection_px", result.ERROR_PROPERTY),):
        curve = find_curve(rig, f'["{prop}"]')
        if curve is not None:
            data[name] = np.array([curve.evaluate(float(f)) for f in frames], dtype=np.float32)
    return data
