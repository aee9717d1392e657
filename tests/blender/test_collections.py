# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in the scene a solve puts what it makes, and whether that is seen."""

import bpy

from lgd_blender_addon.scene import takes


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE"]


def test_a_new_camera_of_a_rig_that_is_in_other_collections_too_is_in_the_scene(script):
    """As of what is kept as an asset, or shown in another scene: Blender lists those collections first where they are so named."""
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    bpy.data.collections.new("Assets").objects.link(rig)
    bpy.context.scene.lgd.camera = "NEW"
    bpy.ops.lgd.fit()
    assert len([o for o in bpy.context.scene.objects if o.type == "CAMERA"]) == 2
    assert bpy.context.scene.objects.get(rig.animation_data.action[takes.CAMERA_PROPERTY])
