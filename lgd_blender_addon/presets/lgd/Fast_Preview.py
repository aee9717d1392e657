# SPDX-License-Identifier: GPL-3.0-or-later
# A first look at a part: the scene's (or preview) range alone, and playback without pose correctives.
import bpy

settings = bpy.context.scene.lgd
settings.range = "SCENE"
settings.timing = "SHOWN"
settings.mode = "AUTO"
settings.focal = 0.0
settings.camera = "AUTO"
settings.correctives = "OFF"
settings.fast_detection = True
settings.plant_feet = False
settings.trace = False
settings.bad_pixels = 0.0
