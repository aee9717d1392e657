# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: it starts, draws, and a picture of it is taken."""

import os
import subprocess
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
    assert "bl_ext.user_default.lgd_blender_addon" in bpy.context.preferences.addons or not os.path.exists(
        "/job/addon.zip"
    )
    if os.environ.get("LGD_PYTHON"):
        subprocess.run([os.environ["LGD_PYTHON"], "-I", "-c", "import torch, cv2"], check=True)
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
