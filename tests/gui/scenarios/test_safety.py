# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window with the real worker: undo, another file and disabling the add-on while a job runs; a window that is closed."""

import os
import statistics
import time

import addon_utils
import bpy
import window as w


def steps():
    yield from w.begin()
    # How long the add-on takes to register, as Blender does at its start (modules are loaded by then).
    package = __import__(w.ADDON, fromlist=["register"])
    times = []
    for _ in range(7):
        package.unregister()
        began = time.perf_counter()
        package.register()
        times.append(1000 * (time.perf_counter() - began))
        yield 0.2
    print(f"registration: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    assert statistics.median(times) < 100

    pump, overlay = w.part("operators.pump"), w.part("overlay")
    view = w.area_of("VIEW_3D")
    yield from w.sidebar(view)

    # Undo and redo in the midst of a job: it goes on, and its result comes.
    w.choose(1, 12)
    bpy.ops.ed.undo_push(message="Settings")
    with w.over(view):
        bpy.ops.mesh.primitive_uv_sphere_add()
        bpy.ops.ed.undo_push(message="Sphere")
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(lambda: len(overlay.tracks.frames) > 3, 90, "frames")
    yield from w.press("Z", view, ctrl=True)
    assert pump.current() is not None and "Sphere" not in bpy.data.objects, list(bpy.data.objects)
    yield from w.until(lambda: pump.current() is None, 120, "the fit")
    show = bpy.context.window_manager.lgd
    assert not show.error, (show.error, show.hint)
    assert len(bpy.data.armatures) == 1 and show.summary
    assert len(w.workers()) == 1

    # A result that is there in the midst of a drag in Edit Mode waits until the mouse is let go.
    with w.over(view):
        bpy.ops.object.select_all(action="DESELECT")
        bpy.ops.mesh.primitive_cube_add()
        bpy.ops.object.mode_set(mode="EDIT")
        cube = bpy.context.object
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
        assert bpy.ops.transform.translate("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    yield from w.until(lambda: pump.current().over, 120, "the result")
    for _ in range(5):
        w.point(view.x + 300, view.y + 300 + 5 * _)
        yield 0.3
    assert pump.current() is not None and bpy.context.window_manager.lgd.stage == "wait"
    actions = len(bpy.data.actions)
    w.shot("safety_drag")
    w.point(view.x + 300, view.y + 300, "ESC", "PRESS")
    w.point(view.x + 300, view.y + 300, "ESC", "RELEASE")
    yield from w.until(lambda: pump.current() is None, 10, "the build")
    assert len(bpy.data.actions) > actions and cube.mode == "EDIT", (cube.mode, list(bpy.data.actions))
    with w.over(view):
        bpy.ops.object.mode_set(mode="OBJECT")

    # Shift+D is a copy and a move in one, in the midst of which Blender refuses a change of mode.
    with w.over(view):
        assert bpy.ops.object.duplicate_move("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    yield 0.3
    assert w.part("operators.busy").dragging()
    w.point(view.x + 300, view.y + 300, "ESC", "PRESS")
    w.point(view.x + 300, view.y + 300, "ESC", "RELEASE")
    yield 0.5
    assert not w.part("operators.busy").dragging()

    # Another file in the midst of a job: it is cancelled, the new file stays as it is.
    with w.over(view):
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(lambda: pump.current() and pump.current().job.stage == "detect", 60, "a stage")
    bpy.ops.wm.save_as_mainfile(filepath="/job/other.blend", copy=True)
    bpy.ops.wm.read_homefile(app_template="")
    yield 1.0
    show = bpy.context.window_manager.lgd
    assert pump.current() is None and not show.running and not bpy.data.armatures
    before = w.blocks()
    yield 6.0
    assert w.blocks() == before
    view = w.area_of("VIEW_3D")
    yield from w.sidebar(view)
    w.shot("safety_new_file")

    # The next job works; disabling the add-on in its midst ends all, its worker too.
    w.choose(1, 12)
    with w.over(view):
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(lambda: len(overlay.tracks.frames) > 1, 90, "frames")
    began = time.perf_counter()
    addon_utils.disable(w.ADDON)
    print(f"disabled in {time.perf_counter() - began:.2f} s")
    yield from w.until(lambda: not w.workers(), 15, "the worker's end")
    assert not hasattr(bpy.types.Scene, "lgd")
    w.shot("safety_disabled")
    addon_utils.enable(w.ADDON)
    yield 0.5
    assert hasattr(bpy.types.Scene, "lgd") and bpy.ops.lgd.detect.poll()

    # A window that is closed while a box is waited for in it, as on a second screen.
    w.choose(1, 24)
    with w.over(w.area_of("VIEW_3D")):
        bpy.ops.wm.window_new()
    yield 1.0
    second = bpy.context.window_manager.windows[-1]
    area = second.screen.areas[0]
    area.type = "IMAGE_EDITOR"
    area.spaces.active.image = bpy.data.images.load(w.FOOTAGE)
    yield 1.0
    with bpy.context.temp_override(window=second, area=area, region=w.region_of(area, "WINDOW")):
        assert bpy.ops.lgd.pick_box("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    yield 0.5
    with bpy.context.temp_override(window=second):
        bpy.ops.wm.window_close()
    yield 1.0
    assert len(bpy.context.window_manager.windows) == 1 and w.part("operators.boxes")._present is None
    w.shot("safety_window_closed")

    # Leaving Blender in the midst of a job: chroot.py looks whether the worker ends.
    w.choose(1, 24)
    with w.over(w.area_of("VIEW_3D")):
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    tracks = w.part("overlay")
    yield from w.until(lambda: len(tracks.tracks.frames) > 1, 90, "frames")
    assert len(w.workers()) == 1 and os.path.exists("/job/other.blend")
    with w.over(w.area_of("VIEW_3D")):
        bpy.ops.wm.quit_blender()
    yield 20.0
    raise AssertionError("Blender did not quit")


w.play(steps())
