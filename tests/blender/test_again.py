# SPDX-License-Identifier: GPL-3.0-or-later
"""Solving again, in parts, and onto what was renamed, moved, boxed or linked meanwhile; what an export takes along."""

import shutil

import bpy
import numpy as np
import pytest
from models import forward
from test_refusals import pictures as save_pictures

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.operators.request import find_footage, target_rig
from lgd_blender_addon.scene import armature, axes, keyframes, mesh, result
from lgd_blender_addon.scene.motion import load_motion


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE"]


@pytest.mark.parametrize("what", ["rendering", "dragging"])
def test_a_render_or_a_drag_is_waited_for(script, monkeypatch, what):
    from lgd_blender_addon.operators import busy, pump
    from lgd_blender_addon.operators.request import plan_fit

    held = True
    monkeypatch.setattr(busy, what, lambda: held)
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    for _ in range(20):
        pump.tick()
    assert run.over and pump.current() is run and not rigs()
    assert bpy.context.window_manager.lgd.stage == "wait" and "Waiting" in pump.line(bpy.context.window_manager.lgd)
    held = False
    pump.finish(run, 20)
    assert len(rigs()) == 1


def test_another_range_shows_its_own_pictures_behind_the_camera(script):
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 2, 6
    bpy.ops.lgd.fit()
    settings.first, settings.last = 12, 18
    bpy.ops.lgd.fit()
    (background,) = bpy.context.scene.camera.data.background_images
    user = background.image_user
    assert user.frame_start + user.frame_duration > 18 and user.frame_offset == 0


def test_ticked_people_solved_again_keep_their_rigs(script):
    script.people = 2
    for _ in range(2):
        bpy.ops.lgd.detect()
        for item in bpy.context.window_manager.lgd.people:
            item.use = True
        assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
        assert len(rigs()) == 2 and sorted(rig.lgd.person for rig in rigs()) == [0, 1]


def test_a_rig_and_a_scene_that_are_renamed_meanwhile_get_the_result(script):
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    bpy.ops.lgd.fit()
    (rig,) = rigs()
    before = rig.animation_data.action
    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    rig.name, bpy.context.scene.name = "Hero", "Shot 3"
    script.hold = False
    pump.finish(run, 20)
    assert rigs() == [rig] and rig.animation_data.action != before


def test_a_box_round_another_person_makes_another_rig(script):
    settings = bpy.context.scene.lgd
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    stored = load_motion(bytes(rig.animation_data.action[result.STORED_PROPERTY]))
    hips = stored.cam_K @ (stored.trans[0] + armature.rest_pelvis(rig, ["pelvis"]))
    x, y = hips[:2] / hips[2]
    box = settings.boxes.add()
    box.x, box.y, box.w, box.h, box.first, box.last = x - 100, y - 200, 200, 400, 1, 10
    bpy.ops.lgd.fit()
    assert rigs() == [rig], "the same person, boxed"
    rig.data.bones["pelvis"].name = "hips"
    assert target_rig(bpy.context, find_footage(bpy.context), 0, [[0, 0, 5, 5, 0, 9]]) == rig, "nobody's bones are read"
    rig.data.bones["hips"].name = "pelvis"
    box.x = x + 300
    bpy.ops.lgd.fit()
    assert len(rigs()) == 2


def test_a_box_round_the_second_person_finds_their_rig(script, monkeypatch):
    """Of two who were solved, one is solved again alone: a box shows one person, who is then the first."""
    settings = bpy.context.scene.lgd
    script.people, settings.look_for, fit = 2, 2, script.fit
    alone = False

    def beside(request):  # the second person stands 1.5 m beside the first
        found = fit(request)
        motion = found["motions"][0 if alone else 1]
        with np.load(motion) as file:
            np.savez(motion, **{**file, "trans": file["trans"] + [1.5, 0, 0]})
        return found

    monkeypatch.setattr(script, "fit", beside)
    bpy.ops.lgd.fit()
    first, second = sorted(rigs(), key=lambda rig: rig.lgd.person)
    stored = load_motion(bytes(second.animation_data.action[result.STORED_PROPERTY]))
    hips = stored.cam_K @ (stored.trans[0] + armature.rest_pelvis(second, ["pelvis"]))
    box = settings.boxes.add()
    box.x, box.y, box.w, box.h, box.first, box.last = hips[0] / hips[2] - 100, hips[1] / hips[2] - 200, 200, 400, 1, 10
    alone, before = True, second.animation_data.action
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert len(rigs()) == 2 and second.animation_data.action != before and second.lgd.person == 1
    assert "New Shape" not in bpy.context.window_manager.lgd.warnings
    settings.boxes.clear()
    alone = False
    assert bpy.ops.lgd.fit() == {"FINISHED"} and len(rigs()) == 2


@pytest.mark.parametrize("aside, told", [(0.0, False), (0.3, False), (1.2, True)])
def test_another_person_on_a_rig_is_told_of(script, monkeypatch, aside, told):
    """Of another range the detector may take another one, and people have other numbers."""
    bpy.ops.lgd.fit()
    fit = script.fit

    def of_another(request):
        found = fit(request)
        with np.load(found["motions"][0]) as file:
            np.savez(found["motions"][0], **{**file, "trans": file["trans"] + [aside, 0, 0]})
        return found

    monkeypatch.setattr(script, "fit", of_another)
    scene = bpy.context.scene
    scene.lgd.range, scene.lgd.first, scene.lgd.last = "CUSTOM", 5, 20
    bpy.ops.lgd.fit()
    assert len(rigs()) == 1
    assert ("New Shape" in bpy.context.window_manager.lgd.warnings) == told


def test_keypoints_of_other_footage_are_refused(script, tmp_path):
    settings = bpy.context.scene.lgd
    bpy.ops.lgd.detect()
    other = str(shutil.copy(settings.path, tmp_path / "other.mp4"))
    source, settings.path = settings.keypoints_source, other
    with pytest.raises(RuntimeError, match="were detected in"):
        bpy.ops.lgd.fit_keypoints()
    assert source and not rigs()
    settings.keypoints = settings.keypoints  # chosen by hand, they may be anybody's
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}


def test_an_orthographic_camera_is_refused(script):
    camera = bpy.data.objects.new("flat", bpy.data.cameras.new("flat"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera, camera.data.type = camera, "ORTHO"
    bpy.context.scene.lgd.camera = "SCENE"
    with pytest.raises(RuntimeError, match="orthographic"):
        bpy.ops.lgd.fit()


def test_a_renamed_camera_is_still_matched(script):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    camera = bpy.context.scene.camera
    camera.name, bpy.context.scene.camera = "Shot camera", None
    bpy.context.scene.render.pixel_aspect_x = 2.0
    bpy.context.view_layer.objects.active = rig
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    assert bpy.context.scene.camera == camera and bpy.context.scene.render.pixel_aspect_x == 1.0


@pytest.mark.parametrize("scale", (1.0, 100.0))
def test_a_rig_that_rides_on_something_with_its_camera_is_not_carried_twice(script, scale):
    scene = bpy.context.scene
    bpy.ops.lgd.fit()
    (rig,), camera = rigs(), bpy.context.scene.camera
    stage = bpy.data.objects.new("train", None)
    scene.collection.objects.link(stage)
    rig.parent = camera.parent = stage
    stage.scale = (scale,) * 3
    for frame, x in ((1, 2.0), (24, 9.0)):
        stage.location.x = x
        stage.keyframe_insert("location", frame=frame)
    for _ in range(2):
        assert bpy.ops.lgd.fit() == {"FINISHED"} and rigs() == [rig]
        assert "without its camera" not in bpy.context.window_manager.lgd.warnings
        solved = load_motion(script.folder / f"motion{len(script.asked)}_0.npz")
        with np.load(script.asked[-1][1]["camera"]) as told:
            assert np.abs(told["T_world_cam"] - solved.T_world_cam).max() < 1e-4  # as the first solve found it, that stands still
        for frame in (1, 12, 24):
            scene.frame_set(frame)
            seen = camera.matrix_world.inverted() @ rig.matrix_world @ rig.pose.bones["pelvis"].head
            wanted = solved.trans[frame - 1] + script.body.joints(mesh.get_shape(result.skin_of(rig)))[0]
            assert np.abs(np.array(seen) - wanted * (1, -1, -1)).max() < 1e-3


def test_a_unit_that_is_no_metre_is_told(script):
    bpy.context.scene.unit_settings.scale_length = 0.01
    bpy.ops.lgd.fit()
    assert "unit scale is 0.01" in bpy.context.window_manager.lgd.warnings


def test_a_clip_that_was_renamed_is_asked_for(script):
    settings = bpy.context.scene.lgd
    bpy.context.scene.active_clip = bpy.data.movieclips.load(settings.path)
    settings.place, settings.clip = "CLIP", "gone"
    with pytest.raises(RuntimeError, match="gone"):
        bpy.ops.lgd.fit()


def test_a_rig_leaves_the_nlas_tweak_mode(script):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    data = rig.animation_data
    track = data.nla_tracks.new()
    track.strips.new("take", 1, data.action)
    data.action = None
    data.use_tweak_mode = True
    assert data.use_tweak_mode
    bpy.ops.lgd.fit()
    assert rigs() == [rig] and not data.use_tweak_mode and result.STORED_PROPERTY in data.action


@pytest.mark.parametrize("keyed", [False, True])
def test_export_has_what_moves_the_root_and_the_object(script, tmp_path, keyed):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    scene, root = bpy.context.scene, rig.pose.bones["root"]
    root.rotation_mode = "XYZ" if keyed else "QUATERNION"
    for frame, x in ((1, 0.0), (20, 1.0)):
        root.location, root.rotation_quaternion, root.rotation_euler = (x, 0.2 * x, 0), (1, 0.3 * x, 0, 0.2 * x), (0.5 * x, 0, x)
        root.keyframe_insert("location", frame=frame)
        root.keyframe_insert("rotation_euler" if keyed else "rotation_quaternion", frame=frame)
    rig.location, rig.rotation_euler = (0.5, -0.3, 0.1), (0.1, 0.2, 0.7)
    if keyed:
        rig.keyframe_insert("location", frame=1)
        rig.location = (2, 0, 0)
        rig.keyframe_insert("location", frame=24)
    bpy.context.view_layer.objects.active = rig
    scene.frame_set(7)
    bpy.ops.lgd.export_motion(filepath=str(tmp_path / "out.npz"), form="SMPL")
    assert scene.frame_current == 7
    with np.load(tmp_path / "out.npz") as file:
        trans, poses = file["trans"], file["poses"]
    rest = armature.rest_pelvis(rig, ["pelvis"])
    frames = sorted({f for c in keyframes.curves(rig) if c.data_path.startswith("pose") for f in keyframes.keys_of(c)[0]})
    for row in (0, 6, 19, len(frames) - 1):
        scene.frame_set(int(frames[row]))
        pelvis, ankle = (np.array(rig.matrix_world @ rig.pose.bones[name].head) for name in ("pelvis", "left_ankle"))
        assert np.abs(trans[row] + rest - pelvis).max() < 1e-4
        turn = axes.quaternions(poses[row].reshape(1, 24, 3))
        joints = forward(script.body, turn[0], mesh.get_shape(result.skin_of(rig)), trans[row], skin=False)[0]
        assert np.abs(joints[7] - ankle).max() < 1e-3


@pytest.mark.parametrize("folder", [False, True])
def test_a_part_in_real_time_lies_where_it_lay_in_the_whole(script, tmp_path, folder):
    settings, scene = bpy.context.scene.lgd, bpy.context.scene
    settings.path = save_pictures(tmp_path, 24) if folder else settings.path
    settings.timing, scene.render.fps = "REAL", 50
    bpy.ops.lgd.fit()
    (rig,) = rigs()

    def pictures():
        action = rig.animation_data.action
        first = int(load_motion(bytes(action[result.STORED_PROPERTY])).extra["first"])
        keys = keyframes.keys_of(keyframes.find_curve(rig, 'pose.bones["pelvis"].location'))[0]
        return dict(zip(range(first, first + len(keys)), keys, strict=True))

    whole = pictures()
    settings.range, settings.first, settings.last = "CUSTOM", 11, 16
    bpy.ops.lgd.fit()
    part = pictures()
    assert len(part) == 6 and all(abs(whole[number] - frame) < 0.05 for number, frame in part.items())


def test_a_project_that_was_moved_keeps_its_rig(script, tmp_path):
    settings = bpy.context.scene.lgd
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    first = str(shutil.copy(settings.path, tmp_path / "here" / "take.mp4"))
    settings.path = first
    bpy.ops.lgd.fit()
    settings.path = str(shutil.copy(first, tmp_path / "there" / "take.mp4"))
    bpy.ops.lgd.fit()
    assert len(rigs()) == 2, "another file of the same name, while the first is there"
    bpy.data.objects.remove(rigs()[1])
    (tmp_path / "here" / "take.mp4").unlink()
    bpy.ops.lgd.fit()
    assert len(rigs()) == 1


def test_of_two_people_solved_again_neither_changes_where_one_fails(script):
    """The second one's body is deleted while the job runs; the first one's keeps its action, its modes and its figures, and the pictures
    behind the camera their place."""
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    script.people = 2
    bpy.ops.lgd.detect()
    for item in bpy.context.window_manager.lgd.people:
        item.use = True
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    first, second = sorted(rigs(), key=lambda rig: rig.lgd.person)
    first.pose.bones["left_knee"].rotation_mode = "XYZ"
    first[result.ERROR_PROPERTY] = 7.0
    held = first.animation_data.action
    blocks = len(bpy.data.actions), len(bpy.data.objects)
    user = bpy.context.scene.camera.data.background_images[0].image_user
    offset, bpy.context.scene.lgd.start = user.frame_offset, 101
    run = pump.start(plan_fit(bpy.context, from_keypoints=True))
    bpy.data.objects.remove(result.skin_of(second))
    with pytest.raises(LgdError, match="no body mesh"):
        pump.finish(run, 20)
    assert first.animation_data.action == held and first.pose.bones["left_knee"].rotation_mode == "XYZ"
    assert user.frame_offset == offset
    assert first[result.ERROR_PROPERTY] == 7.0 and (len(bpy.data.actions), len(bpy.data.objects)) == (blocks[0], blocks[1] - 1)


def test_where_none_of_the_ticked_people_was_solved_nothing_is_built(script, monkeypatch):
    script.people = 2
    bpy.ops.lgd.detect()
    for item in bpy.context.window_manager.lgd.people:
        item.use = True
    own = script.fit
    monkeypatch.setattr(script, "fit", lambda request: {**own(request), "figures": [{"person": n} for n in (5, 6)]})
    with pytest.raises(RuntimeError, match="None of the people"):
        bpy.ops.lgd.fit_keypoints()
    assert not rigs()


def test_footage_beside_the_projects_folder_is_one_with_what_its_full_path_names(script, film, tmp_path):
    import shutil

    for name in ("shots", "footage"):
        (tmp_path / name).mkdir()
    whole = shutil.copy(film, tmp_path / "footage" / "walk.mp4")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shots" / "a.blend"))
    settings = bpy.context.scene.lgd
    settings.path = "//../footage/walk.mp4"
    bpy.ops.lgd.detect()
    bpy.ops.lgd.fit()
    settings.path = str(whole)
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"} and bpy.ops.lgd.fit() == {"FINISHED"}
    assert len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 1 and len(bpy.data.images) == 1


def test_markers_that_switch_cameras_are_told_when_the_scene_is_matched(script, capfd):
    bpy.ops.lgd.fit()
    scene = bpy.context.scene
    solved = next(o for o in scene.objects if o.lgd.role == "CAMERA")
    other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    scene.collection.objects.link(other)
    marker = scene.timeline_markers.new("shot", frame=1)
    for bound, told in ((None, False), (solved, False), (other, True)):
        marker.camera = bound
        capfd.readouterr()
        assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and scene.camera == solved
        assert ("switch to other cameras" in capfd.readouterr().out) == told


def test_a_full_copy_of_a_scene_has_its_own_camera(script, tmp_path):
    from lgd_blender_addon.scene import export, takes
    from lgd_blender_addon.scene.motion import load_motion

    bpy.ops.lgd.fit()
    bpy.ops.scene.new(type="FULL_COPY")
    scene = bpy.context.scene
    rig, camera = (next(o for o in scene.objects if o.type == kind) for kind in ("ARMATURE", "CAMERA"))
    bpy.context.view_layer.objects.active = rig
    scene.camera = None
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and scene.camera == camera
    for item in (rig, camera):
        item.location.x += 3
    bpy.context.view_layer.update()
    export.write_motion(scene, rig, str(tmp_path / "out.npz"))
    assert np.abs(load_motion(tmp_path / "out.npz").trans - takes.stored_motion(rig).trans).max() < 1e-3
    bpy.data.objects.remove(camera)
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and scene.camera is None


def test_pictures_behind_a_linked_camera_stay_and_that_is_told(script, tmp_path):
    bpy.ops.lgd.fit()
    path = bpy.context.scene.lgd.path
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "shot.blend"), link=True) as (there, here):
        here.collections = [name for name in there.collections if name.startswith("LGD")]
    bpy.context.scene.collection.children.link(here.collections[0])
    settings = bpy.context.scene.lgd
    settings.place, settings.path, settings.start = "FILE", path, 101
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert "belongs to another file" in bpy.context.window_manager.lgd.warnings
    assert [o for o in bpy.data.objects if o.type == "ARMATURE" and o.library is None]
