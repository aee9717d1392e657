# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: it starts, draws, and a picture of it is taken."""

import os
import traceback

import bpy
import lgd_gui


def steps():
    """Each `yield` lets Blender draw for as many seconds."""
    yield 3.0
    bpy.context.preferences.view.show_splash = False
    lgd_gui.screenshot("smoke")
    assert not bpy.app.background
    assert bpy.context.window_manager.windows
    print("Blender", bpy.app.version_string, "has a window")
    yield 0.1


_steps = steps()


def tick():
    try:
        return next(_steps)
    except StopIteration:
        os._exit(0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(4)


bpy.app.timers.register(tick, first_interval=1.0)
