# SPDX-License-Identifier: GPL-3.0-or-later
"""From the scene's settings to the worker's requests."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from .. import preferences
from .._bridge import LgdError
from ..scene import armature, lens, mesh, result, takes, timing
from ..scene import footage as places
from ..scene.camera import camera_for_solver, turns_elsewhere

MOVES = {"STILL": "still", "TRAVELS": "travels"}
SAME_LENS = 0.005  # told and found focal lengths nearer than this are one


@dataclass
class Plan:
    """All that a run needs until its end, and nothing of Blender's: names and values only."""

    title: str
    scene: int  # session_uid
    footage: places.Footage | None
    options: result.Options
    requests: list = field(default_factory=list)
    people: tuple[int, ...] = (0,)
    build: bool = True
    rigs: dict[int, int] = field(default_factory=dict)  # session_uid of the rig that each person is solved onto again
    notes: tuple[str, ...] = ()  # what the user is told beside the worker's remarks


def sequencer_scene(context):
    """The scene whose sequencer is meant: since 5.0 it may be another than the active one."""
    return getattr(context, "sequencer_scene", None) or context.scene


def find_footage(context) -> places.Footage:
    """The footage that the settings name, cut to the range they name. Raises LgdError."""
    settings = context.scene.lgd
    scene = sequencer_scene(context) if settings.place == "STRIP" else context.scene
    clip = bpy.data.movieclips.get(settings.clip) if settings.clip else None
    if settings.place == "CLIP" and settings.clip and clip is None:
        raise LgdError("bad_input", f"The movie clip {settings.clip} is gone, or has another name by now.", "Choose the clip again.")
    if settings.place == "CLIP" and clip is None:
        clip = getattr(context, "edit_movieclip", None) or context.scene.active_clip
    found = places.with_footage(settings.place, scene, clip=clip, path=settings.path, start=settings.start)
    if settings.range == "CUSTOM":
        if settings.last < settings.first:
            raise LgdError("bad_input", "The range ends before it begins.", "Swap First and Last.")
        found = found.cut(settings.first, settings.last)
    elif settings.range == "SCENE":
        preview = scene.use_preview_range
        found = found.cut(
            scene.frame_preview_start if preview else scene.frame_start,
            scene.frame_preview_end if preview else scene.frame_end,
        )
    return found


def source_of(context, found: places.Footage) -> dict:
    """The request's `source` for a footage in which people are looked for, with boxes in source frames. Raises LgdError."""
    a, b = found.frames
    boxes = []
    for box in context.scene.lgd.boxes:
        if box.w < 2 or box.h < 2:
            continue
        try:
            first, last = found.cut(box.first, box.last).frames
        except LgdError:
            continue  # the box holds for a part that is not solved
        boxes.append([box.x, box.y, box.w, box.h, max(first, a), min(last, b)])
    if len(context.scene.lgd.boxes) and not boxes:
        raise LgdError(
            "bad_input", "No box lies in the range that is solved.", "Draw one on a frame of the range, or remove the boxes."
        )
    return {**pictures_of(context, found), "boxes": boxes}


def pictures_of(context, found: places.Footage) -> dict:
    """A `source` without people to look for: path, frames, rate of image folders and of counting."""
    return {"path": found.path, "frames": list(found.frames), "fps": image_rate(context, found), "counted": counted(found), "boxes": []}


def image_rate(context, found: places.Footage) -> float | None:
    """The rate of a folder of images; None for a movie, which has its own."""
    if not found.is_folder:
        return None
    render = context.scene.render
    return context.scene.lgd.image_fps if found.place == "FILE" else render.fps / render.fps_base


def counted(found: places.Footage) -> float | None:
    """The rate at which Blender counts a movie's frames; None for images."""
    return None if found.is_folder else found.fps or None


def body_path(context) -> str | None:
    """The official body file that the settings name, None for the default body. Raises LgdError where it is missing."""
    gender = context.scene.lgd.gender
    if gender == "DEFAULT":
        return None
    path = preferences.body_files(context).get(gender.lower())
    if not path:
        raise LgdError(
            "model_file", f"No {gender.lower()} SMPL file is named.", "Name it in the preferences, or choose the default body.",
            "lgd.open_preferences",
        )  # fmt: skip
    return path


def target_rig(context, found: places.Footage | None, person: int, boxes=()):
    """The rig that a new solve of this footage and person animates: the active one, or else the only one.

    boxes: of `source_of`, round the person who is wanted; a rig of somebody who is elsewhere is not that person's. A rig
    linked from another file is none: what is written onto it would not be saved.
    """
    if found is None:
        return None
    fitting = [
        o for o in context.scene.objects
        if o.type == "ARMATURE" and o.lgd.role == "RIG" and o.lgd.person == person and places.same_footage(o.lgd.footage, found.path)
        and o.library is None and _in_boxes(o, boxes)
    ]  # fmt: skip
    active = context.object
    if active is not None and active.type == "MESH" and active.parent in fitting:
        active = active.parent
    return active if active in fitting else (fitting[0] if len(fitting) == 1 else None)


def _in_boxes(rig, boxes) -> bool:
    """Whether the pelvis of the rig's last solve lies in the boxes (x, y, w, h, a, b) px, where they hold in its frames."""
    motion, bones = takes.stored_motion(rig) if boxes else None, armature.bone_names(rig.data)
    if motion is None or bones is None:
        return True
    first = int(motion.extra.get("first", 0))
    hips = motion.trans + armature.rest_pelvis(rig, bones)
    pixels = np.einsum("fab,fb->fa", np.broadcast_to(motion.cam_K, (len(hips), 3, 3)), hips)
    pixels = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-3)
    inside = []
    for x, y, w, h, a, b in boxes:
        part = pixels[max(a - first, 0) : max(b - first, 0)]
        inside += (np.abs(part - (x + w / 2, y + h / 2)) <= np.array([w, h]) * 0.6).all(1).tolist()
    return not inside or sum(inside) >= len(inside) / 2


def solved_cameras(context, found: places.Footage, rig=None) -> list:
    """The cameras that earlier solves of this footage made: first that of the last solve of the rig that is solved again, then those of other
    rigs' last solves. One that no rig lies before any more was given up for another."""
    objects = context.scene.objects
    ours = [o for o in objects if o.type == "CAMERA" and o.lgd.role == "CAMERA" and places.same_footage(o.lgd.footage, found.path)]
    rigs = (o for o in objects if o.type == "ARMATURE" and o.lgd.role == "RIG" and o != rig)
    last = [result.camera_of(context.scene, o) for o in (rig, *rigs) if o is not None]
    return sorted(ours, key=lambda camera: last.index(camera) if camera in last else len(last))


@dataclass
class CameraRequest:
    """The camera whose world the result lies in (name, empty: a new one), the file that tells the worker of it or of the lens
    alone, whether that straightens the lens, and what the user is told."""

    name: str = ""
    file: str | None = None
    straight: bool = False
    notes: tuple[str, ...] = ()


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
        data = _seen_by(context, camera, found)
        focal = float(np.asarray(data["cam_K"]).reshape(-1, 3, 3)[0, 0, 0])
        if camera in solved and (abs(focal / settings.focal - 1) > SAME_LENS if settings.focal else camera.lgd.focal_told):
            moves = moves or data["T_world_cam"].ndim == 3
            continue
        if camera in solved and turns_elsewhere(camera, *timing.first_shown(found), settings.timing == "REAL"):
            elsewhere, moves = elsewhere or camera.name, True
            continue
        if camera in solved and moves and data["T_world_cam"].ndim == 2:
            continue  # it stands still, and was given up for one that moves
        if camera in solved:
            told += unused
        elif data["T_world_cam"].ndim == 3 and settings.timing == "REAL":
            told += (f"Keys in real time do not follow {camera.name}, which moves frame for frame: set Keys to As Shown.",)
        return CameraRequest(camera.name, _camera_file(data | bent), bool(bent), notes + told)
    if elsewhere:
        why = "and is not taken again for keys in real time" if settings.timing == "REAL" else "with other frames than are solved now"
        told = "a new camera is made, through which Match Scene to Footage looks"
        notes += (f"{elsewhere} moves {why}: {told}.",)
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


def _seen_by(context, camera, found: places.Footage) -> dict:
    """A camera's place and lens for each picture of the footage."""
    size = found.size
    if not size[0]:
        size = (camera.lgd.width, camera.lgd.height)
    if not size[0]:
        size = (context.scene.render.resolution_x, context.scene.render.resolution_y)
    behind = None
    if found.place == "CAMERA" and camera == context.scene.camera:
        behind = next((b for b in camera.data.background_images if found.block in (getattr(b.image, "name", ""), getattr(b.clip, "name", ""))), None)
    if behind is not None and behind.frame_method == "STRETCH" and behind.source == "MOVIE_CLIP":
        behind = None  # Blender's default, and no lens's: the solve's pixels are the clip's
    clip = lens.clip_of(found)
    aspect = clip.tracking.camera.pixel_aspect if clip is not None else 1.0
    return camera_for_solver(context.scene, camera, size, timing.first_shown(found)[0], behind, aspect)


def listed_for(keypoints: str, found: places.Footage | None) -> str:
    """What a list of people is of: they are numbered by prominence in a file's frames that are solved, and others are others."""
    return keypoints + ("" if found is None else " {} {}:{}".format(found.path, *found.frames))


def chosen_people(context, found: places.Footage | None) -> tuple[int, ...]:
    """The people ticked in the panel; the most prominent one where no list is there. Raises LgdError for none, and where the list is of
    other keypoints (an undo or another scene brings these) or frames."""
    show = context.window_manager.lgd
    people = show.people
    if not len(people):
        return (0,)
    if show.people_of and show.people_of != listed_for(bpy.path.abspath(context.scene.lgd.keypoints), found):
        raise LgdError(
            "bad_input", "The people were listed for other keypoints, other footage or another range, in which they have other numbers.",
            "Press List People, and tick again.",
        )  # fmt: skip
    chosen = tuple(p.person for p in people if p.use)
    if not chosen:
        raise LgdError("bad_input", "No person is chosen.", "Tick at least one person of the list.")
    return chosen


def keypoints_alone(settings) -> bool:
    """Whether keypoints of another detector are named and no footage: then frame k lies on Start Frame + k."""
    return bool(settings.keypoints) and settings.place == "FILE" and not settings.path


def keypoints_of_footage(context) -> bool:
    """Whether the keypoints that are named are those of the footage that is, from the beginning of the range. Raises LgdError."""
    settings = context.scene.lgd
    if not settings.keypoints or keypoints_alone(settings):
        return bool(settings.keypoints)
    found = find_footage(context)
    if not settings.keypoints_source:  # a file of the user's own choice
        return True
    return places.same_footage(settings.keypoints_source, found.path) and found.frames[0] >= settings.keypoints_first


def plan_fit(context, *, from_keypoints: bool, new_rig: bool = False) -> Plan:
    """The plan of a solve: from the footage (detect and fit), or from keypoints that are there."""
    settings = context.scene.lgd
    found = None if from_keypoints and keypoints_alone(settings) else find_footage(context)
    if found is None and settings.camera == "TRAVELS":
        raise LgdError("bad_input", "The path of a camera that travels is found in the footage, and none is chosen.", "Choose it, or set Camera to New.")
    people = chosen_people(context, found) if from_keypoints else (0,)
    source = None if from_keypoints else source_of(context, found)
    boxes = source["boxes"] if source else ()
    rigs = {} if new_rig else {person: target_rig(context, found, person, boxes) for person in people}
    rig = rigs.get(people[0]) if len(people) == 1 else None  # who alone is solved again keeps the shape
    again = next((held for held in rigs.values() if held is not None), None)
    camera = CameraRequest() if found is None else camera_request(context, found, again)
    body = body_path(context)
    request = {
        "person": people[0] if len(people) == 1 else "all",
        "mode": None if settings.mode == "AUTO" else settings.mode.lower(),
        "weights": preferences.weights_file("video" if settings.mode == "AUTO" else settings.mode.lower(), context),
        "focal": None if camera.name else settings.focal or None,
        "camera": camera.file,
        "moves": MOVES.get(settings.camera, "seen"),
        "footage": None if found is None else pictures_of(context, found),
        "body": body,
        "betas": None,
        "steps": None,
        "plant_feet": settings.plant_feet,
        "trace": settings.trace,
        "device": preferences.device(context),
        "detector": preferences.detector_file(context),
    }
    if rig is not None:
        skin = result.skin_of(rig)
        if skin is None:
            raise LgdError(
                "bad_input", f"The rig {rig.name} has lost its body.", "Use New Shape to make a new rig."
            )
        lost = armature.lost_bones(rig.data)
        if lost:
            named = ", ".join(lost[:3]) + (" and others" if len(lost) > 3 else "")
            raise LgdError("bad_input", f"Bones of {rig.name} were renamed or removed: {named}.", "Name them so again, or use New Shape to make a new rig.")
        request["betas"] = [float(b) for b in mesh.get_shape(skin)]
    request |= keypoints_request(context, found) if from_keypoints else {"source": source}
    options = result.Options(
        timing=settings.timing,
        correctives=settings.correctives,
        names=settings.bone_names,
        name=Path(settings.keypoints).stem if found is None else "",
        start=settings.start,
        camera=camera.name,
        focal_told=bool(settings.focal) and not camera.name,
        straight=camera.straight,
    )
    title = "Solve again" if rig is not None else "Solve"
    requests = [("describe_body", {"body": body}), ("fit", request)]
    onto = {person: held.session_uid for person, held in rigs.items() if held is not None}
    return Plan(title, context.scene.session_uid, found, options, requests, people, rigs=onto, notes=camera.notes)


def keypoints_request(context, found: places.Footage | None) -> dict:
    """What a request says of the keypoints that the settings name, in the range that is solved. Raises LgdError."""
    settings = context.scene.lgd
    path = bpy.path.abspath(settings.keypoints)
    if not settings.keypoints or not Path(path).exists():
        raise LgdError("bad_input", "There are no keypoints.", "Detect first, or choose a file of keypoints.")
    if found is None:
        return {"keypoints": path}
    if settings.keypoints_source and not places.same_footage(settings.keypoints_source, found.path):
        raise LgdError(
            "bad_input", f"The keypoints were detected in {Path(settings.keypoints_source).name}, not in this footage.",
            "Detect again, or choose a file of keypoints.",
        )  # fmt: skip
    # Keypoints without a rate of their own have the footage's: frame k belongs to picture k.
    rate = {"fps": found.fps or image_rate(context, found)}
    return {"keypoints": path, "image_size": [int(side) for side in found.size] if all(found.size) else None} | rate | _keypoint_frames(settings, found)


def _keypoint_frames(settings, found: places.Footage) -> dict:
    """Which of the keypoints' frames belong to the range: detected ones start at the range they were detected in."""
    a, b = found.frames
    detected = places.same_footage(settings.keypoints_source, found.path)
    first = settings.keypoints_first if detected else 0
    if a < first:
        raise LgdError("bad_input", "The keypoints begin later than the range.", "Detect again.")
    if detected and counted(found):
        return {"frames": [a, b], "counted": counted(found)}  # by the times that were detected
    return {"frames": [a - first, b - first], "short": True}


def plan_detect(context) -> Plan:
    """The plan of a detection alone."""
    found = find_footage(context)
    request = {
        "source": source_of(context, found),
        "detector": preferences.detector_file(context),
        "device": preferences.device(context),
    }
    return Plan("Detect", context.scene.session_uid, found, result.Options(), [("detect", request)], build=False)
