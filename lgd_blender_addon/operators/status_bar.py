# SPDX-License-Identifier: GPL-3.0-or-later
"""The line at the bottom of Blender's windows, of which each workspace keeps its own."""

import bpy


def show(text: str) -> None:
    """Show a text in all windows."""
    for window in bpy.context.window_manager.windows:
        with bpy.context.temp_override(window=window):  # the text is set in the context's workspace, whichever is asked
            window.workspace.status_text_set(text)


def clear() -> None:
    """Take our text away, from the workspaces too that the user has left meanwhile."""
    for workspace in bpy.data.workspaces:
        with bpy.context.temp_override(workspace=workspace):
            workspace.status_text_set(None)


def clear_soon() -> None:
    """The same from an operator that Blender ends, as it does where a window is being closed: in that one's context a text that is set crashes Blender."""
    if not bpy.app.timers.is_registered(clear):
        bpy.app.timers.register(clear, first_interval=0.0, persistent=True)


def detach() -> None:
    """What is to be cleared soon is cleared now."""
    if bpy.app.timers.is_registered(clear):
        bpy.app.timers.unregister(clear)
        clear()
