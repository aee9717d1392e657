# SPDX-License-Identifier: GPL-3.0-or-later
"""The descent, seen: the paper mode's steps on one frame, from the first guess to the last."""

import time
from pathlib import Path

import bpy
import numpy as np
from bpy.props import BoolProperty, FloatProperty, StringProperty
from mathutils import Quaternion

from .._bridge import LgdError, arrays, counting
from ..properties import RELATIVE
from ..scene import result as scene_result
from ..scene.armature import bone_names, known_bones, listed, rest_pelvis
from ..scene.axes import camera_to_rig
from ..scene.export import key_frames
from ..scene.keyframes import Take, write_pose
from ..scene.takes import CAMERA_PROPERTY, STEPS_PROPERTY, playing, stored_motion
from . import status_bar
from .run import complain, forget_complaint, present_rig


def steps_file(rig) -> str:
    """The file of the steps by which the take that plays was solved, which need not be the rig's last; empty where there is none."""
    action = playing(rig)[0]
    return rig.lgd.trace if action is None else str(action.get(STEPS_PROPERTY, rig.lgd.trace))  # of an older version: the last one's


def steps_at(rig, frame: float, path: str = ""):
    """The steps at a Blender frame: quats (S, 24, 4), location (S, 3), reprojection error (S,) px. Raises LgdError."""
    file = bpy.path.abspath(path) or steps_file(rig)
    motion, names = stored_motion(rig), known_bones(rig)
    if not file or not Path(file).exists() or motion is None:
        raise LgdError(
            "bad_input",
            "The steps of this take were not kept.",
            "Solve in the mode Paper with Keep the Steps, then play again.",
        )
    turned = [name for name in names if rig.pose.bones[name].rotation_mode != "QUATERNION"]
    if turned:
        text = f"The steps are quaternions, by which {listed(turned)} of {rig.name} do not turn: they got another rotation mode since."
        raise LgdError("bad_input", text, "Set it to Quaternion, then play again.")
    try:
        data = arrays.load_arrays(file)
        poses, trans, errors = (data[name].astype(float) for name in ("poses", "trans", "reprojection_px"))
    except (ValueError, KeyError):
        raise LgdError("bad_input", f"{Path(file).name} holds no steps of the descent.", "Solve in the mode Paper again.") from None
    keys = motion.extra.get("key_frames", key_frames(rig))
    row = int(np.abs(keys - frame).argmin())
    index = int(np.clip(motion.extra.get("key_order", np.arange(len(keys)))[row], 0, poses.shape[1] - 1))
    T = (
        motion.T_world_cam
        if motion.T_world_cam.ndim == 2
        else motion.T_world_cam[min(index, len(motion.T_world_cam) - 1)]
    )
    T = scene_result.seen_from(np.asarray(motion.extra.get("carriage", np.eye(4)), float), True, T)  # as the take was keyed
    quats, location = camera_to_rig(poses[:, index], trans[:, index], rest_pelvis(rig, names), T)
    return quats, location, errors[:, index]


def check_steps(file: str, frames: int) -> None:
    """Raises LgdError where a file does not hold the steps of a motion of so many frames."""
    name = Path(file).name
    if not Path(file).is_file():
        raise LgdError("bad_input", f"The file of steps {file} does not exist.", "Check the path, or leave Steps empty.")
    try:
        poses = arrays.load_arrays(file)["poses"]
    except (ValueError, KeyError):
        poses = np.zeros(0)
    if poses.ndim != 3:
        raise LgdError("bad_input", f"{name} holds no steps of the descent.", "Name what `bridge fit --mode paper --trace` wrote, or leave Steps empty.")
    if poses.shape[1] != frames:
        text = f"{name} holds the steps of {counting.frames_text(poses.shape[1])}, and the motion has {frames}."
        raise LgdError("bad_input", text, "Name the steps that were written with this motion, or leave Steps empty.")


def show_step(rig, quats, location, place: float) -> None:
    """Pose the rig between two steps, without keys; place in [0, S - 1]."""
    low = int(np.clip(np.floor(place), 0, len(quats) - 1))
    high = min(low + 1, len(quats) - 1)
    part = float(np.clip(place - low, 0.0, 1.0))
    for joint, name in enumerate(bone_names(rig.data)):
        bone = rig.pose.bones[name]
        bone.rotation_quaternion = Quaternion(quats[low, joint]).slerp(Quaternion(quats[high, joint]), part)
        if joint == 0:
            bone.location = location[low] * (1 - part) + location[high] * part


class _Play:
    """A descent that is played, a picture at a time. Plain Python's: Blender removes an operator unheard where the add-on is disabled meanwhile, and the
    rig would stay as it is."""

    def __init__(self, context, rig, steps):
        self.steps, self.frame, self.begun = steps, context.scene.frame_current, time.perf_counter()
        self._rig = rig.name
        # Of bones whose keys the user took out; the others are put back by theirs.
        self._before = {bone.name: (tuple(bone.rotation_quaternion), tuple(bone.location)) for bone in rig.pose.bones}
        self._timer = context.window_manager.event_timer_add(1 / 30, window=context.window)

    @property
    def rig(self):
        """The rig; None where it is gone by now."""
        return bpy.data.objects.get(self._rig)

    def end(self, clear=status_bar.clear) -> None:
        """Play no more; the rig is as it was. clear: how the status bar's text is taken away."""
        global _present
        if _present is not self:
            return
        _present, rig, scene = None, self.rig, bpy.context.scene
        bpy.context.window_manager.event_timer_remove(self._timer)
        clear()
        for bone in rig.pose.bones if rig is not None and rig.type == "ARMATURE" else ():
            if bone.name in self._before:
                bone.rotation_quaternion, bone.location = self._before[bone.name]
        scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)


_present: _Play | None = None


def play(context, rig, steps) -> _Play:
    """Play a rig's steps, and no others any more."""
    global _present
    detach()
    _present = _Play(context, rig, steps)
    return _present


def detach() -> None:
    """End what is played."""
    if _present is not None:
        _present.end()


class LGD_OT_play_descent(bpy.types.Operator):
    """Play the paper's steps on this frame, from the first guess to the last. Needs a take solved in the mode Paper"""

    bl_idname = "lgd.play_descent"
    bl_label = "Play the Descent"
    bl_options = {"REGISTER", "UNDO"}

    seconds: FloatProperty(
        name="Seconds a Step", description="How long each step is shown", default=0.7, min=0.05, max=10.0
    )
    bake: BoolProperty(
        name="As Keys",
        description="Key the steps in an action of their own, a step every 12 frames, instead",
        default=False,
    )
    trace: StringProperty(
        name="Steps", description="The file of the steps; empty: the take's own", subtype="FILE_PATH", options=RELATIVE
    )

    @classmethod
    def poll(cls, context):
        """Grey without a rig whose steps were kept."""
        rig = present_rig(context)
        if rig is None:
            cls.poll_message_set("Select a rig that was solved")
            return False
        if rig.library is not None:
            cls.poll_message_set(f"{rig.name} belongs to another file: make it editable first")
            return False
        if not steps_file(rig):
            cls.poll_message_set("Solve in the mode Paper with Keep the Steps first")
            return False
        return True

    def execute(self, context):
        """Key the steps, or pose the last one where nothing can be played."""
        rig = present_rig(context)
        try:
            quats, location, errors = steps_at(rig, context.scene.frame_current_final, self.trace)
        except LgdError as error:
            return complain(self, error)
        if self.bake:
            bake(rig, quats, location, context.scene.frame_current)
        else:
            show_step(rig, quats, location, len(quats) - 1)
        forget_complaint()
        self.report({"INFO"}, "Reprojection error: " + " > ".join(f"{e:.1f}" for e in errors) + " px")
        return {"FINISHED"}

    def invoke(self, context, event):
        """Play; Esc ends, everything else goes to Blender."""
        if self.bake or bpy.app.background:
            return self.execute(context)
        rig = present_rig(context)
        try:
            steps = steps_at(rig, context.scene.frame_current_final, self.trace)
        except LgdError as error:
            return complain(self, error)
        self._play = play(context, rig, steps)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        """One picture of the play."""
        shown = self._play
        if shown is not _present:  # the button was pressed again
            return {"CANCELLED", "PASS_THROUGH"}
        if event.type == "ESC":
            return self._end()
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        rig, (quats, location, errors) = shown.rig, shown.steps
        place = (time.perf_counter() - shown.begun) / self.seconds
        if rig is None or place > len(quats) + 1 or context.scene.frame_current != shown.frame:
            return self._end()
        show_step(rig, quats, location, min(place, len(quats) - 1))
        step = min(int(place), len(quats) - 1)
        context.workspace.status_text_set(
            f"Step {step} of {len(quats) - 1}: {errors[step]:.1f} px.  Esc: end"
        )
        return {"PASS_THROUGH"}

    def _end(self):
        self._play.end()
        return {"FINISHED"}

    def cancel(self, context):
        """Blender ends the operator: another file, or the window is closed."""
        self._play.end(status_bar.clear_soon)


def bake(rig, quats, location, frame: int, apart: int = 12):
    """Key the steps in a new action of the rig, `apart` frames from one another; returns the action."""
    old = playing(rig)[0] or rig.animation_data.action
    data, steps, camera = old.get(scene_result.STORED_PROPERTY), steps_file(rig), old.get(CAMERA_PROPERTY, rig.lgd.camera)
    take = Take(f"{old.name} descent {frame}")
    times = frame + apart * np.arange(len(quats), dtype=float)
    write_pose(take, rig, bone_names(rig.data), times, quats, location)
    take.finish(times[0], times[-1])
    if data is not None:
        take.actions[0][scene_result.STORED_PROPERTY] = bytes(data)
        take.actions[0][STEPS_PROPERTY] = steps
        take.actions[0][CAMERA_PROPERTY] = camera
    return take.actions[0]


CLASSES = (LGD_OT_play_descent,)
