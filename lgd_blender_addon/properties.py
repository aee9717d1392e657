# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on keeps: settings in Scene.lgd, live status in WindowManager.lgd, provenance in Object.lgd.

Panels read only these. Nothing here holds a reference to a data-block: objects are remembered by name.
"""

import os

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

# Paths that may begin with //, beside the .blend; before 4.5 they may too, without a word for it.
RELATIVE = {"ANIMATABLE", "PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else {"ANIMATABLE"}
COLOURS = (
    (0.25, 0.62, 1.0), (1.0, 0.55, 0.2), (0.35, 0.85, 0.4), (0.95, 0.35, 0.5),
    (0.7, 0.5, 1.0), (0.95, 0.85, 0.3), (0.3, 0.85, 0.85), (0.8, 0.6, 0.45),
)  # fmt: skip


CORRECTIVES = (
    ("OFF", "Off", "None: the fastest playback"),
    ("LIVE", "Live", "Follow the bones, also while you edit the pose"),
    ("BAKED", "Baked", "Keys on every frame: for export"),
)


def _other_keypoints(settings, context) -> None:
    context.window_manager.lgd.people.clear()  # they are those of the keypoints before
    settings.keypoints_source, settings.keypoints_first = "", 0


def _other_path(settings, context) -> None:
    settings.is_folder = bool(settings.path) and os.path.isdir(bpy.path.abspath(settings.path))


def _other_start(settings, context) -> None:
    """The boxes go along with the file. The list and the skeletons are no scene's, nor undone: they are shown by where it now begins."""
    moved = settings.start - settings.start_before
    settings.start_before = settings.start
    if settings.place == "FILE":
        for box in settings.boxes:
            box.first, box.last = box.first + moved, box.last + moved


class LGD_PG_box(bpy.types.PropertyGroup):
    """A box drawn round the wanted person, for a range of the footage's frames; px of the upright picture."""

    x: FloatProperty(name="X", description="Left border in pixels of the picture")
    y: FloatProperty(name="Y", description="Upper border in pixels, from the picture's top")
    w: FloatProperty(name="Width", description="Width in pixels")
    h: FloatProperty(name="Height", description="Height in pixels")
    first: IntProperty(
        name="First", description="First frame of the scene for which the box holds", default=1
    )
    last: IntProperty(name="Last", description="Last frame of the scene for which the box holds", default=250)


class LGD_PG_person(bpy.types.PropertyGroup):
    """A person that the detector tracked."""

    use: BoolProperty(name="Solve", description="Solve this person", default=True)
    person: IntProperty()
    first: IntProperty()
    last: IntProperty()
    seen: IntProperty()
    confidence: FloatProperty()
    colour: FloatVectorProperty(name="Colour", subtype="COLOR", size=3, min=0.0, max=1.0)


class LGD_PG_settings(bpy.types.PropertyGroup):
    """The user's choices, saved with the scene."""

    place: EnumProperty(
        name="Footage",
        description="Where the footage is",
        items=(
            ("STRIP", "Sequencer Strip", "The active movie or image strip of the sequencer", "SEQUENCE", 0),
            ("CLIP", "Movie Clip", "A clip of the movie clip editor", "TRACKER", 1),
            (
                "CAMERA",
                "Behind Camera",
                "The movie, images or clip behind the scene's camera",
                "CAMERA_DATA",
                2,
            ),
            ("FILE", "File", "A video file or a folder of images", "FILE_MOVIE", 3),
        ),
        default="FILE",
    )
    path: StringProperty(
        name="File", description="A video file or a folder of images", subtype="FILE_PATH", options=RELATIVE, update=_other_path
    )  # fmt: skip
    is_folder: BoolProperty(description="Whether the file was a folder when it was chosen: panels, which read no files, ask this")
    clip: StringProperty(name="Clip", description="The movie clip to solve")
    image_fps: FloatProperty(
        name="Image Rate",
        description="Frames a second of a folder of images; strips and clips take the scene's rate",
        default=30.0, min=0.1, max=1000.0,
    )  # fmt: skip
    start: IntProperty(name="Start Frame", description="The scene's frame on which the file's first picture lies", default=1, update=_other_start)
    start_before: IntProperty(description="Start Frame before its last change", default=1)
    range: EnumProperty(
        name="Range",
        description="Which part of the footage is solved",
        items=(
            ("WHOLE", "Whole", "All that is shown of the footage"),
            ("SCENE", "Scene", "The scene's frame range, or its preview range where that is on"),
            ("CUSTOM", "Custom", "From one frame of the scene to another"),
        ),
    )
    first: IntProperty(name="First", description="First frame of the scene to solve", default=1)
    last: IntProperty(name="Last", description="Last frame of the scene to solve", default=250)
    timing: EnumProperty(
        name="Keys",
        description="Where the keys lie",
        items=(
            ("SHOWN", "As Shown", "On the frames on which Blender shows the footage"),
            (
                "REAL",
                "Real Time",
                "By the footage's own times and the scene's frame rate; subframes are allowed",
            ),
        ),
    )
    boxes: CollectionProperty(type=LGD_PG_box, description="Boxes drawn round the person to solve")
    fast_detection: BoolProperty(
        name="Fast Detection",
        description="A quick look: the default detector's smaller network sees each picture once. Two to three times as fast, but less sure of where arms and legs are",
        default=False,
    )
    look_for: IntProperty(
        name="People to Find",
        description="So many people are looked for, one after the other, which takes as many times as long, and solved in one world. Boxes show one person",
        default=1,
        min=1,
        max=6,
    )
    keypoints: StringProperty(
        name="Keypoints",
        description="Keypoints to solve from: detected ones, or a file of another detector (.npz, OpenPose, COCO ...)",
        subtype="FILE_PATH",
        options=RELATIVE,
        update=_other_keypoints,
    )
    keypoints_source: StringProperty(description="The footage the keypoints were detected in")
    keypoints_first: IntProperty(description="The footage's frame of the first keypoints")
    mode: EnumProperty(
        name="Mode",
        description="Which learned descent solves the motion",
        items=(
            ("AUTO", "Automatic", "The best that is installed"),
            ("VIDEO", "Video", "Whole takes: smooth, with ground contact and one shape"),
            ("PAPER", "Paper", "Frame by frame, as the paper describes it; can show every step"),
        ),
    )
    focal: FloatProperty(
        name="Focal (px)",
        description="The footage's focal length in pixels, where you know it; 0: it is estimated",
        default=0.0, min=0.0, soft_max=5000.0, precision=0,
    )  # fmt: skip
    camera: EnumProperty(
        name="Camera",
        description="Whose world the result lies in",
        items=(
            ("AUTO", "Automatic", "The solved camera of this footage where there is one, the scene's camera where the footage lies behind it, else a new one"),
            ("NEW", "New", "Estimate the camera from the footage: level, above a ground at zero; it turns or travels where the footage's is seen to"),
            ("STILL", "On a Tripod", "As New, of a camera that stands still, whatever seems to move in the background"),
            ("TRAVELS", "Travelling", "As New, of a camera that is carried along though it is not seen to be: its path is looked for in any case, which takes several times as long as the detection"),
            ("SCENE", "Scene Camera", "The scene's camera, solved or placed by you: its place and lens are taken as true"),
        ),
    )  # fmt: skip
    gender: EnumProperty(
        name="Body",
        description="The body model",
        items=(
            ("DEFAULT", "Default", "The body that comes with the add-on"),
            ("NEUTRAL", "SMPL Neutral", "Your official file, named in the preferences"),
            ("FEMALE", "SMPL Female", "Your official file, named in the preferences"),
            ("MALE", "SMPL Male", "Your official file, named in the preferences"),
        ),
    )
    correctives: EnumProperty(
        name="Correctives",
        description="Pose correctives of bodies that have them",
        items=CORRECTIVES,
        default="LIVE",
    )
    bone_names: EnumProperty(
        name="Bone Names",
        description="How the bones of a new rig are called",
        items=(
            ("SMPL", "left_hip", "As in SMPL, AMASS and the SMPL-X add-on"),
            ("MPI", "L_Hip", "As in the plain SMPL add-on and the SMPL FBX files"),
        ),
    )
    plant_feet: BoolProperty(
        name="Plant Feet",
        description="A clean-up after the fit: feet that rest hold still on the ground, by bending the legs and shifting the root a little, and no foot is below it",
        default=False,
    )
    trace: BoolProperty(
        name="Keep the Steps",
        description="Keep every step of the paper mode, for Play the Descent",
        default=True,
    )
    bad_pixels: FloatProperty(
        name="Bad (px)",
        description="Reprojection error in pixels from which a frame counts as bad; 0: three times the take's median, at least 2",
        default=0.0, min=0.0, soft_max=100.0, precision=1,
    )  # fmt: skip
    show_overlay: BoolProperty(
        name="Show Overlay", description="Draw boxes and skeletons over the footage", default=True
    )


class LGD_PG_status(bpy.types.PropertyGroup):
    """What is going on, for the panels. Not saved."""

    running: BoolProperty()
    title: StringProperty()
    stage: StringProperty()
    done: IntProperty()
    total: IntProperty()
    remaining: FloatProperty(default=-1.0)
    code: StringProperty()
    error: StringProperty()
    hint: StringProperty()
    action: StringProperty()
    warnings: StringProperty()
    summary: StringProperty()
    rig: StringProperty(description="The rig that the summary is about; it may be undone")
    worker: BoolProperty(description="Whether a worker is alive")
    people: CollectionProperty(type=LGD_PG_person)
    people_of: StringProperty(description="The keypoints, footage and frames that they were listed for; empty: one alone is in them")
    people_start: IntProperty(description="Start Frame when they were listed")
    people_move: BoolProperty(description="Whether they are of a file, which begins on Start Frame, or of a place with its own time")
    active_person: IntProperty()


class LGD_PG_source(bpy.types.PropertyGroup):
    """Where an object of ours comes from."""

    role: StringProperty(description="RIG or CAMERA; empty: no object of this add-on")
    footage: StringProperty()
    block: StringProperty()
    person: IntProperty()
    first: IntProperty(description="The footage's frame of the first solved one")
    count: IntProperty()
    camera: StringProperty()
    width: IntProperty()
    height: IntProperty()
    trace: StringProperty(description="The file of the paper mode's steps")
    focal_told: BoolProperty(description="A camera's focal length was told, not estimated")


CLASSES = (LGD_PG_box, LGD_PG_person, LGD_PG_settings, LGD_PG_status, LGD_PG_source)
POINTERS = (("Scene", LGD_PG_settings), ("WindowManager", LGD_PG_status), ("Object", LGD_PG_source))


def attach() -> None:
    """Give Scene, WindowManager and Object their `lgd`."""
    for name, group in POINTERS:
        getattr(bpy.types, name).lgd = PointerProperty(type=group)


def detach() -> None:
    """Take `lgd` away again; what is saved in a file stays in it."""
    for name, _ in reversed(POINTERS):
        if hasattr(getattr(bpy.types, name), "lgd"):
            del getattr(bpy.types, name).lgd
