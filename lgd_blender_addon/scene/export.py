# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig's animation, edits included, back to arrays and files."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from .._bridge import LgdError, moving
from . import carriage, mesh, result, takes
from .armature import known_bones, rest_pelvis
from .axes import rig_to_world, world_to_camera
from .camera import camera_for_solver

MOTION, AMASS, SMPL = "MOTION", "AMASS", "SMPL"


def key_frames(rig) -> np.ndarray:
    """The Blender frames (F,) at which the rig has keys, as `takes.keyed` finds them. Raises LgdError where there is none."""
    frames = takes.keyed(rig)
    if not len(frames):
        raise LgdError("bad_input", f"{rig.name} has no keys.", "Select a rig with an action.")
    return frames


def world_motion(scene, rig, frames, unit: float = 1.0):
    """The animation at Blender frames (F,) in Blender's Z-up world, as it is seen: with what moves the root bone and the armature's object,
    with constraints and layers. unit: how many of the scene's units make a metre. Returns poses (F, 72) rad, trans (F, 3) m, betas (10,),
    J_0 (3,), and what `carriage.animation` says of how it was moved."""
    skin, names = result.skin_of(rig), known_bones(rig)
    if skin is None:
        raise LgdError("bad_input", f"The rig {rig.name} has lost its body, which tells the shape.", "Undo that, or make a new rig by New Shape.")
    quats, location, carried = carriage.animation(scene, rig, names, frames)
    if (np.linalg.det(carried[:, :3, :3]) < 0).any():
        raise LgdError("bad_input", f"{rig.name} is mirrored by a negative scale, which no rotations of its joints tell.", "Make its scale, and its parents', positive.")
    pelvis = rest_pelvis(rig, names)
    poses, trans = rig_to_world(quats, location, pelvis)
    moved = carried.copy()
    moved[:, :3] /= unit
    if np.abs(moved - np.eye(4)).max() > 1e-6:
        moved = np.broadcast_to(moved, (len(frames), 4, 4))
        turn = moved[:, :3, :3] / np.linalg.norm(moved[:, :3, :3], axis=1, keepdims=True)  # a person is not scaled
        place = (pelvis + trans)[:, :, None]
        shift = (moved[:, :3, :3] - turn) @ place + moved[:, :3, 3:]
        back = np.tile(np.eye(4), (len(frames), 1, 1))
        back[:, :3, :3] = turn.swapaxes(1, 2)
        back[:, :3, 3:] = -back[:, :3, :3] @ shift
        poses, trans = world_to_camera(poses, trans, pelvis, back)
    return poses, trans, mesh.get_shape(skin), pelvis, carried


def write_motion(scene, rig, path: str, form: str = MOTION) -> int:
    """Write the rig's animation to an .npz, whole or not at all; returns the number of frames.

    form: MOTION (in the camera's frame, what File > Import > LGD Motion reads), AMASS (SMPL+H, 156 columns, Z up) or SMPL (72, Z up).
    The last two have no times but a rate: where keys are not evenly apart, or were thinned, the motion is read evenly between them.
    """
    frames = key_frames(rig)
    rate = scene.render.fps / scene.render.fps_base
    stored = takes.stored_motion(rig)
    times = None if stored is None else takes.footage_times(stored, frames)
    times = (frames - frames[0]) / rate if times is None else times
    if form != MOTION:
        frames, times = _evenly(frames, times, rate if stored is None else stored.framerate)
    # Without a camera, whose place counts as it is, a person's own size is the measure: of a larger one the steps are longer, too.
    camera = takes.camera_of(scene, rig) if form == MOTION else None
    unit = carriage.unscaled(rig.matrix_world)[1] if camera is None else result.unit_of(rig, camera)
    poses, trans, betas, pelvis, carried = world_motion(scene, rig, frames, unit)
    skin = result.skin_of(rig)
    rows = None if stored is None else takes.solved_frames(stored, frames)
    fps = float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else rate if stored is None else stored.framerate
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
        data = _camera_motion(scene, rig, skin, unit, frames, poses, trans, betas, pelvis, carried, times, fps, stored, rows)
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **data)
        moving.replace(part, target)
    except OSError as error:
        raise LgdError("disk", f"The file {target.name} cannot be written: {error.strerror}.", "Choose another folder, or free some space.") from None
    finally:
        with suppress(OSError):  # a name that is too long cannot even be asked for
            part.unlink(missing_ok=True)
    return len(frames)


def _evenly(frames, times, rate: float):
    """Frames (N,) and times (N,) evenly apart from the first of frames (F,), which lie at times (F,) s, to the last; as they are where they
    nearly are so, and no farther apart than the footage's: between thinned keys the rest of the curves would be lost. rate: of the footage."""
    steps = np.diff(times)
    if not len(steps) or (np.ptp(steps) < 0.02 * steps.mean() and steps.mean() * rate < 1.5):
        return frames, times
    even = np.linspace(times[0], times[-1], max(round((times[-1] - times[0]) * rate), 1) + 1)
    return np.interp(even, times, frames), even


def _camera_motion(scene, rig, skin, unit, frames, poses, trans, betas, pelvis, carried, times, fps, stored, rows) -> dict:
    size = stored.image_size if stored is not None else (scene.render.resolution_x, scene.render.resolution_y)
    camera = takes.camera_of(scene, rig)
    still = stored is not None and (rows is not None or stored.T_world_cam.ndim == stored.cam_K.ndim == 2)
    if still and (camera is None or not _moved(carried, stored)):
        T, K = (a if a.ndim == 2 else a[rows] for a in (stored.T_world_cam, stored.cam_K))
        if camera is None:  # it is gone, and its place is in what a metre was when it was solved
            unit = carriage.unscaled(stored.extra.get("carriage", np.eye(4)))[1]
    else:  # nothing was solved, or keys were added or taken out, or the rig was moved: the camera as it is
        camera = camera or scene.camera
        if camera is None:
            raise LgdError(
                "bad_input", "There is no camera to express the motion in.", "Choose the form SMPL or AMASS."
            )
        found = camera_for_solver(scene, camera, size, frames)
        T, K = found["T_world_cam"], found["cam_K"]
    T = np.array(T)
    T[..., :3, 3] /= unit
    poses, trans = world_to_camera(poses, trans, pelvis, T)
    data = {
        "poses": poses.astype(np.float32), "trans": trans.astype(np.float32), "betas": betas.astype(np.float32),
        "gender": str(skin.get("smpl_gender", "neutral")), "body_model": str(skin.get("lgd_body", "")),
        "T_world_cam": T, "cam_K": K, "image_size": np.array(size), "frame_times": times, "mocap_framerate": fps,
        "person_id": stored.person_id if stored is not None else 0, "mode": "edited",
    }  # fmt: skip
    errors = takes.take_keys(rig, f'["{result.ERROR_PROPERTY}"]')
    if errors is not None and len(errors[0]):
        data["reprojection_px"] = np.interp(frames, *errors, left=np.nan, right=np.nan).astype(np.float32)
    solved = None if stored is None else takes.nearest_solved(rig, stored, frames, f'["{result.CONFIDENCE_PROPERTY}"]')
    if solved is not None:
        data["joint_confidence"] = np.where(solved[:, None] < 0, 0, stored.joint_confidence[solved]).astype(np.float32)
    return data


def _moved(carried, stored) -> bool:
    """Whether the rig stands elsewhere than where it was solved, at any of its frames: carried (1 or F, 4, 4)."""
    return not np.allclose(carried, np.asarray(stored.extra.get("carriage", np.eye(4)), float), atol=1e-4)
