# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of a take after the user has moved, layered, constrained or thinned it: as it is seen, in the footage's times."""

import bpy
import numpy as np
import pytest
from models import write_motion
from test_result import plain_footage
from test_takes import TURN, exported, pushed_down

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.scene import axes, export, keyframes, result
from lgd_blender_addon.scene.body import JOINTS
from lgd_blender_addon.scene.motion import load_motion


@pytest.mark.parametrize("form", [export.AMASS, export.SMPL])
def test_another_form_of_export_is_told_by_its_name(solved, tmp_path, form):
    _, built = solved
    export.write_motion(bpy.context.scene, built.rig, str(tmp_path / "out.npz"), form)
    with pytest.raises(LgdError, match=f"in the form {form}.*only the form Motion is read here") as caught:
        load_motion(tmp_path / "out.npz")
    assert "Form on Motion" in caught.value.hint


@pytest.mark.parametrize("how", ("constraint", "euler", "layer"))
def test_what_is_seen_is_exported(solved, tmp_path, how):
    motion, built = solved
    before = exported(built, tmp_path / "a.npz")["poses"].reshape(-1, 24, 3)
    elbow = JOINTS.index("left_elbow")
    bone = built.rig.pose.bones["left_elbow"]
    if how == "constraint":
        held = bone.constraints.new("COPY_ROTATION")
        held.target, held.subtarget, held.owner_space, held.target_space = built.rig, "right_elbow", "LOCAL", "LOCAL"
        wanted = before[:, JOINTS.index("right_elbow")]
    elif how == "euler":
        bone.rotation_mode = "XYZ"
        for frame in (11, 50):
            bone.rotation_euler = (0.0, 0.0, 0.8)
            bone.keyframe_insert("rotation_euler", frame=frame)
        wanted = np.broadcast_to([0.0, 0.0, 0.8], (40, 3))
    else:
        pushed_down(built)
        bone.rotation_quaternion = (1, 0, 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=20)
        wanted = np.zeros((40, 3))
    after = exported(built, tmp_path / "b.npz")["poses"].reshape(-1, 24, 3)
    assert len(after) == 40
    assert np.abs(axes.matrices(axes.quaternions(after[:, elbow])) - axes.matrices(axes.quaternions(wanted))).max() < 1e-3
    others = [j for j in range(24) if j != elbow]
    apart = axes.matrices(axes.quaternions(after[:, others])) - axes.matrices(axes.quaternions(before[:, others]))
    assert np.abs(apart).max() < 1e-3


def test_thinned_keys_are_exported_evenly_and_in_the_footages_time(solved, tmp_path):
    motion, built = solved
    left = (11, 12, 13, 23, 50)
    for curve in keyframes.curves(built.rig):
        if curve.data_path.startswith("pose.bones"):
            for frame in [round(k.co.x) for k in curve.keyframe_points if round(k.co.x) not in left]:
                curve.keyframe_points.remove(next(k for k in curve.keyframe_points if round(k.co.x) == frame))
    found = exported(built, tmp_path / "amass.npz", export.AMASS)
    assert len(found["poses"]) == 40 and float(found["mocap_framerate"]) == pytest.approx(25.0)
    moved = exported(built, tmp_path / "motion.npz")
    assert np.allclose(moved["frame_times"], motion.frame_times[[0, 1, 2, 12, 39]])
    assert np.abs(found["trans"][39] - found["trans"][12]).max() > 0.05


@pytest.mark.parametrize("apart", (13, 39))
def test_keys_that_were_thinned_evenly_are_exported_with_what_lies_between(solved, tmp_path, apart):
    _, built = solved
    for curve in keyframes.curves(built.rig):
        for key in [k for k in reversed(curve.keyframe_points) if (round(k.co.x) - 11) % apart]:
            curve.keyframe_points.remove(key, fast=True)
        for key in curve.keyframe_points:
            key.interpolation = "BEZIER"
        curve.update()
    seen = keyframes.read_pose(built.rig, JOINTS, [17])[0][0]
    found = exported(built, tmp_path / "amass.npz", export.AMASS)
    assert len(found["poses"]) == 40 and float(found["mocap_framerate"]) == pytest.approx(25.0)
    elbow = JOINTS.index("left_elbow")
    assert np.allclose(found["poses"][6].reshape(-1, 3)[elbow], axes.rotvecs(seen[elbow]), atol=1e-4)


def test_times_are_the_footages_with_a_key_more_and_the_scenes_where_keys_were_moved(solved, tmp_path):
    motion, built = solved
    bpy.context.scene.render.fps = 60
    bone = built.rig.pose.bones["left_knee"]
    bone.keyframe_insert("rotation_quaternion", frame=15.5)
    found = exported(built, tmp_path / "a.npz")
    assert len(found["poses"]) == 41 and found["frame_times"][5] == pytest.approx(4.5 / 25) and found["frame_times"][-1] == pytest.approx(39 / 25)
    for curve in keyframes.curves(built.rig):
        for key in curve.keyframe_points:
            key.co.x = 11 + (key.co.x - 11) * 1.37
    assert exported(built, tmp_path / "b.npz")["frame_times"][-1] == pytest.approx(39 * 1.37 / 60, rel=1e-4)


def test_keys_in_real_time_keep_the_footages_times_and_the_scenes_rate(tmp_path, default_body, addon):
    """30 frames a second in a scene of 24: keys lie between frames, and come back from Blender in single precision."""
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, fps=30.0))
    scene = bpy.context.scene
    scene.render.fps = 24
    built = result.build(scene, motion, default_body, plain_footage(fps=30.0), result.Options(timing="REAL", show_footage=False))
    found = exported(built, tmp_path / "out.npz")
    assert np.allclose(found["frame_times"], motion.frame_times) and float(found["mocap_framerate"]) == pytest.approx(30.0)
    bpy.context.view_layer.objects.active = built.rig
    scene.render.fps = 60
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    assert scene.render.fps == 24, "at which these keys are as fast as the footage"
    assert scene.frame_start <= scene.frame_current <= scene.frame_end
    shown = result.build(scene, motion, default_body, plain_footage(fps=30.0), result.Options(show_footage=False))
    bpy.context.view_layer.objects.active = shown.rig
    bpy.ops.lgd.set_scene_rate_and_range()
    assert scene.render.fps == 30


def test_a_single_picture_keeps_its_time_in_the_footage_and_the_footages_rate(tmp_path, default_body, addon):
    motion = load_motion(write_motion(tmp_path / "motion.npz", default_body, frames=1, frame_times=np.array([1.65])))
    built = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    found = exported(built, tmp_path / "a.npz")
    assert np.allclose(found["frame_times"], [1.65]) and float(found["mocap_framerate"]) == pytest.approx(25.0)
    built.rig.pose.bones["left_elbow"].keyframe_insert("rotation_quaternion", frame=float(built.action.frame_range[0]) + 5)
    assert np.allclose(exported(built, tmp_path / "b.npz")["frame_times"], [1.65, 1.85])


def test_a_driven_rig_is_exported_where_it_is_driven(solved, tmp_path):
    motion, built = solved
    before = exported(built, tmp_path / "a.npz", export.SMPL)["trans"]
    driver = built.rig.driver_add("location", 0).driver
    driver.expression = "frame * 0.1"
    after = exported(built, tmp_path / "b.npz", export.SMPL)["trans"]
    assert np.ptp((after - before)[:, 0]) == pytest.approx(3.9, abs=1e-3)


def test_what_was_moved_with_its_camera_is_exported_by_the_camera(solved, tmp_path):
    """Without having been solved again."""
    motion, built = solved
    for item in (built.rig, built.camera):
        item.matrix_world = TURN @ item.matrix_world
    bpy.context.view_layer.update()
    found = exported(built, tmp_path / "a.npz")
    assert np.abs(found["trans"] - motion.trans).max() < 1e-3
    assert np.abs(found["T_world_cam"] - np.array(TURN) @ motion.T_world_cam).max() < 1e-3


def test_a_key_beside_the_take_leaves_its_times(solved, tmp_path):
    motion, built = solved
    bpy.context.scene.render.fps = 60
    built.rig.pose.bones["left_knee"].keyframe_insert("rotation_quaternion", frame=55)
    found = exported(built, tmp_path / "a.npz")
    assert found["frame_times"][-1] == pytest.approx(44 / 25) and found["frame_times"][-2] == pytest.approx(39 / 25)
    assert np.abs(found["joint_confidence"][:40] - motion.joint_confidence).max() < 1e-3


def test_keys_scaled_by_half_are_in_the_scenes_time(solved, tmp_path):
    """Half of them lie on frames that had keys before."""
    motion, built = solved
    bpy.context.scene.render.fps = 60
    for curve in keyframes.curves(built.rig):
        for key in curve.keyframe_points:
            key.co.x = 11 + (key.co.x - 11) * 0.5
    assert exported(built, tmp_path / "a.npz")["frame_times"][-1] == pytest.approx(19.5 / 60)


def test_a_muted_channel_is_exported_as_it_is_seen(solved, tmp_path):
    motion, built = solved
    elbow = JOINTS.index("left_elbow")
    for index in range(4):
        keyframes.find_curve(built.rig, 'pose.bones["left_elbow"].rotation_quaternion', index).mute = True
    built.rig.pose.bones["left_elbow"].rotation_quaternion = (1, 0, 0, 0)
    assert np.abs(exported(built, tmp_path / "a.npz")["poses"].reshape(-1, 24, 3)[:, elbow]).max() < 1e-3


def test_an_export_is_the_same_on_whatever_frame_one_stands(solved, tmp_path):
    """Rig and camera are carried together, by keys: where they begin is where they were solved."""
    motion, built = solved
    ship = bpy.data.objects.new("ship", None)
    bpy.context.scene.collection.objects.link(ship)
    for item in (built.rig, built.camera):
        item.parent = ship
    for frame, place in ((11, 0.0), (50, 5.0)):
        ship.location.x = place
        ship.keyframe_insert("location", frame=frame)
    for frame in (11, 40):
        bpy.context.scene.frame_set(frame)
        found = exported(built, tmp_path / "a.npz")
        assert np.abs(found["trans"] - motion.trans).max() < 1e-3 and found["T_world_cam"].shape == (40, 4, 4)


def test_the_confidence_of_moved_keys_goes_with_them(tmp_path, default_body):
    trusted = np.tile(np.linspace(0.1, 0.9, 40)[:, None], (1, 24))
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, joint_confidence=trusted))
    built = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    for curve in keyframes.curves(built.rig):
        for key in curve.keyframe_points:
            key.co.x += 1000
    assert np.abs(exported(built, tmp_path / "a.npz")["joint_confidence"] - trusted).max() < 1e-3


def test_parts_of_a_take_that_were_moved_apart_stay_apart(solved, tmp_path):
    motion, built = solved
    strip = pushed_down(built, 111)
    strip.action_frame_end = 30
    rest = built.rig.animation_data.nla_tracks[0].strips.new("rest", 300, strip.action)
    rest.action_frame_start = 31
    bpy.context.view_layer.update()
    rate = bpy.context.scene.render.fps
    assert np.diff(exported(built, tmp_path / "a.npz")["frame_times"]).max() == pytest.approx((rest.frame_start - 130) / rate)


def test_an_opened_strip_of_half_the_speed_has_the_scenes_time(solved, tmp_path):
    _, built = solved
    strip, data = pushed_down(built, 111), built.rig.animation_data
    strip.scale = 2
    data.nla_tracks[0].select = strip.select = True
    data.nla_tracks.active = data.nla_tracks[0]
    data.use_tweak_mode = True
    bpy.context.view_layer.update()
    assert exported(built, tmp_path / "a.npz")["frame_times"][-1] == pytest.approx(78 / bpy.context.scene.render.fps)


def test_an_opened_layer_of_the_users_own_has_its_keys_where_they_are_seen(solved, tmp_path):
    motion, built = solved
    pushed_down(built, 111)
    data = built.rig.animation_data
    layer = keyframes.Take("layer")
    path = 'pose.bones["left_knee"].rotation_quaternion'
    keyframes.write_curve(layer.bag(built.rig), path, 0, [1, 20], [1.0, 1.0])
    action, data.action = data.action, None
    track = data.nla_tracks.new()
    strip = track.strips.new("layer", 121, action)
    track.select = strip.select = True
    data.nla_tracks.active = track
    data.use_tweak_mode = True
    bpy.context.view_layer.update()
    assert data.use_tweak_mode and data.action == action
    found = export.key_frames(built.rig)
    assert (found[0], found[-1], len(found)) == (111, 150, 40)


def test_a_bone_of_a_muted_group_is_exported_as_it_is_seen(solved, tmp_path):
    _, built = solved
    keyframes.bag_of(built.rig).groups["left_elbow"].mute = True
    built.rig.pose.bones["left_elbow"].rotation_quaternion = (1, 0, 0, 0)
    bpy.context.scene.frame_set(20)
    seen = built.rig.pose.bones["left_elbow"].rotation_quaternion.copy()  # since 5.0 it is not muted by its group
    found = exported(built, tmp_path / "a.npz")["poses"].reshape(-1, 24, 3)[9, JOINTS.index("left_elbow")]
    assert np.linalg.norm(found) == pytest.approx(seen.angle, abs=1e-3)


@pytest.mark.parametrize("how", ("excluded", "hidden", "eye", "disabled"))
def test_a_rig_that_blender_does_not_evaluate_is_not_exported_as_it_stands(solved, tmp_path, how):
    motion, built = solved
    pushed_down(built)
    (own,) = built.rig.users_collection
    if how == "excluded":
        bpy.context.view_layer.layer_collection.children[own.name].exclude = True
    elif how == "hidden":
        own.hide_viewport = True
    elif how == "eye":
        built.rig.hide_set(True)
    else:
        built.rig.hide_viewport = True
    bpy.context.scene.frame_set(30)
    if how in ("excluded", "hidden"):
        with pytest.raises(LgdError, match="collection is hidden"):
            exported(built, tmp_path / "a.npz")
    else:
        assert np.abs(exported(built, tmp_path / "a.npz")["poses"] - motion.poses).max() < 2e-3


@pytest.mark.parametrize("how", ("excluded", "disabled"))
def test_a_camera_that_blender_does_not_evaluate_is_not_taken_as_it_stands(solved, tmp_path, how):
    """One that is carried with the rig, put away while another is the scene's; a still one may be put away."""
    motion, built = solved
    scene, ship, away = bpy.context.scene, bpy.data.objects.new("ship", None), bpy.data.collections.new("away")
    for collection in (*built.camera.users_collection, away):
        (collection.objects.unlink if collection != away else collection.objects.link)(built.camera)
    scene.collection.objects.link(ship)
    scene.collection.children.link(away)
    scene.camera = bpy.data.objects.new("shot", bpy.data.cameras.new("shot"))
    scene.collection.objects.link(scene.camera)
    for carried in (False, True):
        if carried:
            for frame, place in ((11, 0.0), (50, 5.0)):
                ship.location.x = place
                ship.keyframe_insert("location", frame=frame)
            built.rig.parent = built.camera.parent = ship
        bpy.context.view_layer.layer_collection.children["away"].exclude = how == "excluded"
        built.camera.hide_viewport = how == "disabled"
        scene.frame_set(30)
        if carried:
            with pytest.raises(LgdError, match="does not move LGD camera"):
                exported(built, tmp_path / "a.npz")
        else:
            assert np.abs(exported(built, tmp_path / "a.npz")["trans"] - motion.trans).max() < 1e-3


def test_takes_that_follow_one_another_in_the_nla_are_exported_whole(solved, tmp_path, default_body):
    motion, built = solved
    pushed_down(built, 111)
    second = load_motion(write_motion(tmp_path / "second.npz", default_body, seed=4, joint_confidence=np.full((40, 24), 0.5)))
    options = result.Options(rig=built.rig.session_uid, camera=built.camera.name, show_footage=False)
    result.build(bpy.context.scene, second, default_body, plain_footage(), options)
    strip = pushed_down(built, 400)
    assert len(exported(built, tmp_path / "a.npz")["poses"]) == 40  # it holds its first pose before it begins
    strip.extrapolation = "HOLD_FORWARD"  # as Push Down has it
    bpy.context.view_layer.update()
    found = exported(built, tmp_path / "a.npz")
    assert len(found["poses"]) == 80 and np.abs(found["poses"][:40] - motion.poses).max() < 2e-3
    assert np.abs(found["poses"][40:] - second.poses).max() < 2e-3
    assert np.diff(found["frame_times"]).max() > 5  # what lies between them is not left out
    assert (found["joint_confidence"][:40] == 0).all() and np.allclose(found["joint_confidence"][40:], 0.5, atol=1e-3)
    assert np.isnan(found["reprojection_px"][:40]).all()


def test_a_rig_in_rest_position_is_not_exported_as_it_stands(solved, tmp_path):
    """Its keys are, where these are all that poses it; what else does is read as Blender evaluates it."""
    motion, built = solved
    built.rig.data.pose_position = "REST"
    assert np.abs(exported(built, tmp_path / "keys.npz")["poses"] - motion.poses).max() < 1e-4
    built.rig.constraints.new("LIMIT_LOCATION")
    with pytest.raises(LgdError, match="Rest Position"):
        exported(built, tmp_path / "out.npz")
    assert not list(tmp_path.glob("out.npz*"))


@pytest.mark.parametrize("lost", ("left_knee", "lost its body"))
def test_what_a_rig_lacks_is_told(solved, tmp_path, lost):
    _, built = solved
    if "body" in lost:
        bpy.data.objects.remove(built.mesh)
    else:
        built.rig.data.bones["left_knee"].name = "Knie"
    with pytest.raises(LgdError, match=lost):
        exported(built, tmp_path / "out.npz")


@pytest.mark.parametrize("gone", (False, True))
def test_a_scaled_person_walks_on_the_ground_with_steps_of_their_size(solved, tmp_path, gone):
    """Of a scene in centimetres the camera may have been deleted; a rig may be made larger alone."""
    motion, built = solved
    before = {form: exported(built, tmp_path / "a.npz", form)["trans"] for form in (export.AMASS, export.SMPL)}
    built.rig.scale = (100,) * 3
    if gone:
        bpy.data.objects.remove(built.camera)
    bpy.context.view_layer.update()
    for form, wanted in before.items():
        assert np.abs(exported(built, tmp_path / "b.npz", form)["trans"] - wanted).max() < 1e-4
    if gone:
        assert np.abs(exported(built, tmp_path / "b.npz")["trans"] - motion.trans).max() < 1e-3


@pytest.mark.parametrize("form", (export.MOTION, export.AMASS))
def test_a_mirrored_rig_is_not_exported_as_something_else(solved, tmp_path, form):
    _, built = solved
    built.rig.scale.x = -1
    bpy.context.view_layer.update()
    with pytest.raises(LgdError, match="mirrored"):
        exported(built, tmp_path / "out.npz", form)
