# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion file becomes rig, keys and camera, and the body stands where the footage shows the person."""

import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from models import forward, write_motion

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.operators.descent import steps_at
from lgd_blender_addon.scene import axes, export, footage, keyframes, mesh, result, trust
from lgd_blender_addon.scene.body import JOINTS
from lgd_blender_addon.scene.motion import load_motion


def plain_footage(start=11, count=40, **changes):
    values = dict(
        place="FILE",
        name="walk",
        path="/nowhere/walk.mp4",
        fps=25.0,
        size=(1280, 720),
        start=start,
        table=np.arange(count),
    )
    return footage.Footage(**{**values, **changes})


@pytest.fixture
def take(tmp_path, default_body):
    motion = load_motion(write_motion(tmp_path / "motion.npz", default_body))
    built = result.build(
        bpy.context.scene, motion, default_body, plain_footage(), result.Options(show_footage=False)
    )
    return motion, built


def pixels(scene, camera, points):
    w, h = scene.render.resolution_x, scene.render.resolution_y
    seen = np.array([world_to_camera_view(scene, camera, Vector(p)) for p in points])
    return np.stack([seen[:, 0] * w - 0.5, (1 - seen[:, 1]) * h - 0.5], -1)


def test_body_covers_the_person_through_the_camera(take, default_body):
    motion, built = take
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = motion.image_size
    project = motion.extra["keypoints_3d"] @ motion.cam_K.T
    wanted = project[..., :2] / project[..., 2:]
    landmarks = [15, 12, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 10, 11, 0]
    worst = 0.0
    for k in (0, 13, 39):
        scene.frame_set(11 + k)
        world = [built.rig.matrix_world @ built.rig.pose.bones[JOINTS[j]].head for j in landmarks]
        worst = max(worst, np.abs(pixels(scene, built.camera, world) - wanted[k]).max())
        # The mesh too: the same pixels as the solver's own vertices.
        quats = axes.quaternions(motion.poses[k].reshape(24, 3))
        _, points = forward(default_body, quats, motion.betas, motion.trans[k])
        flat = points @ motion.cam_K.T
        graph = bpy.context.evaluated_depsgraph_get()
        skin = built.mesh.evaluated_get(graph)
        rows = range(0, len(points), 97)
        seen = pixels(scene, built.camera, [skin.matrix_world @ skin.data.vertices[i].co for i in rows])
        worst = max(worst, np.abs(seen - (flat[rows, :2] / flat[rows, 2:])).max())
    print(f"\nlargest distance through the camera: {worst:.4f} px")
    assert worst < 1.0


def test_keys_action_and_names(take):
    motion, built = take
    action = built.rig.animation_data.action
    assert action.name == "walk" and action.use_fake_user and action.use_frame_range
    assert (action.frame_start, action.frame_end) == (11, 50)
    assert built.rig.name == "Body-neutral_walk" and built.mesh.name == "Body-mesh-neutral_walk"
    assert [c.name for c in built.rig.users_collection] == ["LGD walk"]
    found = {(c.data_path, c.array_index): len(c.keyframe_points) for c in keyframes.curves(built.rig)}
    assert sum(1 for path, _ in found if "rotation_quaternion" in path) == 96
    assert {n for (path, _), n in found.items() if "pose.bones" in path} == {40}
    shape = keyframes.curves(built.mesh.data.shape_keys)
    assert len(shape) == 10 and all(len(c.keyframe_points) == 1 for c in shape)
    assert shape[0].keyframe_points[0].interpolation == "CONSTANT" and shape[0].keyframe_points[0].co[0] == 11
    if bpy.app.version >= (4, 4, 0):
        assert built.mesh.data.shape_keys.animation_data.action == action
        assert {s.name_display for s in action.slots} >= {built.rig.name}
    assert abs(mesh.get_shape(built.mesh) - motion.betas).max() < 1e-6


def test_ground_and_world(take, default_body):
    motion, built = take
    bpy.context.scene.frame_set(11)
    pelvis = built.rig.pose.bones["pelvis"].head
    world = motion.T_world_cam @ np.append(
        motion.joints[0] if hasattr(motion, "joints") else motion.extra["joints"][0, 0], 1
    )
    assert np.abs(np.array(pelvis) - world[:3]).max() < 1e-4
    head = built.rig.pose.bones["head"].head
    assert head.z > pelvis.z + 0.3, "gravity points down"


def test_quality_curves_and_bad_frames(tmp_path, default_body):
    errors = np.full(40, 2.0)
    errors[10:13] = [9, 20, 12]
    errors[30] = np.nan
    sure = np.ones((40, 24))
    sure[25:28] = 0.1
    motion = load_motion(
        write_motion(tmp_path / "m.npz", default_body, reprojection_px=errors, joint_confidence=sure)
    )
    built = result.build(
        bpy.context.scene, motion, default_body, plain_footage(start=1), result.Options(show_footage=False)
    )
    assert trust.bad_frames(built.rig) == [12.0, 26.0]
    curve = keyframes.find_curve(built.rig, '["lgd_reprojection_px"]')
    assert len(curve.keyframe_points) == 39


def test_a_limb_that_is_lost_is_a_bad_frame_and_can_be_told(tmp_path, default_body):
    """Of a limb that is never seen the take is told as a whole, not as one bad stretch."""
    sure = np.full((40, 24), 0.8)
    sure[14:18, 20] = 0.1  # left wrist
    sure[15, 20] = 0.05
    sure[:, 21] = 0.1  # right wrist, never seen
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, joint_confidence=sure, reprojection_px=np.full(40, 2.0)))
    start = plain_footage(start=101)
    built = result.build(bpy.context.scene, motion, default_body, start, result.Options(show_footage=False))
    keys = keyframes.keys_of(keyframes.find_curve(built.rig, '["lgd_confidence"]'))[0]
    assert trust.bad_frames(built.rig) == [keys[15]]
    here, before = trust.at(built.rig, keys[15] + 0.3), trust.at(built.rig, keys[2])
    assert here[20] == pytest.approx(0.05, abs=1e-3) and here[21] == pytest.approx(0.1, abs=1e-3) and here[18] > 0.7
    assert before[20] > 0.7 and before[21] < 0.2 and set(before) == set(trust.LIMBS)
    assert trust.leading_bone(built.rig, 20) == "left_elbow"
    again = load_motion(write_motion(tmp_path / "again.npz", default_body, joint_confidence=np.full((40, 24), 0.9)))
    result.build(bpy.context.scene, again, default_body, start, result.Options(rig=built.rig.session_uid, camera=built.camera.name, show_footage=False))
    assert min(trust.at(built.rig, keys[15]).values()) > 0.8, "of the take that is there now"
    built.rig.animation_data.action[result.STORED_PROPERTY] = b"not an archive"
    assert trust.at(built.rig, 101) == {} and trust.bad_frames(built.rig) == []
    built.rig.animation_data_clear()
    assert trust.limbs(built.rig) is None


def test_solving_again_keeps_shape_and_edited_action(take, tmp_path, default_body):
    _, built = take
    old = built.action
    curve = keyframes.find_curve(built.rig, 'pose.bones["left_knee"].rotation_quaternion', 1)
    curve.keyframe_points[3].co.y = 0.123
    shape = mesh.get_shape(built.mesh)
    rest = [tuple(b.head_local) for b in built.rig.data.bones]
    other = load_motion(write_motion(tmp_path / "again.npz", default_body, seed=9))
    objects = len(bpy.data.objects)
    again = result.build(
        bpy.context.scene,
        other,
        default_body,
        plain_footage(),
        result.Options(rig=built.rig.session_uid, camera=built.camera.name),
    )
    assert again.rig == built.rig and again.action != old and built.rig.animation_data.action == again.action
    assert len(bpy.data.objects) == objects
    assert np.allclose(mesh.get_shape(built.mesh), shape) and rest == [
        tuple(b.head_local) for b in built.rig.data.bones
    ]
    assert abs(keyframes.curves(built.rig, old)[0].evaluate(11)) >= 0
    assert any(
        abs(p.co.y - 0.123) < 1e-6 for c in keyframes.curves(built.rig, old) for p in c.keyframe_points
    )
    bpy.context.scene.frame_set(20)
    pelvis = other.T_world_cam @ np.append(other.extra["joints"][9, 0], 1)
    assert np.abs(np.array(built.rig.pose.bones["pelvis"].head) - pelvis[:3]).max() < 1e-4


@pytest.mark.parametrize("again", [False, True])
def test_failure_leaves_nothing(tmp_path, default_body, monkeypatch, again):
    motion = load_motion(write_motion(tmp_path / "motion.npz", default_body))
    options = result.Options(show_footage=False)
    rig = None
    if again:
        rig = result.build(bpy.context.scene, motion, default_body, plain_footage(), options).rig
        options.rig = rig.session_uid
    kinds = ("objects", "meshes", "armatures", "actions", "cameras", "collections")
    before = {kind: set(getattr(bpy.data, kind).keys()) for kind in kinds}
    held = rig.animation_data.action if again else None

    def fail(*args):
        raise LgdError("bad_input", "No.")

    monkeypatch.setattr(result, "_camera", fail)
    with pytest.raises(LgdError):
        result.build(bpy.context.scene, motion, default_body, plain_footage(), options)
    left = {kind: set(getattr(bpy.data, kind).keys()) for kind in kinds}
    left["objects"] = {n for n in left["objects"] if n in before["objects"] or not n.startswith("LGD shape")}
    assert {k: left[k] - before[k] for k in kinds} == {k: set() for k in kinds}
    if again:
        assert rig.animation_data.action == held


def test_survives_save_and_reload_without_the_addon(take, tmp_path):
    motion, built = take
    bpy.context.scene.frame_set(30)
    before = [tuple(b.head) for b in built.rig.pose.bones]
    name = built.rig.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "take.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    rig = bpy.data.objects[name]
    bpy.context.scene.frame_set(11)
    bpy.context.scene.frame_set(30)
    assert np.abs(np.array([tuple(b.head) for b in rig.pose.bones]) - before).max() < 1e-6
    stored = load_motion(bytes(rig.animation_data.action[result.STORED_PROPERTY]))
    assert np.abs(stored.poses - motion.poses).max() < 1e-6 and stored.frames == motion.frames
    assert all(b.custom_shape for b in rig.pose.bones)


def test_moving_camera(tmp_path, default_body):
    T = np.repeat(np.load(write_motion(tmp_path / "m.npz", default_body))["T_world_cam"][None], 40, 0)
    T[:, 0, 3] += np.linspace(0, 1, 40)
    K = np.repeat(np.array([[[1100.0, 0, 639.5], [0, 1100.0, 359.5], [0, 0, 1]]]), 40, 0)
    K[:, 0, 0] = K[:, 1, 1] = np.linspace(1000, 1200, 40)
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, T_world_cam=T, cam_K=K))
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = motion.image_size
    built = result.build(scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    project = np.einsum("fkj,fij->fki", motion.extra["keypoints_3d"], K)
    for k in (0, 20, 39):
        scene.frame_set(11 + k)
        world = [built.rig.pose.bones["head"].head, built.rig.pose.bones["neck"].head]
        assert (
            np.abs(pixels(scene, built.camera, world) - (project[k, :2, :2] / project[k, :2, 2:])).max()
            < 0.05
        )
    for curve in keyframes.curves(built.rig):
        for key in [k for k in curve.keyframe_points if k.co.x == 21]:
            curve.keyframe_points.remove(key)
    assert export.write_motion(scene, built.rig, str(tmp_path / "edited.npz")) == 39
    left = np.arange(40) != 10
    with np.load(tmp_path / "edited.npz") as file:
        assert np.abs(file["T_world_cam"] - T[left]).max() < 1e-4 and np.abs(file["cam_K"] - K[left]).max() < 0.05


def test_scene_camera_for_the_solver(take):
    from lgd_blender_addon.scene.camera import camera_for_solver

    motion, built = take
    found = camera_for_solver(bpy.context.scene, built.camera, motion.image_size, [11, 12])
    assert np.abs(found["T_world_cam"] - motion.T_world_cam).max() < 1e-5
    assert np.abs(found["cam_K"] - motion.cam_K).max() < 0.01
    camera, frame, lens = built.camera, bpy.context.scene.frame_current, built.camera.data.lens
    for at in (1, 2):  # a zoom
        camera.data.lens = at * lens
        camera.data.keyframe_insert("lens", frame=10 + at)
    found = camera_for_solver(bpy.context.scene, camera, motion.image_size, [11, 12])
    assert found["T_world_cam"].shape == (4, 4) and np.allclose(found["cam_K"][:, 0, 0], motion.cam_K[0, 0] * np.array([1, 2]), rtol=1e-4)
    camera.data.animation_data_clear()
    for at in (11, 12):
        camera.location.x += 1
        camera.keyframe_insert("location", frame=at)
    found = camera_for_solver(bpy.context.scene, camera, motion.image_size, [11, 11.5, 12])
    assert found["cam_K"].shape == (3, 3) and np.allclose(found["T_world_cam"][:, 0, 3], motion.T_world_cam[0, 3] + [1, 1.5, 2], atol=1e-5)
    assert bpy.context.scene.frame_current == frame


@pytest.mark.parametrize("method", ["FIT", "CROP", "STRETCH"])
@pytest.mark.parametrize("size", [(720, 1280), (1920, 1080), (2048, 858)])
@pytest.mark.parametrize("fit", ["AUTO", "VERTICAL"])
def test_footage_behind_a_scenes_camera_is_seen_where_the_frame_has_it(method, size, fit):
    from bpy_extras.object_utils import world_to_camera_view

    from lgd_blender_addon.scene.camera import camera_for_solver

    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.pixel_aspect_x = 1440, 1080, 1.2
    camera = bpy.data.objects.new("own", bpy.data.cameras.new("own"))
    scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0.3, -4, 1.5), (1.5, 0.1, 0.05)
    camera.data.sensor_fit, camera.data.lens, camera.data.shift_x, camera.data.shift_y = fit, 40, 0.03, -0.02
    background = camera.data.background_images.new()
    background.frame_method = method
    bpy.context.view_layer.update()
    found = camera_for_solver(scene, camera, size, [1], background)
    frame, picture = 1440 * 1.2 / 1080, size[0] / size[1]
    width = 1.0 if method == "STRETCH" else min(picture / frame, 1) if method == "FIT" else max(picture / frame, 1)
    height = 1.0 if method == "STRETCH" else min(frame / picture, 1) if method == "FIT" else max(frame / picture, 1)
    for point in ((0, 0, 1), (0.5, 0.4, 1.8), (-0.6, -0.2, 0.2)):
        seen = world_to_camera_view(scene, camera, Vector(point))
        there = ((seen.x - 0.5) / width + 0.5) * size[0] - 0.5, ((0.5 - seen.y) / height + 0.5) * size[1] - 0.5
        local = np.linalg.inv(found["T_world_cam"]) @ np.append(point, 1.0)
        u = found["cam_K"] @ local[:3]
        assert np.abs(u[:2] / u[2] - there).max() < 0.05, (point, u[:2] / u[2], there)


def test_bulk_keys_are_fast(tmp_path, default_body):
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, frames=3000))
    began = time.perf_counter()
    built = result.build(
        bpy.context.scene, motion, default_body, plain_footage(count=3000), result.Options(show_footage=False)
    )
    whole = time.perf_counter() - began
    quats, location = keyframes.read_pose(built.rig, JOINTS, [11.0])
    take = keyframes.Take("bulk")
    frames = np.arange(3000.0)
    began = time.perf_counter()
    keyframes.write_pose(
        take, built.rig, JOINTS, frames, np.repeat(quats, 3000, 0), np.repeat(location, 3000, 0)
    )
    bulk = time.perf_counter() - began
    built.rig.animation_data.action = None
    began = time.perf_counter()
    for frame in range(100):
        for joint, name in enumerate(JOINTS):
            bone = built.rig.pose.bones[name]
            bone.keyframe_insert("rotation_quaternion", frame=frame)
            if joint == 0:
                bone.keyframe_insert("location", frame=frame)
    single = (time.perf_counter() - began) * 30
    print(
        f"\n{bpy.app.version_string}: 3,000 frames, {built.keys} keys: build {whole:.2f} s, keys alone {bulk:.3f} s, keyframe_insert {single:.1f} s (100 frames x 30)"
    )
    assert bulk < 2.0


def test_a_reversed_strip_is_exported_with_each_frames_own_camera(tmp_path, default_body):
    T = np.repeat(np.load(write_motion(tmp_path / "m.npz", default_body))["T_world_cam"][None], 40, 0)
    T[:, 0, 3] += np.linspace(0, 1, 40)
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, T_world_cam=T))
    scene = bpy.context.scene
    footage = plain_footage(table=np.arange(40)[::-1])
    built = result.build(scene, motion, default_body, footage, result.Options(show_footage=False))
    export.write_motion(scene, built.rig, str(tmp_path / "out.npz"))
    back = load_motion(tmp_path / "out.npz")
    assert np.abs(back.trans - motion.trans[::-1]).max() < 1e-4 and np.abs(back.T_world_cam - T[::-1]).max() < 1e-4
    assert np.allclose(np.diff(back.frame_times), scene.render.fps_base / scene.render.fps)
    bpy.data.objects.remove(built.camera)
    export.write_motion(scene, built.rig, str(tmp_path / "gone.npz"))
    assert np.abs(load_motion(tmp_path / "gone.npz").T_world_cam - T[::-1]).max() < 1e-4
    # The steps of the frame that is shown, not of the one that was solved as the first.
    np.savez(tmp_path / "trace.npz", poses=motion.poses[None], trans=motion.trans[None], reprojection_px=np.arange(40.0)[None])
    assert steps_at(built.rig, 11, str(tmp_path / "trace.npz"))[2] == [39]


def test_what_was_never_solved_is_exported_by_the_scenes_camera(tmp_path, default_body):
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body))
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = motion.image_size
    built = result.build(scene, motion, default_body, plain_footage(), result.Options(show_footage=False))
    del built.action[result.STORED_PROPERTY]
    export.write_motion(scene, built.rig, str(tmp_path / "out.npz"))
    back = load_motion(tmp_path / "out.npz")
    assert np.abs(back.cam_K - motion.cam_K).max() < 0.05 and np.abs(back.T_world_cam - motion.T_world_cam).max() < 1e-4
    assert np.abs(back.trans - motion.trans).max() < 1e-4


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", "short betas", "no numbers", "cut"])
def test_files_that_are_no_motion_are_a_sentence(tmp_path, default_body, content):
    file = Path(write_motion(tmp_path / "m.npz", default_body))
    if content == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        change = {"betas": np.zeros(5)} if content == "short betas" else {"T_world_cam": np.full((4, 4), np.nan)}
        write_motion(file, default_body, **change)
    with pytest.raises(LgdError) as caught:
        load_motion(file)
    assert caught.value.code == "bad_input" and caught.value.hint


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("image_size", np.array([1280]), "image_size"), ("image_size", np.zeros(2), "image_size"), ("mocap_framerate", 0.0, "mocap_framerate"),
        ("mocap_framerate", np.nan, "mocap_framerate"), ("cam_K", np.zeros((3, 3)), "cam_K"), ("cam_K", None, "cam_K"),
        ("trans", np.zeros((39, 3)), "do not belong together"), ("trans", np.full((40, 3), np.inf), "not finite"),
        ("frame_times", np.zeros(40), "do not rise"), ("frame_times", np.arange(39.0), "do not rise"),
    ],
)  # fmt: skip
def test_values_that_no_motion_has_are_a_sentence(tmp_path, default_body, name, value, told):
    """As one may write it by hand: unpacking, or the keys and the camera, failed at them."""
    changed = {"frame_times": None, name: value}
    with np.load(write_motion(tmp_path / "m.npz", default_body)) as file:
        found = {key: changed.get(key, file[key]) for key in file}
    np.savez(tmp_path / "x.npz", **{key: entry for key, entry in found.items() if entry is not None})
    with pytest.raises(LgdError, match=f"is no motion of this add-on: .*{told}"):
        load_motion(tmp_path / "x.npz")


def test_a_motion_of_another_body_is_not_built(tmp_path, default_body):
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, body_model="smpl-male-0123456789ab"))
    with pytest.raises(LgdError, match="solved for the body smpl-male-0123456789ab") as caught:
        result.build(bpy.context.scene, motion, default_body, plain_footage())
    assert caught.value.code == "model_file" and not bpy.data.objects
