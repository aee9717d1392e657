# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes round the wanted person, drawn over the footage."""

from pathlib import Path

import bpy
from bpy.props import FloatProperty, IntProperty

from .. import overlay
from .._bridge import LgdError
from ..scene.footage import folder_files
from . import status_bar
from .request import find_footage
from .run import complain, forget_complaint, no_footage


class _Drag:
    """A drag that is waited for or under way over an area, and its outline. Plain Python's: Blender removes an operator unheard where the add-on is
    disabled meanwhile, and what is drawn would ask for it for ever."""

    def __init__(self, context):
        self.corner = self.pointer = None
        self.area, self.space = context.area, type(context.space_data)
        self._handle = self.space.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")

    def _draw(self) -> None:
        if bpy.context.area != self.area or not self.corner or not self.pointer:
            return
        (x0, y0), (x1, y1) = self.corner, self.pointer
        overlay.draw_lines([((1.0, 1.0, 1.0), overlay.outline(x0, y0, x1 - x0, y1 - y0))])

    def end(self, clear=status_bar.clear) -> None:
        """Draw no more. clear: how the status bar's text is taken away."""
        global _present
        if _present is self:
            _present = None
            self.space.draw_handler_remove(self._handle, "WINDOW")
            clear()


_present: _Drag | None = None


def wait(context) -> _Drag:
    """Wait for a drag over the context's area, and for no other any more: where the button is pressed again, one drag makes one box."""
    global _present
    detach()
    _present = _Drag(context)
    return _present


def detach() -> None:
    """End what is waited for."""
    if _present is not None:
        _present.end()


class LGD_OT_pick_box(bpy.types.Operator):
    """Draw a box round the person to solve, over the footage in this editor. It holds on this frame; before and after it the person is followed"""

    bl_idname = "lgd.pick_box"
    bl_label = "Draw Box"
    bl_options = {"REGISTER", "UNDO"}

    x: FloatProperty(name="X", description="Left border in pixels of the picture")
    y: FloatProperty(name="Y", description="Upper border in pixels, from the picture's top")
    w: FloatProperty(name="Width", description="Width in pixels")
    h: FloatProperty(name="Height", description="Height in pixels")
    first: IntProperty(
        name="First", description="First frame of the scene for which the box holds; 0: the present one"
    )
    last: IntProperty(
        name="Last", description="Last frame of the scene for which the box holds; 0: the first"
    )

    @classmethod
    def poll(cls, context):
        """Grey without footage."""
        problem = no_footage(context)
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def execute(self, context):
        """Add the box."""
        scene = context.scene
        try:
            found = find_footage(context)
            first = self.first or _frame_of(scene, found)
        except LgdError as error:
            return complain(self, error)
        if self.w < 4 or self.h < 4:
            self.report({"WARNING"}, "The box is too small")
            return {"CANCELLED"}
        forget_complaint()
        for other in scene.lgd.boxes:
            if other.first < first <= other.last:
                other.last = first - 1
        box = scene.lgd.boxes.add()
        box.x, box.y, box.w, box.h = self.x, self.y, self.w, self.h
        box.first, box.last = first, max(self.last or first, first)
        return {"FINISHED"}

    def invoke(self, context, event):
        """Wait for a drag over the footage."""
        try:
            found = find_footage(context)
            _frame_of(context.scene, found)
        except LgdError as error:
            return complain(self, error)
        if not overlay.tracks.size[0] or overlay.tracks.path != found.path:
            overlay.begin(found)
        if not overlay.tracks.size[0]:
            overlay.tracks.size = _picture_size(context, found)
        if overlay.picking(context) is None:
            self.report(
                {"WARNING"},
                "Draw in the image or clip editor, or in the camera's view, with the footage in it",
            )
            return {"CANCELLED"}
        self._drag = wait(context)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Drag a box round the person.  Esc: no box")
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        """Follow the drag; everything else goes to Blender."""
        here, drag = (event.mouse_region_x, event.mouse_region_y), self._drag
        if drag is not _present:  # the button was pressed again
            return {"CANCELLED", "PASS_THROUGH"}
        if context.area != drag.area or type(context.space_data) is not drag.space:  # another workspace, another editor
            return self._end({"CANCELLED"})
        context.area.tag_redraw()
        if event.type in {"ESC", "RIGHTMOUSE"}:
            return self._end({"CANCELLED"})
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            drag.corner = drag.pointer = here
            return {"RUNNING_MODAL"}
        if event.type == "MOUSEMOVE":
            drag.pointer = here
            return {"RUNNING_MODAL"}
        if event.type == "LEFTMOUSE" and event.value == "RELEASE" and drag.corner:
            pick = overlay.picking(context)
            if pick is None:
                return self._end({"CANCELLED"})
            (x0, y0), (x1, y1) = pick(*drag.corner), pick(*here)
            w, h = overlay.tracks.size
            x0, x1 = sorted((min(max(x0, 0), w - 1), min(max(x1, 0), w - 1)))
            y0, y1 = sorted((min(max(y0, 0), h - 1), min(max(y1, 0), h - 1)))
            self.x, self.y, self.w, self.h = x0, y0, x1 - x0, y1 - y0
            self._end(set())
            return self.execute(context)
        return {"PASS_THROUGH"}

    def _end(self, answer: set) -> set:
        self._drag.end()
        return answer

    def cancel(self, context):
        """Blender ends the operator: another file, or the window is closed."""
        self._drag.end(status_bar.clear_soon)


def _frame_of(scene, found) -> int:
    """The frame of the scene for which a box drawn now holds: the present one, or the footage's first, whose picture is shown before it too.
    Raises LgdError where another picture is shown than any that is solved."""
    now, last = scene.frame_current, found.start + len(found.table) - 1
    if now > last or (now < found.start and found.begin is not None and found.begin[0] < found.start):
        raise LgdError(
            "bad_input", f"The present frame, {now}, is none of those that are solved, {found.start} to {last}.", "Go to one of them, or change the range."
        )
    return max(now, found.start)


def _picture_size(context, found) -> tuple[int, int]:
    """Width and height in px of footage that does not tell them: of what the editor shows, if it is that, else of a folder's first picture."""
    space = context.space_data
    shown = getattr(space, "clip", None) or getattr(space, "image", None)
    if shown is not None and shown.size[0] and overlay.is_footage(shown):  # else the size of another picture would be kept for this one
        return tuple(shown.size)
    path = Path(found.path)
    names = folder_files(path) if path.is_dir() else [""]
    try:
        image = bpy.data.images.load(str(path / names[0]))
    except (IndexError, RuntimeError):
        return 0, 0
    size = tuple(image.size)
    bpy.data.images.remove(image)
    return size


class LGD_OT_clear_boxes(bpy.types.Operator):
    """Remove this box, or all of them"""

    bl_idname = "lgd.clear_boxes"
    bl_label = "Clear Boxes"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(name="Box", description="Which box, from 0; -1: all", default=-1, min=-1)

    @classmethod
    def poll(cls, context):
        """Grey where there is none."""
        if not len(context.scene.lgd.boxes):
            cls.poll_message_set("There is no box")
            return False
        return True

    def execute(self, context):
        """Remove one, or all."""
        boxes = context.scene.lgd.boxes
        if self.index < 0:
            boxes.clear()
        elif self.index < len(boxes):
            boxes.remove(self.index)
        return {"FINISHED"}


CLASSES = (LGD_OT_pick_box, LGD_OT_clear_boxes)
