# SPDX-License-Identifier: GPL-3.0-or-later
"""Which camera a solve takes again, and how one that moves is looked for."""

import shutil

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from models import write_motion

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.scene import keyframes, takes
from lgd_blender_addon.scene.motion import load_motion


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE"]


def solved_twice(script, monkeypatch, **moving):
    """Frames 3 to 14 solved, and once more before the camera of the first solve, whose arrays (24, ...) these are; the scene's settings, the
    panel, and which camera the last solve asked for."""
    times = (2 + np.arange(24)) / 25

    def write(file, body, frames, **more):
        return write_motion(file, body, frames, frame_times=times[:frames], **{name: array[:frames] for name, array in moving.items()}, **more)

    monkeypatch.setattr("scripted.write_motion", write)
    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 3, 14
    asked = lambda: script.asked[-1][1].get("camera")  # noqa: E731
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and not script.asked[-1][1].get("camera_kept")
    assert bpy.ops.lgd.fit() == {"FINISHED"} and "new camera" not in show.warnings and script.asked[-1][1]["camera_kept"]
    return settings, show, asked


def test_a_camera_that_turns_is_taken_again_for_its_own_frames_alone(script, monkeypatch):
    """What the background told of one part says nothing of another; As Shown keys are no Real Time ones."""
    T = np.tile(np.eye(4), (24, 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(24)]
    settings, show, asked = solved_twice(script, monkeypatch, T_world_cam=T)
    with np.load(asked()) as camera:
        assert np.abs(camera["T_world_cam"] - T[:12]).max() < 1e-4
    assert len([o for o in bpy.data.objects if o.type == "CAMERA"]) == 1
    settings.timing = "REAL"
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings
    settings.timing, settings.last = "SHOWN", 20
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings
    settings.first, settings.last = 16, 24  # past the first camera's keys it stands still, and the other has too few
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings
    settings.start, settings.first, settings.last = 101, 103, 114  # other frames for the same pictures
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings
    assert bpy.ops.lgd.fit() == {"FINISHED"} and asked() and "new camera" not in show.warnings  # the last one made has these
    settings.start, settings.first, settings.last = 5, 7, 14  # and other pictures on frames that have keys
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings


def test_a_camera_that_turns_is_taken_again_for_pictures_of_a_variable_rate(script, monkeypatch):
    """A picture that Blender shows on two frames has one key, and the pictures after it other numbers than the frames."""
    held = np.delete(np.arange(2, 14), 5)
    T = np.tile(np.eye(4), (len(held), 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(len(held))]
    write = lambda file, body, frames, **more: write_motion(file, body, len(held), T_world_cam=T, frame_times=held / 25, **more)  # noqa: E731
    monkeypatch.setattr("scripted.write_motion", write)
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 3, 14
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not script.asked[-1][1].get("camera")
    assert bpy.ops.lgd.fit() == {"FINISHED"} and script.asked[-1][1].get("camera")
    with np.load(script.asked[-1][1]["camera"]) as camera:
        assert np.abs(camera["T_world_cam"][held - 2] - T).max() < 1e-4
    assert "new camera" not in bpy.context.window_manager.lgd.warnings
    settings.last = 15
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not script.asked[-1][1].get("camera")


def test_each_take_is_matched_and_exported_with_its_own_camera(script, monkeypatch, tmp_path):
    """Two parts of one shot, whose camera turns, on one rig."""
    T = np.tile(np.eye(4), (24, 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(24)]
    settings, _, _ = solved_twice(script, monkeypatch, T_world_cam=T)
    (rig,), scene = rigs(), bpy.context.scene
    first, camera = rig.animation_data.action, scene.camera
    settings.last = 20
    bpy.ops.lgd.fit()
    bpy.context.view_layer.objects.active = rig
    bpy.ops.lgd.set_scene_rate_and_range()
    assert scene.camera != camera and scene.frame_end == 20
    rig.animation_data.action, camera.name = first, "Shot camera"
    bpy.ops.lgd.set_scene_rate_and_range()
    assert scene.camera == camera and (scene.frame_start, scene.frame_end) == (3, 14)
    key = keyframes.find_curve(rig, 'pose.bones["pelvis"].location').keyframe_points.insert(5.5, 0.0)  # by which the camera is read anew
    assert key is not None and bpy.ops.lgd.export_motion(filepath=str(tmp_path / "out.npz")) == {"FINISHED"}
    assert np.abs(load_motion(tmp_path / "out.npz").T_world_cam[[0, -1]] - T[[0, 11]]).max() < 1e-4


@pytest.mark.parametrize("start", (3, 103))
def test_a_camera_in_the_nla_is_taken_again_where_it_moves_alone(script, monkeypatch, start):
    T = np.tile(np.eye(4), (24, 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(24)]
    settings, show, asked = solved_twice(script, monkeypatch, T_world_cam=T)
    data = bpy.context.scene.camera.animation_data
    action, data.action = data.action, None
    data.nla_tracks.new().strips.new("camera", start, action)
    bpy.context.view_layer.update()
    assert bpy.ops.lgd.fit() == {"FINISHED"} and bool(asked()) == (start == 3)
    settings.last = 20
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings


def test_a_hidden_camera_of_other_frames_is_no_obstacle(script, monkeypatch):
    T = np.tile(np.eye(4), (24, 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(24)]
    settings, show, asked = solved_twice(script, monkeypatch, T_world_cam=T)
    (collection,) = rigs()[0].users_collection
    bpy.context.scene.camera = None
    bpy.context.view_layer.layer_collection.children[collection.name].exclude = True
    settings.first, settings.last = 15, 24
    assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "a new camera is made" in show.warnings


def test_a_camera_that_zooms_is_taken_again_for_its_own_frames_alone(script, monkeypatch):
    """Past its lens's keys it would keep the last one; and Blender moves no key of a camera that is hidden."""
    lenses = np.stack([np.array([[focal, 0, 639.5], [0, focal, 359.5], [0, 0, 1]]) for focal in np.linspace(900, 1300, 24)])
    settings, show, asked = solved_twice(script, monkeypatch, cam_K=lenses)
    with np.load(asked()) as camera:
        zoom = camera["cam_K"][:, 0, 0] / camera["cam_K"][0, 0, 0]
        assert np.abs(zoom - lenses[:12, 0, 0] / 900).max() < 1e-4 and camera["T_world_cam"].ndim == 2
    (camera,) = [o for o in bpy.data.objects if o.type == "CAMERA"]
    camera.hide_viewport, bpy.context.scene.camera = True, None  # the scene's own is always evaluated
    with pytest.raises(RuntimeError, match="hidden in viewports"):
        bpy.ops.lgd.fit()
    camera.hide_viewport = False
    for change in ({"timing": "REAL"}, {"timing": "SHOWN", "last": 20}):
        for name, value in change.items():
            setattr(settings, name, value)
        assert bpy.ops.lgd.fit() == {"FINISHED"} and not asked() and "zooms" in show.warnings and "a new camera is made" in show.warnings
    assert bpy.ops.lgd.fit() == {"FINISHED"} and asked()


def test_a_camera_that_travels_is_looked_for_in_the_footage(script):
    """Both by Solve Footage and from keypoints, in a world of its own each time; without footage it is said what is missing."""
    from lgd_blender_addon.operators.request import plan_fit

    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 2, 6
    for camera, moves in (("AUTO", "seen"), ("NEW", "seen"), ("STILL", "still"), ("TRAVELS", "travels")):
        settings.camera = camera
        bpy.ops.lgd.fit()
        assert script.asked[-1][1]["moves"] == moves
    asked = script.asked[-1][1]
    assert asked["footage"]["path"] == asked["source"]["path"] and asked["footage"]["frames"] == asked["source"]["frames"] and "camera" not in asked
    bpy.ops.lgd.detect()
    bpy.ops.lgd.fit_keypoints()
    assert "source" not in script.asked[-1][1] and script.asked[-1][1]["footage"] == asked["footage"]
    bpy.ops.lgd.pick_box(x=10, y=20, w=100, h=200, first=20)  # for the detection of another part: nothing is detected now
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"} and script.asked[-1][1]["footage"] == asked["footage"]
    bpy.ops.lgd.clear_boxes()
    settings.path = ""
    with pytest.raises(LgdError, match="none is chosen"):
        plan_fit(bpy.context, from_keypoints=True)


def test_automatic_takes_the_camera_of_the_rigs_last_solve(script):
    """Not that of an earlier one, which was given up for it: what was told to be set to Travelling would stand still again."""
    settings = bpy.context.scene.lgd
    for camera in ("STILL", "TRAVELS"):
        settings.camera = camera
        assert bpy.ops.lgd.fit() == {"FINISHED"}
    (rig,) = rigs()
    last = bpy.data.objects[rig.lgd.camera]
    assert len([o for o in bpy.data.objects if o.type == "CAMERA"]) == 2
    last.location.x += 3.0
    settings.camera = "AUTO"
    for again in ({}, {"new_rig": True}):
        assert bpy.ops.lgd.fit(**again) == {"FINISHED"}
        with np.load(script.asked[-1][1]["camera"]) as told:
            assert abs(told["T_world_cam"][0, 3] - last.matrix_world.translation.x) < 1e-4
        assert all(o.lgd.camera == last.name for o in rigs())


def test_a_camera_that_stands_still_is_not_taken_again_in_place_of_one_that_moves(script, monkeypatch):
    """The one that moves was made after it, and is made anew for other frames."""
    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    T = np.tile(np.eye(4), (24, 1, 1))
    T[:, :3, :3] = [Matrix.Rotation(0.01 * k, 3, "Y") @ Matrix.Rotation(-1.5, 3, "X") for k in range(24)]
    write = lambda file, body, frames, **more: write_motion(file, body, frames, T_world_cam=T[:frames], **more)  # noqa: E731
    monkeypatch.setattr("scripted.write_motion", write)
    settings.camera = "TRAVELS"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    settings.camera, settings.timing = "AUTO", "REAL"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert not script.asked[-1][1].get("camera") and "a new camera is made" in show.warnings


def test_each_take_finds_its_camera_where_a_later_one_got_its_name(script):
    """A new one has the name that the one before had, which was renamed; one of the user's own is renamed; one is copied."""
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    cameras, actions = [scene.camera], [rig.animation_data.action]
    cameras[0].name = "Wide"
    settings.camera = "NEW"
    bpy.ops.lgd.fit()
    settings.camera = "SCENE"
    cameras.append(takes.camera_of(scene, rig))
    for name in ("Own", "Copy"):
        own = bpy.data.objects.new(name, bpy.data.cameras.new(name)) if name == "Own" else cameras[1].copy()
        scene.collection.objects.link(own)
        scene.camera, own.location.y = own, -5
        cameras.append(own)
        actions.append(rig.animation_data.action)
        bpy.ops.lgd.fit()
    actions.append(rig.animation_data.action)
    assert len(set(cameras)) == len(set(actions)) == 4
    cameras[2].name = "Renamed"
    for action, camera in zip(actions, cameras, strict=True):
        rig.animation_data.action = action
        assert takes.camera_of(scene, rig) == camera


def test_a_rig_that_was_appended_finds_the_camera_that_came_along(script, film, tmp_path):
    """Of a shot whose footage, and so its camera, has the same name."""
    for shot in ("a", "b"):
        bpy.ops.wm.read_homefile(use_empty=True)
        (tmp_path / shot).mkdir()
        bpy.context.scene.lgd.path = shutil.copy(film, str(tmp_path / shot / "take.mp4"))
        bpy.ops.lgd.fit()
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / f"{shot}.blend"))
    with bpy.data.libraries.load(str(tmp_path / "a.blend")) as (there, here):
        here.collections = there.collections
    scene = bpy.context.scene
    scene.collection.children.link(here.collections[0])
    for rig in rigs():
        camera = takes.camera_of(scene, rig)
        assert camera.lgd.footage == rig.lgd.footage and camera.users_collection == rig.users_collection
