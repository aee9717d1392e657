# SPDX-License-Identifier: GPL-3.0-or-later
# A lens that nobody knows and frames that come unevenly: the camera is estimated, keys lie in real time.
import bpy

settings = bpy.context.scene.lgd
settings.range = "WHOLE"
settings.timing = "REAL"
settings.mode = "VIDEO"
settings.focal = 0.0
settings.camera = "NEW"
settings.correctives = "LIVE"
settings.fast_detection = False
settings.plant_feet = False
settings.trace = False
settings.bad_pixels = 0.0
