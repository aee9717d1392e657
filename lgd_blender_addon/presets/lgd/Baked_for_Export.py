# SPDX-License-Identifier: GPL-3.0-or-later
# Pose correctives as keys on every frame, for programs that know no drivers.
import bpy

settings = bpy.context.scene.lgd
settings.range = "WHOLE"
settings.timing = "SHOWN"
settings.mode = "AUTO"
settings.focal = 0.0
settings.camera = "AUTO"
settings.correctives = "BAKED"
settings.fast_detection = False
settings.plant_feet = False
settings.trace = False
settings.bad_pixels = 0.0
