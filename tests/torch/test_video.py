# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage: videos, folders, images, ranges, rotation, and sentences for what cannot be read."""

import struct
import sys

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.errors import LgdError
from bridge.keypoints import video
from bridge.keypoints.video import TURNED, _rising, open_footage


def write_video(path, count=12, fps=25.0, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    assert writer.isOpened()
    for i in range(count):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[: size[1] // 2] = 20 * i
        writer.write(image)
    writer.release()
    return path


def write_images(folder, names, size=(32, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        ok, data = cv2.imencode(
            "." + name.rsplit(".", 1)[1], np.full((size[1], size[0], 3), 10 * i, np.uint8)
        )
        assert ok
        (folder / name).write_bytes(data.tobytes())
    return folder


def test_video(tmp_path):
    folder = tmp_path / "Ordner mit Ümläuten 日本"
    folder.mkdir()
    path = write_video(folder / "a film 50% .mp4")
    footage = open_footage(path)
    assert (footage.width, footage.height, footage.kind, footage.count) == (64, 48, "video", 12)
    frames = list(footage)
    assert [i for i, _ in frames] == list(range(12))
    assert frames[5][1].shape == (48, 64, 3) and abs(int(frames[5][1][5, 5, 0]) - 100) < 8
    assert np.allclose(footage.frame_times, np.arange(12) / 25, atol=1e-3) and footage.fps == pytest.approx(
        25, 1e-3
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_name_that_is_no_text(tmp_path):
    path = write_video(tmp_path / "v.mp4").rename(tmp_path / "w\udce4lk.mp4")
    with pytest.raises(LgdError, match="UTF-8"):
        open_footage(path)


def test_pictures_whose_names_hold_digits_that_are_no_numbers(tmp_path):
    for name in ("²1.png", "²10.png", "²2.png"):
        cv2.imencode(".png", np.full((48, 64, 3), int(name[1:-4]), np.uint8))[1].tofile(tmp_path / name)
    assert [image[0, 0, 0] for _, image in open_footage(tmp_path, fps=25)] == [1, 2, 10]


def test_range_keeps_the_files_time(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    footage = open_footage(path, frames=(4, 9))
    assert np.allclose(footage.frame_times, np.arange(4, 9) / 25, atol=1e-3)  # before reading
    images = [im for _, im in footage]
    assert len(images) == 5 and abs(int(images[0][5, 5, 0]) - 80) < 8 and footage.first == 4
    assert len(list(open_footage(path, frames=(4, None)))) == 8
    for bad in ((12, 14), (3, 3), (-1, 4), (0, 400)):
        with pytest.raises(LgdError, match="range"):
            open_footage(path, frames=bad)


def test_rotation_metadata_is_honoured(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version 0: the matrix starts 40 bytes into the box's body
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at + 40 : at + 76] = quarter
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    footage = open_footage(turned)
    assert (footage.width, footage.height) == (48, 64)
    image = list(footage)[6][1]
    assert image.shape == (64, 48, 3)
    # The bright upper half of the stored picture is on the right once turned by 90 degrees clockwise.
    assert image[:, 40].mean() > 90 and image[:, 8].mean() < 20


def test_folder_of_images(tmp_path):
    folder = write_images(tmp_path / "frames", ["f10.png", "f2.png", "f1.jpg", "f3.png"])
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"")
    footage = open_footage(folder)
    assert footage.kind == "images" and footage.fps == 30 and "30 frames a second" in footage.notes[0]
    assert [int(im[0, 0, 0]) for _, im in footage] == [20, 10, 30, 0]
    footage = open_footage(folder, frames=(1, 3), fps=10)
    assert np.allclose(footage.frame_times, [0.1, 0.2]) and not footage.notes
    assert [int(im[0, 0, 0]) for _, im in footage] == [10, 30]


def test_pictures_that_their_exif_tag_turns_are_told(tmp_path):
    folder = write_images(tmp_path / "frames", ["f1.jpg", "f2.jpg"])
    upright = open_footage(folder)
    assert TURNED not in upright.notes
    tag = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    for file in folder.iterdir():
        data = file.read_bytes()
        file.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 8) + b"Exif\0\0" + tag + data[2:])
    turned = open_footage(folder)
    assert TURNED in turned.notes and (turned.width, turned.height) == (upright.height, upright.width)


def test_single_image(tmp_path):
    folder = write_images(tmp_path, ["ä.png"])
    footage = open_footage(folder / "ä.png")
    assert (
        footage.kind == "image"
        and footage.count == 1
        and len(list(footage)) == 1
        and footage.frame_times[0] == 0
    )


def test_one_picture_of_a_sequence_tells_of_the_others(tmp_path):
    folder = write_images(tmp_path / "walk", [f"walk_{i:04}.png" for i in range(12)] + ["walk_v2.png", "other_0001.png", "walk_0001.jpg"])
    (told,) = open_footage(folder / "walk_0000.png").notes
    assert "the 11 pictures numbered like it" in told
    assert not open_footage(folder / "other_0001.png").notes and not open_footage(folder / "walk_0001.jpg").notes


def test_images_of_two_sizes(tmp_path):
    folder = write_images(tmp_path / "f", ["a1.png"])
    write_images(folder, ["a2.png"], size=(40, 24))
    with pytest.raises(LgdError, match="a2.png is 40 x 24"):
        list(open_footage(folder))


def test_unreadable_things_are_sentences(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "none").mkdir()
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "torn.mp4").write_bytes(whole[: len(whole) // 3])
    for name, words in {
        "empty.mp4": "is empty",
        "text.mp4": "cannot be read as a video",
        "torn.mp4": "cannot be",
        "bad.png": "cannot be read",
        "none": "holds no images",
        "missing.mp4": "does not exist",
        "nul\0byte.mp4": "cannot be opened",
    }.items():
        with pytest.raises(LgdError, match=words) as caught:
            list(open_footage(tmp_path / name))
        assert caught.value.code == "bad_input" and caught.value.hint
    with pytest.raises(LgdError, match="no frame rate"):
        open_footage(tmp_path, fps=float("nan"))


def test_times_rise_strictly():
    assert np.allclose(_rising(np.array([5.0, 5.1, 5.3, 5.35]), 0.1), [0, 0.1, 0.3, 0.35])
    assert np.allclose(_rising(np.zeros(4), 0.04), [0, 0.04, 0.08, 0.12])
    fixed = _rising(np.array([0, 0.04, 0.04, 0.12, 0.1, 0.2]), 0.04)
    assert (np.diff(fixed) > 0).all() and fixed[-1] == pytest.approx(0.2)


def test_frames_that_are_counted_in_milliseconds(tmp_path, monkeypatch):
    """As in recordings of browsers: the header tells 1000 frames a second, and so many for each second that there is."""
    path = write_video(tmp_path / "v.mp4", count=40)
    opened = video._open_capture

    class Recorded:
        def __init__(self, file):
            self.capture = opened(file)

        def get(self, key):
            told = {cv2.CAP_PROP_FPS: 1000.0, cv2.CAP_PROP_FRAME_COUNT: 1600.0}
            return told.get(key) or self.capture.get(key)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    monkeypatch.setattr(video, "_open_capture", Recorded)
    for footage in (open_footage(path), open_footage(path, (5, 1600), counted=1000.0), open_footage(path, (0, 40))):
        assert footage.nominal() == pytest.approx(25, 1e-3) and (footage.count == 40 or footage.count == 1595)
        assert len(list(footage)) == 40 and footage.count == 40 and not footage.notes
    with pytest.raises(LgdError, match="only 40 frames"):
        list(open_footage(path, (41, 50)))


def test_pixels_that_are_not_square_are_told_of(tmp_path, monkeypatch):
    path = write_video(tmp_path / "hdv.mp4")
    whole = video._open_capture

    class Anamorphic:
        def __init__(self, path):
            self.capture = whole(path)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def get(self, key):
            return {cv2.CAP_PROP_SAR_NUM: 4.0, cv2.CAP_PROP_SAR_DEN: 3.0}.get(key) or self.capture.get(key)

    assert not open_footage(path).notes
    monkeypatch.setattr(video, "_open_capture", Anamorphic)
    assert "1.33 times as wide" in open_footage(path).notes[0]
