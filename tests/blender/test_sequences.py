# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing after another, as animators do them: what an earlier edit leaves is there after a later button."""

import bpy
import numpy as np
import pytest

from lgd_blender_addon.operators import descent
from lgd_blender_addon.scene.keyframes import bag_of


def rigs():
    return [o for o in bpy.data.objects if o.type == "ARMATURE" and o.library is None]


@pytest.mark.parametrize("end", ["over", "pressed again", "disabled"])
def test_bones_without_keys_are_after_the_descent_as_before(script, addon, end):
    """The manual has the keys of invented legs deleted, and their pose cleared."""
    bpy.context.scene.lgd.mode = "PAPER"
    bpy.ops.lgd.fit()
    (rig,) = rigs()
    bag, knee = bag_of(rig), rig.pose.bones["left_knee"]
    for curve in [c for c in bag.fcurves if "left_knee" in c.data_path]:
        bag.fcurves.remove(curve)
    knee.rotation_quaternion = (1, 0, 0, 0)
    bpy.context.scene.frame_set(5)
    hip = tuple(rig.pose.bones["left_hip"].rotation_quaternion)
    steps = descent.steps_at(rig, 5)
    played = descent.play(bpy.context, rig, steps)
    descent.show_step(rig, *steps[:2], 2)
    assert tuple(knee.rotation_quaternion) != (1, 0, 0, 0)
    if end == "over":
        played.end()
    elif end == "pressed again":
        descent.play(bpy.context, rig, steps).end()
    else:
        addon.unregister()
        addon.register()
    assert tuple(knee.rotation_quaternion) == (1, 0, 0, 0)
    assert np.allclose(rig.pose.bones["left_hip"].rotation_quaternion, hip)
