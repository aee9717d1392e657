# SPDX-License-Identifier: GPL-3.0-or-later
"""When Blender cannot take a result in."""

import bpy


def rendering() -> bool:
    """Whether Blender reads its data in a thread of its own, which a result built meanwhile would crash."""
    return any(bpy.app.is_job_running(kind) for kind in ("RENDER", "OBJECT_BAKE"))


# Blender's own tools that hold on to what they change until the mouse is let go. Not all that are modal: some add-ons' never end.
DRAGS = ("TRANSFORM", "SCULPT", "PAINT", "MESH", "ARMATURE", "POSE", "CURVE", "CURVES", "UV", "GREASE_PENCIL", "GPENCIL",
         "ACTION", "GRAPH", "NLA", "ANIM", "SEQUENCER", "MASK", "CLIP", "PARTICLE")  # fmt: skip


def dragging() -> bool:
    """Whether the user is in the midst of a drag: a change of mode would take away what it moves."""
    windows = bpy.context.window_manager.windows
    return any(held.bl_idname.partition("_OT_")[0] in DRAGS for window in windows for held in window.modal_operators)
