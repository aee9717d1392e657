# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig moves and deforms as SMPL does."""

import bpy
import numpy as np
import pytest
from models import forward, random_pose

from lgd_blender_addon.scene import armature, axes, correctives, mesh
from lgd_blender_addon.scene.body import JOINTS, PARENTS


def build(body, betas):
    rig = armature.build_armature(body, betas, "Body", bpy.context.scene.collection)
    skin = mesh.build_mesh(body, betas, "Body-mesh", rig, bpy.context.scene.collection)
    return rig, skin


def pose(rig, quats, location):
    for joint, name in enumerate(JOINTS):
        rig.pose.bones[name].rotation_quaternion = quats[joint]
    rig.pose.bones["pelvis"].location = location


def vertices(skin):
    evaluated = skin.evaluated_get(bpy.context.evaluated_depsgraph_get())
    co = np.empty(3 * len(evaluated.data.vertices), np.float32)
    evaluated.data.vertices.foreach_get("co", co)
    return co.reshape(-1, 3)


@pytest.mark.parametrize("which", ["default_body", "official_body"])
def test_deforms_as_smpl(which, request):
    body = request.getfixturevalue(which)
    rng = np.random.default_rng(0)
    betas = rng.normal(size=10)
    rig, skin = build(body, betas)
    correctives.set_mode(skin, rig, "LIVE")
    worst = 0.0
    for _ in range(4):
        quats = axes.quaternions(random_pose(rng, 1, 0.8).reshape(24, 3))
        trans = rng.normal(size=3)
        pose(rig, quats, trans)
        bpy.context.view_layer.update()
        joints, points = forward(body, quats, betas, trans)
        heads = np.array([rig.pose.bones[name].head for name in JOINTS])
        assert np.abs(heads - axes.stand_up(joints)).max() < 1e-5
        worst = max(worst, np.abs(vertices(skin) - axes.stand_up(points)).max())
    print(f"\n{which}: largest vertex difference {worst:.2e} m, correctives {correctives.get_mode(skin)}")
    assert worst < 1e-4


def test_names_axes_and_locks(default_body):
    from bridge.body import joints as core

    assert JOINTS == core.NAMES and PARENTS == core.PARENTS
    rig, skin = build(default_body, np.zeros(10))
    assert len(rig.data.bones) == 25 and not rig.data.bones["root"].use_deform
    for bone in rig.data.bones:
        assert np.abs(np.array(bone.matrix_local.to_3x3()) - axes.RIG_TO_WORLD).max() < 1e-6
    assert rig.matrix_world.is_identity and skin.matrix_world.is_identity
    assert set(rig.data.collections.keys()) == {"left", "right", "spine"}
    for bone in rig.pose.bones:
        assert bone.custom_shape is not None and bone.rotation_mode == "QUATERNION"
        assert all(bone.lock_location) != (bone.name == "pelvis")
    assert bpy.utils.flip_name("left_hip") == "right_hip"
    keys = skin.data.shape_keys.key_blocks.keys()
    assert keys[:11] == ["Basis"] + [f"Shape{i:03d}" for i in range(10)]
    assert all(p.use_smooth for p in skin.data.polygons)


def test_both_families_of_names(default_body):
    rig, _ = build(default_body, np.zeros(10))
    assert armature.bone_names(rig.data) == list(JOINTS)
    for bone in rig.data.bones:
        if bone.name != "root":
            bone.name = armature.mpi_name(bone.name)
    assert {"Pelvis", "L_Hip", "Spine1", "R_Wrist"} <= set(rig.data.bones.keys())
    assert armature.bone_names(rig.data)[0] == "Pelvis"


def test_shape_moves_joints(default_body):
    rng = np.random.default_rng(1)
    betas = rng.normal(size=10)
    rig, skin = build(default_body, betas)
    heads = np.array([rig.data.bones[name].head_local for name in JOINTS])
    assert np.abs(heads - axes.stand_up(default_body.joints(betas))).max() < 1e-5
    bpy.context.view_layer.update()
    assert np.abs(vertices(skin) - axes.stand_up(default_body.vertices(betas))).max() < 1e-4


def test_correctives_off_live_baked(official_body):
    rng = np.random.default_rng(2)
    rig, skin = build(official_body, np.zeros(10))
    quats = axes.quaternions(random_pose(rng, 1, 0.8).reshape(24, 3))
    pose(rig, quats, (0, 0, 0))
    keys = skin.data.shape_keys
    correctives.set_mode(skin, rig, "LIVE")
    assert all(d.driver.is_simple_expression for d in keys.animation_data.drivers)
    bpy.context.view_layer.update()
    live = vertices(skin)
    correctives.set_mode(skin, rig, "OFF")
    bpy.context.view_layer.update()
    assert np.abs(vertices(skin) - live).max() > 1e-3
    correctives.set_mode(skin, rig, "BAKED")
    bpy.context.view_layer.update()
    assert np.abs(vertices(skin) - live).max() < 1e-5


def test_build_keeps_the_users_selection(default_body):
    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.scene.collection.objects.link(cube)
    bpy.context.view_layer.objects.active = cube
    cube.select_set(True)
    build(default_body, np.zeros(10))
    assert bpy.context.view_layer.objects.active == cube
    assert [o.name for o in bpy.context.selected_objects] == ["Cube"]
