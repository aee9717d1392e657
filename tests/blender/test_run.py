# SPDX-License-Identifier: GPL-3.0-or-later
"""A run from click to rig with a worker whose messages are written here: pump, undo, cancel, people, export."""

from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from models import synthetic_body, write_motion

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.scene import keyframes, result
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


@pytest.mark.parametrize("broken", ["overlay.add", "operators.bodies.keep"])
def test_a_defect_in_taking_a_message_in_ends_the_run_and_is_told(script, monkeypatch, broken):
    """Of an event and of a result; the session catches it, and the run would go on for ever, or end without a word."""
    from lgd_blender_addon.session import Session

    def tell(job, event):
        job.apply(event)
        Session._tell(script, job, event)

    monkeypatch.setattr(script, "_tell", tell)
    monkeypatch.setattr(script, "cancel", lambda job: script.jobs.clear())
    monkeypatch.setattr(f"lgd_blender_addon.{broken}", lambda *_: {}["nothing"])
    with pytest.raises(RuntimeError, match="Blender's side failed"):
        bpy.ops.lgd.fit()
    show = bpy.context.window_manager.lgd
    assert not show.running and "KeyError" in show.error


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


def test_another_file_begins_without_what_was_told_of_the_last(script, tmp_path):
    """Blender keeps it where Load UI is off, as in background mode."""
    script.people = 2
    bpy.ops.lgd.detect()
    bpy.context.window_manager.lgd.error = "Something went wrong."
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"), load_ui=False)
    show = bpy.context.window_manager.lgd
    assert not len(show.people) and not show.error and not show.summary


def test_no_workspace_keeps_the_runs_line_in_its_status_bar(script, film, monkeypatch):
    """Each has a text of its own, also one that the user has left meanwhile; and it is set in the context's, whichever is asked."""
    bpy.ops.wm.read_homefile(app_template="", use_factory_startup=True)
    bpy.context.scene.lgd.path = film
    shown = dict.fromkeys(bpy.data.workspaces.keys(), "LGD: Finding the person")
    monkeypatch.setattr(bpy.types.WorkSpace, "status_text_set", lambda _, text: shown.update({bpy.context.workspace.name: text}))
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert len(shown) > 5 and not any(shown.values())


def test_preview_range_is_honoured(script):
    scene = bpy.context.scene
    scene.lgd.range = "SCENE"
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 4, 9
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["source"]["frames"] == [3, 9]


def test_fast_detection_is_asked_for_where_it_is_ticked(script):
    settings = bpy.context.scene.lgd
    bpy.ops.lgd.detect()
    settings.fast_detection = True
    bpy.ops.lgd.detect()
    bpy.ops.lgd.fit()
    assert [request["fast"] for kind, request in script.asked if kind in ("detect", "fit")] == [False, True, True]


def test_as_many_people_as_are_asked_for_are_looked_for_and_solved_in_one_world(script, tmp_path, monkeypatch):
    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    script.people = settings.look_for = 2
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert script.asked[-1][1]["look_for"] == 2 and script.asked[-1][1]["person"] == "all"
    rigs = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    assert sorted(r.lgd.person for r in rigs) == [0, 1] and len([o for o in bpy.data.objects if o.type == "CAMERA"]) == 1
    script.people = 1  # of whom one is not found this time
    assert bpy.ops.lgd.fit() == {"FINISHED"} and len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 2
    script.people = 2
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["look_for"] == 2 and [p.use for p in show.people] == [True, True]
    settings.boxes.add().w = settings.boxes[0].h = 100
    settings.boxes[0].first, settings.boxes[0].last = 1, 24
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["look_for"] == 1
    settings.boxes.clear()
    monkeypatch.setattr("lgd_blender_addon.preferences.detector_file", lambda context: str(tmp_path / "pose.onnx"))
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["look_for"] == 1 and script.asked[-1][1]["detector"]


@pytest.mark.parametrize(
    ("table", "frames"),
    [
        (np.arange(50), "frames 16, 41"),  # what the strip shows from Blender's frame 11 on
        (np.arange(49, -1, -1), "frames 31, 56"),  # reversed: the first of the earlier take
        (np.repeat(np.arange(50), 2), "frames 21, 71"),  # at half speed
        (np.concatenate(([-1] * 3, np.arange(10, 50))), "frame 34"),
        (np.arange(10, 20), None),  # of a part no cut is in
    ],
)
def test_cuts_are_told_by_the_frames_on_which_blender_shows_them(addon, table, frames):
    from lgd_blender_addon.operators import pump

    warning = {"text": "As the file counts.", "cuts": [5, 30]}
    told = pump._told(warning, SimpleNamespace(table=table, start=11))
    assert (f"cut at {frames} of the scene:" in told) if frames else told == warning["text"]
    assert pump._told(warning, None) == warning["text"] and pump._told({"text": "Other."}, SimpleNamespace(table=table, start=11)) == "Other."


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
    write_motion(tmp_path / "older.npz", script.body, body_model="lgd-default-0123456789ab")
    with pytest.raises(RuntimeError, match="default body of another version.* Solve the footage again"):
        bpy.ops.lgd.import_motion(filepath=str(tmp_path / "older.npz"))
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
