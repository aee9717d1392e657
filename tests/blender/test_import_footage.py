# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion of the command line, imported in front of the footage it was fitted to."""

import bpy
import numpy as np
import pytest
from models import write_motion
from movies import make_frames, make_movie, sequences

from lgd_blender_addon.operators.request import find_footage, target_rig
from lgd_blender_addon.scene import keyframes

SIZE = (640, 256)  # as wide to its height as the tests' films


def fitted(script, path, first: int, count: int, fps: float = 25.0, **changes):
    """What `bridge fit --frames` leaves of pictures `first` and after."""
    times = (first + np.arange(count)) / fps
    return str(write_motion(path, script.body, count, fps=fps, size=SIZE, frame_times=times, **changes))


def key_frames(rig) -> list:
    curve = next(c for c in keyframes.curves(rig) if c.data_path.endswith("rotation_quaternion"))
    return [round(point.co[0], 3) for point in curve.keyframe_points]


def imported(**options):
    assert bpy.ops.lgd.import_motion(with_footage=True, **options) == {"FINISHED"}
    return bpy.context.object


def test_a_range_lies_where_its_footage_shows_it(script, tmp_path, capfd):
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8))
    assert key_frames(rig) == list(range(11, 19))
    camera = next(o for o in bpy.data.objects if o.type == "CAMERA")
    (background,) = camera.data.background_images
    assert background.image.filepath and background.show_background_image
    user = background.image_user
    assert user.frame_start - user.frame_offset == 1, "picture 10 on frame 11"
    assert "Choose the footage" not in capfd.readouterr().out
    # A later solve of the same footage knows the rig, its camera and its range.
    assert rig.lgd.first == 10 and target_rig(bpy.context, find_footage(bpy.context), 0) == rig
    assert bpy.ops.lgd.fit() == {"FINISHED"} and [o for o in bpy.data.objects if o.type == "ARMATURE"] == [rig]


def test_whatever_the_range_of_the_panel_is(script, tmp_path):
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last, settings.start = "CUSTOM", 2, 4, 101
    assert key_frames(imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8))) == list(range(111, 119))


def test_a_strip_shows_it_at_its_own_pace(script, tmp_path, film):
    scene = bpy.context.scene
    strip = sequences(scene).new_movie("take", film, 1, 51)
    scene.sequence_editor.active_strip = strip
    scene.lgd.place = "STRIP"
    assert key_frames(imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8))) == list(range(61, 69))
    strip.frame_offset_start = 15
    with pytest.raises(RuntimeError, match="the frames 15 to 23 are shown, and the motion was fitted to 10 to 17"):
        imported(filepath=str(tmp_path / "m.npz"))


def test_a_folder_is_counted_by_the_motions_own_rate(script, tmp_path):
    bpy.context.scene.lgd.path = str(make_frames(tmp_path, 12))
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 3, 6, fps=12.0))
    assert key_frames(rig) == list(range(4, 10)) and rig.lgd.first == 3


def test_real_time_begins_where_the_whole_would_be(script, tmp_path):
    bpy.context.scene.render.fps = 50
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8), timing="REAL")
    assert key_frames(rig) == [1 + 2 * (10.0 + k) for k in range(8)]


def test_between_thinned_keys_nobody_stands_still(script, tmp_path):
    """A long step of an edited motion is one of its keys, not a picture that is shown for long."""
    times = np.array([0, 1, 2, 3, 4, 5, 18, 19, 20]) / 25
    for mode, more in (("edited", []), ("video", [18])):
        path = write_motion(tmp_path / "m.npz", script.body, 9, fps=25.0, size=SIZE, frame_times=times, mode=mode)
        assert key_frames(imported(filepath=str(path))) == sorted([1, 2, 3, 4, 5, 6, 19, 20, 21, *more])


def test_other_footage_is_told(script, tmp_path, capfd):
    settings = bpy.context.scene.lgd
    settings.path = make_movie(tmp_path, 5, (25, 1))
    with pytest.raises(RuntimeError, match="the frames 0 to 4 are shown, and the motion was fitted to 10 to 17.*Choose the footage"):
        imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8))
    path = write_motion(tmp_path / "wide.npz", script.body, 5, fps=25.0)
    imported(filepath=str(path))
    assert "have 160 x 64 px, and those that were solved 1280 x 720" in capfd.readouterr().out
    rigs = len([o for o in bpy.data.objects if o.type == "ARMATURE"])
    settings.path = str(tmp_path / "gone.mp4")
    with pytest.raises(RuntimeError, match="does not exist"):
        imported(filepath=str(path))
    assert len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == rigs == 1
