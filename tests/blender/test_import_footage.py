# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion of the command line, imported in front of the footage it was fitted to."""

import bpy
import numpy as np
import pytest
from models import write_motion
from movies import make_frames, make_movie

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


def imported(*args, **options):
    assert bpy.ops.lgd.import_motion(*args, **options) == {"FINISHED"}
    return bpy.context.object


def test_a_range_lies_where_its_footage_shows_it(script, tmp_path, film, capfd):
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8), footage=film)
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


def test_a_folder_is_counted_by_the_motions_own_rate(script, tmp_path):
    folder = make_frames(tmp_path, 12)
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 3, 6, fps=12.0), footage=str(folder))
    assert key_frames(rig) == list(range(4, 10)) and rig.lgd.first == 3


def test_real_time_begins_where_the_whole_would_be(script, tmp_path, film):
    bpy.context.scene.render.fps = 50
    rig = imported(filepath=fitted(script, tmp_path / "m.npz", 10, 8), footage=film, timing="REAL")
    assert key_frames(rig) == [1 + 2 * (10.0 + k) for k in range(8)]


def test_between_thinned_keys_nobody_stands_still(script, tmp_path, film):
    """A long step of an edited motion is one of its keys, not a picture that is shown for long."""
    times = np.array([0, 1, 2, 3, 4, 5, 18, 19, 20]) / 25
    for mode, more in (("edited", []), ("video", [18])):
        path = write_motion(tmp_path / "m.npz", script.body, 9, fps=25.0, size=SIZE, frame_times=times, mode=mode)
        assert key_frames(imported(filepath=str(path), footage=film)) == sorted([1, 2, 3, 4, 5, 6, 19, 20, 21, *more])


def test_other_footage_is_told(script, tmp_path, capfd):
    short = make_movie(tmp_path, 5, (25, 1))
    with pytest.raises(RuntimeError, match="has 5 frames, and the motion was fitted to those from 10 to 17.*Choose the footage"):
        bpy.ops.lgd.import_motion(filepath=fitted(script, tmp_path / "m.npz", 10, 8), footage=short)
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.lgd.import_motion(filepath=str(tmp_path / "m.npz"), footage=str(tmp_path / "gone.mp4"))
    assert not any(o.type == "ARMATURE" for o in bpy.data.objects)
    path = write_motion(tmp_path / "wide.npz", script.body, 5, fps=25.0)
    imported(filepath=str(path), footage=short)
    assert "have 160 x 64 px, and those that were solved 1280 x 720" in capfd.readouterr().out
