# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: footage of a turning camera, solved by Blender; the person stands where a still camera puts them."""

import os
import subprocess

import bpy
import numpy as np
import window as w
from mathutils import Matrix

FRAMES, FOCAL, HEIGHT = 40, 0.9, 1.0  # FOCAL: of the picture's diagonal; HEIGHT: m, of the camera
TURNING = os.path.join(os.path.dirname(w.FOOTAGE), "turning.mp4")
# The footage as a camera at the same place that turns would see it: a homography a frame.
MAKE = f"""
import cv2, numpy as np
seen = cv2.VideoCapture({w.FOOTAGE!r})
width, height, rate = (int(seen.get(3)), int(seen.get(4)), seen.get(5))
K = np.array([[{FOCAL} * np.hypot(width, height), 0, (width - 1) / 2], [0, {FOCAL} * np.hypot(width, height), (height - 1) / 2], [0, 0, 1]])
made, turns = cv2.VideoWriter({TURNING!r}, cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height)), []
for k in range({FRAMES}):
    turn = cv2.Rodrigues(np.array([0.03 * np.sin(k / 7), 0.1 * np.sin(k / 9), 0.01 * np.sin(k / 5)]))[0]
    made.write(cv2.warpPerspective(seen.read()[1], K @ turn.T @ np.linalg.inv(K), (width, height), borderMode=cv2.BORDER_REPLICATE))
    turns.append(turn)
made.release()
np.savez({TURNING + ".npz"!r}, turns=turns, K=K)
"""


def track(clip, turns, K) -> None:
    """Marks of points that stand still, as a tracker would leave them."""
    width, height = clip.size
    for ray in np.random.default_rng(0).uniform([-0.6, -0.9, 1], [0.6, 0.9, 1], (200, 3)):
        seen = np.einsum("fba,b->fa", turns, ray) @ K.T
        places = (seen[:, :2] / seen[:, 2:] + 0.5) / [width, height]
        if places.min() > 0.01 and places.max() < 0.99:
            made = clip.tracking.tracks.new(name="point", frame=1)
            for frame, (x, y) in enumerate(places, 1):
                made.markers.insert_frame(frame, co=(x, 1 - y))


def path(rig) -> np.ndarray:
    """The pelvis (F, 3) m in the world."""
    out = []
    for frame in range(1, FRAMES + 1):
        bpy.context.scene.frame_set(frame)
        out.append(rig.matrix_world @ rig.pose.bones["pelvis"].head)
    return np.array(out)


def solve(view, clip):
    """Solve a clip through the scene's camera; yields, returns the new rig."""
    pump, show = w.part("operators.pump"), bpy.context.window_manager.lgd
    before = set(bpy.context.scene.objects)
    settings = bpy.context.scene.lgd
    settings.place, settings.clip, settings.camera = "CLIP", clip.name, "SCENE"
    settings.range, settings.first, settings.last = "CUSTOM", 1, FRAMES
    with w.over(view):
        assert bpy.ops.lgd.fit("INVOKE_DEFAULT") == {"FINISHED"}
    yield from w.until(lambda: pump.current() is None, 180, "the fit")
    assert not show.error, (show.error, show.hint)
    print("solved:", show.summary, "| told:", show.warnings)
    return next(o for o in bpy.context.scene.objects if o.type == "ARMATURE" and o not in before)


def steps():
    subprocess.run([os.environ["LGD_PYTHON"], "-I", "-c", MAKE], check=True)
    yield from w.begin()
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    with np.load(TURNING + ".npz") as file:
        turns, K = file["turns"], file["K"]
    view = w.area_of("VIEW_3D")
    clip = bpy.data.movieclips.load(TURNING)
    lens = clip.tracking.camera
    lens.units, lens.focal_length_pixels = "PIXELS", K[0, 0]
    track(clip, turns, K)
    clip.tracking.settings.use_tripod_solver = True
    view.type = "CLIP_EDITOR"
    view.spaces.active.clip = clip
    yield 0.5
    with w.over(view):
        assert bpy.ops.clip.solve_camera() == {"FINISHED"}
    yield from w.until(lambda: clip.tracking.reconstruction.is_valid, 60, "the solve")
    assert clip.tracking.reconstruction.average_error < 0.01
    with w.over(view):
        assert bpy.ops.clip.setup_tracking_scene() == {"FINISHED"}
    for item in [o for o in bpy.data.objects if o.type == "MESH"]:  # Blender's floor and cube
        bpy.data.objects.remove(item)
    scene = bpy.context.scene
    # A tripod's solve knows no scale and no level: the camera is set up as the animator would, level and looking along +Y.
    scene.camera.matrix_basis = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, HEIGHT), (0, 0, 0, 1)))
    view.type = "VIEW_3D"
    yield from w.sidebar(view)
    turning = yield from solve(view, clip)
    moved = path(turning)
    with w.over(view):
        bpy.context.view_layer.objects.active = turning
        bpy.ops.lgd.set_scene_rate_and_range()
        bpy.ops.view3d.view_camera()
    for frame in (8, 24):
        scene.frame_set(frame)
        yield 2.0
        w.shot(f"moving_camera_{frame}")

    # The same, as it was filmed, through a camera that stands there.
    still = bpy.data.movieclips.load(w.FOOTAGE)
    still.tracking.camera.units, still.tracking.camera.focal_length_pixels = "PIXELS", K[0, 0]
    solver = scene.camera
    scene.camera = bpy.data.objects.new("Still", solver.data.copy())
    scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = solver.matrix_basis
    standing = yield from solve(view, still)
    apart = np.linalg.norm(path(standing) - moved, axis=-1)
    print(f"the pelvis: {1000 * apart.mean():.0f} mm apart in the mean, {1000 * apart.max():.0f} at most; it goes {np.ptp(moved, axis=0).round(2)} m")
    assert apart.max() < 0.1, apart.round(3)


w.play(steps())
