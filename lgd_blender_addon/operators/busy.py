# SPDX-License-Identifier: GPL-3.0-or-later
"""When Blender cannot take a result in."""

import bpy


def rendering() -> bool:
    """Whether Blender reads its data in a thread of its own, which a result built meanwhile would crash."""
    return any(bpy.app.is_job_running(kind) for kind in ("RENDER", "OBJECT_BAKE"))


# Blender's own tools that hold on to what they change until the mouse is let go. Not all that are modal: some add-ons' never end.
DRAGS = ("TRANSFORM", "SCULPT", "SCULPT_CURVES", "PAINT", "MESH", "ARMATURE", "POSE", "CURVE", "CURVES", "UV", "GREASE_PENCIL", "GPENCIL",
         "ACTION", "GRAPH", "NLA", "ANIM", "SEQUENCER", "MASK", "CLIP", "PARTICLE")  # fmt: skip


def dragging() -> bool:
    """Whether the user is in the midst of a drag: a change of mode would take away what it moves, or is refused."""
    held = [operator for window in bpy.context.window_manager.windows for operator in window.modal_operators]
    parts = [part for operator in held for part in operator.macros]  # Shift+D is a copy and a move in one
    return any(operator.bl_idname.partition("_OT_")[0] in DRAGS for operator in (*held, *parts))
