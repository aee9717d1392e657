# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import and Export: motions in and out."""

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from .. import preferences
from .._bridge import LgdError, counting
from ..properties import CORRECTIVES
from ..scene import footage as places
from ..scene import result as scene_result
from ..scene.export import AMASS, MOTION, SMPL, write_motion
from ..scene.motion import load_motion
from ..scene.takes import STEPS_PROPERTY
from . import bodies, pump
from .descent import check_steps
from .request import Plan, chosen_footage
from .result import _select as select
from .run import complain, forget_complaint, grey, present_rig


def body_for(identity: str) -> str:
    """The file of a motion's body: a kept one, else the worker is asked. Raises LgdError."""
    found = bodies.find(identity)
    if found is not None:
        return found
    for path in (None, *preferences.body_files().values()):
        plan = Plan(
            "Read body",
            bpy.context.scene.session_uid,
            None,
            scene_result.Options(),
            [("describe_body", {"body": path})],
            build=False,
        )
        try:
            run = pump.finish(pump.start(plan), 120.0)
        except LgdError as error:
            if error.code != "model_file":
                raise
            continue  # one of the files named in the preferences is not to be read; another may be the body's
        if run.body and bodies.load(run.body).id == identity:
            return run.body
    if identity.startswith("lgd-default-"):  # no file of it is anywhere to be named
        text = "The motion was solved for the default body of another version of this add-on, which is not at hand."
        raise LgdError("model_file", text, "Solve the footage again.")
    raise LgdError(
        "model_file",
        f"The motion's body {identity} is not at hand.",
        "Name its file in the preferences.",
        "lgd.open_preferences",
    )


def _named(path: str) -> str:
    """A path that may begin with //, beside the .blend, as a full one. Raises LgdError where a script, or a file browser without a name,
    gives none."""
    if not path or not Path(path).name:
        raise LgdError("bad_input", "No file is named.", "Choose a file, or give its path as filepath.")
    return bpy.path.abspath(path)


class LGD_OT_import_motion(bpy.types.Operator, ImportHelper):
    """Make a rig of a motion that the command line or an earlier solve wrote (motion.npz)"""

    bl_idname = "lgd.import_motion"
    bl_label = "Import Motion"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    timing: EnumProperty(
        name="Keys",
        description="Where the keys lie",
        items=(
            ("SHOWN", "Frame by Frame", "Frame k of the motion on frame 1 + k, or where its footage is shown"),
            ("REAL", "Real Time", "By the motion's own times and the scene's frame rate"),
        ),
    )
    correctives: EnumProperty(
        name="Correctives",
        description="Pose correctives of bodies that have them",
        items=CORRECTIVES,
        default="LIVE",
    )
    with_footage: BoolProperty(
        name="With Footage",
        description="It was fitted to the footage that is chosen in the panel: its keys lie where that is shown, and it stands behind the camera",
    )
    # No path with a browse button of its own: a second file browser does not open from within one.
    steps: StringProperty(
        name="Steps",
        description="What `bridge fit --mode paper --trace` wrote, for Play the Descent: the file's name where it lies beside the motion, else its path",
    )

    @classmethod
    def poll(cls, context):
        """Grey while a job runs."""
        return not grey(cls, context, worker=False)

    def execute(self, context):
        """Read and build; the first time the worker is asked for the body."""
        try:
            footage = chosen_footage(context) if self.with_footage else None
            path = _named(self.filepath)
            steps = str(Path(path).parent / bpy.path.abspath(self.steps)) if self.steps else ""
            built = import_motion(context.scene, path, self.timing, self.correctives, steps, footage)
        except LgdError as error:
            return complain(self, error)
        forget_complaint()
        if steps:
            built.rig.lgd.trace = built.action[STEPS_PROPERTY] = steps
        select(context, [built])
        for note in built.notes:
            self.report({"WARNING"}, note)
        return {"FINISHED"}


def import_motion(scene, path: str, timing: str = "SHOWN", correctives: str = "LIVE", steps: str = "", footage: places.Footage | None = None):
    """Build the take of a motion file, whose steps lie in the file `steps`, in front of the footage it was fitted to; returns what was
    built. Raises LgdError."""
    motion = load_motion(path)
    if steps:
        check_steps(steps, motion.frames)  # before anything is built: a wrong file would be noticed at Play the Descent alone, or not at all
    told = [] if footage is None else [*footage.notes, places.on_its_side(footage, motion.image_size), places.of_another_form(footage, motion.image_size)]
    alone = places.Footage("FILE", Path(path).stem, path, 0.0, motion.image_size, 1, np.arange(motion.frames))
    shown = alone if footage is None else _fitted_to(motion, footage)
    body = bodies.load(body_for(motion.body_model))
    options = scene_result.Options(timing=timing, correctives=correctives, show_footage=footage is not None)
    built = scene_result.build(scene, motion, body, shown, options)
    built.notes += filter(None, told)
    if footage is None:
        built.rig.lgd.footage = built.camera.lgd.footage = ""  # it has none, and each knows the other by having the same
    return built


def _fitted_to(motion, whole: places.Footage) -> places.Footage:
    """The part of a footage that a motion was fitted to, told by its times, which count from the file's beginning. Raises LgdError."""
    whole = replace(whole, fps=whole.fps or motion.framerate)  # pictures of a folder are as far apart as those that were solved
    first, last = counting.counts(motion.frame_times, whole.fps)[[0, -1]]
    a, b = whole.frames
    part = whole.start + np.flatnonzero((whole.table >= first) & (whole.table <= last))
    if first < a or last > b + 1 or not len(part):  # Blender may count a frame less than there are
        raise LgdError(
            "bad_input", f"Of {whole.name} the frames {a} to {b - 1} are shown, and the motion was fitted to {first} to {last}, counted from 0.",
            "Choose the footage that it was fitted to, all of it, in the panel.",
        )  # fmt: skip
    return whole.cut(part[0], part[-1])


class LGD_OT_export_motion(bpy.types.Operator, ExportHelper):
    """Write the rig's animation, edits included, as .npz"""

    bl_idname = "lgd.export_motion"
    bl_label = "Export Motion"

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    form: EnumProperty(
        name="Form",
        description="Who is to read the file",
        items=(
            (MOTION, "Motion", "This add-on's motion.npz: camera frame, with the camera"),
            (AMASS, "AMASS", "SMPL+H as in AMASS, 156 columns, Z up: other add-ons read it"),
            (SMPL, "SMPL", "24 joints, 72 columns, Z up"),
        ),
    )

    @classmethod
    def poll(cls, context):
        """Grey without a rig of ours."""
        if present_rig(context) is None:
            cls.poll_message_set("Select a rig that was solved")
            return False
        return True

    def execute(self, context):
        """Write the file."""
        try:
            frames = write_motion(context.scene, present_rig(context), _named(self.filepath), self.form)
        except LgdError as error:
            return complain(self, error)
        forget_complaint()
        self.report({"INFO"}, f"{counting.frames_text(frames)} written to {Path(self.filepath).name}")
        return {"FINISHED"}


def menu_import(self, context):
    """File > Import."""
    self.layout.operator(LGD_OT_import_motion.bl_idname, text="LGD Motion (.npz)")


def menu_export(self, context):
    """File > Export."""
    self.layout.operator(LGD_OT_export_motion.bl_idname, text="LGD Motion (.npz)")


def attach() -> None:
    """Add the entries to the File menu."""
    bpy.types.TOPBAR_MT_file_import.append(menu_import)
    bpy.types.TOPBAR_MT_file_export.append(menu_export)


def detach() -> None:
    """Take them away again."""
    bpy.types.TOPBAR_MT_file_import.remove(menu_import)
    bpy.types.TOPBAR_MT_file_export.remove(menu_export)


CLASSES = (LGD_OT_import_motion, LGD_OT_export_motion)
