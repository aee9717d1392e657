# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that Blender must be told of, in one order, and taken back in the reverse one."""

from pathlib import Path

import bpy

from . import operators, operators_setup, overlay, panels, preferences, properties, translations
from .operators import boxes, descent, files, pump, status_bar

CLASSES = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *operators_setup.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
)


FOLDER = str(Path(__file__).resolve().parent)  # holds `presets/lgd`, where Blender looks for shipped presets


def register() -> None:
    """Register classes, properties, menus, handlers, overlay, translations and shipped presets."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    files.attach()
    pump.attach()
    overlay.attach()
    translations.attach()
    bpy.utils.register_preset_path(FOLDER)


def unregister() -> None:
    """End what runs, then take everything back."""
    bpy.utils.unregister_preset_path(FOLDER)
    operators_setup.unregister()
    boxes.detach()
    descent.detach()
    status_bar.detach()
    pump.detach()
    overlay.detach()
    files.detach()
    translations.detach()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
