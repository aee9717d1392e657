# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig: `root` and the 24 SMPL joints as bones whose rest axes are SMPL's own, so that keys need no algebra."""

import bpy
import numpy as np
from mathutils import Matrix, Vector

from .._bridge import LgdError
from .axes import RIG_TO_WORLD, stand_up
from .body import JOINTS, PARENTS, Body

ROOT = "root"
# All bones point up by the same length: that makes the rest axes SMPL's; what the user sees are custom shapes.
TAIL = Vector((0.0, 0.0, 0.1))
SIDES = {"left": "THEME04", "right": "THEME01", "spine": "THEME09"}
# The joint each bone's shape reaches to; bones that end a chain get a direction and length of their own.
AIMS = {
    "pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck", "neck": "head",
    "left_hip": "left_knee", "left_knee": "left_ankle", "left_ankle": "left_foot", "left_collar": "left_shoulder",
    "left_shoulder": "left_elbow", "left_elbow": "left_wrist", "left_wrist": "left_hand",
    "right_hip": "right_knee", "right_knee": "right_ankle", "right_ankle": "right_foot",
    "right_collar": "right_shoulder", "right_shoulder": "right_elbow", "right_elbow": "right_wrist",
    "right_wrist": "right_hand",
}  # fmt: skip
ENDS = {
    "head": (0.0, 0.16, 0.02), "left_foot": (0.0, 0.0, 0.07), "right_foot": (0.0, 0.0, 0.07),
    "left_hand": (0.08, 0.0, 0.0), "right_hand": (-0.08, 0.0, 0.0),
}  # fmt: skip
OTHER_NAMES = {
    "spine": "Spine", "hip": "Hip", "knee": "Knee", "ankle": "Ankle", "foot": "Foot", "collar": "Collar",
    "shoulder": "Shoulder", "elbow": "Elbow", "wrist": "Wrist", "hand": "Hand", "pelvis": "Pelvis",
    "neck": "Neck", "head": "Head",
}  # fmt: skip


def side_of(name: str) -> str:
    """The bone collection of a bone: left, right or spine."""
    return next((side for side in ("left", "right") if name.startswith(side)), "spine")


def mpi_name(name: str) -> str:
    """A joint's name in the family of MPI's "SMPL for Blender": left_hip -> L_Hip, spine1 -> Spine1."""
    side = side_of(name)
    part = name[len(side) + 1 :] if side != "spine" else name
    stem = part.rstrip("0123456789")
    return ("" if side == "spine" else side[0].upper() + "_") + OTHER_NAMES[stem] + part[len(stem) :]


def bone_names(armature) -> list[str] | None:
    """The 24 bones of an SMPL rig in SMPL's order, in either family of names (FBX prefixes too); None: no such rig."""
    names = {bone.name for bone in armature.bones}
    for family in (lambda n: n, mpi_name):
        for prefix in ("", "m_avg_", "f_avg_"):
            found = [prefix + family(joint) for joint in JOINTS]
            if names.issuperset(found):
                return found
    return None


def _lost_bones(armature) -> list[str]:
    """The bones that an SMPL rig lacks, under the names of the family of which it has the most."""
    names = {bone.name for bone in armature.bones}
    lacking = [
        [bone for bone in (prefix + family(joint) for joint in JOINTS) if bone not in names]
        for family in (lambda n: n, mpi_name) for prefix in ("", "m_avg_", "f_avg_")
    ]  # fmt: skip
    return min(lacking, key=len)


def listed(bones) -> str:
    """The first three of some bones, for a sentence."""
    return ", ".join(bones[:3]) + (" and others" if len(bones) > 3 else "")


def known_bones(rig) -> list[str]:
    """`bone_names` of a rig's armature. Raises LgdError where some were renamed or removed, or rest turned: their rotations are SMPL's no more."""
    names = bone_names(rig.data)
    if names is None:
        text = f"Bones of {rig.name} were renamed or removed: {listed(_lost_bones(rig.data))}."
        raise LgdError("bad_input", text, "Name them so again, or use New Shape to make a new rig.")
    rest = {name: np.array(rig.data.bones[name].matrix_local)[:3, :3] for name in names}
    turned = [name for name in names if np.abs(rest[name] - rest[names[0]]).max() > 1e-3]
    if turned:
        text = f"Bones of {rig.name} were turned in Edit Mode, or by Apply Pose as Rest Pose: {listed(turned)}."
        raise LgdError("bad_input", text + " Rotations mean something else by now.", "Turn them back, or use New Shape to make a new rig.")
    return names


def build_armature(body: Body, betas, name: str, collection):
    """The armature object for a body of the given betas (10,), at identity, linked to `collection`.

    Leaves the object that was active active again, so that a build does not disturb what the user had selected.
    """
    data = bpy.data.armatures.new(name)
    rig = bpy.data.objects.new(name, data)
    collection.objects.link(rig)
    bpy.context.view_layer.update()
    if rig.name not in bpy.context.view_layer.objects:
        # The collection is excluded from the view layer, where bones cannot be edited.
        bpy.context.scene.collection.objects.link(rig)
    with _editing(rig):
        root = data.edit_bones.new(ROOT)
        root.head, root.tail, root.roll, root.use_deform = (0, 0, 0), TAIL, 0.0, False
        for joint, parent in zip(JOINTS, PARENTS, strict=True):
            bone = data.edit_bones.new(joint)
            bone.parent = data.edit_bones[ROOT if parent < 0 else JOINTS[parent]]
            bone.use_connect = False
        _place(data, body.joints(betas))
    # Until the pose exists, assigning an action slot ends Blender 4.5.
    bpy.context.view_layer.update()
    data.display_type = "WIRE"
    _collect(data)
    _lock(rig)
    set_shapes(rig, body.joints(betas))
    return rig


def rename_bones(rig) -> None:
    """Give the bones the names of MPI's "SMPL for Blender" (Pelvis, L_Hip ...); vertex groups follow, drivers do not."""
    for joint in JOINTS:
        if joint in rig.data.bones:
            rig.data.bones[joint].name = mpi_name(joint)


def rest_pelvis(rig, bones) -> np.ndarray:
    """J_0 (3,) m in the body's own Y-up frame; bones: of `bone_names`. The bone rests at S J_0."""
    head = applied(rig, bones).inverted() @ rig.data.bones[bones[0]].head_local
    return np.array([head.x, head.z, -head.y])


def applied(rig, bones) -> Matrix:
    """The turn and shift of the object that were applied to the rest pose (Ctrl+A): by them all bones rest elsewhere than they were built."""
    pelvis = rig.data.bones[bones[0]]
    root = pelvis.parent
    if root is None or any(abs(a - b) > 1e-4 for row, other in zip(root.matrix_local, pelvis.matrix_local) for a, b in zip(row[:3], other[:3])):
        return Matrix.Identity(4)
    return root.matrix_local @ Matrix(RIG_TO_WORLD.tolist()).to_4x4().inverted()


def off_joints(rig, bones, joints) -> str:
    """What is to be told where the bones rest beside the joints (24, 3) m of their body's shape; "" where they lie on them."""
    back = applied(rig, bones).inverted()
    heads = np.array([back @ rig.data.bones[name].head_local for name in bones])
    gap = float(np.linalg.norm(heads - stand_up(joints), axis=1).max())
    if gap < 0.005:
        return ""
    return (
        f"The bones of {rig.name} lie up to {gap * 100:.0f} cm beside the joints of its shape: the shape keys were changed since, which bones do not follow, "
        "or the bones were. Undo that, or use New Shape."
    )


def _place(data, joints) -> None:
    names = [joint if joint in data.edit_bones else mpi_name(joint) for joint in JOINTS]
    for name, head in zip(names, stand_up(joints), strict=True):
        bone = data.edit_bones[name]
        bone.head = Vector(head)
        bone.tail = Vector(head) + TAIL
        bone.roll = 0.0


def leave_mode() -> None:
    """Bring the active object into Object Mode, where Blender can: one that was hidden in Pose Mode stays in it, which hinders nothing."""
    active = bpy.context.view_layer.objects.active
    if active is not None and active.mode != "OBJECT" and bpy.ops.object.mode_set.poll():
        bpy.ops.object.mode_set(mode="OBJECT")


class _editing:
    """Edit mode on one object, and back to what was active, in which mode, and what was selected."""

    def __init__(self, rig):
        self.rig = rig

    def __enter__(self):
        layer = bpy.context.view_layer
        self.active = layer.objects.active
        self.mode = self.active.mode if self.active else "OBJECT"
        self.selected = [o for o in layer.objects if o.select_get()]
        leave_mode()
        self.hidden = self.rig.hide_get(), self.rig.hide_viewport
        self.rig.hide_viewport = False
        self.rig.hide_set(False)
        layer.objects.active = self.rig
        bpy.ops.object.mode_set(mode="EDIT")

    def __exit__(self, *error):
        bpy.ops.object.mode_set(mode="OBJECT")
        layer = bpy.context.view_layer
        for other in layer.objects:
            other.select_set(other in self.selected)
        layer.objects.active = self.active
        self.rig.hide_set(self.hidden[0])
        self.rig.hide_viewport = self.hidden[1]
        if self.active and self.mode != "OBJECT" and self.active.visible_get():
            bpy.ops.object.mode_set(mode=self.mode)


def _collect(data) -> None:
    for side, palette in SIDES.items():
        group = data.collections.new(side)
        for bone in data.bones:
            if side_of(bone.name) == side:
                group.assign(bone)
                bone.color.palette = palette


def _lock(rig) -> None:
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
        keyed = bone.name == JOINTS[0]
        bone.lock_location = (not keyed,) * 3
        bone.lock_scale = (True, True, True)


def set_shapes(rig, joints) -> None:
    """Give every bone its custom shape, reaching from its joint to the next; joints (24, 3) m, Y-up rest frame."""
    limb, ring, ground = _widget("limb"), _widget("ring"), _widget("ground")
    at = dict(zip(JOINTS, (Vector(j) for j in joints), strict=True))
    names = dict(zip(bone_names(rig.data) or JOINTS, JOINTS, strict=True))
    for bone in rig.pose.bones:
        bone.use_custom_shape_bone_size = False
        joint = names.get(bone.name)
        if joint is None:
            bone.custom_shape = ground
            continue
        aim = at[AIMS[joint]] - at[joint] if joint in AIMS else Vector(ENDS[joint])
        length = max(aim.length, 1e-4)
        turn = Vector((0, 1, 0)).rotation_difference(aim)
        if joint in ("pelvis", "spine1", "spine2", "spine3", "neck"):
            radius = {"pelvis": 0.19, "spine1": 0.15, "spine2": 0.15, "spine3": 0.17, "neck": 0.08}[joint]
            bone.custom_shape = ring
            bone.custom_shape_scale_xyz = (radius, radius, radius * 0.75)
        else:
            bone.custom_shape = limb
            bone.custom_shape_scale_xyz = (length * 0.5, length, length * 0.5)
            bone.custom_shape_rotation_euler = turn.to_euler()
        bone.custom_shape_wire_width = 2.0 if hasattr(bone, "custom_shape_wire_width") else 1.0


def _widget(kind: str):
    """A wire shape shared by all rigs, kept out of every scene."""
    name = f"LGD shape {kind}"
    found = bpy.data.objects.get((name, None))  # not a linked one, which goes with its library
    if found is not None and found.type == "MESH":
        return found
    angles = np.linspace(0, 2 * np.pi, 33)[:-1]
    if kind == "limb":
        side = 0.16
        points = [(0, 0, 0), (side, 0.2, 0), (0, 0.2, side), (-side, 0.2, 0), (0, 0.2, -side), (0, 1, 0)]
        edges = (
            [(0, i) for i in (1, 2, 3, 4)] + [(5, i) for i in (1, 2, 3, 4)] + [(1, 2), (2, 3), (3, 4), (4, 1)]
        )
    elif kind == "ring":
        points = [(np.cos(a), 0, np.sin(a)) for a in angles]
        edges = [(i, (i + 1) % 32) for i in range(32)]
    else:
        # Lies on the ground: the root bone's own y is the world's up.
        points = [(0.35 * np.cos(a), 0, 0.35 * np.sin(a)) for a in angles]
        points += [(-0.06, 0, 0.35), (0.06, 0, 0.35), (0, 0, 0.47)]
        edges = [(i, (i + 1) % 32) for i in range(32)] + [(32, 33), (33, 34), (34, 32)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, edges, [])
    return bpy.data.objects.new(name, mesh)
