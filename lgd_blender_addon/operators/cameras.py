# SPDX-License-Identifier: GPL-3.0-or-later
"""Which camera a solve lies before, and what the worker is told of it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from .._bridge import LgdError
from ..scene import footage as places
from ..scene import lens, result, takes, timing
from ..scene.camera import camera_for_solver, moves_elsewhere

SAME_LENS = 0.005  # told and found focal lengths nearer than this are one


def solved_cameras(context, found: places.Footage, rig=None) -> list:
    """The cameras that earlier solves of this footage made: first that of the last solve of the rig that is solved again, then those of other
    rigs' last solves. One that no rig lies before any more was given up for another."""
    objects = context.scene.objects
    ours = [o for o in objects if o.type == "CAMERA" and o.lgd.role == "CAMERA" and places.same_footage(o.lgd.footage, found.path)]
    rigs = (o for o in objects if o.type == "ARMATURE" and o.lgd.role == "RIG" and o != rig)
    last = [takes.camera_of(context.scene, o, last=True) for o in (rig, *rigs) if o is not None]
    return sorted(ours, key=lambda camera: last.index(camera) if camera in last else len(last))


@dataclass
class CameraRequest:
    """The camera whose world the result lies in (name, empty: a new one), the file that tells the worker of it or of the lens
    alone, whether that straightens the lens, what the user is told, whether it is one that an earlier solve found, and whether it is told as it
    was when the rig was keyed, with which it is carried about."""

    name: str = ""
    file: str | None = None
    straight: bool = False
    notes: tuple[str, ...] = ()
    kept: bool = False
    along: bool = False


def camera_request(context, found: places.Footage, rig=None) -> CameraRequest:
    """A camera brings its own lens; one of an earlier solve is not taken again where another focal length is now told, or none
    where its own was. rig: the one that is solved again, if any."""
    settings, own = context.scene.lgd, context.scene.camera
    wanted = settings.camera == "SCENE" or (settings.camera == "AUTO" and found.place == "CAMERA")
    if wanted and own is None:
        raise LgdError("bad_input", "The scene has no camera.", "Add one, or set Camera to New.")
    if wanted and own.type != "CAMERA":
        raise LgdError("bad_input", f"The scene's camera {own.name} is no camera.", "Make a camera the scene's, or set Camera to New.")
    clip = lens.clip_of(found)
    bent, note = lens.distortion_of(clip) if clip is not None else ({}, "")
    notes, unused, elsewhere, moves = (note,) if note else (), (), "", False
    if settings.camera == "AUTO" and clip is not None and clip.tracking.reconstruction.is_valid:
        unused = (f"The camera of {clip.name} is solved, but not used: with Setup Tracking Scene and Camera set to Scene Camera it is.",)
    solved = solved_cameras(context, found, rig) if settings.camera == "AUTO" else []
    for camera in [*solved, *([own] if wanted and own not in solved else [])]:
        told = solver_notes(context, camera, found)
        if camera in solved and moves_elsewhere(camera, *timing.first_shown(found), settings.timing == "REAL"):
            elsewhere, moves = elsewhere or camera.name, True
            continue  # unseen: it may be hidden by now
        data = _seen_by(context, camera, found)
        focal, goes = float(np.asarray(data["cam_K"]).reshape(-1, 3, 3)[0, 0, 0]), max(data["T_world_cam"].ndim, data["cam_K"].ndim) == 3
        if camera in solved and (abs(focal / settings.focal - 1) > SAME_LENS if settings.focal else camera.lgd.focal_told):
            moves = moves or goes
            continue
        if camera in solved and moves and not goes:
            continue  # it stands still, and was given up for one that moves or zooms
        if camera in solved:
            told += unused
        elif goes and settings.timing == "REAL":
            told += (f"Keys in real time do not follow {camera.name}, which moves or zooms frame for frame: set Keys to As Shown.",)
        if camera not in solved and settings.camera == "AUTO" and settings.focal and abs(focal / settings.focal - 1) > SAME_LENS:
            told += (f"{camera.name} brings its own lens, {focal:.0f} px: Focal (px) is not used. Set Camera to New to have it taken.",)
        behind = _behind(context, camera, found)
        if behind is not None and (behind.scale != 1 or behind.rotation or any(behind.offset) or behind.use_flip_x or behind.use_flip_y):
            told += (f"The footage behind {camera.name} is scaled, shifted, turned or flipped there, which is not read: the body lies as if it were not.",)
        T = None if rig is None else result.seen_along(context.scene, rig, camera, data["T_world_cam"], timing.first_shown(found)[0], found.frames[0])
        data = data if T is None else data | {"T_world_cam": T}
        kept = camera in solved_cameras(context, found, rig)
        return CameraRequest(camera.name, _camera_file(data | bent), bool(bent), notes + told, kept, T is not None)
    if elsewhere:
        why = "and is not taken again for keys in real time" if settings.timing == "REAL" else "with other frames than are solved now"
        told = "a new camera is made, through which Match Scene to Footage looks"
        notes += (f"{elsewhere} moves or zooms {why}: {told}.",)
    notes += unused
    if not bent:
        return CameraRequest(notes=notes)
    if not settings.focal:
        px = clip.tracking.camera.focal_length_pixels
        notes = (*notes, f"The lens of the clip {clip.name} is taken as told: {px:.0f} px, with its distortion.")
    return CameraRequest("", _camera_file({"cam_K": bent["distortion_K"], **bent}), True, notes)


def solver_notes(context, camera, found: places.Footage) -> tuple[str, ...]:
    """What is to be told of a camera that follows a clip's solve. Raises LgdError where there is nothing to follow."""
    notes = []
    for constraint in camera.constraints:
        if constraint.type != "CAMERA_SOLVER" or constraint.mute or not constraint.influence:
            continue
        clip = context.scene.active_clip if constraint.use_active_clip else constraint.clip
        if clip is None:
            raise LgdError("bad_input", f"The Camera Solver of {camera.name} has no clip.", "Choose the solved clip in its constraint.")
        solve = clip.tracking.reconstruction
        if not solve.is_valid or not len(solve.cameras):
            raise LgdError(
                "bad_input", f"{camera.name} follows the camera of {clip.name}, which is not solved.",
                "Press Solve Camera Motion in the movie clip editor, or set Camera to New.",
            )  # fmt: skip
        if not lens.shows(clip, found.path):
            notes.append(f"{camera.name} follows the camera of {clip.name}, which is other footage.")
            continue
        solved = [clip.frame_start - 1 + entry.frame for entry in solve.cameras]
        shown = np.flatnonzero(found.table >= 0) + found.start
        if shown[0] < min(solved) or shown[-1] > max(solved):
            notes.append(f"The camera of {clip.name} is solved from frame {min(solved)} to {max(solved)} alone: outside of these it stands still.")
    return tuple(notes)


def _camera_file(data: dict) -> str:
    """The file that tells the worker of a camera. Raises LgdError where the disk is full."""
    try:
        file = Path(tempfile.mkdtemp(prefix="lgd-", dir=bpy.app.tempdir)) / "camera.npz"
        np.savez(file, **data)
    except OSError as error:
        text = f"Blender's temporary folder {bpy.app.tempdir} cannot be written: {error.strerror}."
        raise LgdError("disk", text, "Free some space, or choose another in Preferences > File Paths.") from None
    return str(file)


def _behind(context, camera, found: places.Footage):
    """The background by which the scene's camera shows the footage that is read from there, or None."""
    if found.place != "CAMERA" or camera != context.scene.camera:
        return None
    shown = sorted(camera.data.background_images, key=lambda b: not b.show_background_image)
    return next((b for b in shown if found.block in (getattr(b.image, "name", ""), getattr(b.clip, "name", ""))), None)


def _seen_by(context, camera, found: places.Footage) -> dict:
    """A camera's place and lens for each picture of the footage."""
    size, own = found.size, (camera.lgd.width, camera.lgd.height)
    if not size[0] or size == own[::-1]:  # what Blender shows lying on its side was solved upright
        size = own
    if not size[0]:
        size = (context.scene.render.resolution_x, context.scene.render.resolution_y)
    behind = _behind(context, camera, found)
    if behind is not None and behind.frame_method == "STRETCH" and behind.source == "MOVIE_CLIP":
        behind = None  # Blender's default, and no lens's: the solve's pixels are the clip's
    clip = lens.clip_of(found)
    aspect = clip.tracking.camera.pixel_aspect if clip is not None else 1.0
    return camera_for_solver(context.scene, camera, size, timing.first_shown(found)[0], behind, aspect)
