# SPDX-License-Identifier: GPL-3.0-or-later
"""A run from click to rig with a worker whose messages are written here: pump, undo, cancel, people, export."""

import shutil
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from models import synthetic_body, write_motion

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.operators.request import find_footage
from lgd_blender_addon.scene import axes, keyframes, result, trust
from lgd_blender_addon.scene.motion import load_motion
from lgd_blender_addon.worker.job import State


def names():
    return {
        kind: set(getattr(bpy.data, kind).keys())
        for kind in ("objects", "actions", "meshes", "armatures", "cameras", "collections")
    }


def test_one_click(script):
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert [kind for kind, _ in script.asked] == ["describe_body", "fit"]
    show = bpy.context.window_manager.lgd
    assert not show.running and not show.error and "keys" in show.summary
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert rig.lgd.role == "RIG" and rig.lgd.footage == bpy.context.scene.lgd.path and rig.lgd.count == 24
    assert bpy.context.scene.camera.name.startswith("LGD camera")
    background = bpy.context.scene.camera.data.background_images[0]
    assert background.image.source == "MOVIE" and background.image_user.frame_offset + 1 == 1
    assert bpy.context.scene.render.fps == 24, "the scene's rate is not changed unasked"


def test_again_keeps_the_rig_and_asks_for_its_shape(script):
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    first = rig.animation_data.action
    bpy.ops.lgd.fit()
    assert len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 1
    request = script.asked[-1][1]
    assert len(request["betas"]) == 10 and request["camera"]
    with np.load(request["camera"]) as camera:
        stored = load_motion(bytes(first[result.STORED_PROPERTY]))
        assert np.abs(camera["T_world_cam"] - stored.T_world_cam).max() < 1e-5
    assert rig.animation_data.action != first and first.name in bpy.data.actions
    bpy.ops.lgd.new_shape()
    assert (
        len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 2 and "betas" not in script.asked[-1][1]
    )


def test_one_undo_step(script):
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    bpy.ops.ed.undo_push(message="before")
    before = names()
    # As the timer does it: not from inside an operator, which would take the step to itself.
    pump.finish(pump.start(plan_fit(bpy.context, from_keypoints=False)), 20)
    after = names()
    assert after["objects"] - before["objects"]
    bpy.ops.ed.undo()
    assert names()["objects"] == before["objects"] and names()["actions"] == before["actions"]
    bpy.ops.ed.redo()
    assert names()["objects"] == after["objects"] and names()["actions"] == after["actions"]


def test_cancel_leaves_the_file_as_it_was(script):
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    script.hold = True
    before = names()
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    for _ in range(3):
        pump.tick()
    show = bpy.context.window_manager.lgd
    assert show.running and show.done == 5 and show.total == 24 and not bpy.ops.lgd.fit.poll()
    assert bpy.ops.lgd.cancel() == {"FINISHED"}
    assert not show.running and run.job.state is State.CANCELLED and names() == before
    assert not bpy.context.scene.lgd.keypoints and "kept" not in show.warnings  # nothing was detected yet
    script.hold = False
    assert bpy.ops.lgd.fit() == {"FINISHED"}


def test_what_was_detected_is_not_lost_where_a_solve_ends_early(script):
    """A search for a camera's path may take longer than the detection before it."""
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    for own, ends in (("", "cancel"), ("", "fault"), ("//mine.npz", "cancel")):
        settings.keypoints, script.hold = own, False
        run = pump.start(plan_fit(bpy.context, from_keypoints=False))
        while run.job.kind != "fit":
            pump.tick()
        script.hold = True
        pump.tick()
        (run.job.folder / "keypoints.npz").write_bytes(b"keypoints")
        if ends == "cancel":
            assert bpy.ops.lgd.cancel() == {"FINISHED"}
        else:
            run.error, run.over = LgdError("no_person"), True
            pump.tick()
        assert not show.running
        if own:
            assert settings.keypoints == own and not settings.keypoints_source and not show.warnings
        else:
            assert settings.keypoints == str(run.job.folder / "keypoints.npz") and settings.keypoints_source == run.plan.footage.path
            assert "Solve Keypoints goes on" in show.warnings


def test_errors_reach_the_panel_and_build_nothing(script):
    script.fail = LgdError("no_person")
    before = names()
    with pytest.raises(RuntimeError, match="No person"):
        bpy.ops.lgd.fit()
    show = bpy.context.window_manager.lgd
    assert show.error and show.hint and not show.running and names() == before


def test_a_defect_in_the_build_is_told_and_leaves_nothing(script, monkeypatch):
    def broken(*args):
        raise LgdError("bad_input", "The build broke.")

    monkeypatch.setattr(result, "_write_quality", broken)
    before = names()
    with pytest.raises(RuntimeError, match="The build broke"):
        bpy.ops.lgd.fit()
    left = {k: {n for n in v - before[k] if "LGD shape" not in n} for k, v in names().items()}
    assert not any(left.values())


@pytest.mark.parametrize("event", ["load", "undo", "disable"])
def test_loading_undo_and_disabling_during_a_job(script, event, tmp_path):
    import lgd_blender_addon
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    bpy.ops.ed.undo_push(message="a")
    bpy.context.scene.render.fps = 30
    bpy.ops.ed.undo_push(message="b")
    script.hold = True
    pump.start(plan_fit(bpy.context, from_keypoints=False))
    pump.tick()
    if event == "load":
        bpy.ops.wm.read_homefile(use_empty=True)
        assert pump.current() is None and not script.jobs and not bpy.context.window_manager.lgd.running
    elif event == "undo":
        bpy.ops.ed.undo()
        pump.tick()
        script.hold = False
        pump.finish(pump.current(), 20)
        assert any(o.type == "ARMATURE" for o in bpy.data.objects)
    else:
        lgd_blender_addon.unregister()
        assert pump.current() is None and not script.jobs
        lgd_blender_addon.register()


def test_several_people(script, tmp_path):
    from lgd_blender_addon import overlay
    from lgd_blender_addon.properties import COLOURS

    script.people = 2
    assert bpy.ops.lgd.detect() == {"FINISHED"}
    show, settings = bpy.context.window_manager.lgd, bpy.context.scene.lgd
    assert [(p.person, p.use) for p in show.people] == [(0, True), (1, False)]
    assert [(p.first, p.last) for p in show.people] == [(1, 24), (3, 21)], "Blender's frames"
    assert not any(o.type == "ARMATURE" for o in bpy.data.objects) and settings.keypoints
    show.people[1].colour = (0.1, 0.2, 0.3)
    drawn = overlay.lines_at(5, bpy.context.scene)
    assert [ends[0][0] for _, ends in drawn] == [3, 1], "the list's order, not the file's"
    assert np.allclose(drawn[0][0], COLOURS[0]) and np.allclose(drawn[1][0], (0.1, 0.2, 0.3))
    show.people[1].use = True
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    assert script.asked[-1][1]["person"] == "all" and script.asked[-1][1]["frames"] == [0, 24]
    rigs = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    assert len(rigs) == 2 and len([o for o in bpy.data.objects if o.type == "CAMERA"]) == 1
    assert {r.lgd.person for r in rigs} == {0, 1} and any("person 2" in r.name for r in rigs)
    show.people[0].use = False
    bpy.ops.lgd.fit_keypoints()
    assert (
        script.asked[-1][1]["person"] == 1 and len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 2
    )
    settings.keypoints = str(tmp_path / "another.npz")
    shutil.copy(script.folder / "keypoints.npz", settings.keypoints)
    bpy.ops.lgd.fit_keypoints()
    assert script.asked[-1][1]["person"] == 0, "ticks are those of the keypoints before"


@pytest.mark.parametrize("footage", [True, False])
def test_the_people_of_a_chosen_keypoint_file_are_listed_and_solved(script, tmp_path, footage):
    from lgd_blender_addon import overlay

    script.people = 2
    show, settings = bpy.context.window_manager.lgd, bpy.context.scene.lgd
    if not footage:
        settings.path = ""
    overlay.clear()
    file = tmp_path / "theirs.json"
    file.write_text("{}")
    settings.keypoints = str(file)
    assert not len(show.people) and bpy.ops.lgd.list_people() == {"FINISHED"}
    kind, request = script.asked[-1]
    assert kind == "read_keypoints" and request["keypoints"] == str(file)
    assert request.get("frames") == ([0, 24] if footage else None)
    assert [(p.person, p.first, p.last, p.use) for p in show.people] == [(0, 1, 24, True), (1, 3, 21, False)]
    assert settings.keypoints == str(file), "what was chosen stays"
    assert bool(overlay.lines_at(5, bpy.context.scene)) == footage
    show.people[0].use, show.people[1].use = False, True
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    assert script.asked[-1][1]["person"] == 1 and script.asked[-1][1]["keypoints"] == str(file)
    assert [o.lgd.person for o in bpy.data.objects if o.type == "ARMATURE"] == [1]


def test_overlay_gets_frames_while_detecting(script):
    from lgd_blender_addon import overlay
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_detect

    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 5, 12
    script.hold = True
    pump.start(plan_detect(bpy.context))
    pump.tick()
    assert overlay.tracks.at(5) and not overlay.tracks.at(6) and overlay.tracks.size == (1280, 720)
    assert overlay.lines_at(5, bpy.context.scene)
    pump.cancel()
    assert script.asked[-1][1]["source"]["frames"] == [4, 12]


def test_boxes_go_into_the_request_as_source_frames(script):
    scene = bpy.context.scene
    assert bpy.ops.lgd.pick_box(x=10, y=20, w=100, h=200, first=3, last=9) == {"FINISHED"}
    assert bpy.ops.lgd.pick_box(x=30, y=20, w=100, h=200, first=6) == {"FINISHED"}
    # Without a last frame a box holds on its first; from there the detector follows the person.
    assert [(b.first, b.last) for b in scene.lgd.boxes] == [(3, 5), (6, 6)]
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["source"]["boxes"] == [
        [10.0, 20.0, 100.0, 200.0, 2, 5],
        [30.0, 20.0, 100.0, 200.0, 5, 6],
    ]
    scene.lgd.range, scene.lgd.first, scene.lgd.last = "CUSTOM", 12, 20
    asked = len(script.asked)
    with pytest.raises(RuntimeError, match="No box lies in the range"):
        bpy.ops.lgd.detect()
    assert len(script.asked) == asked
    bpy.ops.lgd.clear_boxes()
    assert not bpy.ops.lgd.clear_boxes.poll()


def test_preview_range_is_honoured(script):
    scene = bpy.context.scene
    scene.lgd.range = "SCENE"
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 4, 9
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["source"]["frames"] == [3, 9]


def test_real_time_and_background_in_step(script):
    scene = bpy.context.scene
    scene.lgd.timing = "REAL"
    scene.render.fps = 50
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    frames, _ = keyframes.keys_of(keyframes.find_curve(rig, 'pose.bones["pelvis"].location'))
    assert np.abs(np.diff(frames) - 2.0).max() < 1e-4 and frames[0] == 1
    camera = scene.camera.data
    user = camera.background_images[0].image_user
    curve = keyframes.find_curve(camera, "background_images[0].image_user.frame_offset")
    for frame in (1, 2, 3, 20, 47):
        shown = frame - user.frame_start + 1 + int(curve.evaluate(frame))
        assert shown - 1 == (frame - 1) // 2


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
    for name in ("pelvis", "left_wrist", "head"):
        assert (other.pose.bones[name].head - rig.pose.bones[name].head).length < 1e-4
    bpy.context.view_layer.objects.active = rig
    assert bpy.ops.lgd.play_descent(bake=True) == {"FINISHED"}
    assert "descent" in rig.animation_data.action.name


def test_a_motion_without_a_file_name_is_a_sentence(script):
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    for operator in (bpy.ops.lgd.export_motion, bpy.ops.lgd.import_motion):
        with pytest.raises(RuntimeError, match="No file is named. Choose a file") as caught:
            operator(filepath="")
        assert "Traceback" not in str(caught.value)


def test_a_complaint_goes_when_what_was_asked_for_is_done(script, tmp_path):
    bpy.ops.lgd.fit()
    with pytest.raises(RuntimeError):
        bpy.ops.lgd.export_motion(filepath=str(tmp_path / "gone" / "x.npz"))
    show = bpy.context.window_manager.lgd
    assert "cannot be written" in show.error
    assert bpy.ops.lgd.export_motion(filepath=str(tmp_path / "x.npz")) == {"FINISHED"} and not show.error and not show.hint


def test_a_file_of_another_gender_that_is_gone_hides_no_body(monkeypatch):
    from lgd_blender_addon import preferences
    from lgd_blender_addon.operators import bodies, files, pump

    def finish(plan, timeout):
        path = plan.requests[0][1]["body"]
        if path == "/gone.pkl":
            raise LgdError("model_file", "gone.pkl does not exist.")
        return SimpleNamespace(body=path or "/default.npz")

    monkeypatch.setattr(preferences, "body_files", lambda *_: {"male": "/gone.pkl", "female": "/here.pkl"})
    monkeypatch.setattr(pump, "start", lambda plan: plan)
    monkeypatch.setattr(pump, "finish", finish)
    monkeypatch.setattr(bodies, "find", lambda identity: None)
    monkeypatch.setattr(bodies, "load", lambda path: SimpleNamespace(id=path))
    assert files.body_for("/here.pkl") == "/here.pkl"
    with pytest.raises(LgdError, match="not at hand"):
        files.body_for("/other.pkl")


def test_a_motion_whose_body_is_not_at_hand_is_a_sentence(script, tmp_path):
    """Also where the default body was described before, so that there is nothing to ask the worker for."""
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    write_motion(tmp_path / "other.npz", script.body, body_model="smpl-female-0123456789ab")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="is not at hand"):
            bpy.ops.lgd.import_motion(filepath=str(tmp_path / "other.npz"))
    with np.load(tmp_path / "other.npz") as file:
        np.savez(tmp_path / "none.npz", **{name: file[name] for name in file if name != "body_model"})
    with pytest.raises(RuntimeError, match="body_model is missing"):
        bpy.ops.lgd.import_motion(filepath=str(tmp_path / "none.npz"))


def test_weights_of_ones_own_belong_to_their_mode(script, monkeypatch):
    from lgd_blender_addon import preferences

    monkeypatch.setitem(preferences.DEFAULTS, "weights_video", "/mine/best.pt")
    told = []
    for mode in ("AUTO", "VIDEO", "PAPER"):
        bpy.context.scene.lgd.mode = mode
        assert bpy.ops.lgd.fit() == {"FINISHED"}
        told.append(script.asked[-1][1].get("weights"))
    assert told == ["/mine/best.pt", "/mine/best.pt", None]


def test_feet_are_planted_where_the_panel_says_so(script):
    bpy.ops.lgd.fit()
    bpy.context.scene.lgd.plant_feet = True
    bpy.ops.lgd.fit()
    assert [request["plant_feet"] for kind, request in script.asked if kind == "fit"] == [False, True]


def test_official_body_with_correctives(script):
    script.body = synthetic_body()
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert rig.name.startswith("SMPL-neutral")
    skin = result.skin_of(rig)
    from lgd_blender_addon.scene import correctives

    assert correctives.get_mode(skin) == "LIVE"
    for mode in ("BAKED", "OFF", "LIVE"):
        assert bpy.ops.lgd.correctives(mode=mode) == {"FINISHED"}
        assert correctives.get_mode(skin) == mode


def test_foreign_keypoints_take_the_rate_of_their_footage(script, tmp_path):
    settings = bpy.context.scene.lgd
    settings.keypoints = script.detect({"source": {"frames": [0, 24]}})["keypoints"]
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    request = script.asked[-1][1]
    assert request["fps"] == 25.0 and request["frames"] == [0, 24] and "counted" not in request
    assert request["image_size"] == list(find_footage(bpy.context).size) and min(request["image_size"]) > 1
    # Detected here, they have times of their own, by which the range is found.
    assert bpy.ops.lgd.detect() == {"FINISHED"} and bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    request = script.asked[-1][1]
    assert request["counted"] == 25.0 and request["frames"] == [0, 24]


def test_keypoints_without_footage(script, tmp_path):
    settings = bpy.context.scene.lgd
    settings.path, settings.keypoints = "", script.detect({"source": {"frames": [0, 24]}})["keypoints"]
    assert not bpy.ops.lgd.fit.poll() and bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert rig.name == "Body-neutral_keypoints" and rig.animation_data.action.frame_start == 1


def test_other_bone_names(script):
    script.body = synthetic_body()
    bpy.context.scene.lgd.bone_names = "MPI"
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert {"Pelvis", "L_Hip", "root"} <= set(rig.data.bones.keys())
    skin = result.skin_of(rig)
    assert "L_Hip" in skin.vertex_groups and "left_hip" not in skin.vertex_groups
    assert keyframes.find_curve(rig, 'pose.bones["L_Hip"].rotation_quaternion')
    bpy.ops.lgd.fit()
    assert len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 1


def test_another_scene_is_looked_at_when_the_job_ends(script):
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    home = bpy.context.scene
    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    other = bpy.data.scenes.new("other")
    if bpy.context.window is None:
        pytest.skip("this module has no window to switch")
    bpy.context.window.scene = other
    script.hold = False
    pump.finish(run, 20)
    assert bpy.context.scene == other and not other.objects
    assert any(o.type == "ARMATURE" for o in home.objects)


def test_an_excluded_collection_is_no_obstacle(script):
    bpy.ops.lgd.fit()
    layer = bpy.context.view_layer.layer_collection
    layer.children[0].exclude = True
    assert bpy.ops.lgd.new_shape() == {"FINISHED"}


def test_a_bug_of_ours_is_told(script, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(result, "_write_quality", broken)
    with pytest.raises(RuntimeError, match="Building the result failed"):
        bpy.ops.lgd.fit()
    assert bpy.context.window_manager.lgd.code == "internal"
