# SPDX-License-Identifier: GPL-3.0-or-later
# The paper to the letter, frame by frame, with its steps kept for Play the Descent.
import bpy

settings = bpy.context.scene.lgd
settings.range = "WHOLE"
settings.timing = "SHOWN"
settings.mode = "PAPER"
settings.focal = 0.0
settings.camera = "AUTO"
settings.correctives = "LIVE"
settings.fast_detection = False
settings.plant_feet = False
settings.trace = True
settings.bad_pixels = 0.0
