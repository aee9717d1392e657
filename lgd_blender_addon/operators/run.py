# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, cancel, release: the operators that talk to the worker."""

import bpy
from bpy.props import BoolProperty

from .. import preferences, session
from .._bridge import LgdError
from . import pump
from .request import keypoints_alone, keypoints_of_footage, plan_detect, plan_fit


def grey(cls, context, worker: bool = True) -> bool:
    """Whether an operator is grey, having said why: a job runs, the scene is linked, or the worker is not set up."""
    if pump.current() is not None:
        cls.poll_message_set("A job is running: wait for it, or cancel it")
        return True
    if context.scene.library is not None:  # into which nothing can be put
        cls.poll_message_set("The scene belongs to another file: work in one of this file's")
        return True
    problem = preferences.missing(context) if worker else ""
    if problem:
        cls.poll_message_set(problem)
        return True
    return False


def no_footage(context) -> str:
    """What is missing of the footage, in a sentence, without reading any file; empty where nothing is."""
    settings, scene = context.scene.lgd, context.scene
    if settings.place == "FILE":
        return "" if settings.path else "Choose a video or a folder of images first"
    if settings.place == "STRIP":
        editor = (getattr(context, "sequencer_scene", None) or scene).sequence_editor
        if editor is None or editor.active_strip is None:
            return "Select the footage's strip in the sequencer first"
        return ""
    if settings.place == "CLIP":
        clip = (
            bpy.data.movieclips.get(settings.clip)
            or scene.active_clip
            or getattr(context, "edit_movieclip", None)
        )
        return "" if clip else "Choose a movie clip first"
    camera = scene.camera
    if camera is None or camera.type != "CAMERA" or not len(camera.data.background_images):
        return "The scene's camera has no footage behind it"
    return ""


def complain(operator, error: LgdError) -> set:
    """Report an error, and keep it for the panel with the button that helps."""
    show = pump.status()
    if show is not None:
        show.code, show.error, show.hint, show.action = error.code, error.text, error.hint, error.action
    operator.report({"ERROR"}, error.sentence())
    return {"CANCELLED"}


def forget_complaint() -> None:
    """What an operator complained of before is over: it, or another one, has done its work."""
    show = pump.status()
    if show is not None:
        show.code = show.error = show.hint = show.action = ""


def begin(operator, make_plan) -> set:
    """Make a plan and start it; in background mode wait for its end."""
    try:
        run = pump.start(make_plan())
        if bpy.app.background:
            pump.finish(run)
    except LgdError as error:
        return complain(operator, error)
    return {"FINISHED"}


class _Starts:
    @classmethod
    def poll(cls, context):
        """Grey while a job runs, without a worker or without footage."""
        if grey(cls, context):
            return False
        problem = no_footage(context)
        if problem:
            cls.poll_message_set(problem)
        return not problem


class LGD_OT_fit(_Starts, bpy.types.Operator):
    """Find the person in the footage and make a rig that moves like them. Blender stays free meanwhile"""

    bl_idname = "lgd.fit"
    bl_label = "Solve Footage"
    bl_options = {"REGISTER"}

    new_rig: BoolProperty(
        name="New Rig",
        description="Make a new rig with a shape of its own, also where one exists",
        default=False,
    )

    def execute(self, context):
        """Start; the pump does the rest."""
        return begin(self, lambda: plan_fit(context, from_keypoints=False, new_rig=self.new_rig))


class LGD_OT_detect(_Starts, bpy.types.Operator):
    """Find the people in the footage and draw their skeletons over it, without solving yet"""

    bl_idname = "lgd.detect"
    bl_label = "Detect"
    bl_options = {"REGISTER"}

    def execute(self, context):
        """Start; the pump does the rest."""
        return begin(self, lambda: plan_detect(context))


class LGD_OT_fit_keypoints(_Starts, bpy.types.Operator):
    """Solve the people ticked in the list from the keypoints that are there"""

    bl_idname = "lgd.fit_keypoints"
    bl_label = "Solve Keypoints"
    bl_options = {"REGISTER"}

    new_rig: BoolProperty(
        name="New Rig",
        description="Make a new rig with a shape of its own, also where one exists",
        default=False,
    )

    @classmethod
    def poll(cls, context):
        """Grey without keypoints, too."""
        settings = context.scene.lgd
        if not settings.keypoints:
            cls.poll_message_set("Detect first, or choose a file of keypoints")
            return False
        if keypoints_alone(settings):
            return not grey(cls, context)
        return super().poll(context)

    def execute(self, context):
        """Start; the pump does the rest."""
        return begin(self, lambda: plan_fit(context, from_keypoints=True, new_rig=self.new_rig))


class LGD_OT_new_shape(_Starts, bpy.types.Operator):
    """Solve again onto a new rig, with the body's shape estimated anew; the present rig stays as it is"""

    bl_idname = "lgd.new_shape"
    bl_label = "New Shape"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        """Grey without a rig to solve anew, too."""
        if present_rig(context) is None:
            cls.poll_message_set("Select a rig that was solved")
            return False
        if keypoints_alone(context.scene.lgd):
            return not grey(cls, context)
        return super().poll(context)

    def execute(self, context):
        """Start; the pump does the rest."""
        return begin(self, lambda: plan_fit(context, from_keypoints=keypoints_of_footage(context), new_rig=True))


class LGD_OT_cancel(bpy.types.Operator):
    """End the job now; the file stays as it was"""

    bl_idname = "lgd.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context):
        """Only while a job runs."""
        if pump.current() is None:
            cls.poll_message_set("No job is running")
            return False
        return True

    def execute(self, context):
        """End it."""
        pump.cancel()
        self.report({"INFO"}, "Cancelled")
        return {"FINISHED"}


class LGD_OT_release_worker(bpy.types.Operator):
    """End the worker, which frees its memory and the graphics card's. The next job starts it again"""

    bl_idname = "lgd.release_worker"
    bl_label = "Release Worker"

    @classmethod
    def poll(cls, context):
        """Only while a worker is alive and idle."""
        if pump.current() is not None:
            cls.poll_message_set("A job is running: cancel it first")
            return False
        if session.get().worker_pid is None:
            cls.poll_message_set("No worker is running")
            return False
        return True

    def execute(self, context):
        """End it."""
        session.get().release()
        show = pump.status()
        if show is not None:
            show.worker = False
        return {"FINISHED"}


class LGD_OT_restart_worker(bpy.types.Operator):
    """End the worker; the next job starts a fresh one"""

    bl_idname = "lgd.restart_worker"
    bl_label = "Restart Worker"

    def execute(self, context):
        """End it, with its job, and forget the last error."""
        pump.cancel()
        session.get().release()
        forget_complaint()
        show = pump.status()
        if show is not None:
            show.worker = False
        return {"FINISHED"}


def present_rig(context):
    """The rig the result panel is about: the active one of ours, or the one of the settings' footage."""
    active = context.object
    if active is not None and active.type == "MESH" and active.parent is not None:
        active = active.parent
    if active is not None and active.type == "ARMATURE" and active.lgd.role == "RIG":
        return active
    rigs = [o for o in context.scene.objects if o.type == "ARMATURE" and o.lgd.role == "RIG"]
    return rigs[0] if len(rigs) == 1 else None


CLASSES = (
    LGD_OT_fit, LGD_OT_detect, LGD_OT_fit_keypoints, LGD_OT_new_shape, LGD_OT_cancel, LGD_OT_release_worker,
    LGD_OT_restart_worker,
)  # fmt: skip
