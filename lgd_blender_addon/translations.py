# SPDX-License-Identifier: GPL-3.0-or-later
"""Translations of the interface. All texts are plain English literals that Blender looks up here.

A language is one entry: {"de_DE": {("Operator", "Detect"): "Erkennen", ("*", "Footage"): "Filmmaterial"}}. The context is
"Operator" for labels of operators and "*" for everything else.
"""

import bpy

TEXTS: dict[str, dict[tuple[str, str], str]] = {}


def attach() -> None:
    """Give Blender the texts."""
    bpy.app.translations.register(__package__, TEXTS)


def detach() -> None:
    """Take them back."""
    bpy.app.translations.unregister(__package__)
