# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip's lens distortion: as Blender's own camera solver understands it, on its way to the worker, and behind the camera."""

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Euler
from movies import make_frames

from lgd_blender_addon import overlay
from lgd_blender_addon.operators.cameras import solver_notes
from lgd_blender_addon.operators.request import find_footage
from lgd_blender_addon.scene import lens

MODELS = {
    "POLYNOMIAL": {"k1": -0.25, "k2": 0.06, "k3": 0.01},
    "DIVISION": {"division_k1": 0.2, "division_k2": 0.02},
    "BROWN": {"brown_k1": -0.2, "brown_k2": 0.05, "brown_k3": 0.01, "brown_p1": 0.01, "brown_p2": -0.02},
}
FRAMES = 24


def clip_of(folder, model, values, middle=(12.0, -9.0)):
    clip = bpy.data.movieclips.load(str(make_frames(folder, FRAMES) / "frame_0001.png"))
    camera = clip.tracking.camera
    camera.sensor_width, camera.units, camera.focal_length = 36.0, "MILLIMETERS", 25.0
    camera.principal_point_pixels = (clip.size[0] / 2 + middle[0], clip.size[1] / 2 + middle[1])
    camera.distortion_model = model
    for name, value in values.items():
        setattr(camera, name, value)
    return clip


def projected(points, told):
    """OpenCV's lens model: points (N, 3) of the camera frame to px (N, 2)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = told["distortion"]
    x, y = (points[:, :2] / points[:, 2:]).T
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    bent = [x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x), y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y]
    K = told["distortion_K"]
    return np.stack(bent, -1) * K[[0, 1], [0, 1]] + K[:2, 2]


def solve(clip):
    """Blender's own solve of a camera that moves, from tracks that are bent as the worker will straighten them."""
    (w, h), (told, note) = clip.size, lens.distortion_of(clip)
    assert not note
    focal = clip.tracking.camera.focal_length_pixels
    told = told or {"distortion": np.zeros(8), "distortion_K": np.array([[focal, 0, w / 2 - 0.5], [0, focal, h / 2 - 0.5], [0, 0, 1]])}
    points = np.random.default_rng(0).uniform([-3, -1, 4], [3, 1, 9], (80, 3))
    seen = {}
    for frame in range(FRAMES):
        turn = np.array(Euler((0.1 * np.sin(frame / 3), 0.01 * frame, 0.01 * frame)).to_matrix())
        for number, (x, y) in enumerate(projected(points @ turn.T + [-0.08 * frame, 0.02 * frame, 0.02 * frame], told)):
            if 2 < x < w - 3 and 2 < y < h - 3:
                seen.setdefault(number, {})[frame + 1] = ((x + 0.5) / w, 1 - (y + 0.5) / h)
    for marks in seen.values():
        if sorted(marks) == list(range(1, FRAMES + 1)):
            track = clip.tracking.tracks.new(name="point", frame=1)
            for frame, place in marks.items():
                track.markers.insert_frame(frame, co=place)
    assert len(clip.tracking.tracks) >= 8
    clip.tracking.objects[0].keyframe_a, clip.tracking.objects[0].keyframe_b = 1, FRAMES
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "CLIP_EDITOR"
    area.spaces[0].clip = clip
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.clip.solve_camera()


@pytest.mark.parametrize("model", MODELS)
def test_blenders_solver_agrees(tmp_path, model):
    """With the lens as it is told to the worker Blender's solver reprojects with no error."""
    clip = clip_of(tmp_path, model, MODELS[model], middle=(4.0, -3.0))
    solve(clip)
    assert clip.tracking.reconstruction.is_valid and clip.tracking.reconstruction.average_error < 1e-3


@pytest.mark.parametrize("start", [1, 11])
def test_a_solved_camera_is_followed_where_it_is_solved(script, tmp_path, start):
    clip = clip_of(tmp_path, "POLYNOMIAL", {}, middle=(0.0, 0.0))
    solve(clip)
    clip.frame_start = start
    scene = bpy.context.scene
    scene.lgd.place, scene.lgd.clip = "CLIP", clip.name
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    manager = bpy.context.window_manager
    for _ in range(2):  # for a new camera, and for the one that it made
        assert "is solved, but not used" in manager.lgd.warnings
        assert bpy.ops.lgd.fit() == {"FINISHED"}
    camera, _ = solver_camera(scene, clip)
    scene.lgd.camera = "SCENE"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert not manager.lgd.warnings
    with np.load(script.asked[-1][1]["camera"]) as file:
        assert file["T_world_cam"].shape == (FRAMES, 4, 4)
    found = find_footage(bpy.context)
    assert "solved from frame" in " ".join(solver_notes(bpy.context, camera, replace(found, start=start + 5)))
    assert "other footage" in " ".join(solver_notes(bpy.context, camera, replace(found, path=str(tmp_path))))
    scene.lgd.timing = "REAL"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    assert "do not follow" in manager.lgd.warnings


def test_lenses_that_are_not_read_are_told(tmp_path):
    clip = clip_of(tmp_path, "NUKE", {"nuke_k1": 0.1})
    found, note = lens.distortion_of(clip)
    assert not found and "Nuke" in note
    clip.tracking.camera.nuke_k1 = 0.0
    assert lens.distortion_of(clip) == ({}, "")
    clip.tracking.camera.distortion_model, clip.tracking.camera.brown_k4 = "BROWN", 0.1
    assert "K4" in lens.distortion_of(clip)[1]


@pytest.mark.parametrize("place", ["CLIP", "CAMERA", "FILE"])
def test_a_clips_lens_reaches_the_worker(script, tmp_path, place):
    clip = clip_of(tmp_path, "POLYNOMIAL", MODELS["POLYNOMIAL"])
    settings, scene = bpy.context.scene.lgd, bpy.context.scene
    settings.place, settings.clip, settings.path = place, clip.name, str(tmp_path / f"frames{FRAMES}")
    if place == "CAMERA":
        own = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(own)
        scene.camera = own
        background = own.data.background_images.new()
        background.source, background.clip = "MOVIE_CLIP", clip
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    with np.load(script.asked[-1][1]["camera"]) as file:
        told = dict(file)
    assert told["distortion"].tolist() == pytest.approx([-0.25, 0.06, 0, 0, 0.01, 0, 0, 0])
    focal, (w, h) = 25 / 36 * clip.size[0], clip.size
    assert told["distortion_K"] == pytest.approx(np.array([[focal, 0, w / 2 + 11.5], [0, focal, h / 2 + 8.5], [0, 0, 1]]))
    assert ("T_world_cam" in told) == (place == "CAMERA")
    warnings = bpy.context.window_manager.lgd.warnings
    assert (f"taken as told: {focal:.0f} px" in warnings) == (place != "CAMERA")
    if place == "CLIP":
        assert told["cam_K"] == pytest.approx(told["distortion_K"])
        (background,) = scene.camera.data.background_images
        assert background.clip == clip and background.clip_user.use_render_undistorted
    assert ("keeps its lens's distortion" in warnings) == (place == "FILE")
    bpy.ops.lgd.fit()  # again, for the camera that the first one made
    with np.load(script.asked[-1][1]["camera"]) as file:
        assert {"T_world_cam", "cam_K", "distortion", "distortion_K"} == set(file)


def test_the_lens_of_another_clip_that_is_called_as_the_image_behind_the_camera_is_not_taken(script, film, tmp_path):
    own = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.scene.collection.objects.link(own)
    bpy.context.scene.camera = own
    background = own.data.background_images.new()
    background.source, background.image = "IMAGE", bpy.data.images.load(film)
    background.image_user.frame_duration = 24
    clip_of(tmp_path, "POLYNOMIAL", MODELS["POLYNOMIAL"]).name = background.image.name
    bpy.context.scene.lgd.place = "CAMERA"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    with np.load(script.asked[-1][1]["camera"]) as file:
        assert "distortion" not in file


def test_a_told_focal_length_wins_over_the_clips(script, tmp_path):
    clip = clip_of(tmp_path, "POLYNOMIAL", MODELS["POLYNOMIAL"])
    settings = bpy.context.scene.lgd
    settings.place, settings.clip, settings.focal = "CLIP", clip.name, 150.0
    bpy.ops.lgd.fit()
    assert script.asked[-1][1]["focal"] == 150.0 and script.asked[-1][1]["camera"]


@pytest.mark.parametrize("model", MODELS)
def test_a_point_is_straightened_and_bent_back(tmp_path, model):
    told, _ = lens.distortion_of(clip_of(tmp_path, model, MODELS[model]))
    straight = np.random.default_rng(0).uniform([20, 10], [140, 54], (20, 2))
    rays = np.concatenate([(straight - told["distortion_K"][:2, 2]) / told["distortion_K"][0, 0], np.ones((20, 1))], -1)
    for (x, y), filmed in zip(straight, projected(rays, told), strict=True):
        assert lens.bend(told, x, y) == pytest.approx(filmed, abs=1e-9)
        assert lens.straighten(told, *filmed) == pytest.approx((x, y), abs=1e-3)


@pytest.mark.parametrize("straight", [True, False])
def test_skeletons_lie_on_the_straightened_picture(addon, tmp_path, monkeypatch, straight):
    clip = clip_of(tmp_path, "POLYNOMIAL", MODELS["POLYNOMIAL"])
    told, _ = lens.distortion_of(clip)
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "CLIP_EDITOR"
    space = area.spaces[0]
    space.clip, space.clip_user.use_render_undistorted = clip, straight
    monkeypatch.setattr(overlay, "_placing_straight", lambda context: lambda x, y: (2 * x + 5, 100 - 2 * y))
    with bpy.context.temp_override(window=window, area=area, space_data=space):
        place, pick = overlay.placing(bpy.context), overlay.picking(bpy.context)
    x, y = lens.straighten(told, 130.0, 50.0) if straight else (130.0, 50.0)
    assert place(130.0, 50.0) == pytest.approx((2 * x + 5, 100 - 2 * y))
    assert pick(2 * x + 5, 100 - 2 * y) == pytest.approx((130.0, 50.0), abs=1e-3)
    assert (abs(x - 130) > 1) == straight


def solver_camera(scene, clip):
    camera = bpy.data.objects.new("Solved", bpy.data.cameras.new("Solved"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    constraint = camera.constraints.new("CAMERA_SOLVER")
    constraint.use_active_clip, constraint.clip = False, clip
    return camera, constraint


def test_a_solver_camera_without_a_solve_is_refused(script, tmp_path):
    clip = clip_of(tmp_path, "POLYNOMIAL", {})
    settings = bpy.context.scene.lgd
    settings.place, settings.clip, settings.camera = "CLIP", clip.name, "SCENE"
    camera, constraint = solver_camera(bpy.context.scene, clip)
    with pytest.raises(RuntimeError, match="not solved"):
        bpy.ops.lgd.fit()
    constraint.clip = None
    with pytest.raises(RuntimeError, match="has no clip"):
        bpy.ops.lgd.fit()
    constraint.mute = True
    assert bpy.ops.lgd.fit() == {"FINISHED"}


def test_an_empty_is_no_camera(script):
    empty = bpy.data.objects.new("Empty", None)
    bpy.context.scene.collection.objects.link(empty)
    bpy.context.scene.camera, bpy.context.scene.lgd.camera = empty, "SCENE"
    with pytest.raises(RuntimeError, match="is no camera"):
        bpy.ops.lgd.fit()


def test_a_clips_pixel_aspect_is_its_lenss(script, tmp_path):
    clip = clip_of(tmp_path, "POLYNOMIAL", {})
    clip.tracking.camera.pixel_aspect = 2.0
    scene = bpy.context.scene
    camera, constraint = solver_camera(scene, clip)
    camera.constraints.remove(constraint)
    scene.lgd.place, scene.lgd.clip, scene.lgd.camera = "CLIP", clip.name, "SCENE"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    with np.load(script.asked[-1][1]["camera"]) as file:
        K = file["cam_K"]
    assert K[1, 1] == pytest.approx(2 * K[0, 0], rel=1e-4) and K[0, 2] == pytest.approx((clip.size[0] - 1) / 2, abs=1e-3)
    assert bpy.ops.lgd.set_scene_rate_and_range() == {"FINISHED"} and scene.render.pixel_aspect_x == 2.0
