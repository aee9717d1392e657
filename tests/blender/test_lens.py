# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip's lens distortion: as Blender's own camera solver understands it, on its way to the worker, and behind the camera."""

import bpy
import numpy as np
import pytest
from mathutils import Euler
from movies import make_frames

from lgd_blender_addon import overlay
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


@pytest.mark.parametrize("model", MODELS)
def test_blenders_solver_agrees(tmp_path, model):
    """Tracks bent as the worker will straighten them let Blender's solver reproject with no error."""
    clip = clip_of(tmp_path, model, MODELS[model], middle=(4.0, -3.0))
    (w, h), (told, note) = clip.size, lens.distortion_of(clip)
    assert not note
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
    assert clip.tracking.reconstruction.is_valid and clip.tracking.reconstruction.average_error < 1e-3


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
