# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames we say that Blender shows are the frames that Blender shows; and the keys lie on them."""

import re
from pathlib import Path

import bpy
import numpy as np
import pytest
from movies import displayed, make_frames, make_movie, sequences

from lgd_blender_addon._bridge import LgdError
from lgd_blender_addon.scene import footage, timing

RATES = ((5, 1), (24, 1.001), (25, 1), (30, 1.001), (60, 1.001))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


def strip_of(path, start=3):
    return sequences(bpy.context.scene).new_movie("film", path, 1, start)


def set_rate(rate):
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = rate


def check(found, step=3):
    frames = list(range(found.start, found.start + len(found.table), step))
    assert displayed(bpy.context.scene, frames) == [int(found.table[f - found.start]) for f in frames]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("change", ["plain", "trimmed", "reversed"])
def test_movie_strips(films, rate, change):
    path = make_movie(films, 24, rate)
    set_rate((24, 1))
    strip = strip_of(path)
    if change == "trimmed":
        strip.frame_offset_start, strip.frame_offset_end, strip.animation_offset_start = 5, 4, 2
    elif change == "reversed":
        strip.use_reverse_frames, strip.frame_offset_start = True, 3
    found = footage.from_strip(bpy.context.scene, strip)
    check(found)
    assert found.path == path and abs(found.fps - rate[0] / rate[1]) < 1e-3
    a, b = found.frames
    order, times = timing.shown_keys(found.table, found.start, a, b - a)
    for k, time in zip(order, times, strict=True):
        assert found.table[int(time) - found.start] == a + k


def test_image_strips(films):
    folder = make_frames(films, 24)
    names = sorted(f.name for f in folder.iterdir())[4:16]
    strip = sequences(bpy.context.scene).new_image("images", str(folder / names[0]), 1, 10)
    for name in names[1:]:
        strip.elements.append(name)
    strip.frame_offset_start = 2
    found = footage.from_strip(bpy.context.scene, strip)
    assert found.is_folder and found.frames == (6, 16) and found.start == 12 and not found.notes
    check(found)
    strip.use_flip_x = True
    assert "is flipped" in footage.from_strip(bpy.context.scene, strip).cut(14, 16).notes[0]


def test_footage_is_known_again_on_another_system():
    for noted, path in (("D:\\shots\\walk.mp4", "/mnt/shots/walk.mp4"), ("D:\\shots\\7\\", "/mnt/shots/7/"), ("/mnt/walk.mp4", "D:\\walk.mp4")):
        assert footage.same_footage(noted, path)
    assert not footage.same_footage("D:\\shots\\run.mp4", "/mnt/shots/walk.mp4") and not footage.same_footage("", "/mnt/walk.mp4")


def test_clips_and_camera_backgrounds(films):
    path = make_movie(films, 24, (25, 1))
    clip = bpy.data.movieclips.load(path)
    clip.frame_start, clip.frame_offset = 11, 4
    found = footage.from_clip(clip)
    assert found.start == 11 and found.table[0] == 4 and found.table[-1] == -1 and found.frames == (4, 24)
    frames = bpy.data.movieclips.load(str(make_frames(films, 24) / "frame_0005.png"))
    assert frames.source == "SEQUENCE"
    found = footage.from_clip(frames)
    assert found.is_folder and found.frames[0] == 4
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("cam", bpy.data.cameras.new("cam"))
    background = scene.camera.data.background_images.new()
    background.image = bpy.data.images.load(path)
    user = background.image_user
    user.frame_start, user.frame_duration, user.frame_offset = 5, 10, 3
    found = footage.from_camera(scene)
    assert (found.place, found.start, found.frames) == ("CAMERA", 5, (3, 13))
    background.source = "MOVIE_CLIP"
    background.clip = clip
    assert footage.from_camera(scene).start == 11
    second = scene.camera.data.background_images.new()
    second.image, second.image_user.frame_start = background.image, 21
    assert footage.from_camera(scene).start == 11
    background.show_background_image = False
    assert footage.from_camera(scene).start == 21
    second.show_background_image = False
    assert footage.from_camera(scene).start == 11


def test_an_image_without_a_file_behind_the_camera_is_told_with_what_to_do():
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("cam", bpy.data.cameras.new("cam"))
    scene.camera.data.background_images.new().image = bpy.data.images.new("painted", 8, 8)
    with pytest.raises(LgdError, match="neither a movie") as caught:
        footage.from_camera(scene)
    assert "Choose the footage" in caught.value.hint


def test_files_and_ranges(films):
    path = make_movie(films, 24, (30, 1.001))
    found = footage.from_file(path)
    assert found.frames == (0, 24) and abs(found.fps - 29.97) < 0.01 and not bpy.data.movieclips
    assert found.cut(5, 9).frames == (4, 9) and found.cut(5, 9).start == 5
    with pytest.raises(LgdError, match="not shown"):
        found.cut(100, 120)
    assert footage.from_file(str(make_frames(films, 24))).frames == (0, 24)
    for wrong in ("", "/no/such.mp4"):
        with pytest.raises(LgdError):
            footage.with_footage("FILE", bpy.context.scene, path=wrong)


def test_a_single_picture_is_footage_of_one_frame(tmp_path):
    scene = bpy.context.scene
    image = bpy.data.images.new("still", 8, 6)
    image.filepath_raw, image.file_format = str(tmp_path / "still.png"), "PNG"
    image.save()
    path = image.filepath_raw
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.camera.data.background_images.new().image = bpy.data.images.load(path)
    strip = sequences(scene).new_image("still", path, 1, 10)
    strip.frame_final_duration = 5
    for found, start, table in (
        (footage.from_strip(scene, strip), 10, [0, 0, 0, 0, 0]),
        (footage.from_clip(bpy.data.movieclips.load(path)), 1, [0]),
        (footage.from_camera(scene), 1, [0]),
        (footage.from_file(path), 1, [0]),
    ):
        assert (found.path, found.start, found.table.tolist(), found.frames) == (path, start, table, (0, 1))


def test_what_cannot_be_read_is_said(films, tmp_path):
    scene = bpy.context.scene
    strips = sequences(scene)
    with pytest.raises(LgdError, match="No strip"):
        footage.with_footage("STRIP", scene)
    meta = strips.new_meta("meta", 1, 1)
    with pytest.raises(LgdError, match="meta strip"):
        footage.from_strip(scene, meta)
    with pytest.raises(LgdError, match="no camera"):
        footage.from_camera(scene)
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    with pytest.raises(LgdError, match="no footage behind it"):
        footage.from_camera(scene)
    with pytest.raises(LgdError, match="No movie clip"):
        footage.with_footage("CLIP", scene)
    with pytest.raises(LgdError, match="holds no images"):
        footage.from_file(str(tmp_path))
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(LgdError, match="cannot read notes.mp4 as a video"):
        footage.from_file(str(tmp_path / "notes.mp4"))
    images = strips.new_image("images", str(make_frames(films, 24) / "frame_0005.png"), 3, 10)
    images.elements.append("frame_0099.png")
    with pytest.raises(LgdError, match="image frame_0099.png is missing"):
        footage.from_strip(scene, images)


def test_pictures_of_a_kind_that_is_not_read_are_told_as_such(tmp_path):
    """A clip or a background of EXR or TGA was said to show no frame, a file of it to be no video."""
    for k in (1, 2):
        image = bpy.data.images.new("x", 8, 8)
        image.filepath_raw, image.file_format = str(tmp_path / f"x_{k:04}.tga"), "TARGA"
        image.save()
    first, scene = str(tmp_path / "x_0001.tga"), bpy.context.scene
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.camera.data.background_images.new().image = bpy.data.images.load(first)
    clip = bpy.data.movieclips.load(first)
    for place, more in (("CLIP", {"clip": clip}), ("CAMERA", {}), ("FILE", {"path": first})):
        with pytest.raises(LgdError, match="not read .TGA."):
            footage.with_footage(place, scene, **more)


def test_real_time_is_right_over_ten_minutes():
    times = np.arange(17982) / (30 / 1.001)
    order, keys = timing.real_keys(times, 24.0, 1.0)
    assert abs((keys[-1] - keys[0]) / 24.0 - times[-1]) < 0.5 / 24 and np.all(np.diff(keys) > 0)
    frames, sources = timing.picture_steps(order, keys, np.arange(17982))
    assert np.abs(times[sources] - (frames - 1) / 24.0).max() < 1.5 / 29.97
    frames, sources = timing.picture_steps(*timing.real_keys(np.arange(3) / 25, 25.0, 1.4), np.arange(7, 10))
    assert frames.tolist() == [1, 2, 3, 4] and sources.tolist() == [7, 7, 8, 9]


def test_speed_and_holds():
    fast = np.arange(0, 40, 2)
    order, keys = timing.shown_keys(fast, 1, 0, 39)
    assert keys[0] == 1 and keys[1] == 1.5 and keys[38] == 20
    back = np.arange(19, -1, -1)
    order, keys = timing.shown_keys(back, 5, 0, 20)
    assert np.all(np.diff(keys) > 0) and order[0] == 19 and keys[0] == 5
    order, keys = timing.shown_keys([-1, 5, 5], 1, 4, 3)  # of a freeze frame alone
    assert order.tolist() == [0, 1, 2] and keys.tolist() == [1, 2, 3]
    held = np.concatenate([np.arange(5), np.full(10, 5), np.arange(6, 12)])
    order, keys = timing.shown_keys(held, 1, 0, 12)
    assert list(order).count(5) == 2 and np.all(np.diff(keys) > 0)
    # Three times as fast behind the hold: what is skipped lies behind it, too, or the body would go on and snap back to the picture that stands.
    order, keys = timing.shown_keys([4, 5, *[5] * 10, 8, 11], 1, 4, 8)
    assert order.tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7] and np.all(np.diff(keys) > 0) and keys[[2, 5]].tolist() == [12, 13]
    order, keys = timing.shown_keys([11, 8, *[8] * 10, 5, 4], 1, 4, 8)
    assert order.tolist() == [7, 6, 5, 4, 4, 3, 2, 1, 0] and np.all(np.diff(keys) > 0) and keys[[4, 7]].tolist() == [12, 13]


def test_sources_count_images_as_the_worker_does():
    from lgd_blender_addon.scene.footage import IMAGE_SUFFIXES

    text = (Path(__file__).resolve().parents[2] / "bridge/keypoints/video.py").read_text()
    listed = re.search(r"IMAGE_SUFFIXES = frozenset\((.*?)\)\n", text, re.DOTALL)
    assert listed and IMAGE_SUFFIXES == set(re.findall(r"\.[a-z0-9]+(?=[ \"'])", listed.group(1)))
