# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: the README's two pictures, taken of a real fit. Started by tests/gui/pictures.py."""

import subprocess

import bpy
import window as w

FRAMES, SHOWN = 48, 22
COLOURS = 256  # of the palette: keeps a picture of footage below 300 kB


def cropped(name: str, area) -> None:
    """A picture of one editor."""
    w.shot(name)
    file = f"{w.lgd_gui.OUT}/{name}.png"
    place = f"{area.width}x{area.height}+{area.x}+{w.window().height - area.y - area.height}"
    command = [
        "convert",
        file,
        "-crop",
        place,
        "+repage",
        "-dither",
        "FloydSteinberg",
        "-colors",
        str(COLOURS),
    ]
    subprocess.run([*command, f"PNG8:{file}"], check=True)


def steps():
    yield from w.begin()
    pump, overlay = w.part("operators.pump"), w.part("overlay")
    scene = bpy.context.scene
    for item in list(bpy.data.objects):
        if item.type != "LIGHT":
            bpy.data.objects.remove(item)
    # Of the 3D view, as much as a portrait picture and the sidebar need.
    _rest, area = w.split(w.area_of("VIEW_3D"), 0.3, "IMAGE_EDITOR")
    area.type = "IMAGE_EDITOR"
    yield 0.5
    yield from w.show_movie(area)
    yield from w.sidebar(area)
    with w.over(area):
        bpy.ops.image.view_pan(offset=(130.0 / area.spaces.active.zoom[0], 0.0))
    w.choose()
    scene.lgd.range, scene.frame_end = "SCENE", FRAMES  # fewer rows than Custom
    scene.frame_set(SHOWN)
    yield 1.0
    with w.over(area):
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(
        lambda: len(overlay.tracks.frames) > SHOWN + 8 or pump.current() is None, 180, "frames"
    )
    yield 0.3
    cropped("running", area)
    yield from w.until(lambda: pump.current() is None, 180, "the fit")
    show = bpy.context.window_manager.lgd
    assert not show.error, (show.error, show.hint)

    area.type = "VIEW_3D"
    yield 0.5
    space = area.spaces.active
    space.show_region_toolbar = False
    space.show_gizmo = False
    space.overlay.show_cursor = space.overlay.show_text = False
    scene.lgd.show_overlay = False
    yield from w.sidebar(area)
    rig = next(o for o in scene.objects if o.type == "ARMATURE")
    with w.over(area):
        bpy.context.view_layer.objects.active = rig
        bpy.ops.lgd.set_scene_rate_and_range()
        bpy.ops.view3d.view_camera()
        bpy.ops.view3d.view_center_camera()
    space.region_3d.view_camera_zoom = 2
    space.region_3d.view_camera_offset = (0.194, 0.0)
    scene.frame_set(SHOWN)
    yield 3.0
    cropped("panel", area)


w.play(steps())
