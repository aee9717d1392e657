# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing after another, as animators do them: what an earlier edit leaves is there after a later button."""

from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from models import write_motion
from test_result import plain_footage
from test_takes import pushed_down

from lgd_blender_addon.operators import boxes, busy, descent, pump, status_bar
from lgd_blender_addon.operators.request import plan_fit
from lgd_blender_addon.scene import result, trust
from lgd_blender_addon.scene.keyframes import bag_of
from lgd_blender_addon.scene.motion import load_motion


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE" and o.library is None]


@pytest.mark.parametrize("end", ["over", "pressed again", "disabled"])
def test_bones_without_keys_are_after_the_descent_as_before(script, addon, end):
    """The manual has the keys of invented legs deleted, and their pose cleared."""
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    bag, knee = bag_of(rig), rig.pose.bones["left_knee"]
    for curve in [c for c in bag.fcurves if "left_knee" in c.data_path]:
        bag.fcurves.remove(curve)
    knee.rotation_quaternion = (1, 0, 0, 0)
    bpy.context.scene.frame_set(5)
    hip = tuple(rig.pose.bones["left_hip"].rotation_quaternion)
    steps = descent.steps_at(rig, 5)
    played = descent.play(bpy.context, rig, steps)
    descent.show_step(rig, *steps[:2], 2)
    assert tuple(knee.rotation_quaternion) != (1, 0, 0, 0)
    if end == "over":
        played.end()
    elif end == "pressed again":
        descent.play(bpy.context, rig, steps).end()
    else:
        addon.unregister()
        addon.register()
    assert tuple(knee.rotation_quaternion) == (1, 0, 0, 0)
    assert np.allclose(rig.pose.bones["left_hip"].rotation_quaternion, hip)


def test_a_descent_plays_from_the_first_step_to_the_last_and_ends(script, monkeypatch):
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    steps, now, told = descent.steps_at(rig, 1), [50.0], []
    monkeypatch.setattr(descent.time, "perf_counter", lambda: now[0])
    context = SimpleNamespace(scene=bpy.context.scene, workspace=SimpleNamespace(status_text_set=told.append))
    hip, timer, escape = rig.pose.bones["left_hip"], SimpleNamespace(type="TIMER"), SimpleNamespace(type="ESC")

    def turn(event=timer):
        return descent.LGD_OT_play_descent.modal(me, context, event)

    def begun():
        now[0] = 50.0
        played = descent.play(bpy.context, rig, steps)
        return SimpleNamespace(_play=played, seconds=0.5, _end=lambda: played.end() or {"FINISHED"})

    me = begun()
    for later, step in ((0.0, 0), (0.5, 1), (1.0, 2), (1.6, 3), (2.4, 3)):
        now[0] = 50.0 + later
        assert turn() == {"PASS_THROUGH"} and told[-1].startswith(f"Step {step} of 3: {steps[2][step]:.1f} px")
        assert later == 1.6 or np.allclose(hip.rotation_quaternion, steps[0][step, 1], atol=1e-5)
    assert turn(SimpleNamespace(type="A")) == {"PASS_THROUGH"} and descent._present is me._play
    now[0] = 53.0  # the last step was shown for longer
    assert turn() == {"FINISHED"} and descent._present is None
    assert turn() == {"CANCELLED", "PASS_THROUGH"}
    me = begun()
    assert turn(escape) == {"FINISHED"} and descent._present is None
    me = begun()
    bpy.context.scene.frame_set(9)
    assert turn() == {"FINISHED"} and descent._present is None


def test_steps_that_would_turn_nothing_are_told(script):
    """Animators set bones to Euler angles: the descent slid the hips alone, and As Keys left an action in which nothing turns."""
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    action = rig.animation_data.action
    rig.pose.bones["left_knee"].rotation_mode = "XYZ"
    for keys in (False, True):
        with pytest.raises(RuntimeError, match="left_knee.*rotation mode.*Quaternion"):
            bpy.ops.lgd.play_descent(bake=keys)
    assert rig.animation_data.action == action
    rig.pose.bones["left_knee"].rotation_mode = "QUATERNION"
    assert bpy.ops.lgd.play_descent(bake=True) == {"FINISHED"} and rig.animation_data.action != action


@pytest.mark.parametrize("what", ["box", "descent"])
def test_the_status_bar_is_let_be_while_a_window_is_closed(script, monkeypatch, what):
    """In the window's context a text that is set crashes Blender, as the windows' own tests show."""
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    told = []
    monkeypatch.setattr(bpy.types.WorkSpace, "status_text_set", lambda _, text: told.append(text))
    if what == "box":
        space = SimpleNamespace(draw_handler_add=lambda *_: None, draw_handler_remove=lambda *_: None)
        monkeypatch.setattr(boxes, "type", lambda _: space, raising=False)
        held = SimpleNamespace(_drag=boxes.wait(SimpleNamespace(area=None, space_data=None)))
        boxes.LGD_OT_pick_box.cancel(held, bpy.context)
    else:
        (rig,) = rigs()
        held = SimpleNamespace(_play=descent.play(bpy.context, rig, descent.steps_at(rig, 5)))
        descent.LGD_OT_play_descent.cancel(held, bpy.context)
    assert not told and boxes._present is None and descent._present is None
    status_bar.detach()
    assert told and not any(told) and not bpy.app.timers.is_registered(status_bar.clear)


def test_a_linked_scene_is_told_of_before_the_solve(script, tmp_path):
    """Nothing can be put into it: the result was lost when the footage had been looked through."""
    settings = bpy.context.scene.lgd
    bpy.ops.lgd.detect()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "other.blend"), copy=True)
    settings.path = ""
    with bpy.data.libraries.load(str(tmp_path / "other.blend"), link=True) as (there, here):
        here.scenes = there.scenes
    own, bpy.context.window.scene = bpy.context.scene, here.scenes[0]
    asked = len(script.asked)
    for button in (bpy.ops.lgd.fit, bpy.ops.lgd.fit_keypoints, bpy.ops.lgd.import_motion):
        with pytest.raises(RuntimeError, match="belongs to another file"):
            button()
    assert len(script.asked) == asked
    bpy.context.window.scene = own


def test_a_scene_that_is_deleted_meanwhile_leaves_a_result_that_is_somewhere(script):
    """It was keyed onto the rig of the scene that was gone, before its camera: neither is in any scene, nor saved."""
    bpy.ops.lgd.fit()
    home = bpy.context.scene
    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    bpy.context.window.scene = other = bpy.data.scenes.new("other")
    bpy.data.scenes.remove(home)
    script.hold = False
    pump.finish(run, 20)
    built = run.built[0]
    assert {built.rig, built.mesh, built.camera} == set(other.objects) and other.camera == built.camera
    assert built.camera.lgd.camera == built.rig.lgd.camera == built.camera.name
    told = bpy.context.window_manager.lgd.warnings
    assert "was put into other" in told and "was made instead" in told


def test_in_each_of_two_takes_that_follow_one_another_its_own_doubt_is_told(solved, tmp_path, default_body):
    """Next Bad walked through the last alone, and the least sure joint of the first was the last's."""
    _, built = solved
    errors, sure = np.full(40, 2.0), np.ones((40, 24))
    errors[20], sure[5, 20] = 50, 0.1
    for seed, changes in ((4, {"joint_confidence": sure}), (5, {"reprojection_px": errors})):
        motion = load_motion(write_motion(tmp_path / "m.npz", default_body, seed=seed, **changes))
        options = result.Options(rig=built.rig.session_uid, camera=built.camera.name, show_footage=False)
        result.build(bpy.context.scene, motion, default_body, plain_footage(), options)
        strip = pushed_down(built, 100 * seed)
    rig = built.rig
    assert trust.bad_frames(rig) == [520] and min(trust.at(rig, 405).values()) == 1  # the last holds its first pose before it begins
    strip.extrapolation = "HOLD_FORWARD"  # as Push Down has it
    assert trust.bad_frames(rig) == [405, 520]
    assert trust.at(rig, 405)[20] < 0.2 and min(trust.at(rig, 520).values()) == 1
    bpy.context.view_layer.objects.active = rig
    bpy.context.scene.frame_set(410)
    assert bpy.ops.lgd.next_bad_frame(back=True) == {"FINISHED"} and bpy.context.scene.frame_current == 405
    assert bpy.ops.lgd.select_doubtful() == {"FINISHED"}


def test_a_copy_that_is_being_moved_is_waited_for(addon, monkeypatch):
    """Blender refuses a change of mode in the midst of it, and the whole solve was lost."""

    def held(*names):
        return [SimpleNamespace(bl_idname=name, macros=()) for name in names]

    operators = held("OBJECT_OT_endless_of_another_add_on")
    manager = SimpleNamespace(windows=[SimpleNamespace(modal_operators=operators)])
    monkeypatch.setattr(busy, "bpy", SimpleNamespace(context=SimpleNamespace(window_manager=manager)))
    assert not busy.dragging()
    operators.append(SimpleNamespace(bl_idname="OBJECT_OT_duplicate_move", macros=held("OBJECT_OT_duplicate", "TRANSFORM_OT_translate")))
    assert busy.dragging()
    operators[1:] = held("SCULPT_CURVES_OT_brush_stroke")
    assert busy.dragging()


def test_paths_that_no_file_can_have_are_told_in_a_sentence(script):
    """A text that was pasted into the field, for one: Python has a fault for a name that is too long to be asked for."""
    bpy.ops.lgd.fit()
    settings, long = bpy.context.scene.lgd, "/tmp/" + 300 * "x"
    with pytest.raises(RuntimeError, match="does not exist") as read:
        bpy.ops.lgd.import_motion(filepath=long)
    with pytest.raises(RuntimeError, match="No file is named") as written:
        bpy.ops.lgd.export_motion(filepath="/")
    settings.keypoints = long
    with pytest.raises(RuntimeError, match="are gone") as points:
        bpy.ops.lgd.fit_keypoints()
    settings.path = long
    with pytest.raises(RuntimeError, match="does not exist") as film:
        bpy.ops.lgd.fit()
    assert not any("Traceback" in str(caught.value) for caught in (read, written, points, film))
