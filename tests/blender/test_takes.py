# SPDX-License-Identifier: GPL-3.0-or-later
"""A take after the user has moved, layered, constrained or thinned it: solved again, walked through, matched."""

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from models import write_motion
from test_result import plain_footage

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.operators import descent
from lgd_blender_addon.scene import axes, carriage, export, keyframes, result, takes, trust
from lgd_blender_addon.scene.body import JOINTS
from lgd_blender_addon.scene.motion import load_motion

TURN = Matrix.Translation((3.0, -1.0, 0.5)) @ Matrix.Rotation(0.7, 4, "Z")


def pelvis_in_camera(built, frame: int = 31) -> np.ndarray:
    """In Blender's camera axes, m."""
    bpy.context.scene.frame_set(frame)
    world = built.rig.matrix_world @ built.rig.pose.bones["pelvis"].head
    return np.array(built.camera.matrix_world.inverted() @ world)


def again(built, motion, body, T) -> result.Built:
    """Solved onto the rig once more, by the camera where it now is."""
    options = result.Options(rig=built.rig.session_uid, camera=built.camera.name, show_footage=False)
    found = result.build(bpy.context.scene, replace(motion, T_world_cam=np.array(T)), body, plain_footage(), options)
    bpy.context.view_layer.update()
    return found


@pytest.mark.parametrize("parented, scale", ((False, 1.0), (True, 1.0), (True, 100.0)))
def test_a_rig_that_was_moved_with_its_camera_stays_over_the_person(solved, default_body, parented, scale):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    if parented:
        empty = bpy.data.objects.new("stage", None)
        bpy.context.scene.collection.objects.link(empty)
        for item in (built.rig, built.camera):
            item.parent = empty
        empty.matrix_world = TURN @ Matrix.Scale(scale, 4)
    else:
        for item in (built.rig, built.camera):
            item.matrix_world = TURN @ item.matrix_world
    bpy.context.view_layer.update()
    T = axes.camera_frame(np.array(built.camera.matrix_world))  # as a solve is told of it
    for _ in range(2):  # and so it does the next time, without having moved
        found = again(built, motion, default_body, T)
        assert not found.notes and np.abs(pelvis_in_camera(built) - wanted).max() < 1e-3
        export.write_motion(bpy.context.scene, built.rig, str(bpy.app.tempdir + "out.npz"))
        back = load_motion(bpy.app.tempdir + "out.npz")  # in metres, whatever the scene's unit is
        assert np.abs(back.trans - motion.trans).max() < 1e-3
        assert np.abs(back.T_world_cam[:3, 3] * scale - T[:3, 3]).max() < 1e-3


def test_a_rig_that_was_given_a_place_of_its_own_keeps_it(solved, default_body):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    built.rig.matrix_world = TURN
    found = again(built, motion, default_body, motion.T_world_cam)
    assert "moved without its camera" in found.notes[0]
    assert np.allclose(carriage.now(built.rig, JOINTS), np.array(TURN), atol=1e-5)
    assert np.abs(pelvis_in_camera(built) - wanted).max() > 1
    built.rig.matrix_world = Matrix()
    bpy.context.view_layer.update()
    assert np.abs(pelvis_in_camera(built) - wanted).max() < 1e-3


def test_a_scaled_rig_has_its_hips_over_the_persons_and_is_told(solved, default_body):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    built.rig.matrix_world = TURN @ Matrix.Scale(2.0, 4)
    built.camera.matrix_world = TURN @ built.camera.matrix_world
    bpy.context.view_layer.update()
    found = again(built, motion, default_body, np.array(TURN) @ motion.T_world_cam)
    assert "scaled by 2" in found.notes[0] and np.abs(pelvis_in_camera(built) - wanted).max() < 1e-3


@pytest.mark.parametrize("how", ("an action of the user's own", "baked", "no action"))
def test_a_moved_rig_whose_take_is_gone_has_the_body_over_the_person(solved, default_body, how):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    for item in (built.rig, built.camera):
        item.matrix_world = TURN @ item.matrix_world
    bpy.context.view_layer.update()
    if how == "baked":
        bpy.context.view_layer.objects.active = built.rig
        built.rig.select_set(True)
        bpy.ops.nla.bake(frame_start=11, frame_end=50, only_selected=False, use_current_action=False, bake_types={"POSE"})
        assert takes.STORED_PROPERTY not in built.rig.animation_data.action
    else:
        built.rig.animation_data.action = bpy.data.actions.new("mine") if how.startswith("an") else None
    found = again(built, motion, default_body, axes.camera_frame(np.array(built.camera.matrix_world)))
    assert not found.notes and np.abs(pelvis_in_camera(built) - wanted).max() < 1e-3


def test_a_turn_that_was_applied_counts(solved, default_body, tmp_path):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    for item in (built.rig, built.camera):
        item.matrix_world = TURN @ item.matrix_world
    bpy.context.view_layer.objects.active = built.rig
    built.rig.select_set(True)
    bpy.context.view_layer.update()
    assert bpy.ops.object.transform_apply() == {"FINISHED"} and built.rig.matrix_world.is_identity
    assert np.abs(pelvis_in_camera(built) - wanted).max() < 1e-4
    for _ in range(2):
        found = exported(built, tmp_path / "out.npz")
        assert np.abs(found["trans"] - motion.trans).max() < 1e-4 and np.abs(found["poses"] - motion.poses).max() < 2e-3
        assert not again(built, motion, default_body, axes.camera_frame(np.array(built.camera.matrix_world))).notes
        assert np.abs(pelvis_in_camera(built) - wanted).max() < 1e-3


def test_each_rig_has_its_own_camera_whatever_that_is_called_by_now(solved, default_body):
    motion, built = solved
    other = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    first = built.camera.name
    built.camera.name = "Shot camera"
    assert [takes.camera_of(bpy.context.scene, b.rig) for b in (built, other)] == [built.camera, other.camera]
    assert takes.known_as(built.camera) == first  # by the name that earlier takes noted


def pushed_down(built, start: int = 11):
    data = built.rig.animation_data
    action, data.action = data.action, None
    strip = data.nla_tracks.new().strips.new("take", start, action)
    bpy.context.view_layer.update()
    return strip


def test_a_take_in_the_nla_is_still_a_take(tmp_path, default_body):
    errors = np.full(40, 2.0)
    errors[20] = 50
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, reprojection_px=errors))
    scene = bpy.context.scene
    built = result.build(scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    assert trust.bad_frames(built.rig) == [31]
    pushed_down(built, 111)
    assert trust.bad_frames(built.rig) == [131] and len(trust.at(built.rig, 131)) == 12
    assert takes.stored_motion(built.rig).extra["key_frames"][0] == 111
    assert export.write_motion(scene, built.rig, str(tmp_path / "out.npz")) == 40
    back = load_motion(tmp_path / "out.npz")
    assert np.abs(back.trans - motion.trans).max() < 1e-3 and np.allclose(back.frame_times, motion.frame_times)
    (strip,) = built.rig.animation_data.nla_tracks[0].strips
    strip.scale = 2.0  # slowed down by the user: the scene's time counts
    assert trust.bad_frames(built.rig) == [151] and takes.rate_of(takes.stored_motion(built.rig)) == pytest.approx(50)
    export.write_motion(scene, built.rig, str(tmp_path / "slow.npz"))
    assert load_motion(tmp_path / "slow.npz").frame_times[-1] == pytest.approx(78 / scene.render.fps)
    strip.scale, strip.use_reverse = 1.0, True
    bpy.context.view_layer.update()
    assert trust.bad_frames(built.rig) == [130]
    export.write_motion(scene, built.rig, str(tmp_path / "back.npz"))
    assert np.abs(load_motion(tmp_path / "back.npz").trans - motion.trans[::-1]).max() < 1e-3
    built.rig.animation_data.nla_tracks[0].mute = True
    assert takes.playing(built.rig) == (None, []) and trust.bad_frames(built.rig) == []


def exported(built, path, form=export.MOTION) -> dict:
    export.write_motion(bpy.context.scene, built.rig, str(path), form)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_a_held_picture_does_not_change_the_rate(tmp_path, default_body):
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body))
    table = np.r_[0:20, [19] * 100, 20:40]
    built = result.build(bpy.context.scene, motion, default_body, plain_footage(table=table), result.Options(show_footage=False))
    assert takes.rate_of(takes.stored_motion(built.rig)) == pytest.approx(25)


def test_a_limb_that_is_lost_in_real_time_is_one_stretch_wherever_the_keys_are(tmp_path, default_body):
    sure = np.full((40, 24), 0.9)
    sure[10:20, 20] = 0.1
    sure[15, 20] = 0.05
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, fps=30.0, joint_confidence=sure, reprojection_px=np.full(40, 2.0)))
    scene = bpy.context.scene
    scene.render.fps = 24
    built = result.build(scene, motion, default_body, plain_footage(fps=30.0), result.Options(timing="REAL", show_footage=False))
    (worst,) = trust.bad_frames(built.rig)
    assert worst == pytest.approx(11 + 15 * 24 / 30)
    for curve in keyframes.curves(built.rig):
        for key in curve.keyframe_points:
            key.co.x += 100
    assert trust.bad_frames(built.rig) == [pytest.approx(worst + 100)] and trust.at(built.rig, worst + 100)[20] < 0.06


def test_the_descent_is_baked_from_a_take_that_was_pushed_down(solved):
    motion, built = solved
    action = built.rig.animation_data.action
    pushed_down(built)
    baked = descent.bake(built.rig, np.tile([1.0, 0, 0, 0], (3, 24, 1)), np.zeros((3, 3)), 20)
    assert baked.name.startswith(action.name) and takes.STORED_PROPERTY in baked


def test_bones_of_other_names_are_not_told_apart(addon, solved):
    motion, built = solved
    bpy.context.view_layer.objects.active = built.rig
    built.rig.data.bones["left_knee"].name = "Knie"
    assert bpy.ops.lgd.select_doubtful(below=1.0) == {"CANCELLED"} and built.rig.mode == "OBJECT"
    action, built.rig.lgd.trace = built.rig.animation_data.action, "steps.npz"
    actions = len(bpy.data.actions)  # 4.2 has one of the shape keys, too
    for bake in (False, True):
        with pytest.raises(RuntimeError, match="left_knee"):
            bpy.ops.lgd.play_descent(bake=bake)
    assert built.rig.animation_data.action == action and len(bpy.data.actions) == actions


def grouped(rig):
    """The meta strip that Blender makes of a rig's strips."""
    for track in rig.animation_data.nla_tracks:
        for strip in track.strips:
            track.select = strip.select = True
    bpy.context.view_layer.objects.active = rig
    rig.select_set(True)
    area = bpy.context.window.screen.areas[0]
    area.type = "NLA_EDITOR"
    with bpy.context.temp_override(window=bpy.context.window, area=area, region=area.regions[-1]):
        assert bpy.ops.nla.meta_add() == {"FINISHED"}
    return rig.animation_data.nla_tracks[0].strips[0]


@pytest.mark.parametrize("how", ("trimmed", "split", "repeated", "grouped", "opened"))
def test_strips_show_what_they_show(tmp_path, default_body, how):
    """Bad frames lie where the take's frame 26 is seen, and exports have what is seen, whatever became of the strip."""
    errors = np.full(40, 2.0)
    errors[15] = 50
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, reprojection_px=errors))
    built = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    strip, data = pushed_down(built, 111), built.rig.animation_data
    expected, seen = [126.0], list(range(40))
    if how == "trimmed":
        strip.action_frame_start = 21
        expected, seen = [strip.frame_start + 5], list(range(10, 40))
    elif how == "split":
        strip.action_frame_end = 30
        second = data.nla_tracks[0].strips.new("rest", 300, strip.action)
        second.action_frame_start = 30
        expected, seen = [126.0], [*range(20), *range(19, 40)]
    elif how == "repeated":
        strip.repeat = 2
        expected, seen = [126.0, 165.0], None
    elif how == "grouped":
        grouped(built.rig).frame_start_ui += 20
        expected = [146.0]
    else:
        data.nla_tracks[0].select = strip.select = True
        data.nla_tracks.active = data.nla_tracks[0]
        data.use_tweak_mode = True
        assert data.use_tweak_mode
    bpy.context.view_layer.update()
    assert trust.bad_frames(built.rig) == expected
    found = exported(built, tmp_path / "out.npz")
    if seen is None:
        assert len(found["trans"]) == 79
    else:
        assert len(found["trans"]) == len(seen) and np.abs(found["trans"] - motion.trans[seen]).max() < 2e-3


@pytest.mark.parametrize("reverse, expected", [(False, [141.0, 219.0]), (True, [159.0, 237.0])])
def test_a_strip_that_is_slowed_and_repeated_shows_each_doubt_twice(tmp_path, default_body, reverse, expected):
    errors = np.full(40, 2.0)
    errors[15] = 50
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, reprojection_px=errors))
    built = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    strip = pushed_down(built, 111)
    strip.scale, strip.repeat, strip.use_reverse = 2.0, 2.0, reverse
    bpy.context.view_layer.update()
    assert trust.bad_frames(built.rig) == expected


def test_a_take_covers_those_below_as_far_as_its_strip_holds(solved, default_body):
    motion, built = solved
    pushed_down(built, 111)
    strip = pushed_down(again(built, motion, default_body, motion.T_world_cam), 131)
    for kind, ends in (("HOLD", (-np.inf, np.inf)), ("HOLD_FORWARD", (131, np.inf)), ("NOTHING", (131, 170))):
        strip.extrapolation = kind
        (_, over), (_, below) = takes.seen(built.rig)
        assert over == [] and np.allclose(below, [ends], atol=0.01)


def test_strips_of_the_users_own_alone_have_their_keys(solved):
    _, built = solved
    strip = pushed_down(built, 111)
    del strip.action[takes.STORED_PROPERTY]  # as in one that was baked
    assert takes.playing(built.rig) == (None, [])
    assert takes.keyed(built.rig).tolist() == list(range(111, 151))


def test_a_take_is_not_added_to_the_one_below_where_a_layer_of_the_users_was(solved, default_body):
    motion, built = solved
    wanted = pelvis_in_camera(built)
    pushed_down(built)
    data, own = built.rig.animation_data, bpy.data.actions.new("my layer")
    data.action, data.action_blend_type, data.action_influence = own, "ADD", 0.5
    T = axes.camera_frame(np.array(built.camera.matrix_world))
    with pytest.raises(IndexError):  # after the keys are written
        again(built, replace(motion, joint_confidence=motion.joint_confidence[:3]), default_body, T)
    assert data.action == own and (data.action_blend_type, data.action_influence) == ("ADD", 0.5) and not own.use_fake_user
    again(built, motion, default_body, T)
    assert np.abs(pelvis_in_camera(built) - wanted).max() < 1e-4
    assert data.action != own and own.use_fake_user  # saving would throw it away


def test_what_the_nla_that_is_off_holds_plays_not(solved, tmp_path):
    _, built = solved
    pushed_down(built, 111)
    built.rig.animation_data.nla_tracks[0].is_solo = True
    built.rig.animation_data.use_nla = False
    assert takes.playing(built.rig) == (None, [])
    with pytest.raises(LgdError, match="no keys"):
        exported(built, tmp_path / "out.npz")


def test_footage_of_a_long_name_has_one_collection(solved, default_body):
    motion, _ = solved
    footage = plain_footage(name="Großaufnahme " + "ä" * 60)
    built = [result.build(bpy.context.scene, motion, default_body, footage, result.Options(show_footage=False)) for _ in range(2)]
    assert built[0].rig != built[1].rig and built[0].rig.users_collection == built[1].rig.users_collection


def open_all(built) -> None:
    """The NLA's tweak mode, as Tab enters it for all that is shown there."""
    for data in (built.rig.animation_data, built.mesh.data.shape_keys.animation_data):
        action, data.action = data.action, None
        track = data.nla_tracks.new()
        strip = track.strips.new("take", 11, action)
        track.select = strip.select = True
        data.nla_tracks.active, data.use_tweak_mode = track, True
        assert data.use_tweak_mode


def test_tweak_mode_is_left_by_the_shape_and_by_the_descent_too(solved, default_body):
    motion, built = solved
    open_all(built)
    again(built, motion, default_body, axes.camera_frame(np.array(built.camera.matrix_world)))
    assert takes.playing(built.rig)[1] == []
    open_all(built)
    baked = descent.bake(built.rig, np.tile([1.0, 0, 0, 0], (3, 24, 1)), np.zeros((3, 3)), 20)
    assert built.rig.animation_data.action == baked


@pytest.mark.parametrize("newer", ("action", "strip"))
def test_of_two_takes_the_starred_one_counts(solved, tmp_path, default_body, newer):
    motion, built = solved
    strip = pushed_down(built)
    second = load_motion(write_motion(tmp_path / "second.npz", default_body, seed=4))
    options = result.Options(rig=built.rig.session_uid, camera=built.camera.name, show_footage=False)
    last = result.build(bpy.context.scene, second, default_body, plain_footage(), options)
    if newer == "strip":
        pushed_down(built, 400)
    assert takes.playing(built.rig)[0] == last.action
    built.rig.animation_data.nla_tracks[0].is_solo = True
    bpy.context.view_layer.update()
    assert takes.playing(built.rig)[0] == strip.action
    found = exported(built, tmp_path / "a.npz")
    assert len(found["trans"]) == 40 and np.abs(found["poses"] - motion.poses).max() < 2e-3
    assert not last.notes and "take the star off" in result.build(bpy.context.scene, second, default_body, plain_footage(), options).notes[-1]


@pytest.mark.parametrize("how", ("moved", "opened"))
def test_the_scenes_range_is_where_the_keys_are(solved, how):
    _, built = solved
    bpy.context.view_layer.objects.active = built.rig
    if how == "moved":
        for curve in keyframes.curves(built.rig):
            for key in curve.keyframe_points:
                key.co.x += 100
    else:
        strip, data = pushed_down(built, 111), built.rig.animation_data
        data.nla_tracks[0].select = strip.select = True
        data.nla_tracks.active = data.nla_tracks[0]
        data.use_tweak_mode = True
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (111, 150)


def test_an_action_without_keys_leaves_the_scenes_range(solved):
    _, built = solved
    scene, built.rig.animation_data.action = bpy.context.scene, bpy.data.actions.new("mine")
    bpy.context.view_layer.objects.active = built.rig
    scene.frame_start, scene.frame_end = 5, 77
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and (scene.frame_start, scene.frame_end) == (5, 77)


@pytest.mark.skipif(not keyframes.SLOTS, reason="slots came with 4.4")
def test_an_earlier_take_of_a_rig_that_was_renamed_moves_it_when_it_is_chosen(solved, default_body):
    """Blender finds the slot by the name of the one before, or the rig's; there are two."""
    motion, built = solved
    first, rig, again = built.action, built.rig, result.Options(rig=built.rig.session_uid, show_footage=False)
    rig.name = "Hero"
    result.build(bpy.context.scene, motion, default_body, plain_footage(), again)
    assert rig.animation_data.action != first
    rig.animation_data.action = first
    assert rig.animation_data.action_slot == first.slots[0]
