# SPDX-License-Identifier: GPL-3.0-or-later
# What a new scene has.
import bpy

settings = bpy.context.scene.lgd
settings.range = "WHOLE"
settings.timing = "SHOWN"
settings.mode = "AUTO"
settings.focal = 0.0
settings.camera = "AUTO"
settings.gender = "DEFAULT"
settings.correctives = "LIVE"
settings.bone_names = "SMPL"
settings.fast_detection = False
settings.plant_feet = False
settings.trace = True
settings.bad_pixels = 0.0
