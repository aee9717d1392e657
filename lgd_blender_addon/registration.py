# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that Blender must be told of, in one order, and taken back in the reverse one."""

import bpy

from . import operators, operators_setup, overlay, panels, preferences, properties, translations
from .operators import files, pump

CLASSES = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *operators_setup.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
)


def register() -> None:
    """Register classes, properties, menus, handlers, overlay and translations."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    files.attach()
    pump.attach()
    overlay.attach()
    translations.attach()


def unregister() -> None:
    """End what runs, then take everything back."""
    operators_setup.unregister()
    pump.detach()
    overlay.detach()
    files.detach()
    translations.detach()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
