# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window with the real worker: solve, watch, cancel, undo, and what one does with the result."""

import time

import bpy
import window as w

FRAMES = 24


def keep_ticks(pump, watch, name):
    """Print how long the pump's turns took, the last (it builds the result) apart."""
    turns = [1000 * t for t in pump.ticks]
    print(
        f"ticks {name}: {len(turns)}, longest before the last {max(turns[:-1] or [0]):.1f} ms, last {turns[-1]:.1f} ms"
    )
    pump.ticks.clear()
    watch.say(name)
    return max(turns[:-1] or [0])


def steps():
    yield from w.begin()
    pump, overlay = w.part("operators.pump"), w.part("overlay")
    session = w.part("session")
    watch = w.Watch(
        tick=(pump, "tick"), events=(pump, "on_event"), show=(pump, "_show"), redraw=(pump, "redraw"),
        status_bar=(w.part("operators.status_bar"), "show"), session=(session.Session, "pump"), start=(session.Session, "start"),
        end=(pump, "_end"),
    )  # fmt: skip
    scene, manager = bpy.context.scene, bpy.context.window_manager
    view = w.area_of("VIEW_3D")
    picture, view = w.split(view, 0.42, "IMAGE_EDITOR")
    yield 0.5
    yield from w.show_movie(picture)
    yield from w.sidebar(view)
    w.choose(1, FRAMES)
    bpy.ops.ed.undo_push(message="Settings")
    yield 1.0
    before = w.blocks()

    # Start by a click, watch the skeleton come, cancel by a click.
    yield from w.click("lgd.fit", view)
    yield from w.until(lambda: pump.current() is not None, 3, "the start")
    yield 0.5
    w.shot("fit_starting")
    yield from w.until(lambda: len(overlay.tracks.frames) > 8, 90, "frames")
    scene.frame_set(5)
    yield 0.1
    w.shot("fit_running")
    began = time.perf_counter()
    bpy.ops.lgd.cancel()
    assert pump.current() is None and not manager.lgd.running and time.perf_counter() - began < 1.0
    yield 1.0
    assert w.blocks() == before, (before, w.blocks())
    keep_ticks(pump, watch, "cancelled")
    w.shot("fit_cancelled")

    # The next job works, and becomes one undo step.
    scene.frame_set(1)
    w.choose(1, 95)
    yield from w.click("lgd.fit", view)
    yield from w.until(lambda: pump.current() is not None, 3, "the second start")
    with w.over(view, "UI"):  # a fast machine would be done before the pointer finds the button
        bpy.ops.lgd.cancel()
    yield from w.until(lambda: pump.current() is None, 1, "the cancelled job's end")
    assert w.blocks() == before
    pump.ticks.clear()
    w.choose(1, FRAMES)
    bpy.ops.ed.undo_push(message="Settings")
    yield from w.click("lgd.fit", view)
    yield from w.until(lambda: pump.current() is not None, 5, "the third start")
    yield from w.until(lambda: pump.current() is None, 120, "the fit")
    longest = keep_ticks(pump, watch, "solved")
    assert not manager.lgd.error, (manager.lgd.error, manager.lgd.hint)
    rigs = [o for o in scene.objects if o.type == "ARMATURE"]
    assert len(rigs) == 1, [o.name for o in scene.objects]
    after = w.blocks()
    yield 1.0
    w.shot("fit_done")

    # One step back removes it all, one forward brings it back.
    yield from w.press("Z", view, ctrl=True)
    assert w.blocks()["objects"] == before["objects"] and not bpy.data.armatures, w.blocks()
    w.shot("fit_undone")
    yield from w.press("Z", view, ctrl=True, shift=True)
    assert w.blocks() == after, (after, w.blocks())
    scene = bpy.context.scene
    rig = next(o for o in scene.objects if o.type == "ARMATURE")

    # Through the solved camera, with the scene set to the footage.
    with w.over(view):
        bpy.ops.object.select_all(action="DESELECT")
        rig.select_set(True)
        bpy.context.view_layer.objects.active = rig
        assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"}
        bpy.ops.view3d.view_camera()
    assert (scene.frame_start, scene.frame_end) == (1, FRAMES), (scene.frame_start, scene.frame_end)
    scene.frame_set(10)
    yield 2.0
    w.shot("fit_camera")
    with w.over(view):
        print("next bad frame", bpy.ops.lgd.next_bad_frame(), scene.frame_current)
        bpy.ops.lgd.correctives(mode="OFF")
    yield 1.0
    w.shot("fit_next_bad")
    with w.over(view):
        assert bpy.ops.lgd.select_doubtful(below=1.0) == {"FINISHED"} and rig.mode == "POSE"
    yield 1.0
    w.shot("fit_doubtful")
    with w.over(view):
        bpy.ops.object.mode_set(mode="OBJECT")

    # The paper's mode onto the same rig, and its steps played on one frame.
    scene.lgd.mode = "PAPER"
    with w.over(view):
        assert bpy.ops.lgd.fit_keypoints.poll() is bool(scene.lgd.keypoints)
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(lambda: pump.current() is None, 120, "the second fit")
    keep_ticks(pump, watch, "paper")
    assert not manager.lgd.error, (manager.lgd.error, manager.lgd.hint)
    yield 1.0
    rig = next(o for o in bpy.context.scene.objects if o.type == "ARMATURE")
    assert len([o for o in scene.objects if o.type == "ARMATURE"]) == 1 and rig.lgd.trace
    w.shot("fit_again")
    with w.over(view):
        assert bpy.ops.lgd.play_descent("INVOKE_DEFAULT", seconds=1.0) == {"RUNNING_MODAL"}
    yield 1.3
    w.shot("fit_descent")
    yield from w.until(lambda: not w.window().modal_operators, 10, "the play's end")
    with w.over(view):
        bpy.ops.lgd.release_worker()
    yield from w.until(lambda: not w.workers(), 10, "the worker's end")
    assert longest < 20, f"a turn of the pump took {longest:.1f} ms"


w.play(steps())
