# SPDX-License-Identifier: GPL-3.0-or-later
"""Correctives of a body that has them, after its rig was solved again, layered in the NLA, renamed or linked."""

import bpy
import numpy as np
import pytest
from models import write_motion
from test_result import plain_footage
from test_takes import pushed_down

from lgd_blender_addon.scene import armature, correctives, keyframes, result
from lgd_blender_addon.scene.motion import load_motion


def solve(tmp_path, body, mode: str, **options) -> result.Built:
    motion = load_motion(write_motion(tmp_path / "m.npz", body))
    found = result.Options(show_footage=False, correctives=mode, **options)
    built = result.build(bpy.context.scene, motion, body, plain_footage(), found)
    bpy.context.view_layer.objects.active = built.rig
    return built


def values(built, frame: int) -> np.ndarray:
    """(207,) as they are seen."""
    bpy.context.scene.frame_set(frame)
    blocks = built.mesh.data.shape_keys.key_blocks
    return np.array([blocks[correctives.key_name(index)].value for index in range(207)])


def test_baked_ones_go_where_the_next_solve_has_none(tmp_path, addon, official_body):
    built = solve(tmp_path, official_body, "BAKED")
    assert np.abs(values(built, 31)).max() > 0.01
    again = solve(tmp_path, official_body, "OFF", rig=built.rig.session_uid, camera=built.camera.name)
    assert again.rig == built.rig and not values(again, 31).any() and not values(again, 40).any()


def test_live_ones_follow_bones_again_that_got_the_other_familys_names(tmp_path, addon, official_body):
    built = solve(tmp_path, official_body, "LIVE")
    seen = values(built, 31)
    armature.rename_bones(built.rig)
    again = solve(tmp_path, official_body, "LIVE", rig=built.rig.session_uid, camera=built.camera.name)
    assert again.rig == built.rig and np.abs(seen).max() > 0.01 and np.allclose(values(again, 31), seen, atol=1e-5)


@pytest.mark.parametrize("both", (False, True))
@pytest.mark.parametrize("layer", (False, True))
def test_what_the_nla_shows_is_baked(tmp_path, addon, official_body, both, layer):
    built = solve(tmp_path, official_body, "LIVE")
    pushed_down(built, 111)
    if both:
        data = built.mesh.data.shape_keys.animation_data
        action, data.action = data.action, None
        data.nla_tracks.new().strips.new("shape", 111, action)
    if layer:
        data = built.rig.animation_data
        data.action, data.action_blend_type = bpy.data.actions.new("mine"), "COMBINE"
        for frame, turn in ((111, 0.0), (131, 0.7)):
            built.rig.pose.bones["left_knee"].rotation_quaternion = np.cos(turn), np.sin(turn), 0, 0
            built.rig.pose.bones["left_knee"].keyframe_insert("rotation_quaternion", frame=frame)
    live = [values(built, frame) for frame in (111, 131, 145)]
    assert np.abs(live[0] - live[1]).max() > 0.01
    shape = built.mesh.data.shape_keys.key_blocks["Shape000"].value
    assert bpy.ops.lgd.correctives(mode="BAKED") == {"FINISHED"} and correctives.get_mode(built.mesh) == "BAKED"
    assert np.abs([values(built, frame) for frame in (111, 131, 145)] - np.array(live)).max() < 1e-4
    assert shape and built.mesh.data.shape_keys.key_blocks["Shape000"].value == shape
    bpy.ops.lgd.correctives(mode="OFF")
    assert not values(built, 131).any()


@pytest.mark.parametrize("pushed", (False, True))
def test_baked_ones_are_as_live_ones_between_thinned_keys(tmp_path, addon, official_body, pushed):
    built = solve(tmp_path, official_body, "LIVE")
    for curve in keyframes.curves(built.rig):
        for key in [k for k in reversed(curve.keyframe_points) if (round(k.co.x) - 11) % 13]:
            curve.keyframe_points.remove(key, fast=True)
        curve.update()
    if pushed:
        pushed_down(built)
    live = [values(built, frame) for frame in (11, 17, 50)]
    assert np.abs(live[1] - live[0]).max() > 0.1
    assert bpy.ops.lgd.correctives(mode="BAKED") == {"FINISHED"}
    assert np.abs([values(built, frame) for frame in (11, 17, 50)] - np.array(live)).max() < 1e-4


def test_bones_of_another_rotation_mode_are_baked_as_they_turn_and_told_where_live_ones_stand_still(tmp_path, addon, official_body, capfd):
    built = solve(tmp_path, official_body, "OFF")
    assert bpy.ops.lgd.correctives(mode="LIVE") == {"FINISHED"} and "Quaternion" not in capfd.readouterr().out
    bone, first = built.rig.pose.bones["left_knee"], (armature.JOINTS.index("left_knee") - 1) * 9
    bone.rotation_mode = "XYZ"
    for frame, turn in ((11, 0.0), (50, 1.0)):
        bone.rotation_euler = (turn, 0.0, 0.3)
        bone.keyframe_insert("rotation_euler", frame=frame)
    assert bpy.ops.lgd.correctives(mode="LIVE") == {"FINISHED"} and "left_knee" in capfd.readouterr().out
    assert bpy.ops.lgd.correctives(mode="BAKED") == {"FINISHED"}
    for frame in (11, 50):
        found = values(built, frame)[first : first + 9]
        assert np.allclose(found, (np.array(bone.matrix_basis.to_3x3()) - np.eye(3)).ravel(), atol=1e-5)


def test_renamed_bones_are_told_and_change_nothing(tmp_path, addon, official_body):
    built = solve(tmp_path, official_body, "LIVE")
    built.rig.data.bones["left_knee"].name = "Knie"
    for mode in ("LIVE", "BAKED"):
        with pytest.raises(RuntimeError, match="left_knee"):
            bpy.ops.lgd.correctives(mode=mode)
        assert correctives.get_mode(built.mesh) == "LIVE"
    assert bpy.ops.lgd.correctives(mode="OFF") == {"FINISHED"}


def test_a_body_of_another_file_is_not_changed_in_vain(tmp_path, addon, official_body):
    collection = solve(tmp_path, official_body, "LIVE").rig.users_collection[0].name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.collections = [collection]
    bpy.context.scene.collection.children.link(bpy.data.collections[collection])
    (rig,) = [o for o in bpy.context.scene.objects if o.type == "ARMATURE"]
    assert bpy.ops.lgd.correctives(mode="OFF") == {"CANCELLED"} and correctives.get_mode(result.skin_of(rig)) == "LIVE"
