# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: the sidebar in every state that needs no worker."""

import os

import bpy
import window as w

SECTIONS = ("footage", "who", "settings", "run", "result")


def steps():
    yield from w.begin()
    scene, view = bpy.context.scene, w.area_of("VIEW_3D")
    yield from w.sidebar(view)
    print("sidebar width", w.region_of(view, "UI").width)
    assert not bpy.ops.lgd.fit.poll()
    w.shot("panel_empty")

    python = os.environ.pop("LGD_PYTHON")
    yield from w.until(lambda: not bpy.ops.lgd.fit.poll(), 2, "a grey button")
    w.region_of(view, "UI").tag_redraw()
    yield 1.5
    w.shot("panel_not_set_up")
    os.environ["LGD_PYTHON"] = python

    w.choose()
    yield 1.5
    assert bpy.ops.lgd.fit.poll()
    w.shot("panel_footage")

    scene.lgd.path = "/job/none.mp4"
    yield from w.click("lgd.fit", view)
    w.point(view.x + 200, view.y + 200)
    yield 1.5
    assert "does not exist" in bpy.context.window_manager.lgd.error
    w.shot("panel_error")

    # People as a detector for several would list them, and boxes.
    w.choose()
    w.part("operators.detected").list_people(
        bpy.context.window_manager.lgd,
        [
            {"person": n, "first": 3 * n, "last": 80 + 9 * n, "seen": 60, "confidence": 0.9 - 0.2 * n}
            for n in range(3)
        ],
    )
    for first, last in ((1, 40), (41, 100)):
        box = scene.lgd.boxes.add()
        box.x, box.y, box.w, box.h, box.first, box.last = 300.0, 320.0, 420.0, 900.0, first, last
    yield from open_section(view, "who")
    w.shot("panel_who")
    scene.lgd.mode = "PAPER"
    yield from open_section(view, "settings")
    w.shot("panel_settings")


def open_section(area, name):
    """Show one section alone: ctrl-click on the first header closes the others, then the headers lie at even distances."""
    region = w.region_of(area, "UI")
    x, top = region.x + region.width * 0.4, region.y + region.height - 12
    row = 28 * bpy.context.preferences.system.ui_scale
    for y, keys in ((top, {"ctrl": True}), (top, {}), (top - row * SECTIONS.index(name), {})):
        w.point(x, y)
        yield 0.2
        w.point(x, y, "LEFTMOUSE", "PRESS", **keys)
        w.point(x, y, "LEFTMOUSE", "RELEASE", **keys)
        yield 1.5
    w.point(area.x + 200, area.y + 200)
    yield 1.5


w.play(steps())
