# SPDX-License-Identifier: GPL-3.0-or-later
"""A solved take becomes objects in the scene, in one call; what fails half-way leaves nothing behind."""

from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from .._bridge import LgdError, counting
from . import armature, carriage, correctives, mesh, timing
from .axes import camera_to_rig, inverse
from .body import Body
from .camera import build_camera, carried, follow_footage, remember_pictures, show_footage
from .collection import collection_for, editable
from .footage import Footage
from .keyframes import Take, shown_tracks, write_curve, write_pose
from .motion import Motion, pack
from .takes import CAMERA_PROPERTY, STORED_PROPERTY, known_as, readable_motion
from .transaction import AllOrNothing

ERROR_PROPERTY = "lgd_reprojection_px"
CONFIDENCE_PROPERTY = "lgd_confidence"


@dataclass
class Options:
    """How to build. timing: SHOWN (keys where the footage is shown) or REAL (time x scene rate); correctives: OFF, LIVE,
    BAKED; rig: the session_uid of an armature to animate anew, 0 for a new one; camera: the name of a camera whose world the motion is in;
    along: that is told as it was when the rig was keyed, with which it is carried about; focal_told: its focal length was told; straight: the
    motion is in pictures without the lens's distortion; name: what the take is called where there is no footage;
    start: the frame of the first picture, where there is no footage; names: SMPL (left_hip) or MPI (L_Hip) bones; number: which person of
    the footage, from 0; of how many."""

    timing: str = "SHOWN"
    correctives: str = "LIVE"
    rig: int = 0
    camera: str = ""
    along: bool = False
    focal_told: bool = False
    straight: bool = False
    name: str = ""
    start: int = 1
    names: str = "SMPL"
    number: int = 0
    people: int = 1
    show_footage: bool = True


@dataclass
class Built:
    """What a build left: objects, the frames of its keys, how many keys, and remarks for the user."""

    rig: object
    mesh: object
    camera: object
    action: object
    first: float
    last: float
    keys: int
    notes: list = field(default_factory=list)


def build(
    scene, motion: Motion, body: Body, footage: Footage | None, options: Options | None = None
) -> Built:
    """Rig, mesh, keys, camera and curves of one person's take.

    scene: where it is linked; footage: the place the keys follow, None for frame k at options.start + k. With options.rig the take
    becomes a new action of that rig, whose shape stays. Raises LgdError; then the file is as it was.
    """
    options = options or Options()
    if motion.body_model and body.id and motion.body_model != body.id:
        raise LgdError(
            "model_file",
            f"The motion was solved for the body {motion.body_model}, but {body.id} is loaded.",
            "Choose the same body model in the preferences, or solve again.",
        )
    rig = next((o for o in bpy.data.objects if o.session_uid == options.rig and o.users_scene), None) if options.rig else None
    gone = bool(options.rig) and (rig is None or rig.type != "ARMATURE")
    rig = None if gone else rig
    with AllOrNothing([] if rig is None else [(rig, skin_of(rig))]):
        built = _build(scene, motion, body, footage, options, rig)
    if gone:
        built.notes.append(f"The rig that was to be animated is gone: {built.rig.name} was made instead.")
    return built


def skin_of(rig):
    """The body mesh of a rig: the child with its shape keys, or None."""
    for child in rig.children:
        keys = getattr(child.data, "shape_keys", None) if child.type == "MESH" else None
        if keys is not None and "Shape000" in keys.key_blocks:
            return child
    return None


def _build(scene, motion, body, footage, options, rig) -> Built:
    scale = scene.unit_settings.scale_length
    notes = [] if abs(scale - 1) < 1e-6 else [
        f"The scene's unit scale is {scale:g}, but the body is built as where a unit is a metre: set Unit Scale to 1, or parent the rig and "
        f"the camera to an empty and scale that by {1 / scale:g}."
    ]
    if scene.render.frame_map_old != scene.render.frame_map_new:
        notes.append("The scene's Time Stretching plays keys on other frames than those they lie on, which is not read: set its Old and New alike.")
    name = footage.name if footage else (options.name or "motion")
    if options.people > 1 and options.number:
        name = f"{name} person {options.number + 1}"
    first = footage.frames[0] if footage else 0
    order, times, frames, sources = key_places(scene, motion, footage, options.timing, options.start)
    take = Take(name)
    collection = collection_for(scene, rig, footage.name if footage else name)
    betas, trans, stands, alike = motion.betas, motion.trans, np.eye(4), False
    given = bpy.data.objects.get(options.camera) if options.camera else None
    if rig is None:
        word = ("SMPL" if body.official else "Body"), f"{body.gender}_{name}"
        rig = armature.build_armature(body, betas, f"{word[0]}-{word[1]}", collection)
        skin = mesh.build_mesh(body, betas, f"{word[0]}-mesh-{word[1]}", rig, collection)
        if options.names == "MPI":
            armature.rename_bones(rig)
    else:
        skin = skin_of(rig)
        if skin is None:
            raise LgdError(
                "bad_input", f"{rig.name} has no body mesh of this add-on.", "Solve onto a new rig."
            )
        betas = mesh.get_shape(skin)
        # The pelvis stays where it was solved, whatever the rig's own shape makes of the offset.
        trans = trans + body.joints(motion.betas)[0] - body.joints(betas)[0]
        notes += _back_to_quaternions(rig)
        stands, alike, told = _stands(rig, given, motion, first, options.along)
        notes += told
    bones = armature.bone_names(rig.data)
    if bones is None:
        raise LgdError("bad_input", f"{rig.name} is no SMPL rig.", "Select a rig that this add-on made.")
    if rig.session_uid == options.rig:
        notes += filter(None, [armature.off_joints(rig, bones, body.joints(betas))])
    pelvis = body.joints(betas)[0]
    quats, location = camera_to_rig(motion.poses, trans, pelvis, seen_from(stands, alike, motion.T_world_cam))
    if not alike:
        location = (pelvis + location) / carriage.unscaled(stands)[1] - pelvis
    keys = write_pose(take, rig, bones, times, quats[order], location[order])
    keys += _write_shape(take, skin, betas, times[0])
    keys += _write_quality(take, rig, motion, order, times)
    take.finish(times[0], times[-1])
    action = take.actions[0]
    action[STORED_PROPERTY] = pack(motion, first, order, times, stands)
    if options.correctives != "LIVE" or not correctives.follows(skin, bones):  # baked ones hold their values where their action is gone
        correctives.set_mode(skin, rig, options.correctives)
    camera, told = _camera(given, scene, motion, footage, options, order, times, frames, sources, collection)
    notes += told
    action[CAMERA_PROPERTY] = known_as(camera)
    if options.straight and any(b.source == "IMAGE" for b in camera.data.background_images):
        notes.append(f"Behind {camera.name} the footage keeps its lens's distortion, which the body has not: to see both alike, solve its movie clip.")
    if not shown_tracks(rig.animation_data)[1]:
        notes.append(f"{rig.name} shows the starred track of its NLA, not the new take: take the star off.")
    _remember(rig, motion, footage, options, camera, first, made=camera != given)
    bpy.context.view_layer.update()
    if not rig.visible_get():
        notes.append(f"{rig.name} is hidden: show it, or its collection, to see the take.")
    if rig.data.pose_position == "REST":
        notes.append(f"{rig.name} is in Rest Position: set its armature to Pose Position to see the take.")
    return Built(rig, skin, camera, action, float(times[0]), float(times[-1]), keys, notes)


def seen_from(stands, alike: bool, T_world_cam):
    """T_world_cam (4, 4) or (F, 4, 4) as seen from a rig that stands at (4, 4); alike: the camera is scaled as the rig is."""
    rigid, size = carriage.unscaled(stands)
    T = inverse(rigid) @ T_world_cam
    if alike:
        T[..., :3, 3] /= size
    return T


def unit_of(rig, camera) -> float:
    """How many of the scene's units make a metre for a rig: its scale where its camera is scaled as it is, else 1."""
    size = carriage.unscaled(rig.matrix_world)[1]
    return size if camera is not None and abs(carriage.unscaled(camera.matrix_world)[1] - size) < 1e-3 * size else 1.0


def seen_along(scene, rig, camera, T, frames, first: int):
    """T_world_cam (F, 4, 4) at Blender's frames (F,) of a camera that is carried about together with a rig, both by an animated empty for one,
    as it was when the rig was keyed: else the body would be carried twice. None where they are not carried alike, or not at all.

    first: the footage's frame of the first one.
    """
    names = armature.bone_names(rig.data)
    if T.ndim == 2 or names is None or not (len(rig.constraints) or (rig.parent is not None and carried(rig.parent))):
        return None
    old, here = readable_motion(rig), np.array(carriage.at_each(scene, frames, lambda: carriage.now(rig, names)))
    rows = np.arange(len(T)) + first - int(old.extra.get("first", 0)) if old is not None else np.zeros(0)
    common = np.flatnonzero((rows >= 0) & (rows < old.frames)) if old is not None else rows
    if not len(common) or np.abs(here - here[:1]).max() < 1e-5:
        return None
    before = np.asarray(old.extra.get("carriage", np.eye(4)), float)
    rigid, size = carriage.unscaled(before)
    alike = abs(unit_of(rig, camera) / carriage.unscaled(here[0])[1] - 1) < 1e-3
    seen = np.array([seen_from(stands, alike, one) for stands, one in zip(here, T, strict=True)])
    T_before = old.T_world_cam if old.T_world_cam.ndim == 2 else old.T_world_cam[rows[common]]
    if not np.allclose(seen[common], seen_from(before, alike, T_before), atol=2e-3):
        return None
    seen[:, :3, 3] *= size if alike else 1.0
    seen = rigid @ seen
    return seen[0] if np.abs(seen - seen[:1]).max() < 1e-5 else seen


def _stands(rig, camera, motion: Motion, first: int, along: bool):
    """Where a rig stands that is solved onto again, (4, 4), whether its camera is scaled as it is, and what is to be told. One that was
    moved along with its camera keeps the body over the person; one that was moved by itself was given another place, and takes the
    body there.

    first: the footage's frame of the motion's first one.
    """
    names, old = armature.bone_names(rig.data), readable_motion(rig)
    if names is None:
        return np.eye(4), False, []
    here = carriage.now(rig, names)
    size = carriage.unscaled(here)[1]
    alike = abs(unit_of(rig, camera) / size - 1) < 1e-3
    scaled = [] if alike or abs(size - 1) < 1e-3 else [f"{rig.name} is scaled by {size:g}, and its body with it."]
    if old is None:  # baked, or without an action: nothing tells that it was given a place of its own
        return here, alike, scaled
    before = np.asarray(old.extra.get("carriage", np.eye(4)), float)
    if along or np.allclose(here, before, atol=1e-4):
        return before, alike, []
    # The camera at a frame that both solved, seen from the rig.
    common = max(first, int(old.extra.get("first", 0)))
    T, T_before = (
        T if T.ndim == 2 else T[int(np.clip(common - start, 0, len(T) - 1))]
        for T, start in ((motion.T_world_cam, first), (old.T_world_cam, int(old.extra.get("first", 0))))
    )
    if not np.allclose(seen_from(here, alike, T), seen_from(before, alike, T_before), atol=2e-3):
        told = f"{rig.name} was moved without its camera: the body goes with it. Clear its transform to have it over the person."
        return before, alike, [told]
    return here, alike, scaled


def key_places(scene, motion: Motion, footage: Footage | None, mode: str, start: int = 1):
    """Where the take lies in Blender's time; without footage frame by frame from `start` on.

    Returns order (N,) and times (N,): which solved frame has a key when; frames (M,) and sources (M,): which source frame
    the background shows on each whole Blender frame.
    """
    if footage is None:
        order, times = np.arange(motion.frames), float(start) + np.arange(motion.frames)
        return order, times, times.astype(int), order
    first = footage.frames[0]
    table = timing.decoded_table(footage.table, footage.fps, motion.frame_times, first)
    if mode == "REAL":
        shown = np.flatnonzero(table >= 0)
        start = footage.start + (int(shown[0]) if len(shown) else 0)
        rate = scene.render.fps / scene.render.fps_base
        if footage.begin is not None and footage.begin[1] <= first:
            # A part lies where it lay when the whole was solved.
            start = footage.begin[0] + (first - footage.begin[1]) / (footage.fps or motion.framerate) * rate
        order, times = timing.real_keys(motion.frame_times, rate, start)
        numbers = first + np.arange(motion.frames)
        if footage.fps:
            numbers = counting.counts(motion.frame_times, footage.fps)
        frames, sources = timing.picture_steps(order, times, numbers)
    else:
        thinned = str(motion.extra.get("mode", "")) == "edited"  # between keys that are left, somebody moves
        order, times = timing.shown_keys(table, footage.start, first, motion.frames, held=not thinned)
        seen = footage.table >= 0
        frames, sources = (footage.start + np.arange(len(footage.table)))[seen], footage.table[seen]
    return order, times, frames, sources


def _back_to_quaternions(rig) -> list[str]:
    changed = [b for b in rig.pose.bones if b.rotation_mode != "QUATERNION"]
    for bone in changed:
        bone.rotation_mode = "QUATERNION"
    return [f"{len(changed)} bones of {rig.name} were set back to quaternions."] if changed else []


def _write_shape(take: Take, skin, betas, first: float) -> int:
    bag = take.bag(skin.data.shape_keys)
    for index, value in enumerate(betas):
        write_curve(bag, f'key_blocks["Shape{index:03d}"].value', 0, [first], [value], "Shape", "CONSTANT")
    return len(betas)


def _write_quality(take: Take, rig, motion: Motion, order, times) -> int:
    bag = take.bag(rig)
    confidence = motion.joint_confidence.mean(axis=1)
    count = 0
    for name, values, text in (
        (
            ERROR_PROPERTY,
            motion.reprojection_px,
            "Distance of the body's points from the detected ones, in pixels",
        ),
        (CONFIDENCE_PROPERTY, confidence, "How sure the solver is of this frame, from 0 to 1"),
    ):
        values = values[order]
        good = np.isfinite(values)
        rig[name] = float(values[good][0]) if good.any() else 0.0
        rig.id_properties_ui(name).update(description=text, min=0.0)
        if good.any():
            write_curve(bag, f'["{name}"]', 0, times[good], values[good], "Solve quality")
            count += int(good.sum())
    return count


def _camera(given, scene, motion, footage, options, order, times, frames, sources, collection):
    lost = [f"{Path(footage.path).name} is not to be read any more: it does not show behind the camera."] if footage else []
    name = f"LGD camera {footage.name}" if footage else "LGD camera"
    take = Take(name)
    if given is not None:
        if footage is not None and options.show_footage and getattr(given, "lgd", None) and given.lgd.role == "CAMERA":
            if not (editable(given) and editable(given.data)):
                return given, [f"{given.name} belongs to another file: the pictures behind it stay where they are."]
            try:
                follow_footage(given, footage, frames, sources, take)
            except LgdError as error:
                return given, [error.text]
            except (RuntimeError, OSError):
                return given, lost
            take.finish(times[0], times[-1])
        return given, []
    K = motion.cam_K if motion.cam_K.ndim == 2 else motion.cam_K[order]
    T = motion.T_world_cam if motion.T_world_cam.ndim == 2 else motion.T_world_cam[order]
    camera = build_camera(name, K, motion.image_size, T, times, take, collection)
    if footage is not None and (T.ndim == 3 or K.ndim == 3) and options.timing != "REAL":
        shown, pictures = timing.first_shown(footage)
        first = footage.frames[0]
        number = timing.decoded_table(pictures, footage.fps, motion.frame_times, first) - first
        solved = (number >= 0) & (number < motion.frames)
        remember_pictures(camera, times, shown[solved], pictures[solved])
    notes = []
    if footage is not None and options.show_footage:
        sized = footage if footage.size[0] else _sized(footage, motion.image_size)
        try:
            show_footage(scene, camera, sized, frames, sources, take, options.straight)
        except LgdError as error:
            camera.data.background_images.clear()
            notes = [error.text]
        except (RuntimeError, OSError):  # the drive may have gone while it was solved
            camera.data.background_images.clear()
            notes = lost
    take.finish(times[0], times[-1])
    if scene.camera is None:
        scene.camera = camera
    return camera, notes


def _sized(footage: Footage, size):
    from dataclasses import replace

    return replace(footage, size=tuple(size))


def _remember(rig, motion, footage, options, camera, first, made: bool) -> None:
    """Fill Object.lgd, where the add-on is registered, with what a re-solve needs to know; of a camera that was made here, too."""
    for item in (rig, camera):
        note = getattr(item, "lgd", None)
        if note is None or (item is camera and not made):
            continue
        note.role = "RIG" if item is rig else "CAMERA"
        note.footage = footage.path if footage else ""
        note.block = footage.block if footage else ""
        if item.session_uid != options.rig:  # one that was there keeps its number: of who is boxed it is 0
            note.person = options.number
        note.first, note.count = first, motion.frames
        note.camera = known_as(camera)
        note.width, note.height = motion.image_size
        note.focal_told = options.focal_told
