# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes and skeletons over the footage: in the image editor, the clip editor and the camera's view."""

from pathlib import Path

import bpy
import gpu
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

from ._bridge import arrays
from .properties import COLOURS
from .scene import lens
from .scene.camera import part_of_frame

_COCO = (
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
)
_BODY25 = (
    (0, 1),
    (1, 2),
    (2, 3),
    (3, 4),
    (1, 5),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (10, 11),
    (8, 12),
    (12, 13),
    (13, 14),
    (0, 15),
    (0, 16),
    (15, 17),
    (16, 18),
    (14, 19),
    (19, 20),
    (14, 21),
    (11, 22),
    (22, 23),
    (11, 24),
)
_BLAZEPOSE = (
    (0, 2), (0, 5), (2, 7), (5, 8), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (15, 19), (15, 17), (16, 20), (16, 18),
    (11, 23), (12, 24), (23, 24), (23, 25), (25, 27), (24, 26), (26, 28), (27, 29), (29, 31), (27, 31), (28, 30), (30, 32), (28, 32),
)  # fmt: skip
EDGES = {
    "coco17": _COCO,
    "body25": _BODY25,
    "body25b": (*_COCO, (15, 19), (19, 20), (15, 21), (16, 22), (22, 23), (16, 24)),
    "halpe26": (*_COCO, (15, 20), (15, 24), (16, 21), (16, 25)),
    "blazepose33": _BLAZEPOSE,
}  # fmt: skip
SEEN = 0.3
HELD = 4  # frames


class Tracks:
    """What is drawn: people by source frame, and which source frame Blender shows when."""

    def __init__(self):
        self.frames: dict[int, list] = {}
        self.layout = ""
        self.path = ""
        self.size = (0, 0)
        self.first = 0
        self.start = 1
        self.file_start: int | None = None
        self.table = np.zeros(0, int)

    def at(self, frame: int) -> list:
        """The people of the picture that Blender shows on a frame: [[(x, y, c), ...], ...]."""
        place = frame - self.start
        if not 0 <= place < len(self.table):
            return []
        source = int(self.table[place])
        # While the pictures of a variable-rate file come in, one stays until the next.
        held = range(source, max(source - HELD, -1), -1) if source < max(self.frames, default=0) else [source]
        return next((self.frames[shown] for shown in held if shown in self.frames), [])


tracks = Tracks()
_handlers: list = []


def begin(footage) -> None:
    """Detection of a footage begins: nothing is seen yet."""
    global tracks
    tracks = Tracks()
    if footage is not None:
        tracks.first, tracks.start, tracks.table = footage.frames[0], footage.start, footage.table
        tracks.size, tracks.path, tracks.file_start = footage.size, footage.path, footage.file_start


def add(event: dict) -> None:
    """A `keypoints` message: the people of one frame, counted from the range's first."""
    tracks.frames[tracks.first + event["frame"]] = event["people"]
    tracks.layout = event.get("layout") or tracks.layout
    tracks.size = tuple(event.get("image_size") or tracks.size)


def load(path: str, footage, identities: list[int]) -> None:
    """Draw a whole keypoint file: whole tracks, in the order of the people's list, whose `person_ids` are given."""
    try:
        file = arrays.load_arrays(Path(path))
        points, confidence = file["keypoints"], file["confidence"]
        layout, size = str(file["layout"]), tuple(int(v) for v in file["image_size"])
        order = [file["person_ids"].tolist().index(identity) for identity in identities]
    except (ValueError, KeyError):
        return
    if points.ndim == 3:
        points, confidence = points[None], confidence[None]
    begin(footage)
    tracks.layout, tracks.size = layout, size
    joined = np.concatenate([np.nan_to_num(points), confidence[..., None]], -1)[order]
    for frame in range(joined.shape[1]):
        tracks.frames[tracks.first + frame] = joined[:, frame]


def times_of(path: str):
    """The times (F,) s of a keypoint file's frames; None where it has none."""
    try:
        return arrays.load_arrays(Path(path)).get("frame_times")
    except arrays.Unreadable:
        return None


def clear() -> None:
    """Draw nothing any more."""
    begin(None)


# -- from the picture's pixels to a region's


def placing(context):
    """A function from picture px (x, y) to px of the region, or None where no footage is shown there."""
    place, told = _placing_straight(context), _shown_straight(context)
    return (lambda x, y: place(*lens.straighten(told, x, y))) if place and told else place


def picking(context):
    """The inverse of `placing`: a function from px of the region to picture px, or None."""
    place, told = _placing_straight(context), _shown_straight(context)
    if place is None:
        return None
    (x0, y0), (x1, y1) = place(0.0, 0.0), place(1000.0, 1000.0)
    if abs(x1 - x0) < 1e-6:
        return None

    def pick(x, y):
        x, y = (x - x0) / (x1 - x0) * 1000.0, (y - y0) / (y1 - y0) * 1000.0
        return lens.bend(told, x, y) if told else (x, y)

    return pick


def _shown_straight(context) -> dict:
    """The distortion that is taken out of the clip where it is shown; {} where it is shown as filmed."""
    space, clip = context.space_data, None
    if space is not None and space.type == "CLIP_EDITOR" and space.clip_user.use_render_undistorted:
        clip = space.clip
    elif space is not None and space.type == "VIEW_3D":
        shown = _footage_behind(_looking(context), context.scene)
        if shown is not None and shown.source == "MOVIE_CLIP" and shown.clip_user.use_render_undistorted:
            clip = context.scene.active_clip if shown.use_camera_clip else shown.clip
    return lens.distortion_of(clip)[0] if clip is not None else {}


def _placing_straight(context):
    w, h = tracks.size
    area, region = context.area, context.region
    if area is None or region is None or not w or not h:
        return None
    if area.type in ("IMAGE_EDITOR", "CLIP_EDITOR"):
        shown = context.space_data.clip if area.type == "CLIP_EDITOR" else context.space_data.image
        if getattr(context.space_data, "mode", "VIEW") not in ("VIEW", "TRACKING", "MASK", "PAINT", "UV") or not is_footage(shown):
            return None
        view = region.view2d
        return lambda x, y: view.view_to_region((x + 0.5) / w, 1.0 - (y + 0.5) / h, clip=False)
    shown = _footage_behind(_looking(context), context.scene) if area.type == "VIEW_3D" else None
    return _through_camera(context, w, h, shown.frame_method) if shown is not None else None


def is_footage(shown) -> bool:
    """Whether an image or a movie clip is the footage whose people are drawn, by its name: projects and drives move."""
    if shown is None:
        return False
    path, own = Path(bpy.path.abspath(shown.filepath, library=shown.library)), Path(tracks.path)
    return not tracks.path or own.name in (path.name, path.parent.name)


def _looking(context):
    """The camera that a 3D view looks through: the scene's, or one of its own (Use Local Camera)."""
    space = context.space_data
    return space.camera if space is not None and space.use_local_camera else context.scene.camera


def _footage_behind(camera, scene):
    """The background by which a camera shows the footage, which need not be its first; None where none does."""
    if camera is None or camera.type != "CAMERA" or not camera.data.show_background_images:
        return None
    for shown in camera.data.background_images:
        clip = scene.active_clip if shown.use_camera_clip else shown.clip
        if shown.show_background_image and is_footage(shown.image if shown.source == "IMAGE" else clip):
            return shown
    return None


def _through_camera(context, w, h, method: str):
    view, camera = context.region_data, _looking(context)
    if view is None or view.view_perspective != "CAMERA" or camera is None or camera.type != "CAMERA":
        return None
    corners = [camera.matrix_world @ corner for corner in camera.data.view_frame(scene=context.scene)]
    flat = [location_3d_to_region_2d(context.region, view, corner) for corner in corners]
    if any(point is None for point in flat):
        return None
    left, right = min(p.x for p in flat), max(p.x for p in flat)
    low, high = min(p.y for p in flat), max(p.y for p in flat)
    part = part_of_frame((w, h), context.scene.render, method)
    across, up = (right - left) * part[0] / w, (high - low) * part[1] / h
    middle = (left + right) / 2, (low + high) / 2
    return lambda x, y: (middle[0] + (x + 0.5 - w / 2) * across, middle[1] - (y + 0.5 - h / 2) * up)


# -- drawing


def lines_at(frame: int, scene) -> list:
    """What to draw on a frame: (colour, [(x, y), ...] pairs of ends in picture px) for people, then boxes."""
    out = []
    edges = EDGES.get(tracks.layout, ())
    chosen = {item.person: tuple(item.colour) for item in bpy.context.window_manager.lgd.people}
    # A file may have been moved since, by Start Frame or by undoing that, and begins elsewhere in another scene.
    moved = 0 if tracks.file_start is None else scene.lgd.start - tracks.file_start
    for number, person in enumerate(tracks.at(frame - moved)):
        ends = []
        for a, b in edges:
            if a < len(person) and b < len(person) and min(person[a][2], person[b][2]) >= SEEN:
                ends += [tuple(person[a][:2]), tuple(person[b][:2])]
        if ends:
            out.append((chosen.get(number, COLOURS[number % len(COLOURS)]), ends))
    for box in scene.lgd.boxes:
        if box.first <= frame <= box.last:
            out.append(((1.0, 1.0, 1.0), outline(box.x, box.y, box.w, box.h)))
    return out


def outline(x, y, w, h) -> list:
    """A box's four sides as the ends of lines [(x, y), ...]."""
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    return [end for i in range(4) for end in (corners[i], corners[(i + 1) % 4])]


def _draw() -> None:
    context = bpy.context
    settings = getattr(context.scene, "lgd", None)
    if settings is None or not settings.show_overlay:
        return
    place = placing(context)
    if place is None:
        return
    draw_lines(
        [
            (colour, [place(*end) for end in ends])
            for colour, ends in lines_at(context.scene.frame_current, context.scene)
        ]
    )


def draw_lines(groups) -> None:
    """Draw (colour, ends) groups in px of the present region."""
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    viewport = gpu.state.viewport_get()
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_float("viewportSize", (viewport[2], viewport[3]))
    shader.uniform_float("lineWidth", 2.5)
    for colour, ends in groups:
        shader.uniform_float("color", (*colour, 0.95))
        batch_for_shader(shader, "LINES", {"pos": [(x, y, 0.0) for x, y in ends]}).draw(shader)
    gpu.state.blend_set("NONE")


def attach() -> None:
    """Draw from now on. Without a window there is nothing to draw in."""
    if bpy.app.background:
        return
    for space in (bpy.types.SpaceImageEditor, bpy.types.SpaceClipEditor, bpy.types.SpaceView3D):
        _handlers.append((space, space.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")))


def detach() -> None:
    """Draw no more."""
    while _handlers:
        space, handler = _handlers.pop()
        space.draw_handler_remove(handler, "WINDOW")
    clear()
