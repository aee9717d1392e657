# SPDX-License-Identifier: GPL-3.0-or-later
# The scene's own camera, solved or placed, is taken as true: its place, its lens, and the footage as it is shown.
import bpy

settings = bpy.context.scene.lgd
settings.range = "WHOLE"
settings.timing = "SHOWN"
settings.mode = "VIDEO"
settings.focal = 0.0
settings.camera = "SCENE"
settings.correctives = "LIVE"
settings.fast_detection = False
settings.plant_feet = False
settings.trace = False
settings.bad_pixels = 0.0
