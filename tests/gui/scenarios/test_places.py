# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: the panels in the sequencer, clip and image editor, a box drawn by dragging, the File menus."""

import bpy
import window as w


def steps():
    yield from w.begin()
    scene = bpy.context.scene
    view = w.area_of("VIEW_3D")

    # A box by a drag over the image editor.
    view.type = "IMAGE_EDITOR"
    yield 0.5
    yield from w.show_movie(view)
    yield from w.sidebar(view)
    w.choose(1, 24)
    scene.frame_set(3)
    for _ in range(2):  # the button is pressed twice
        with w.over(view):
            assert bpy.ops.lgd.pick_box.poll()
            assert bpy.ops.lgd.pick_box("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
        yield 0.3
    clip = bpy.data.movieclips.load(w.FOOTAGE)
    width, height = clip.size
    region = w.region_of(view, "WINDOW")
    to = lambda x, y: region.view2d.view_to_region(x / width, 1 - y / height, clip=False)  # noqa: E731
    yield from w.drag(view, to(0.2 * width, 0.15 * height), to(0.6 * width, 0.65 * height))
    w.shot("places_drag")
    x, y = to(0.6 * width, 0.65 * height)
    w.point(region.x + x, region.y + y, "LEFTMOUSE", "RELEASE")
    yield 0.5
    box = scene.lgd.boxes[0]
    print("box", box.x / width, box.y / height, box.w / width, box.h / height, box.first, box.last)
    w.point(region.x + x + 5, region.y + y)
    yield 0.3
    assert len(scene.lgd.boxes) == 1 and not w.window().modal_operators, "the next drag would draw another"
    assert abs(box.x / width - 0.2) < 0.02 and abs(box.h / height - 0.5) < 0.02 and box.first == box.last == 3
    yield 1.0
    w.shot("places_image_editor")
    yield from w.press("Z", view, ctrl=True)
    scene = bpy.context.scene
    assert len(scene.lgd.boxes) == 0

    # The clip editor.
    clip = next(iter(bpy.data.movieclips), None) or bpy.data.movieclips.load(w.FOOTAGE)
    view = w.area_of("IMAGE_EDITOR")
    view.type = "CLIP_EDITOR"
    yield 0.5
    view.spaces.active.clip = clip
    scene.lgd.place = "CLIP"
    yield from w.sidebar(view)
    with w.over(view):
        bpy.ops.clip.view_all(fit_view=True)
        assert bpy.ops.lgd.fit.poll()
    yield 1.0
    w.shot("places_clip_editor")

    # The sequencer: no strip, a movie strip.
    view.type = "SEQUENCE_EDITOR"
    scene.lgd.place = "STRIP"
    yield 1.0
    view.spaces.active.view_type = "SEQUENCER"
    yield from w.sidebar(view)
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    with w.over(view):
        assert not bpy.ops.lgd.fit.poll()
    yield 1.0
    w.shot("places_sequencer_empty")
    with w.over(view):
        add = bpy.ops.sequencer.movie_strip_add
        still = {"move_strips": False} if "move_strips" in add.get_rna_type().properties else {}  # since 5.0
        add(filepath=w.FOOTAGE, frame_start=1, channel=1, **still)
    yield 1.0
    with w.over(view):
        bpy.ops.sequencer.view_all()
        assert bpy.ops.lgd.fit.poll(), "grey with a strip"
    yield 1.0
    w.shot("places_sequencer")

    # The File menus hold the entries (drawn, by a call of the menu).
    view.type = "VIEW_3D"
    yield 0.5
    with w.over(view):
        bpy.ops.wm.call_menu(name="TOPBAR_MT_file_import")
    yield 1.0
    w.shot("places_import")
    w.point(900, 100)
    yield 0.5
    with w.over(view):
        bpy.ops.wm.call_menu(name="TOPBAR_MT_file_export")
    yield 1.0
    w.shot("places_export")


w.play(steps())
