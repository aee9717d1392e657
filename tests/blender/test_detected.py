# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of detections and keypoint files in a run: people, boxes, skeletons over the footage, keypoints kept for the next solve."""

import shutil
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.operators.request import find_footage


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


def test_what_was_detected_is_not_lost_where_the_result_cannot_be_built(script):
    """The user may have deleted the rig's body meanwhile: the detection, which took far longer than all else, was to be done again."""
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    bpy.ops.lgd.fit()
    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    assert not settings.keypoints  # of a solve that goes well the result is all
    script.hold = True
    run = pump.start(plan_fit(bpy.context, from_keypoints=False))
    bpy.data.objects.remove(next(o for o in bpy.data.objects if o.type == "MESH" and o.parent))
    (script.folder / "keypoints.npz").write_bytes(b"keypoints")
    script.hold = False
    with pytest.raises(LgdError, match="no body mesh"):
        pump.finish(run, 20)
    assert settings.keypoints == str(script.folder / "keypoints.npz") and "Solve Keypoints goes on" in show.warnings


def test_a_part_that_ends_early_does_not_displace_what_was_detected_of_more(script):
    """Else the whole, once detected, were to be detected again; a box may be round another person."""
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_fit

    settings, show = bpy.context.scene.lgd, bpy.context.window_manager.lgd
    assert bpy.ops.lgd.detect() == {"FINISHED"}
    whole = script.folder / "whole.npz"
    shutil.copy(settings.keypoints, whole)
    for boxed in (False, True):
        settings.keypoints, settings.range, settings.first, settings.last = str(whole), "CUSTOM", 5, 9
        settings.keypoints_source = settings.path  # who names a file takes this back
        if boxed:
            bpy.ops.lgd.pick_box(x=10, y=20, w=100, h=200, first=5)
        script.hold = False
        run = pump.start(plan_fit(bpy.context, from_keypoints=False))
        while run.job.kind != "fit":
            pump.tick()
        script.hold = True
        pump.tick()
        script.detect({"source": {"frames": run.plan.footage.frames}})
        assert bpy.ops.lgd.cancel() == {"FINISHED"}
        assert (settings.keypoints == str(whole)) is not boxed and ("kept" in show.warnings) is boxed
    bpy.ops.lgd.clear_boxes()


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
    assert script.asked[-1][1]["person"] == [0, 1] and script.asked[-1][1]["frames"] == [0, 24], "not those who are not ticked"
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
    assert request["footage"]["path"] == settings.path if footage else "footage" not in request
    assert [(p.person, p.first, p.last, p.use) for p in show.people] == [(0, 1, 24, True), (1, 3, 21, False)]
    assert settings.keypoints == str(file), "what was chosen stays"
    assert bool(overlay.lines_at(5, bpy.context.scene)) == footage
    show.people[0].use, show.people[1].use = False, True
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    assert script.asked[-1][1]["person"] == 1 and script.asked[-1][1]["keypoints"] == str(file)
    assert [o.lgd.person for o in bpy.data.objects if o.type == "ARMATURE"] == [1]


@pytest.mark.parametrize("detected", (False, True))
def test_keypoints_that_are_gone_are_told_as_such(script, tmp_path, detected):
    """The panel names them all the same."""
    settings = bpy.context.scene.lgd
    if detected:
        assert bpy.ops.lgd.detect() == {"FINISHED"}
        Path(settings.keypoints).unlink()
    else:
        settings.keypoints = str(tmp_path / "keypoints.npz")
    with pytest.raises(RuntimeError, match="keypoints.npz are gone, as those of older jobs" if detected else "keypoints.npz are gone\\."):
        bpy.ops.lgd.fit_keypoints()


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
    overlay.begin(replace(find_footage(bpy.context), path="/films/other.mp4", size=(640, 480)))  # by Draw Box, over other footage
    pump.tick()
    assert not overlay.tracks.frames and overlay.tracks.size == (640, 480)
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


def test_a_box_is_drawn_on_a_frame_that_is_solved(script):
    """The person may be elsewhere by then: a box drawn before the range was taken for one on its first frame."""
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    settings.start = 5
    settings.range, settings.first, settings.last = "CUSTOM", 12, 20
    for frame, first in ((12, 12), (20, 20), (7, None), (11, None), (21, None)):
        scene.frame_set(frame)
        settings.boxes.clear()
        if first is None:
            with pytest.raises(RuntimeError, match="12 to 20"):
                bpy.ops.lgd.pick_box(x=10, y=10, w=50, h=90)
        else:
            bpy.ops.lgd.pick_box(x=10, y=10, w=50, h=90)
        assert [box.first for box in settings.boxes] == ([] if first is None else [first])
    settings.range = "WHOLE"  # from 5 on; before that Blender shows the first picture
    scene.frame_set(2)
    bpy.ops.lgd.pick_box(x=10, y=10, w=50, h=90)
    assert settings.boxes[-1].first == 5


def test_foreign_keypoints_take_the_rate_of_their_footage(script, tmp_path):
    settings = bpy.context.scene.lgd
    settings.keypoints = script.detect({"source": {"frames": [0, 24]}})["keypoints"]
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}
    request = script.asked[-1][1]
    assert request["fps"] == 25.0 and request["frames"] == [0, 24] and request["counted"] == 25.0, "frame k is picture k, and has its time"
    assert request["footage"]["path"] == settings.path
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
    assert bpy.ops.lgd.new_shape() == {"FINISHED"} and len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 2
