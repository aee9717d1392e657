# SPDX-License-Identifier: GPL-3.0-or-later
"""Build what was solved, and what one does with it afterwards."""

import math
import traceback
from contextlib import contextmanager

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty

from .._bridge import LgdError
from ..properties import CORRECTIVES
from ..scene import correctives, takes, trust
from ..scene import result as scene_result
from ..scene.armature import bone_names, leave_mode, rest_pelvis
from ..scene.camera import fit_background
from ..scene.footage import on_its_side
from ..scene.keyframes import curves
from ..scene.motion import load_motion
from ..scene.transaction import AllOrNothing
from . import bodies, pump
from .detected import scene_of
from .run import complain, forget_complaint, present_rig


class LGD_OT_apply_result(bpy.types.Operator):
    """Build the rig, its keys and the camera of what was solved, as one undo step"""

    bl_idname = "lgd.apply_result"
    bl_label = "Build Result"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    @classmethod
    def poll(cls, context):
        """Only the pump calls it, with a result at hand."""
        return pump.pending is not None

    def execute(self, context):
        """Build every person's take; nothing stays if one fails."""
        run = pump.pending
        scene = scene_of(run.plan)
        if scene is None:
            scene = context.scene
            run.tell(f"The scene in which this was started is gone: the result was put into {scene.name}.")
        try:
            apply(scene, run)
            _select(context, run.built)
        except LgdError as error:
            run.error = error
        except Exception as error:  # noqa: BLE001 (a defect of ours must reach the panel, not only the console)
            traceback.print_exc()
            run.error = LgdError(
                "internal",
                f"Building the result failed ({type(error).__name__}: {error}).",
                "See the console.",
            )
        return complain(self, run.error) if run.error else {"FINISHED"}


def _select(context, built) -> None:
    """Select the new rigs, unless the user is editing or looks at another scene."""
    rigs = [b.rig for b in built if b.rig.name in context.view_layer.objects]
    if context.mode == "OBJECT" and rigs:
        _select_alone(context, rigs)


def _select_alone(context, rigs) -> None:
    for item in context.view_layer.objects:
        if item.select_get():
            item.select_set(False)
    for rig in rigs:
        rig.select_set(True)
    context.view_layer.objects.active = rigs[0]


@contextmanager
def _in_scene(scene):
    """Work in the scene the job was started in, also where the user looks at another one by now."""
    window = bpy.context.window
    if window is None or window.scene == scene:
        yield
        return
    before = window.scene
    window.scene = scene
    try:
        yield
    finally:
        window.scene = before


def apply(scene, run) -> list:
    """Build all takes of a run that is over into a scene. Raises LgdError; then the file is as it was."""
    with _in_scene(scene):
        return _apply(scene, run)


def _apply(scene, run) -> list:
    body = bodies.load(run.body)
    camera = run.plan.options.camera
    if run.plan.camera:  # by now it may have another name, or be in no scene any more
        camera = next((o.name for o in bpy.data.objects if o.session_uid == run.plan.camera and o.users_scene), "")
    onto = [o for o in bpy.data.objects if o.session_uid in run.plan.rigs.values() and o.type == "ARMATURE"]
    with AllOrNothing([(rig, scene_result.skin_of(rig)) for rig in onto]):
        found = [(load_motion(file), trace, options) for file, trace, options in pump.results(run)]
        for left, (motion, trace, options) in zip(range(len(found) - 1, -1, -1), found, strict=True):
            options.camera = camera
            # Pictures behind a camera that was there before are moved with the last person, after whom nothing fails.
            options.show_footage = not left or options.camera not in bpy.data.objects
            told = _somebody_else(next((rig for rig in onto if rig.session_uid == options.rig), None), motion, body, run.plan.footage)
            built = scene_result.build(scene, motion, body, run.plan.footage, options)
            built.rig.lgd.trace = built.action[takes.STEPS_PROPERTY] = trace
            camera = built.camera.name if built.camera else camera
            run.built.append(built)
            for note in (*built.notes, told, on_its_side(run.plan.footage, motion.image_size)):
                run.tell(note)
    show = pump.status()
    if show is not None and run.built:
        seconds = run.fitted.get("seconds", {})
        figures = run.fitted.get("figures") or [{}]
        error = figures[0].get("reprojection_px")
        show.rig = run.built[0].rig.name
        show.summary = (
            f"{run.built[0].rig.name}: frames {run.built[0].first:g} to {run.built[0].last:g}, "
            f"{sum(b.keys for b in run.built)} keys"
            + (f", {error:.1f} px" if error is not None else "")
            + (f", {sum(seconds.values()):.1f} s" if seconds else "")
        )
    return run.built


def _somebody_else(rig, motion, body, footage) -> str:
    """What is to be told where a person was seen elsewhere than the one whom their rig was solved of before: of another range the detector may have
    taken another one, and people are numbered otherwise."""
    names = None if rig is None else bone_names(rig.data)
    old = None if names is None else takes.readable_motion(rig)
    if old is None or footage is None:
        return ""
    if not takes.elsewhere(old, rest_pelvis(rig, names), motion, body.joints(motion.betas)[0], footage):
        return ""
    return (
        f"{rig.name} was somewhere else in these frames before. If this is another person, undo it, and press New Shape, or draw a box round the one "
        "who was meant."
    )


NO_TAKE = "{} plays no take that was solved: nothing tells how sure it is"  # one that was baked, for one


class _OnRig:
    @classmethod
    def poll(cls, context):
        """Grey without a rig of ours."""
        if present_rig(context) is None:
            cls.poll_message_set("Select a rig that was solved")
            return False
        return True


class LGD_OT_next_bad_frame(_OnRig, bpy.types.Operator):
    """Go to the next frame at which the solve is doubtful"""

    bl_idname = "lgd.next_bad_frame"
    bl_label = "Next Bad Frame"

    back: BoolProperty(name="Backwards", description="Go to the previous one instead", default=False)

    def execute(self, context):
        """Set the scene's frame."""
        scene, rig = context.scene, present_rig(context)
        if takes.playing(rig)[0] is None:
            self.report({"WARNING"}, NO_TAKE.format(rig.name))
            return {"CANCELLED"}
        found = trust.bad_frames(rig, scene.lgd.bad_pixels)
        now = scene.frame_current + scene.frame_subframe
        ahead = [f for f in found if (f < now - 1e-3 if self.back else f > now + 1e-3)]
        if not found:
            self.report({"INFO"}, "No frame is bad")
            return {"CANCELLED"}
        target = (ahead[-1] if self.back else ahead[0]) if ahead else (found[-1] if self.back else found[0])
        scene.frame_set(math.floor(target), subframe=target - math.floor(target))
        return {"FINISHED"}


class LGD_OT_select_doubtful(_OnRig, bpy.types.Operator):
    """Select the bones whose joints the solve is unsure of at this frame, in Pose Mode"""

    bl_idname = "lgd.select_doubtful"
    bl_label = "Select Doubtful"
    bl_options = {"REGISTER", "UNDO"}

    below: FloatProperty(
        name="Confidence Below", description="Joints with less are doubtful. 0.5 is an expected error of 10 cm, 0.2 of 20 cm",
        default=trust.DOUBTFUL, min=0.0, max=1.0,
    )  # fmt: skip
    extend: BoolProperty(name="Extend", description="Keep what is selected", default=False)

    def execute(self, context):
        """Select the bones that place them, of the rig alone."""
        rig = present_rig(context)
        if not rig.visible_get():
            self.report({"WARNING"}, f"{rig.name} is hidden. Show it, then select again")
            return {"CANCELLED"}
        if bone_names(rig.data) is None:
            self.report({"WARNING"}, f"Bones of {rig.name} were renamed: they cannot be told apart")
            return {"CANCELLED"}
        if rig.library is not None or (rig.override_library is not None and rig.override_library.is_system_override):
            self.report({"WARNING"}, f"{rig.name} belongs to another file: make it editable first")
            return {"CANCELLED"}
        if takes.playing(rig)[0] is None:
            self.report({"WARNING"}, NO_TAKE.format(rig.name))
            return {"CANCELLED"}
        doubtful = [joint for joint, value in trust.at(rig, context.scene.frame_current_final).items() if value < self.below]
        if not doubtful:
            self.report({"INFO"}, f"No joint's confidence is below {self.below:.2f} here")
            return {"CANCELLED"}
        if rig.mode != "POSE":
            leave_mode()
            _select_alone(context, [rig])
            bpy.ops.object.mode_set(mode="POSE")
        names = {trust.leading_bone(rig, joint) for joint in doubtful}
        for bone in rig.pose.bones:
            here = bone if hasattr(bone, "select") else bone.bone  # a pose bone's own since 5.0
            here.select = bone.name in names or (self.extend and here.select)
        return {"FINISHED"}


class LGD_OT_correctives(_OnRig, bpy.types.Operator):
    """Switch the pose correctives of the rig's body"""

    bl_idname = "lgd.correctives"
    bl_label = "Pose Correctives"
    bl_options = {"REGISTER", "UNDO"}

    mode: EnumProperty(name="Mode", description="How the body's surface follows its pose", items=CORRECTIVES)

    def execute(self, context):
        """Switch them."""
        rig = present_rig(context)
        skin = scene_result.skin_of(rig)
        if skin is None or not correctives.has_correctives(skin):
            self.report({"INFO"}, "This body has no pose correctives: it needs none")
            return {"CANCELLED"}
        if skin.data.library is not None:
            self.report({"WARNING"}, f"The body of {rig.name} belongs to another file: switch its correctives there")
            return {"CANCELLED"}
        try:
            correctives.set_mode(skin, rig, self.mode, context.scene)
            unfollowed = correctives.unfollowed(rig) if self.mode == "LIVE" else ""
        except LgdError as error:
            return complain(self, error)
        forget_complaint()
        if unfollowed:
            self.report({"WARNING"}, unfollowed)
        return {"FINISHED"}


class LGD_OT_set_scene_rate_and_range(_OnRig, bpy.types.Operator):
    """Set the scene's frame range, size, camera or rate to those of the footage. Nothing of this happens unasked"""

    bl_idname = "lgd.set_scene_rate_and_range"
    bl_label = "Match Scene to Footage"
    bl_options = {"REGISTER", "UNDO"}

    use_range: BoolProperty(name="Frame Range", description="From the first key to the last", default=True)
    use_size: BoolProperty(name="Render Size", description="The footage's width and height", default=True)
    use_camera: BoolProperty(name="Camera", description="Look through the solved camera", default=True)
    use_rate: BoolProperty(
        name="Frame Rate", description="At which the take is as fast as the footage; keys do not move", default=True
    )

    def execute(self, context):
        """Set what is ticked."""
        rig, scene = present_rig(context), context.scene
        action, strips = takes.playing(rig)
        try:
            motion = takes.stored_motion(rig)
        except LgdError as error:
            return complain(self, error)
        if action is None:  # one of the user's own
            action = rig.animation_data.action if rig.animation_data else None
        render = scene.render
        # Where the keys are by now, not where the action was told to lie when it was made.
        ends = [end for curve in curves(rig, action) for end in curve.range()] if action is not None else []
        if self.use_range and ends:
            if strips:
                first, last = min(s.frame_start for s in strips), max(s.frame_end for s in strips)
            else:
                first, last = takes.shown(rig, [], [min(ends), max(ends)])[0]
            scene.frame_start, scene.frame_end = int(first + 1e-3), int(-(-(last - 1e-3) // 1))
            if first < -1e-3:
                self.report({"WARNING"}, f"The take begins on frame {first:g}, but Blender's range at 0 at the earliest: move the keys and the footage to see all of it")
            if scene.use_preview_range and not scene.frame_preview_start <= scene.frame_start <= scene.frame_end <= scene.frame_preview_end:
                self.report({"WARNING"}, f"The preview range, {scene.frame_preview_start} to {scene.frame_preview_end}, plays in its place: switch it off to see the whole take")
            if not scene.frame_start <= scene.frame_current <= scene.frame_end:
                scene.frame_set(scene.frame_start)
        if self.use_rate and motion is not None:
            render.fps, render.fps_base = nearest_rate(takes.rate_of(motion))
        camera = takes.camera_of(scene, rig)
        if self.use_size and rig.lgd.width:
            render.resolution_x, render.resolution_y = rig.lgd.width, rig.lgd.height
            # A camera of ours takes pixels as square; one that was solved in Blender takes them as its clip tells.
            clip = None if camera is None or camera.lgd.role == "CAMERA" else bpy.data.movieclips.get(rig.lgd.block)
            render.pixel_aspect_x, render.pixel_aspect_y = clip.tracking.camera.pixel_aspect if clip is not None else 1.0, 1.0
            if camera is not None and camera.type == "CAMERA":
                for background in camera.data.background_images:
                    fit_background(scene, background, (rig.lgd.width, rig.lgd.height))
        if self.use_camera and camera is not None:
            scene.camera = camera
            if any(m.camera not in (None, camera) for m in scene.timeline_markers):
                self.report({"WARNING"}, f"Markers on the timeline switch to other cameras: unbind them to look through {camera.name}")
        return {"FINISHED"}


def nearest_rate(fps: float) -> tuple[int, float]:
    """Blender's fps and fps_base for a rate: 29.97 -> (30, 1.001), 25 -> (25, 1), 12.5 -> (12, 0.96)."""
    whole = max(round(fps), 1)
    if abs(fps - whole) < 0.002:
        return whole, 1.0
    if abs(fps - whole / 1.001) < 0.002:
        return whole, 1.001
    return whole, whole / fps


CLASSES = (LGD_OT_apply_result, LGD_OT_next_bad_frame, LGD_OT_select_doubtful, LGD_OT_correctives, LGD_OT_set_scene_rate_and_range)
