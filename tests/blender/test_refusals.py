# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done is told in a sentence before any work, and what goes wrong on the way ends the run with one."""

import errno
import os
from pathlib import Path

import bpy
import numpy as np
import pytest
from movies import sequences

from lgd_blender_addon._bridge import LgdError


def refused(operator, sentence, **arguments):
    with pytest.raises(RuntimeError, match=sentence):
        operator(**arguments)


def held(script):
    """A solve that is on its way and does not end."""
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    pump.tick()
    return run


def pictures(folder, count=6):
    """A folder of small pictures."""
    image = bpy.data.images.new("picture", 64, 36)
    for number in range(1, count + 1):
        image.filepath_raw, image.file_format = str(folder / f"p_{number:04d}.png"), "PNG"
        image.save()
    return str(folder)


def test_a_range_that_ends_before_it_begins(script):
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 9, 8
    refused(bpy.ops.lgd.detect, "range ends before it begins")
    settings.last = 9
    assert bpy.ops.lgd.detect() == {"FINISHED"} and script.asked[-1][1]["source"]["frames"] == [8, 9]


def test_footage_that_is_not_chosen(script, film):
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    settings.path = ""
    for place in ("FILE", "STRIP", "CLIP", "CAMERA"):
        settings.place = place
        assert not bpy.ops.lgd.fit.poll()
    settings.place = "STRIP"
    scene.sequence_editor_create().active_strip = sequences(scene).new_movie("film", film, 1, 1)
    assert bpy.ops.lgd.fit.poll()
    settings.place, clip = "CLIP", bpy.data.movieclips.load(film)
    assert not bpy.ops.lgd.fit.poll()
    settings.clip = clip.name
    assert bpy.ops.lgd.fit.poll()
    settings.clip, scene.active_clip = "", clip
    assert bpy.ops.lgd.fit.poll()


def test_a_list_of_which_nobody_is_ticked(script):
    bpy.ops.lgd.detect()
    (person,) = bpy.context.window_manager.lgd.people
    person.use = False
    refused(bpy.ops.lgd.fit_keypoints, "No person is chosen")


def test_keypoints_that_begin_later_than_the_range(script):
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 5, 12
    bpy.ops.lgd.detect()
    settings.first = 4
    bpy.context.window_manager.lgd.people.clear()
    refused(bpy.ops.lgd.fit_keypoints, "begin later than the range")


def test_keypoints_of_a_part_of_a_folder_are_counted_from_where_they_begin(script, tmp_path):
    settings = bpy.context.scene.lgd
    settings.path, settings.image_fps = pictures(tmp_path), 12.0
    settings.range, settings.first, settings.last = "CUSTOM", 2, 5
    bpy.ops.lgd.detect()
    assert script.asked[-1][1]["source"]["fps"] == 12.0
    settings.first, settings.last = 3, 6
    bpy.context.window_manager.lgd.people.clear()
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    request = script.asked[-1][1]
    assert request["frames"] == [1, 5] and request["short"] and "counted" not in request


def test_a_gender_whose_file_is_not_named(script, monkeypatch):
    from lgd_blender_addon import preferences

    bpy.context.scene.lgd.gender = "FEMALE"
    refused(bpy.ops.lgd.fit, "No female SMPL file is named")
    assert not script.asked and bpy.context.window_manager.lgd.action == "lgd.open_preferences"
    monkeypatch.setattr(preferences, "body_files", lambda *_: {"female": "/her.npz"})
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert [request["body"] for _, request in script.asked] == ["/her.npz", "/her.npz"]


def test_a_scene_camera_that_is_not_there(script):
    bpy.context.scene.lgd.camera = "SCENE"
    refused(bpy.ops.lgd.fit, "The scene has no camera")


def test_boxes_too_small_to_show_a_person(script):
    boxes = bpy.context.scene.lgd.boxes
    for size in ({"w": 3, "h": 90}, {"w": 90, "h": 3}):
        assert bpy.ops.lgd.pick_box(x=10, y=10, first=3, **size) == {"CANCELLED"} and not len(boxes)
    for w, h in ((40, 90), (1, 90), (90, 1)):  # as the panel's fields take them
        box = boxes.add()
        box.w, box.h, box.first, box.last = w, h, 2, 2
    bpy.ops.lgd.detect()
    assert [box[2:4] for box in script.asked[-1][1]["source"]["boxes"]] == [[40.0, 90.0]]


def test_a_second_job_beside_one_that_runs(script):
    from lgd_blender_addon.operators import pump

    run = held(script)
    with pytest.raises(LgdError, match="A job is running") as caught:
        pump.start(run.plan)
    assert caught.value.code == "busy" and pump.current() is run
    pump.cancel()


def test_an_idle_worker_is_released_and_a_busy_one_restarted(script):
    from lgd_blender_addon.operators import pump

    show = bpy.context.window_manager.lgd
    bpy.ops.lgd.fit()
    assert show.worker and bpy.ops.lgd.release_worker() == {"FINISHED"}
    assert script.worker_pid is None and not show.worker and not bpy.ops.lgd.release_worker.poll()
    script.worker_pid = 2
    run = held(script)
    assert not bpy.ops.lgd.release_worker.poll()
    show.error = "The worker did not answer."
    assert bpy.ops.lgd.restart_worker() == {"FINISHED"}
    assert run.job.over and pump.current() is None and script.worker_pid is None and not show.worker and not show.error


def test_a_worker_that_takes_too_long_is_waited_for_no_more(script):
    from lgd_blender_addon.operators import pump

    run = held(script)
    with pytest.raises(LgdError, match="too long"):
        pump.finish(run, 0.0)
    assert pump.current() is None and run.job.over and not bpy.context.window_manager.lgd.running


def test_the_timer_goes_on_while_a_worker_may_be_on_its_way_out(script, monkeypatch):
    from lgd_blender_addon.operators import pump

    now = [100.0]
    held(script)
    assert pump._timer() == pump.INTERVAL
    pump.cancel()
    monkeypatch.setattr(pump.time, "monotonic", lambda: now[0])
    for later, alive, wait in ((0, True, 0.5), (pump.SETTLE - 1, True, 0.5), (0, False, None), (2, True, None)):
        now[0] += later
        script.worker_pid = 1 if alive else None
        assert pump._timer() == wait


def test_a_session_that_fails_ends_the_run_not_the_timer(script, monkeypatch, capsys):
    from lgd_blender_addon.operators import pump

    held(script)
    monkeypatch.setattr(script, "pump", lambda: 1 / 0)
    assert pump.tick() is None and pump.current() is None
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_job_that_the_worker_itself_cancelled_is_over(script):
    from lgd_blender_addon.operators import pump

    run = held(script)
    script._tell(run.job, {"type": "cancelled"})
    assert pump.tick() is None and pump.current() is None and run.error is None


def test_a_body_that_cannot_be_kept_is_told(script, tmp_path):
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "bodies").write_text("a file in the folder's place")
    refused(bpy.ops.lgd.fit, "The body cannot be kept")
    show = bpy.context.window_manager.lgd
    assert show.code == "disk" and not show.running and [kind for kind, _ in script.asked] == ["describe_body"]


def test_a_body_is_kept_from_another_disk(script, monkeypatch):
    def replace(source, target, real=os.replace):
        if not str(source).endswith(".part"):
            raise OSError(errno.EXDEV, "another disk")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert bpy.ops.lgd.fit() == {"FINISHED"}


def test_a_kept_body_that_is_damaged_is_asked_for_anew(script):
    from lgd_blender_addon.operators import bodies

    bpy.ops.lgd.fit()
    kept = Path(bodies.known(None))
    kept.write_bytes(b"no body")
    refused(bpy.ops.lgd.fit, "body's file cannot be read")
    assert not kept.exists()
    assert bpy.ops.lgd.fit() == {"FINISHED"} and [kind for kind, _ in script.asked].count("describe_body") == 2


def test_steps_that_are_gone_or_are_none(script, tmp_path):
    from lgd_blender_addon.operators.descent import check_steps

    bpy.ops.lgd.fit()
    file = tmp_path / "steps.npz"
    refused(bpy.ops.lgd.play_descent, "steps of this take were not kept", trace=str(file))
    for write in (lambda: file.write_bytes(b"no arrays"), lambda: np.savez(file, betas=np.zeros(3))):
        write()
        refused(bpy.ops.lgd.play_descent, "steps.npz holds no steps", trace=str(file))
        with pytest.raises(LgdError, match="holds no steps"):
            check_steps(str(file), 24)


def test_a_stored_motion_that_is_damaged_hinders_no_new_solve(script, tmp_path):
    """Not that of somebody in a box either, who is told from others by where the rig's person was."""
    bpy.ops.lgd.fit()
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    rig.animation_data.action["lgd_motion"] = b"damaged"
    with pytest.raises(RuntimeError, match="Solve again"):
        bpy.ops.lgd.export_motion(filepath=str(tmp_path / "motion.npz"))
    box = bpy.context.scene.lgd.boxes.add()
    box.w, box.h, box.first, box.last = 500, 500, 1, 10
    assert bpy.ops.lgd.fit() == {"FINISHED"} and bpy.ops.lgd.export_motion(filepath=str(tmp_path / "motion.npz")) == {"FINISHED"}
