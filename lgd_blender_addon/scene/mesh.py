# SPDX-License-Identifier: GPL-3.0-or-later
"""The body's mesh: faces, UVs, material, vertex groups, shape keys for shape and pose correctives."""

import bpy
import numpy as np

from .._bridge import LgdError
from .axes import stand_up
from .body import JOINTS, Body

SHAPE_RANGE = 10.0
POSE_RANGE = 5.0
MATERIAL = "LGD Body"


def build_mesh(body: Body, betas, name: str, rig, collection):
    """The skinned mesh object of a body, child of `rig`, with its shape keys set to betas (10,)."""
    data = bpy.data.meshes.new(name)
    vertices = stand_up(body.v_template).astype(np.float32)
    _fill(data, vertices, body)
    data.materials.append(_material())
    mesh = bpy.data.objects.new(name, data)
    collection.objects.link(mesh)
    mesh.parent = rig
    _weights(mesh, body.weights)
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    modifier.use_deform_preserve_volume = False
    _shape_keys(mesh, vertices, body)
    set_shape(mesh, betas)
    # The names other SMPL add-ons read, then our own.
    mesh["body_model"] = "smpl" if body.official else body.id
    mesh["smpl_gender"] = body.gender
    mesh["smpl_version"] = "1.0"
    mesh["lgd_body"] = body.id
    return mesh


def _fill(data, vertices, body: Body) -> None:
    faces = body.faces
    data.vertices.add(len(vertices))
    data.vertices.foreach_set("co", vertices.ravel())
    data.loops.add(faces.size)
    data.loops.foreach_set("vertex_index", faces.ravel())
    data.polygons.add(len(faces))
    data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    if bpy.app.version < (4, 3, 0):
        data.polygons.foreach_set("loop_total", np.full(len(faces), 3, dtype=np.int32))
    data.update(calc_edges=True)
    if body.uv is not None:
        data.uv_layers.new(name="UVMap").uv.foreach_set("vector", body.uv.ravel())
    data.validate()
    data.shade_smooth()


def _material():
    material = bpy.data.materials.get((MATERIAL, None))  # not a linked one, which goes with its library
    if material is not None:
        return material
    material = bpy.data.materials.new(MATERIAL)
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    colour = (0.52, 0.56, 0.62, 1.0)
    material.diffuse_color = colour
    material.roughness = 0.55
    shader = next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)
    if shader is not None:
        shader.inputs["Base Color"].default_value = colour
        shader.inputs["Roughness"].default_value = 0.55
    return material


def _weights(mesh, weights) -> None:
    for joint, name in enumerate(JOINTS):
        group = mesh.vertex_groups.new(name=name)
        rows = np.flatnonzero(weights[:, joint] > 1e-6)
        for row, weight in zip(rows.tolist(), weights[rows, joint].tolist(), strict=True):
            group.add((row,), weight, "REPLACE")


def _shape_keys(mesh, vertices, body: Body) -> None:
    mesh.shape_key_add(name="Basis", from_mix=False)
    for index in range(10):
        _key(mesh, f"Shape{index:03d}", vertices + stand_up(body.shapedirs[..., index]), SHAPE_RANGE)
    if body.posedirs is not None:
        for index in range(207):
            _key(mesh, f"Pose{index:03d}", vertices + stand_up(body.posedirs[..., index]), POSE_RANGE)
    mesh.data.shape_keys.name = mesh.name


def _key(mesh, name: str, points, limit: float) -> None:
    key = mesh.shape_key_add(name=name, from_mix=False)
    key.data.foreach_set("co", np.ascontiguousarray(points, dtype=np.float32).ravel())
    # Before any value is set: a value outside the range would be cut.
    key.slider_min, key.slider_max = -limit, limit
    key.value = 0.0


def set_shape(mesh, betas) -> None:
    """Set the ten shape keys to betas (10,)."""
    blocks = mesh.data.shape_keys.key_blocks
    for index, value in enumerate(np.asarray(betas, dtype=float)[:10]):
        blocks[f"Shape{index:03d}"].value = float(value)


def get_shape(mesh) -> np.ndarray:
    """The betas (10,) the mesh's shape keys hold, keyed or not. Raises LgdError where some were renamed or removed."""
    blocks = mesh.data.shape_keys.key_blocks
    names = [f"Shape{index:03d}" for index in range(10)]
    lost = next((name for name in names if name not in blocks), None)
    if lost is not None:
        text = f"The shape key {lost} of {mesh.name} was renamed or removed: it tells the body's shape."
        raise LgdError("bad_input", text, "Name it so again, or use New Shape to make a new rig.")
    return np.array([blocks[name].value for name in names])


def has_correctives(mesh) -> bool:
    """Whether the body has pose correctives at all."""
    keys = getattr(mesh.data, "shape_keys", None)
    return keys is not None and "Pose000" in keys.key_blocks
