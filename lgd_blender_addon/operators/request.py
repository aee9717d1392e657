# SPDX-License-Identifier: GPL-3.0-or-later
"""From the scene's settings to the worker's requests."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from .. import preferences
from .._bridge import LgdError
from ..scene import armature, carriage, mesh, result, takes
from ..scene import footage as places
from . import bodies
from .cameras import CameraRequest, camera_request

MOVES = {"STILL": "still", "TRAVELS": "travels"}


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
    camera: int = 0  # session_uid of the camera before which they are, which may be renamed meanwhile
    notes: tuple[str, ...] = ()  # what the user is told beside the worker's remarks


def sequencer_scene(context):
    """The scene whose sequencer is meant: since 5.0 it may be another than the active one."""
    return getattr(context, "sequencer_scene", None) or context.scene


def _scene_of_footage(context):
    return sequencer_scene(context) if context.scene.lgd.place == "STRIP" else context.scene


def chosen_footage(context) -> places.Footage:
    """The footage that the settings name, all of it. Raises LgdError."""
    settings = context.scene.lgd
    clip = bpy.data.movieclips.get(settings.clip) if settings.clip else None
    if settings.place == "CLIP" and settings.clip and clip is None:
        raise LgdError("bad_input", f"The movie clip {settings.clip} is gone, or has another name by now.", "Choose the clip again.")
    if settings.place == "CLIP" and clip is None:
        clip = getattr(context, "edit_movieclip", None) or context.scene.active_clip
    return places.with_footage(settings.place, _scene_of_footage(context), clip=clip, path=settings.path, start=settings.start)


def find_footage(context) -> places.Footage:
    """The footage that the settings name, cut to the range they name. Raises LgdError."""
    settings, scene = context.scene.lgd, _scene_of_footage(context)
    found = chosen_footage(context)
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

    boxes: of `source_of`, round the person who is wanted, by whom alone it is told whose a rig is. One linked from another file is
    none: what is written onto it would not be saved.
    """
    if found is None:
        return None
    fitting = [
        o for o in context.scene.objects
        if o.type == "ARMATURE" and o.lgd.role == "RIG" and places.same_footage(o.lgd.footage, found.path)
        and o.library is None and _is_of(o, person, boxes)
    ]  # fmt: skip
    active = context.object
    if active is not None and active.type == "MESH" and active.parent in fitting:
        active = active.parent
    return active if active in fitting else (fitting[0] if len(fitting) == 1 else None)


def _is_of(rig, person: int, boxes) -> bool:
    """Whether a rig is that person's: its pelvis lay in the boxes (x, y, w, h, a, b) px when it was solved, or, where there is none that holds in
    its frames, by their number."""
    motion, bones = takes.readable_motion(rig) if boxes else None, armature.bone_names(rig.data)
    if motion is None or bones is None:
        return rig.lgd.person == person
    first = int(motion.extra.get("first", 0))
    pixels, _ = takes.pelvis_seen(motion, armature.rest_pelvis(rig, bones))
    inside = []
    for x, y, w, h, a, b in boxes:
        part = pixels[max(a - first, 0) : max(b - first, 0)]
        inside += (np.abs(part - (x + w / 2, y + h / 2)) <= np.array([w, h]) * 0.6).all(1).tolist()
    return sum(inside) >= len(inside) / 2 if inside else rig.lgd.person == person


def people_looked_for(context) -> int:
    """How many people the default detector is asked for: one where a box shows who, and an ONNX model shows all of itself."""
    settings = context.scene.lgd
    return 1 if len(settings.boxes) or preferences.detector_file(context) is not None else settings.look_for


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


def _can_be_keyed(rig) -> None:
    """Raises LgdError, before anything is solved in vain, for a rig onto which nothing can be solved again."""
    skin = result.skin_of(rig)
    if skin is None:
        raise LgdError("bad_input", f"The rig {rig.name} has lost its body.", "Use New Shape to make a new rig.")
    mesh.get_shape(skin)
    carriage.now(rig, armature.known_bones(rig))


def plan_fit(context, *, from_keypoints: bool, new_rig: bool = False) -> Plan:
    """The plan of a solve: from the footage (detect and fit), or from keypoints that are there."""
    settings = context.scene.lgd
    found = None if from_keypoints and keypoints_alone(settings) else find_footage(context)
    if found is None and settings.camera == "TRAVELS":
        raise LgdError("bad_input", "The path of a camera that travels is found in the footage, and none is chosen.", "Choose it, or set Camera to New.")
    wanted = people_looked_for(context)
    people = chosen_people(context, found) if from_keypoints else tuple(range(wanted))
    source = None if from_keypoints else source_of(context, found)
    boxes = source["boxes"] if source else ()
    rigs = {} if new_rig else {person: target_rig(context, found, person, boxes) for person in people}
    onto = {person: held.session_uid for person, held in rigs.items() if held is not None}
    again = next((held for held in rigs.values() if held is not None), None)
    camera = CameraRequest() if found is None else camera_request(context, found, again)
    body = body_path(context)
    request = {
        "person": people[0] if len(people) == 1 else list(people) if from_keypoints else "all",
        "mode": None if settings.mode == "AUTO" else settings.mode.lower(),
        "weights": preferences.weights_file("video" if settings.mode == "AUTO" else settings.mode.lower(), context),
        "focal": None if camera.name else settings.focal or None,
        "camera": camera.file,
        "camera_kept": camera.kept,
        "moves": MOVES.get(settings.camera, "seen"),
        "footage": None if found is None else pictures_of(context, found),
        "body": body,
        "betas": None,
        "steps": None,
        "plant_feet": settings.plant_feet,
        "trace": settings.trace,
        "device": preferences.device(context),
        "detector": preferences.detector_file(context),
        "fast": settings.fast_detection,
        "look_for": wanted,
    }
    for held in filter(None, rigs.values()):
        _can_be_keyed(held)
    request["betas"] = bodies.kept_shapes(people, onto)
    request |= keypoints_request(context, found) if from_keypoints else {"source": source}
    options = result.Options(
        timing=settings.timing,
        correctives=settings.correctives,
        names=settings.bone_names,
        name=Path(settings.keypoints).stem if found is None else "",
        start=settings.start,
        camera=camera.name,
        along=camera.along,
        focal_told=bool(settings.focal) and not camera.name,
        straight=camera.straight,
    )
    title = "Solve again" if len(people) == 1 and onto else "Solve"
    requests = [("describe_body", {"body": body}), ("fit", request)]
    before = context.scene.objects.get(camera.name) if camera.name else None
    uid = 0 if before is None else before.session_uid
    notes = (() if found is None else found.notes) + camera.notes
    return Plan(title, context.scene.session_uid, found, options, requests, people, rigs=onto, camera=uid, notes=notes)


def keypoints_request(context, found: places.Footage | None) -> dict:
    """What a request says of the keypoints that the settings name, in the range that is solved. Raises LgdError."""
    settings = context.scene.lgd
    path = bpy.path.abspath(settings.keypoints)
    if not settings.keypoints:
        raise LgdError("bad_input", "There are no keypoints.", "Detect first, or choose a file of keypoints.")
    if not os.path.exists(path):
        kept = ", as those of older jobs than the 20 newest are" if settings.keypoints_source else ""
        raise LgdError("bad_input", f"The keypoints {Path(path).name} are gone{kept}.", "Detect again, or choose a file of keypoints.")
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
    if counted(found):
        return {"frames": [a, b], "counted": counted(found)}  # by the times that were detected, or those of the footage's pictures
    return {"frames": [a - first, b - first], "short": True}


def plan_detect(context) -> Plan:
    """The plan of a detection alone."""
    found, wanted = find_footage(context), people_looked_for(context)
    request = {
        "source": source_of(context, found),
        "detector": preferences.detector_file(context),
        "fast": context.scene.lgd.fast_detection,
        "look_for": wanted,
        "device": preferences.device(context),
    }
    return Plan("Detect", context.scene.session_uid, found, result.Options(), [("detect", request)], tuple(range(wanted)), build=False, notes=found.notes)
