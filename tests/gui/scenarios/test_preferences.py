# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: the add-on's preferences draw, and a check of a Python shows its findings."""

import os
import sys
import traceback

import bpy
import lgd_gui

ADDON = "bl_ext.user_default.lgd_blender_addon"


def steps():
    """Each `yield` lets Blender draw for as many seconds."""
    yield 2.0
    bpy.context.preferences.view.show_splash = False
    assert bpy.ops.lgd.open_preferences() == {"FINISHED"}
    yield 3.0
    lgd_gui.screenshot("preferences")
    preferences = bpy.context.preferences.addons[ADDON].preferences
    preferences.interpreter_mode, preferences.python_path = "EXISTING", "/usr/bin/python3"
    assert bpy.ops.lgd.setup_check() == {"FINISHED"}
    setup = sys.modules[f"{ADDON}.operators_setup"]
    for _ in range(60):
        yield 0.5
        if setup.findings():
            break
    assert any("torch is missing" in finding.sentence for finding in setup.findings())
    yield 1.0
    lgd_gui.screenshot("preferences_check")


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
