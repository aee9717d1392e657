# SPDX-License-Identifier: GPL-3.0-or-later
"""In which collection a solve puts what it makes."""

import re

import bpy


def collection_for(scene, rig, name: str):
    """One of the scene's that a rig is in which is solved again, else that of the footage of a name, made where there is none. Those that are
    hidden or left out of the view layer are passed over: what is made would not be seen, and what Blender never evaluates stands nowhere."""
    own = set(rig.users_collection) if rig is not None else ()
    for found in (scene.collection, *scene.collection.children_recursive):  # a rig may be in other scenes' too, or in those of no scene
        if found in own and editable(found) and _shown(found):
            return found
    most = bpy.types.ID.bl_rna.properties["name"].length_max - 1  # bytes that Blender keeps of it
    label = f"LGD {name}".encode()[:most].decode(errors="ignore")
    ours = re.compile(re.escape(label) + r"(\.\d+)?$")
    found = next((c for c in scene.collection.children if ours.match(c.name) and editable(c) and _shown(c)), None)
    if found is None:
        found = bpy.data.collections.new(label)
        scene.collection.children.link(found)
    return found


def editable(block) -> bool:
    """Whether a data-block belongs to this file, so that what is put into it is saved."""
    return block.library is None and block.override_library is None


def _shown(collection) -> bool:
    """Whether what is in a collection is seen in the present view layer; one of another scene's is taken to be."""
    layers = [bpy.context.view_layer.layer_collection]
    for layer in layers:
        if layer.collection == collection:
            return layer.is_visible and not layer.exclude
        layers.extend(layer.children)
    return True
