# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in the scene a solve puts what it makes, and whether that is seen."""

import bpy
import pytest

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


@pytest.mark.parametrize("how", ["excluded", "eye", "monitor"])
def test_a_new_rig_is_seen_where_the_collection_of_those_before_is_hidden(script, how):
    bpy.ops.lgd.fit()
    layer = bpy.context.view_layer.layer_collection.children[0]
    if how == "excluded":
        layer.exclude = True
    elif how == "eye":
        layer.hide_viewport = True
    else:
        layer.collection.hide_viewport = True
    for _ in range(2):
        assert bpy.ops.lgd.new_shape() == {"FINISHED"}
        rig = bpy.context.object
        assert rig in rigs()[1:] and rig.visible_get() and rig.children[0].visible_get()
    assert len(bpy.context.scene.collection.children) == 2
    bpy.context.scene.lgd.camera = "NEW"
    assert bpy.ops.lgd.fit() == {"FINISHED"}, "onto the one that is active"
    assert bpy.context.scene.objects[rig.animation_data.action[takes.CAMERA_PROPERTY]].visible_get()


def test_a_take_of_a_rig_that_does_not_show_it_is_told(script):
    show = bpy.context.window_manager.lgd
    bpy.ops.lgd.fit()
    assert "hidden" not in show.warnings
    rigs()[0].data.pose_position = "REST"
    bpy.ops.lgd.fit()
    assert "in Rest Position" in show.warnings and "hidden" not in show.warnings
    rigs()[0].hide_set(True)
    bpy.ops.lgd.fit()
    assert len(rigs()) == 1 and "is hidden" in show.warnings


def test_what_rigs_share_is_this_files_own_where_others_are_linked(script, film, tmp_path):
    """Else the new rig loses its shapes and its material with the library."""
    bpy.ops.lgd.fit()
    library = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=library)
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(library, link=True) as (there, here):
        here.objects = [name for name in there.objects if name.startswith("Body")]
    bpy.context.scene.lgd.path = film
    bpy.ops.lgd.fit()
    (rig,) = [o for o in rigs() if o.library is None]
    assert not [b.name for b in rig.pose.bones if b.custom_shape.library is not None]
    assert rig.children[0].data.materials[0].library is None
