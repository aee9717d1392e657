# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs in states that their makers did not leave them in: in Edit Mode, hidden in Pose Mode, with another's action, another shape or no size."""

import shutil
from dataclasses import replace

import bpy
import numpy as np
import pytest
from models import write_motion
from test_addon import _Layout
from test_result import plain_footage

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.scene import carriage, correctives, export, keyframes, mesh, result, takes, trust
from lgd_blender_addon.scene.motion import load_motion


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE"]


def edit(item, mode="EDIT"):
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode=mode)


def test_in_edit_mode_nothing_moves_the_bones_and_that_is_told(tmp_path, official_body, addon):
    motion = load_motion(write_motion(tmp_path / "motion.npz", official_body))
    built = result.build(bpy.context.scene, motion, official_body, plain_footage(), result.Options(show_footage=False))
    bpy.context.view_layer.update()
    edit(built.rig)
    export.write_motion(bpy.context.scene, built.rig, str(tmp_path / "keys.npz"))  # of what is keyed alone the curves tell
    built.rig.animation_data.nla_tracks.new().strips.new("layer", 1, built.action)
    for ask in (
        lambda: export.write_motion(bpy.context.scene, built.rig, str(tmp_path / "out.npz")),
        lambda: correctives.set_mode(built.mesh, built.rig, "BAKED", bpy.context.scene),
    ):
        with pytest.raises(LgdError, match="Edit Mode"):
            ask()
    assert correctives.get_mode(built.mesh) == "LIVE"


@pytest.mark.parametrize("mode", ["POSE", "EDIT"])
def test_who_is_active_may_be_hidden_in_a_mode_of_its_own(script, monkeypatch, mode):
    """Blender lets nobody out of Pose Mode who is hidden."""
    other = bpy.data.objects.new("other", bpy.data.armatures.new("other"))
    bpy.context.scene.collection.objects.link(other)
    edit(other, mode)
    other.hide_viewport = True
    bpy.ops.lgd.fit()
    (rig,) = (o for o in rigs() if o != other)
    bpy.context.view_layer.objects.active = other
    monkeypatch.setattr(trust, "at", lambda rig, frame: {4: 0.1})
    assert bpy.ops.lgd.select_doubtful() == {"FINISHED"}
    assert bpy.context.object == rig and bpy.context.mode == "POSE"


def test_another_rigs_action_without_a_slot_is_not_taken_for_ones_own(solved, default_body, tmp_path):
    if not keyframes.SLOTS:
        pytest.skip("actions have no slots here")
    motion, first = solved
    second = result.build(bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    second.rig.animation_data.action = first.action  # as chosen in the Action Editor: of its slots none is of this rig's name
    assert second.rig.animation_data.action_slot is None
    assert takes.playing(second.rig) == (None, []) and not keyframes.curves(second.rig)
    with pytest.raises(LgdError, match="no keys"):
        export.write_motion(bpy.context.scene, second.rig, str(tmp_path / "out.npz"))
    second.rig.animation_data.action_slot = first.rig.animation_data.action_slot
    assert takes.playing(second.rig)[0] == first.action
    assert export.write_motion(bpy.context.scene, second.rig, str(tmp_path / "out.npz")) == motion.frames


@pytest.mark.parametrize("people", [1, 2])
def test_a_shape_key_of_another_name_is_told_before_the_solve(script, people):
    script.people = bpy.context.scene.lgd.look_for = people
    bpy.ops.lgd.fit()
    result.skin_of(rigs()[0]).data.shape_keys.key_blocks["Shape003"].name = "belly"
    asked = len(script.asked)
    with pytest.raises(RuntimeError, match="Shape003.*New Shape"):
        bpy.ops.lgd.fit()
    assert len(script.asked) == asked
    bpy.context.view_layer.objects.active = rigs()[0]
    with pytest.raises(RuntimeError, match="Shape003"):
        bpy.ops.lgd.export_motion(filepath=bpy.app.tempdir + "out.npz")


def test_a_rig_of_no_size_is_told_before_the_solve(script):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    rig.scale = (0.0, 0.0, 0.0)
    bpy.context.view_layer.update()
    asked = len(script.asked)
    with pytest.raises(RuntimeError, match="scaled to nothing"):
        bpy.ops.lgd.fit()
    assert len(script.asked) == asked
    with pytest.raises(RuntimeError, match="scaled to nothing"):
        bpy.ops.lgd.export_motion(filepath=bpy.app.tempdir + "out.npz")


def test_bones_that_do_not_lie_on_the_joints_of_a_changed_shape_are_told(script):
    show = bpy.context.window_manager.lgd
    for _ in range(2):
        bpy.ops.lgd.fit()
        assert "joints of its shape" not in show.warnings
    skin = result.skin_of(rigs()[0])
    (key,) = keyframes.find_curve(skin.data.shape_keys, 'key_blocks["Shape000"].value').keyframe_points
    key.co.y += 2.0
    bpy.context.scene.frame_set(2)
    bpy.ops.lgd.fit()
    assert "joints of its shape" in show.warnings


@pytest.mark.parametrize("folder", [False, True])
def test_a_project_that_was_moved_has_its_pictures_behind_the_camera(script, film, tmp_path, folder):
    before, after = tmp_path / "project", tmp_path / "moved"
    before.mkdir()
    if folder:
        (before / "shot").mkdir()
        image = bpy.data.images.new("picture", 64, 36)
        for number in range(1, 6):
            image.filepath_raw, image.file_format = str(before / "shot" / f"p_{number:04d}.png"), "PNG"
            image.save()
        name = "shot"
    else:
        name = shutil.copy(film, before / "film.mp4").name
    bpy.ops.wm.save_as_mainfile(filepath=str(before / "shot.blend"))
    bpy.context.scene.lgd.path = "//" + name
    bpy.ops.lgd.fit()
    (picture,) = (b.image for b in bpy.context.scene.camera.data.background_images)
    assert picture.filepath.startswith("//" + name) and picture.source == ("SEQUENCE" if folder else "MOVIE")
    absolute = bpy.path.abspath(picture.filepath)
    for path, found in ((picture.filepath, True), (absolute, False)):  # of older versions: the full path
        bpy.context.scene.camera.data.background_images[0].image.filepath = path
        bpy.ops.wm.save_as_mainfile(filepath=str(before / "shot.blend"))
        shutil.copytree(before, after)
        shutil.rmtree(before)
        bpy.ops.wm.open_mainfile(filepath=str(after / "shot.blend"))
        (background,) = bpy.context.scene.camera.data.background_images
        assert bpy.path.abspath(background.image.filepath).startswith(str(after / name)) == found
        bpy.ops.lgd.fit()
        (background,) = bpy.context.scene.camera.data.background_images
        assert bpy.path.abspath(background.image.filepath).startswith(str(after / name))
        shutil.move(after, before)
        bpy.ops.wm.open_mainfile(filepath=str(before / "shot.blend"))


def test_the_steps_are_not_keyed_onto_a_linked_rig_in_vain(script, tmp_path):
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    assert bpy.ops.lgd.play_descent.poll()
    library = str(tmp_path / "library.blend")
    bpy.data.libraries.write(library, {rigs()[0].users_collection[0]})
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(library, link=True) as (there, here):
        here.collections = there.collections
    bpy.context.scene.collection.children.link(here.collections[0])
    (rig,) = rigs()
    bpy.context.view_layer.objects.active = rig
    assert not bpy.ops.lgd.play_descent.poll()
    with pytest.raises(RuntimeError, match="another file"):
        bpy.ops.lgd.play_descent(bake=True)
    from lgd_blender_addon import panels

    panels.draw_result(_Layout(), bpy.context)


def test_of_several_people_each_keeps_their_rigs_shape(script):
    """Else their feet, planted by legs of another length, would float or sink."""
    script.people = bpy.context.scene.lgd.look_for = 2
    bpy.ops.lgd.fit()
    first, second = sorted(rigs(), key=lambda rig: rig.lgd.person)
    worn = [mesh.get_shape(result.skin_of(rig)) for rig in (first, second)]
    bpy.ops.lgd.fit()
    assert np.allclose(script.asked[-1][1]["betas"], worn)
    for rig, betas in zip((first, second), worn, strict=True):
        assert np.allclose(takes.stored_motion(rig).betas, betas)
    bpy.data.objects.remove(first)
    bpy.ops.lgd.fit()
    one, other = script.asked[-1][1]["betas"]
    assert one is None and np.allclose(other, worn[1]) and len(rigs()) == 2


def test_a_hidden_rig_of_a_file_that_was_opened_stands_where_it_was_put(script, tmp_path):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    rig.location.x = 5.0
    bpy.context.view_layer.layer_collection.children[0].exclude = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    (rig,) = rigs()
    names = [bone.name for bone in rig.data.bones if bone.name != "root"]
    assert np.allclose(carriage.now(rig, names)[:3, 3], (5.0, 0.0, 0.0))
    bpy.ops.lgd.fit()
    assert "was moved without its camera" in bpy.context.window_manager.lgd.warnings


def test_who_selects_a_body_means_its_rig(script):
    from lgd_blender_addon.operators.run import present_rig

    bpy.ops.lgd.fit()
    bpy.ops.lgd.new_shape()
    takes_of = {rig: rig.animation_data.action for rig in rigs()}
    assert len(takes_of) == 2
    for rig in takes_of:
        bpy.context.view_layer.objects.active = result.skin_of(rig)
        assert present_rig(bpy.context) == rig
        bpy.ops.lgd.fit()
        assert [other.animation_data.action == takes_of[other] for other in rigs()] == [other != rig for other in rigs()]
        takes_of = {rig: rig.animation_data.action for rig in rigs()}


def test_where_all_frames_are_good_the_scene_stays_where_it_is(script, capfd):
    bpy.ops.lgd.fit()
    bpy.context.scene.lgd.bad_pixels = 1000.0
    bpy.context.scene.frame_set(7)
    for back in (False, True):
        assert bpy.ops.lgd.next_bad_frame(back=back) == {"CANCELLED"} and bpy.context.scene.frame_current == 7
    assert "No frame is bad" in capfd.readouterr().out


def test_a_body_without_correctives_is_told_to_need_none(script, capfd):
    script.body = replace(script.body, posedirs=None)
    bpy.ops.lgd.fit()
    assert bpy.ops.lgd.correctives(mode="OFF") == {"CANCELLED"} and "needs none" in capfd.readouterr().out


def test_clothes_with_shape_keys_are_not_taken_for_the_body(script):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    clothes = bpy.data.objects.new("A coat", bpy.data.meshes.new("A coat"))
    bpy.context.scene.collection.objects.link(clothes)
    clothes.parent = rig
    clothes.shape_key_add(name="Basis")
    assert rig.children[0] == clothes and result.skin_of(rig) in rig.children[1:]


def test_a_build_that_fails_leaves_the_correctives_as_they_were(tmp_path, official_body, addon, monkeypatch):
    motion = load_motion(write_motion(tmp_path / "motion.npz", official_body))
    built = result.build(bpy.context.scene, motion, official_body, plain_footage(), result.Options(show_footage=False))
    monkeypatch.setattr(result, "_camera", lambda *_: 1 / 0)
    for mode in ("OFF", "BAKED"):
        with pytest.raises(ZeroDivisionError):
            options = result.Options(rig=built.rig.session_uid, correctives=mode, show_footage=False)
            result.build(bpy.context.scene, motion, official_body, plain_footage(), options)
        assert correctives.get_mode(built.mesh) == "LIVE"


def test_the_scenes_range_is_that_of_strips_in_the_nla(script):
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    bpy.context.view_layer.objects.active = rig
    data = rig.animation_data
    action, data.action = data.action, None
    for start in (101, 151):
        data.nla_tracks.new().strips.new("take", start, action)
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (101, 174, 101)
