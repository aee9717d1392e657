# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interface says: a tooltip on everything that is shown, and a reason on every grey button."""

import sys
from types import SimpleNamespace

import bpy
import pytest
from mathutils import Vector

from lgd_blender_addon import overlay
from lgd_blender_addon.operators import boxes
from lgd_blender_addon.operators.boxes import _picture_size
from lgd_blender_addon.operators.request import find_footage

HIDDEN = {"rna_type", "filepath", "check_existing", "filter_glob", "name", "directory", "files"}


def operators() -> list[str]:
    """The add-on's operators that have a button, such as lgd.fit."""
    kinds = {name: getattr(bpy.types, name) for name in dir(bpy.types) if name.startswith("LGD_OT_")}
    return sorted(kind.bl_idname for kind in kinds.values() if "INTERNAL" not in getattr(kind, "bl_options", ()))


def function(name: str):
    return getattr(bpy.ops.lgd, name.partition(".")[2])


def bare(owner: str, properties) -> list[str]:
    """Properties and choices that a pointer over them would find without a word."""
    found = []
    for entry in properties:
        if entry.identifier in HIDDEN or entry.is_hidden:
            continue
        if not entry.description.strip():
            found.append(f"{owner}.{entry.identifier}")
        if entry.type == "ENUM":
            items = [i for i in entry.enum_items if not i.description.strip()]
            found += [f"{owner}.{entry.identifier}: {item.name}" for item in items]
    return found


def test_everything_has_a_tooltip(addon):
    from lgd_blender_addon import preferences, properties

    wrong = []
    for name in operators():
        kind = function(name).get_rna_type()
        if not kind.description.strip() or kind.description.endswith("."):  # Blender adds the full stop
            wrong.append(name)
        wrong += bare(name, kind.properties)
    for group in (properties.LGD_PG_settings, properties.LGD_PG_box, preferences.LGD_AddonPreferences):
        wrong += bare(group.__name__, [e for e in group.bl_rna.properties if e.identifier in group.__annotations__])
    assert len(operators()) > 20 and not wrong, "\n".join(wrong)


def reasons() -> dict[str, str]:
    """Why each operator is grey now; empty where Blender has nothing to say but its own formula."""
    found = {}
    for name in operators():
        if function(name).poll():
            continue
        with pytest.raises(RuntimeError) as caught:
            function(name)()
        text = str(caught.value).partition("poll() ")[2].strip()
        found[name] = "" if "context is incorrect" in text else text
    return found


def test_every_grey_button_says_why(addon, monkeypatch):
    from lgd_blender_addon.operators import pump

    monkeypatch.setenv("LGD_PYTHON", sys.executable)
    empty = reasons()
    assert {"lgd.fit", "lgd.detect", "lgd.pick_box", "lgd.clear_boxes", "lgd.next_bad_frame"} <= set(empty)
    monkeypatch.setattr(pump, "current", lambda: object())
    running = reasons()
    assert "job is running" in running["lgd.fit"].lower()
    monkeypatch.setattr(pump, "current", lambda: None)
    monkeypatch.delenv("LGD_PYTHON")
    bare_machine = reasons()
    assert bare_machine["lgd.fit"] != empty["lgd.fit"]
    silent = {name for state in (empty, running, bare_machine) for name, text in state.items() if not text}
    assert not silent, silent


def test_a_folder_of_images_has_a_rate_whatever_its_name(addon, tmp_path):
    from lgd_blender_addon import panels

    settings = bpy.context.scene.lgd
    for name, images in (("take.v2", True), ("take", True), ("take.mp4", False)):
        path = tmp_path / name
        path.mkdir() if images else path.write_bytes(b"")
        settings.path = str(path)
        assert panels._names_images(settings) == images
    settings.path = ""
    assert not panels._names_images(settings)


def test_a_box_can_be_drawn_before_a_folder_of_pictures_was_looked_through(addon, tmp_path):
    """In the camera's view, where no editor tells how large they are, and in an editor that shows something else by then."""
    image = bpy.data.images.new("picture", 24, 16)
    image.filepath_raw, image.file_format = str(tmp_path / "p_0001.png"), "PNG"
    image.save()
    settings, other = bpy.context.scene.lgd, bpy.data.images.new("texture", 64, 64)
    held = set(bpy.data.images)
    for path, size in ((tmp_path, (24, 16)), (tmp_path / "p_0001.png", (24, 16))):
        settings.path = str(path)
        found = find_footage(bpy.context)
        overlay.begin(found)
        for shown in ({"type": "VIEW_3D"}, {"type": "IMAGE_EDITOR", "image": other}, {"type": "IMAGE_EDITOR", "image": image}):
            assert _picture_size(SimpleNamespace(space_data=SimpleNamespace(**shown)), found) == size
    assert set(bpy.data.images) == held


def test_a_drag_that_is_waited_for_ends_with_the_next_and_with_the_add_on(addon):
    """Blender removes the operator unheard, and what it draws would complain at every redraw."""

    class Space:
        drawn: list = []

        @classmethod
        def draw_handler_add(cls, draw, *rest):
            cls.drawn.append(draw)
            return draw

        @classmethod
        def draw_handler_remove(cls, draw, region):
            cls.drawn.remove(draw)

    context = SimpleNamespace(area=None, space_data=Space())
    first = boxes.wait(context)
    second = boxes.wait(context)
    assert Space.drawn == [second._draw]
    first.end()
    assert Space.drawn == [second._draw]
    addon.unregister()
    assert not Space.drawn
    addon.register()


def test_a_box_is_what_was_dragged_over_of_the_picture(addon, monkeypatch):
    """From whichever corner, and by a pointer that leaves the picture; Esc and another editor make none."""

    def event(kind, value, x=0, y=0):
        return SimpleNamespace(type=kind, value=value, mouse_region_x=x, mouse_region_y=y)

    def dragged(*events, area=None):
        made, drag = [], SimpleNamespace(corner=None, pointer=None, area=area or context.area, space=SimpleNamespace)
        me = SimpleNamespace(_drag=drag, _end=lambda answer: answer)
        me.execute = lambda _: made.append((me.x, me.y, me.w, me.h)) or {"FINISHED"}
        monkeypatch.setattr(boxes, "_present", drag)
        return made, [boxes.LGD_OT_pick_box.modal(me, context, one) for one in events][-1]

    context = SimpleNamespace(area=SimpleNamespace(tag_redraw=lambda: None), space_data=SimpleNamespace())
    monkeypatch.setattr(overlay, "picking", lambda _: lambda x, y: (x, 100 - y))
    monkeypatch.setattr(overlay.tracks, "size", (64, 36))
    down, move, up = event("LEFTMOUSE", "PRESS", 30, 80), event("MOUSEMOVE", "NOTHING", 20, 85), event("LEFTMOUSE", "RELEASE", 10, 90)
    assert dragged(down, move, up) == ([(10, 10, 20, 10)], {"FINISHED"})
    assert dragged(down, event("LEFTMOUSE", "RELEASE", 500, -50)) == ([(30, 20, 33, 15)], {"FINISHED"})
    assert dragged(event("LEFTMOUSE", "PRESS", -5, 200), event("LEFTMOUSE", "RELEASE", 8, 70)) == ([(0, 0, 8, 30)], {"FINISHED"})
    assert dragged(down, event("ESC", "PRESS")) == ([], {"CANCELLED"}) and dragged(down, move, up, area=SimpleNamespace()) == ([], {"CANCELLED"})
    assert dragged(up) == ([], {"PASS_THROUGH"}) == dragged(down, event("A", "PRESS"))


def test_boxes_go_one_by_one(addon):
    held = bpy.context.scene.lgd.boxes
    for x in range(3):
        held.add().x = x
    assert bpy.ops.lgd.clear_boxes(index=1) == {"FINISHED"} and [box.x for box in held] == [0, 2]
    assert bpy.ops.lgd.clear_boxes() == {"FINISHED"} and not len(held)


@pytest.mark.parametrize(
    "size, method, low, high",
    [
        ((1080, 1920), "FIT", (165.625, 158), (226.375, 50)),
        ((1080, 1920), "CROP", (100, 274.667), (292, -66.667)),
        ((2048, 858), "FIT", (100, 144.219), (292, 63.781)),
        ((1000, 1000), "STRETCH", (100, 158), (292, 50)),
    ],
)
def test_skeletons_lie_where_the_camera_shows_the_footage(addon, monkeypatch, size, method, low, high):
    """The frame is 192 x 108 px of the region, from (100, 50) on. Another picture is behind the camera, too, and laid otherwise."""
    monkeypatch.setattr(overlay, "tracks", overlay.Tracks())
    overlay.tracks.path, overlay.tracks.size = "/films/take.mp4", size
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.render.resolution_x, scene.render.resolution_y = 1920, 1080
    data, take = scene.camera.data, bpy.data.images.new("take", 8, 8)
    data.show_background_images, take.filepath = True, "/films/take.mp4"
    data.background_images.new().frame_method = "CROP" if method == "FIT" else "FIT"
    shown = data.background_images.new()
    shown.image, shown.frame_method = take, method
    flat = lambda region, view, corner: Vector((100 + (corner.x + 0.5) * 192, 50 + (corner.y + 0.28125) / 0.5625 * 108))  # noqa: E731
    monkeypatch.setattr(overlay, "location_3d_to_region_2d", flat)
    view, space = SimpleNamespace(view_perspective="CAMERA"), SimpleNamespace(type="VIEW_3D", use_local_camera=False, camera=scene.camera)
    context = SimpleNamespace(region_data=view, scene=scene, region=space, area=space, space_data=space)
    place = overlay.placing(context)
    assert place(-0.5, -0.5) == pytest.approx(low, abs=0.01)
    assert place(size[0] - 0.5, size[1] - 0.5) == pytest.approx(high, abs=0.01)
    scene.camera = bpy.data.objects.new("Another", bpy.data.cameras.new("Another"))
    assert overlay.placing(context) is None
    space.use_local_camera = True  # this view looks through the first one all the same
    assert overlay.placing(context)(-0.5, -0.5) == pytest.approx(low, abs=0.01)


def test_skeletons_are_drawn_over_their_footage_alone(addon, monkeypatch, tmp_path):
    """Not over a texture in the image editor, nor through a camera with nothing, or something else, behind it."""
    monkeypatch.setattr(overlay, "tracks", overlay.Tracks())
    overlay.tracks.path = "/films/take.mp4"
    texture, moved = bpy.data.images.new("wood", 8, 8), bpy.data.images.new("take", 8, 8)
    texture.filepath, moved.filepath = "/textures/wood.png", "/elsewhere/take.mp4"
    assert overlay.is_footage(moved) and not overlay.is_footage(texture) and not overlay.is_footage(None)
    scene = bpy.context.scene
    assert overlay._footage_behind(scene.camera, scene) is None
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    data = scene.camera.data
    assert overlay._footage_behind(scene.camera, scene) is None
    data.show_background_images = True
    for image in (texture, moved):
        data.background_images.new().image = image
    assert overlay._footage_behind(scene.camera, scene) == data.background_images[1], "by which it is placed and told to be straight"
    data.background_images[1].show_background_image = False
    assert overlay._footage_behind(scene.camera, scene) is None
    overlay.tracks.path = "/films/shot_7"  # a folder of images
    texture.filepath = "/films/shot_7/0001.png"
    assert overlay._footage_behind(scene.camera, scene)


@pytest.mark.parametrize(
    ("done", "total", "remaining", "shown"),
    [(5, 24, 75.4, "5 / 24   1:15 left"), (24, 24, -1.0, "24 / 24"), (0, 1, -1.0, ""), (0, 0, 0.0, "0:00 left"), (1, 2, 3599.6, "1 / 2   60:00 left")],
)
def test_how_far_a_run_is(addon, done, total, remaining, shown):
    from lgd_blender_addon.operators import pump

    show = SimpleNamespace(done=done, total=total, remaining=remaining, stage="fit", title="Solve")
    assert pump.amount(show) == shown and pump.line(show) == "  ".join(filter(None, ["LGD:", "Solving the motion", shown]))
