# SPDX-License-Identifier: GPL-3.0-or-later
"""A run from click to rig before the scene's camera or a new one, and what is done with its result."""


from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from lgd_blender_addon.scene import axes, keyframes, result, takes, trust
from lgd_blender_addon.scene.motion import load_motion


def test_scene_camera_gives_the_world(script):
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
    scene.collection.objects.link(scene.camera)
    scene.camera.location = (1, 2, 3)
    scene.lgd.camera = "SCENE"
    bpy.ops.lgd.fit()
    with np.load(script.asked[-1][1]["camera"]) as camera:
        assert np.allclose(camera["T_world_cam"][:3, 3], (1, 2, 3), atol=1e-6) and camera["cam_K"].shape == (
            3,
            3,
        )
    assert [o.name for o in bpy.data.objects if o.type == "CAMERA"] == ["mine"]


def test_a_camera_brings_its_own_lens_and_another_focal_length_another_camera(script):
    scene = bpy.context.scene
    bpy.ops.lgd.fit()
    first = next(o for o in bpy.data.objects if o.type == "CAMERA")
    bpy.ops.lgd.fit()
    with np.load(script.asked[-1][1]["camera"]) as camera:
        lens = float(camera["cam_K"][0, 0])
    scene.lgd.focal = 1.001 * lens
    bpy.ops.lgd.fit()
    assert "camera" in script.asked[-1][1] and "focal" not in script.asked[-1][1]
    assert [o for o in bpy.data.objects if o.type == "CAMERA"] == [first]
    scene.lgd.focal = 2 * lens
    bpy.ops.lgd.fit()
    assert "camera" not in script.asked[-1][1] and script.asked[-1][1]["focal"] == pytest.approx(2 * lens)
    next(o for o in bpy.data.objects if o.type == "CAMERA" and o != first).data.lens = 2 * first.data.lens
    bpy.ops.lgd.fit()
    assert "camera" in script.asked[-1][1], "the one that was made for it"
    assert len([o for o in bpy.data.objects if o.type == "CAMERA"]) == 2
    scene.camera, scene.lgd.camera = first, "SCENE"
    bpy.ops.lgd.fit()
    assert "camera" in script.asked[-1][1] and "focal" not in script.asked[-1][1]


@pytest.mark.parametrize("told", (0.0, 1234.0, "the same"))
def test_a_told_lens_is_said_to_be_unused_where_footage_lies_behind_a_camera(script, film, told):
    scene, data = bpy.context.scene, bpy.data.cameras.new("mine")
    scene.camera = bpy.data.objects.new("mine", data)
    scene.collection.objects.link(scene.camera)
    background = data.background_images.new()
    background.source, background.clip = "MOVIE_CLIP", bpy.data.movieclips.load(film)
    scene.lgd.place, scene.lgd.focal = "CAMERA", background.clip.size[0] * data.lens / data.sensor_width if told == "the same" else told
    bpy.ops.lgd.fit()
    assert "camera" in script.asked[-1][1] and "focal" not in script.asked[-1][1]
    assert ("Focal (px) is not used" in bpy.context.window_manager.lgd.warnings) == (told == 1234.0)
    scene.lgd.timing = "REAL"
    bpy.ops.lgd.fit()
    assert "Keys in real time do not follow" not in bpy.context.window_manager.lgd.warnings, "it stands still"


def test_a_lens_that_is_told_no_more_is_estimated_anew(script):
    settings = bpy.context.scene.lgd
    settings.focal = 300.0
    bpy.ops.lgd.fit()
    settings.focal = 0.0
    bpy.ops.lgd.fit()
    assert "camera" not in script.asked[-1][1] and "focal" not in script.asked[-1][1]
    bpy.ops.lgd.fit()
    assert "camera" in script.asked[-1][1], "the one that was estimated"


def test_match_scene_bad_frames_descent_and_export(script, tmp_path, monkeypatch):
    scene = bpy.context.scene
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    assert (scene.render.fps, scene.frame_start, scene.frame_end, scene.render.resolution_x) == (
        25,
        1,
        24,
        1280,
    )
    curve = keyframes.find_curve(rig, f'["{result.ERROR_PROPERTY}"]')
    curve.keyframe_points[9].co.y = 90
    bpy.ops.lgd.next_bad_frame()
    assert scene.frame_current == 10
    assert bpy.ops.lgd.select_doubtful(below=0.0) == {"CANCELLED"}
    monkeypatch.setattr(trust, "at", lambda rig, frame: {20: 0.1, 8: 0.2, 1: 0.9})
    assert bpy.ops.lgd.select_doubtful() == {"FINISHED"} and rig.mode == "POSE"
    chosen = {b.name for b in rig.pose.bones if (b if hasattr(b, "select") else b.bone).select}
    assert chosen == {"left_elbow", "right_knee"}
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.hide_set(True)
    assert bpy.ops.lgd.select_doubtful(below=1.0) == {"CANCELLED"}
    rig.hide_set(False)
    scene.frame_set(5)
    assert bpy.ops.lgd.play_descent(bake=False) == {"FINISHED"}
    shown = np.array(rig.pose.bones["left_knee"].rotation_quaternion)
    scene.frame_set(5)
    assert np.abs(np.abs(shown @ np.array(rig.pose.bones["left_knee"].rotation_quaternion)) - 1) < 1e-5
    stored = load_motion(bytes(rig.animation_data.action[result.STORED_PROPERTY]))
    assert bpy.ops.lgd.export_motion(filepath=str(tmp_path / "out.npz"), form="MOTION") == {"FINISHED"}
    back = load_motion(tmp_path / "out.npz")
    apart = axes.matrices(axes.quaternions(back.poses.reshape(-1, 24, 3))) - axes.matrices(
        axes.quaternions(stored.poses.reshape(-1, 24, 3))
    )
    assert (
        np.abs(apart).max() < 1e-5
        and np.abs(back.trans - stored.trans).max() < 1e-5
        and np.allclose(back.frame_times, stored.frame_times)
    )
    bpy.ops.lgd.export_motion(filepath=str(tmp_path / "amass.npz"), form="AMASS")
    with np.load(tmp_path / "amass.npz") as amass:
        assert (
            amass["poses"].shape == (24, 156)
            and amass["betas"].shape == (16,)
            and amass["trans"].dtype.kind == "f"
        )
    assert bpy.ops.lgd.import_motion(filepath=str(tmp_path / "out.npz")) == {"FINISHED"}
    other = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o != rig)
    assert bpy.context.selected_objects == [other] and bpy.context.object == other
    scene.frame_set(7)
    bpy.context.view_layer.update()
    takes.camera_of(scene, other).name = "Close-up"
    assert takes.camera_of(scene, other).name == "Close-up" and takes.camera_of(scene, rig).name.startswith("LGD camera")
    for name in ("pelvis", "left_wrist", "head"):
        assert (other.pose.bones[name].head - rig.pose.bones[name].head).length < 1e-4
    bpy.context.view_layer.objects.active = rig
    assert bpy.ops.lgd.play_descent(bake=True) == {"FINISHED"}
    assert "descent" in rig.animation_data.action.name


def test_the_descent_of_an_earlier_take_is_its_own(script):
    """Its action is in the Action Editor after another solve of the rig, whose steps are others, or were not kept."""
    from lgd_blender_addon.operators import descent

    bpy.ops.lgd.fit()
    (rig,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    first, steps = rig.animation_data.action, descent.steps_file(rig)
    wanted, before = descent.steps_at(rig, 5)[0], takes.camera_of(bpy.context.scene, rig)
    bpy.context.scene.lgd.camera = "NEW"
    bpy.ops.lgd.fit()
    assert takes.camera_of(bpy.context.scene, rig) != before
    assert descent.steps_file(rig) != steps and np.abs(descent.steps_at(rig, 5)[0] - wanted).max() > 0.01
    rig.lgd.trace = rig.animation_data.action[takes.STEPS_PROPERTY] = ""  # as of a solve in video mode
    assert not bpy.ops.lgd.play_descent.poll()
    rig.animation_data.action = first
    assert bpy.ops.lgd.play_descent.poll() and np.array_equal(descent.steps_at(rig, 5)[0], wanted)
    assert bpy.ops.lgd.play_descent(bake=True) == {"FINISHED"} and descent.steps_file(rig) == steps
    assert takes.camera_of(bpy.context.scene, rig) == before


def test_a_range_before_frame_0_is_told(script, capfd):
    bpy.context.scene.lgd.start = -10
    bpy.ops.lgd.fit()
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    assert bpy.context.scene.frame_end == 13 and "begins on frame -10" in capfd.readouterr().out


def test_of_a_rig_without_a_take_nothing_is_called_good(script, capfd):
    bpy.ops.lgd.fit()
    (rig,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    rig.animation_data.action = None
    for button in (bpy.ops.lgd.next_bad_frame, bpy.ops.lgd.select_doubtful):
        assert button() == {"CANCELLED"} and "plays no take" in capfd.readouterr().out


def test_a_preview_range_that_plays_less_is_told(script, capfd):
    scene = bpy.context.scene
    bpy.ops.lgd.fit()
    for last, told in ((9, True), (24, False)):
        scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 1, last
        capfd.readouterr()
        assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and scene.frame_end == 24
        assert ("preview range, 1 to 9, plays" in capfd.readouterr().out) == told


def test_stretched_time_is_told(script):
    scene = bpy.context.scene
    scene.render.frame_map_new = 200
    bpy.ops.lgd.fit()
    (rig,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    scene.frame_set(20)
    frames, errors = takes.take_keys(rig, f'["{result.ERROR_PROPERTY}"]')
    assert rig[result.ERROR_PROPERTY] == pytest.approx(errors[frames == 10][0]), "Blender shows another key than that of the frame"
    assert "Time Stretching" in bpy.context.window_manager.lgd.warnings


def test_footage_that_is_scaled_behind_the_camera_is_told(script):
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    scene.camera = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
    scene.collection.objects.link(scene.camera)
    background = scene.camera.data.background_images.new()
    background.image, settings.place = bpy.data.images.load(settings.path), "CAMERA"
    background.image_user.frame_start, background.image_user.frame_duration = 1, 24
    for scale in (1.0, 1.5):
        background.scale = scale
        bpy.ops.lgd.fit()
        assert ("scaled, shifted" in bpy.context.window_manager.lgd.warnings) == (scale != 1)


def test_no_workspace_keeps_the_line_of_a_descent_that_was_played(script, monkeypatch):
    """Also one that was left while it played."""
    from lgd_blender_addon.operators import descent

    bpy.ops.wm.read_homefile(app_template="", use_factory_startup=True)
    shown = dict.fromkeys(bpy.data.workspaces.keys(), "Step 1 of 3")
    monkeypatch.setattr(bpy.types.WorkSpace, "status_text_set", lambda _, text: shown.update({bpy.context.workspace.name: text}))
    rig = SimpleNamespace(name="gone by now", pose=SimpleNamespace(bones=[]))
    descent.play(bpy.context, rig, None).end()
    assert len(shown) > 5 and not any(shown.values())
