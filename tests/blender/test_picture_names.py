# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of pictures whose names hold other numbers than 1, 2, 3: time stamps, and the digit of .jp2."""

from dataclasses import replace

import bpy
import numpy as np
import pytest
from models import write_motion
from movies import make_frames

from lgd_blender_addon.scene import footage, result
from lgd_blender_addon.scene.motion import load_motion

COUNT = 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return [path.read_bytes() for path in sorted(make_frames(tmp_path_factory.mktemp("pictures"), COUNT).iterdir())]


@pytest.mark.parametrize("name, step, shown", (
    ("frame_{:04d}.jp2", 1, True),  # a PNG by its content, which is all that matters here
    ("{:d}.png", 1, True), ("{:d}.png", 20240101, False),
    ("{:016d}.png", 33, False), ("17000000001234567{:05d}.png", 1, False),
))  # fmt: skip
def test_what_blender_can_count_is_shown_and_the_rest_told(tmp_path, addon, default_body, pictures, name, step, shown):
    first = 1700000000123 if "016" in name else 20240101 if name[1:3] == ":d" else 1
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        (folder / name.format(first + step * number)).write_bytes(picture)
    found = footage.from_file(str(folder))
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, COUNT))
    built = result.build(bpy.context.scene, motion, default_body, found, result.Options())
    assert built.keys > COUNT and bool(len(built.camera.data.background_images)) == shown
    assert shown != any("Number them from 1" in note for note in built.notes)
    if shown:
        bpy.context.scene.camera = built.camera
        back = footage.from_camera(bpy.context.scene)
        assert back.start == 1 and np.array_equal(back.table[:COUNT], np.arange(COUNT)) and len(back.table) < 50
        clip = bpy.data.movieclips.load(str(folder / footage.folder_files(folder)[0]))
        assert np.array_equal(footage.from_clip(clip).table, np.arange(COUNT))
    again = result.Options(rig=built.rig.session_uid, camera=built.camera.name)
    assert result.build(bpy.context.scene, motion, default_body, found, again).rig == built.rig


@pytest.mark.parametrize("name", ["IMG_1015{0:02d}_{1:03d}.png", "{2}.png", "p{3}{1}.png"])
def test_names_of_no_one_sequence_are_told(tmp_path, addon, default_body, pictures, name):
    """As of a phone that writes a time beside the number: Blender would look for the first one's with other numbers, and show nothing."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        (folder / name.format(number // 2, number + 1, chr(97 + number), "0" * (number < 5))).write_bytes(picture)
    found = footage.from_file(str(folder))
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, COUNT))
    built = result.build(bpy.context.scene, motion, default_body, found, result.Options())
    assert len(found.table) == COUNT and not len(built.camera.data.background_images)
    assert any("Number them from 1" in note for note in built.notes)


def test_of_several_sequences_in_a_folder_the_one_that_was_solved_is_shown(tmp_path, addon, default_body, pictures):
    """As of a strip of one camera's pictures beside another's."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        (folder / f"{'ab'[number // 6]}_{number % 6 + 1:04d}.png").write_bytes(picture)
    (folder / "cover.png").write_bytes(pictures[0])
    found = replace(footage.from_file(str(folder)), table=np.arange(6, COUNT))
    motion = load_motion(write_motion(tmp_path / "m.npz", default_body, 6))
    built = result.build(bpy.context.scene, motion, default_body, found, result.Options())
    (background,) = built.camera.data.background_images
    assert background.image.filepath.endswith("b_0001.png") and background.image.source == "SEQUENCE" and background.image_user.frame_offset == 0
    assert not built.notes
