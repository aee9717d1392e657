# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user, or the machine, takes away before a solve is built or solved again: the result is kept."""

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest
from models import synthetic_body
from movies import make_movie

from lgd_blender_addon.operators import bodies, pump
from lgd_blender_addon.operators.request import plan_fit
from lgd_blender_addon.scene import keyframes, result


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE"]


def held(script, meanwhile) -> pump.Run:
    """A solve during which something happens."""
    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    meanwhile()
    script.hold = False
    pump.finish(run, 20)
    return run


def test_footage_that_vanishes_leaves_the_solve(script, tmp_path):
    path = tmp_path / "drive" / "own.mp4"
    path.parent.mkdir()
    shutil.copy(bpy.context.scene.lgd.path, path)
    bpy.context.scene.lgd.path = str(path)
    run = held(script, lambda: shutil.rmtree(path.parent))
    assert run.error is None and len(rigs()) == 1 and "own.mp4 is not to be read any more" in bpy.context.window_manager.lgd.warnings
    camera = bpy.context.scene.camera
    assert camera is not None and not len(camera.data.background_images)


def test_footage_that_is_replaced_by_other_of_its_name_shows_behind_the_camera(script, film, tmp_path):
    path = bpy.context.scene.lgd.path = shutil.copy(film, str(tmp_path / "take.mp4"))
    bpy.ops.lgd.fit()
    shown = bpy.context.scene.camera.data.background_images[0].image
    assert shown.frame_duration == 24
    shutil.copy(make_movie(tmp_path, 30, (25, 1)), path)
    bpy.ops.lgd.fit()
    assert bpy.context.scene.camera.data.background_images[0].image == shown and shown.frame_duration == 30


def test_a_rig_that_is_deleted_meanwhile_is_made_anew(script):
    bpy.ops.lgd.fit()
    run = held(script, lambda: bpy.data.objects.remove(rigs()[0]))
    assert run.error is None and len(rigs()) == 1 and "was made instead" in bpy.context.window_manager.lgd.warnings
    assert len(keyframes.curves(rigs()[0])) > 90


def test_a_camera_that_is_deleted_meanwhile_is_made_once(script):
    bpy.ops.lgd.fit()
    held(script, lambda: bpy.data.objects.remove(bpy.context.scene.camera))
    bpy.ops.lgd.fit()
    cameras = [o for o in bpy.data.objects if o.type == "CAMERA"]
    assert len(cameras) == 1 and cameras[0].lgd.role == "CAMERA" and len(rigs()) == 1


def test_a_camera_that_is_renamed_meanwhile_is_the_one_that_was_meant(script):
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Placed", bpy.data.cameras.new("Placed"))
    scene.collection.objects.link(camera)
    scene.camera, scene.lgd.camera = camera, "SCENE"
    run = held(script, lambda: setattr(camera, "name", "Shot 10"))
    assert [o for o in scene.objects if o.type == "CAMERA"] == [camera] and run.built[0].rig.lgd.camera == "Shot 10"


def test_bones_of_other_names_are_told_before_the_solve(script):
    bpy.ops.lgd.fit()
    rigs()[0].data.bones["left_knee"].name = "Knie"
    before = len(script.asked)
    try:
        bpy.ops.lgd.fit()
    except RuntimeError:
        pass
    show = bpy.context.window_manager.lgd
    assert "left_knee" in show.error and "New Shape" in show.hint and len(script.asked) == before
    assert bpy.ops.lgd.new_shape() == {"FINISHED"} and len(rigs()) == 2


def test_bones_that_rest_turned_are_told(script, tmp_path):
    """Keys and exports of them were other poses than the person's. Ctrl+A on the object turns all bones alike, which is known."""
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    rig.rotation_euler, rig.scale = (0.3, 0.2, 1.0), (2, 2, 2)
    bpy.ops.object.transform_apply()
    assert bpy.ops.lgd.fit() == {"FINISHED"} and rigs() == [rig]
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones["left_knee"].tail = rig.data.edit_bones["left_ankle"].head
    bpy.ops.object.mode_set(mode="OBJECT")
    before = len(script.asked)
    for button in (bpy.ops.lgd.fit, lambda: bpy.ops.lgd.export_motion(filepath=str(tmp_path / "out.npz"))):
        with pytest.raises(RuntimeError, match="turned in Edit Mode.*left_knee"):
            button()
    assert len(script.asked) == before and not list(tmp_path.glob("out.npz*"))


@pytest.mark.parametrize("lost", ["bone", "body"])
def test_of_several_people_too_what_their_rigs_lack_is_told_before_the_solve(script, lost):
    script.people = bpy.context.scene.lgd.look_for = 2
    bpy.ops.lgd.fit()
    second = next(rig for rig in rigs() if rig.lgd.person == 1)
    if lost == "bone":
        second.data.bones["left_knee"].name = "Knie"
    else:
        bpy.data.objects.remove(second.children[0])
    before = len(script.asked)
    with pytest.raises(RuntimeError, match="left_knee" if lost == "bone" else "lost its body"):
        bpy.ops.lgd.fit()
    assert len(script.asked) == before


def test_another_body_makes_another_rig(script):
    """Not the old one's mesh with a take that was solved for the other."""
    bpy.ops.lgd.fit()
    (first,) = rigs()
    action = first.animation_data.action
    script.body = synthetic_body()
    bodies._described.clear()  # another one is chosen
    bpy.ops.lgd.fit()
    assert len(rigs()) == 2 and first.animation_data.action == action and "betas" not in script.asked[-1][1]
    assert "another body" in bpy.context.window_manager.lgd.warnings
    (second,) = (rig for rig in rigs() if rig != first)
    assert result.skin_of(second)["lgd_body"] == script.body.id
    bpy.context.view_layer.objects.active = second
    bpy.ops.lgd.fit()
    assert len(rigs()) == 2 and len(script.asked[-1][1]["betas"]) == 10


def test_new_shape_goes_without_the_keypoints_of_other_footage(script, tmp_path):
    settings = bpy.context.scene.lgd
    bpy.ops.lgd.detect()
    other = tmp_path / "other.mp4"
    shutil.copy(settings.path, other)
    settings.path = str(other)
    bpy.ops.lgd.fit()
    assert bpy.ops.lgd.new_shape() == {"FINISHED"} and len(rigs()) == 2
    assert np.all([rig.lgd.footage == str(other) for rig in rigs()])


def test_a_full_temporary_folder_is_told_in_a_sentence(script, monkeypatch):
    """Where the camera of an earlier solve is put for the worker."""
    import errno
    import os

    from lgd_blender_addon.operators import request

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bpy.ops.lgd.fit()
    monkeypatch.setattr(request.np, "savez", full)
    with pytest.raises(RuntimeError, match="temporary folder .* cannot be written: No space left") as told:
        bpy.ops.lgd.fit()
    assert "Traceback" not in str(told.value) and bpy.context.window_manager.lgd.code == "disk"


def test_a_damaged_second_person_leaves_the_pictures_where_they_were(script, monkeypatch):
    script.people = 2
    bpy.ops.lgd.detect()
    bpy.ops.lgd.fit()
    scene, solve = bpy.context.scene, script.fit
    user = scene.camera.data.background_images[0].image_user
    before = user.frame_offset
    scene.lgd.start = 101
    bpy.context.window_manager.lgd.people[1].use = True

    def damaged(request):
        found = solve(request)
        Path(found["motions"][1]).write_bytes(b"damaged")
        return found

    monkeypatch.setattr(script, "fit", damaged)
    with pytest.raises(RuntimeError, match="cannot be read as a motion"):
        bpy.ops.lgd.fit_keypoints()
    assert user.frame_offset == before


def test_motions_are_written_and_read_beside_the_file(script, tmp_path, capfd):
    bpy.ops.lgd.fit()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    assert bpy.ops.lgd.export_motion(filepath="//out.npz") == {"FINISHED"} and (tmp_path / "out.npz").is_file()
    assert bpy.ops.lgd.import_motion(filepath="//out.npz") == {"FINISHED"}
    bpy.context.view_layer.objects.active = solved = next(rig for rig in rigs() if rig.lgd.trace)
    shutil.copy(solved.lgd.trace, tmp_path / "steps.npz")
    assert bpy.ops.lgd.play_descent(trace="//steps.npz") == {"FINISHED"}, "as the file browser names them"
    with pytest.raises(RuntimeError, match="^Error: The file x"):
        bpy.ops.lgd.export_motion(filepath=f"//{'x' * 260}.npz")
    bpy.context.scene.unit_settings.scale_length = 0.01
    assert bpy.ops.lgd.import_motion(filepath="//out.npz") == {"FINISHED"}
    assert "unit scale is 0.01" in capfd.readouterr().out, "told as after a solve"


def test_the_steps_of_an_imported_motion_are_played(script, tmp_path):
    """As the command line leaves both."""
    bpy.ops.lgd.fit()
    (solved,) = rigs()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.lgd.export_motion(filepath="//out.npz")
    shutil.copy(solved.lgd.trace, tmp_path / "steps.npz")
    poses = []
    for steps in ("", "//steps.npz", "steps.npz"):
        assert bpy.ops.lgd.import_motion(filepath="//out.npz", steps=steps) == {"FINISHED"}
        rig = bpy.context.object
        assert bpy.ops.lgd.play_descent.poll() == bool(steps)
    for one in (rig, solved):
        bpy.context.view_layer.objects.active = one
        bpy.context.scene.frame_set(5)
        assert bpy.ops.lgd.play_descent() == {"FINISHED"}
        poses.append([tuple(bone.rotation_quaternion) for bone in one.pose.bones])
    assert np.allclose(poses[0], poses[1], atol=1e-5)


def test_steps_of_another_motion_are_told_at_the_import(script, tmp_path):
    """Named wrongly they were noticed at Play the Descent alone, or never: of another length they were played as they came."""
    bpy.ops.lgd.fit()
    (solved,) = rigs()
    bpy.ops.lgd.export_motion(filepath=str(tmp_path / "out.npz"))
    with np.load(solved.lgd.trace) as file:
        np.savez(tmp_path / "short.npz", **{name: file[name][:, :-1] if file[name].ndim > 1 else file[name][:-1] for name in file})
    for name, words in (("gone.npz", "does not exist"), ("out.npz", "no steps of the descent"), ("short.npz", "and the motion has")):
        with pytest.raises(RuntimeError, match=words):
            bpy.ops.lgd.import_motion(filepath=str(tmp_path / "out.npz"), steps=str(tmp_path / name))
        assert rigs() == [solved]


@pytest.mark.parametrize(
    "name, words",
    [("gone.npz", "does not exist"), ("folder", "is a folder"), ("steps.npz", "steps of a descent.*as Steps"), ("keypoints.npz", "keypoints.*under Keypoints")],
)
def test_what_is_no_motion_is_told_as_what_it_is(addon, tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "steps.npz", poses=np.zeros((4, 5, 72)), trans=np.zeros((4, 5, 3)), reprojection=np.zeros((4, 5)))
    np.savez(tmp_path / "keypoints.npz", keypoints=np.zeros((5, 17, 2)), confidence=np.zeros((5, 17)), layout="coco17", image_size=[640, 480])
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.lgd.import_motion(filepath=str(tmp_path / name))
