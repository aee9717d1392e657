# SPDX-License-Identifier: GPL-3.0-or-later
"""How the camera turns, read from pictures that turn by known amounts; and when nothing is to be told."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.keypoints.background import Background
from bridge.keypoints.detect import detect

WIDTH, HEIGHT = 640, 360
ROOM = 400


@pytest.fixture(scope="module")
def wall():
    """A large picture (H, W, 3) with something to see everywhere."""
    rng = np.random.default_rng(0)
    out = np.full((HEIGHT + 2 * ROOM, WIDTH + 2 * ROOM, 3), 90, np.uint8)
    for _ in range(900):
        x, y, r = rng.integers(0, out.shape[1]), rng.integers(0, out.shape[0]), rng.integers(4, 40)
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.rectangle(out, (int(x), int(y)), (int(x + r), int(y + rng.integers(4, 40))), colour, -1)
    return out


def seen(wall, moves):
    """Pictures of the wall through a camera whose middle wanders by moves (F, 4), as `Keypoints.camera_turns` has them."""
    middle = np.array(((WIDTH - 1) / 2, (HEIGHT - 1) / 2))
    for right, down, roll, size in moves:
        turn = size * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        there = np.column_stack((turn, middle + (right, down) - turn @ middle + ROOM))  # from the picture to the wall
        yield cv2.warpAffine(wall, there, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def told(pictures, people=lambda k: ()):
    background = Background()
    for k, picture in enumerate(pictures):
        background.add(picture, people(k))
    return background.turns(WIDTH, HEIGHT)


def waves(frames, right, down, roll=0.0, size=0.0):
    t = np.linspace(0, 4 * np.pi, frames)
    return np.column_stack((right * np.sin(t), down * np.sin(1.7 * t), roll * np.sin(0.6 * t), 1 + size * np.sin(t)))


@pytest.mark.parametrize("moves", [waves(60, 25, 12), waves(60, 20, 10, 0.08), waves(60, 8, 5, 0.02, 0.1)], ids=["shifted", "rolled", "zoomed"])
def test_pictures_that_turn_are_told_as_they_do(wall, moves):
    found = told(seen(wall, moves))
    assert np.abs(found[:, :2] - moves[:, :2]).max() < 1.0 and np.abs(found[:, 2:] - moves[:, 2:]).max() < 0.004


def test_a_long_pan_does_not_lose_its_way(wall):
    moves = np.column_stack((np.linspace(0, 380, 120) - 190, np.zeros(120), np.zeros(120), np.ones(120)))
    found = told(seen(wall, moves))
    assert np.abs(found[:, 0] - (moves[:, 0] - moves[0, 0])).max() < 6 and np.abs(found[:, 1]).max() < 3


def test_a_camera_that_stands_still_tells_nothing(wall):
    rng = np.random.default_rng(1)
    noisy = [np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8) for picture in seen(wall, waves(40, 0.3, 0.3))]
    assert told(noisy) is None
    assert told(np.full((10, HEIGHT, WIDTH, 3), 128, np.uint8)) is None  # nor a picture without anything to see
    assert told(seen(wall, waves(1, 9, 9))) is None
    assert told(np.full((3, 3, 4000, 3), 128, np.uint8)) is None  # nor one of a pixel's height as it is looked at


def test_errors_do_not_add_up_before_a_camera_that_stands_still(wall):
    """Somebody who hides half of a noisy picture walks to and fro, so that every few frames other corners are laid on."""
    rng = np.random.default_rng(7)
    coat = np.repeat(np.repeat(rng.integers(0, 255, (60, 50, 3), np.uint8), 6, 0), 6, 1)
    still = cv2.GaussianBlur(next(seen((0.4 * wall + 70).astype(np.uint8), waves(1, 0, 0))), (0, 0), 1.5)
    places = (170 + 170 * np.sin(np.arange(400) * 2 * np.pi / 40)).astype(int)

    def walked():
        for x in places:
            picture = np.clip(still + rng.normal(0, 10, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)
            picture[:, x : x + 300] = coat
            yield picture

    assert told(walked(), lambda k: [np.array([(places[k], 0.0), (places[k] + 300.0, HEIGHT)])]) is None


def test_people_do_not_tell_how_the_camera_turns(wall):
    """Somebody who fills half of the picture walks through it, before a camera that stands still and before one that turns."""
    rng = np.random.default_rng(2)
    coat = np.repeat(np.repeat(rng.integers(0, 255, (75, 60, 3), np.uint8), 4, 0), 4, 1)
    places = (40 + 6 * np.arange(30)).astype(int)

    def walked(moves):
        for x, picture in zip(places, seen(wall, moves), strict=True):
            picture[30:330, x : x + 240] = coat
            yield picture

    box = lambda k: [np.array([(places[k], 30.0), (places[k] + 240.0, 330.0)])]  # noqa: E731
    assert told(walked(waves(30, 0, 0)), box) is None
    moves = waves(30, 15, 6)
    found = told(walked(moves), box)
    assert np.abs(found[:, :2] - moves[:, :2]).max() < 1.5


def test_a_train_before_a_camera_that_stands_still_tells_nothing(wall):
    """A quarter of the picture, and clearer than what stands still: slow, fast, and one that comes and goes."""
    rng = np.random.default_rng(4)
    train = np.repeat(np.repeat(rng.integers(0, 255, (9, 160, 3), np.uint8), 10, 0), 10, 1)
    pale = (0.3 * wall + 120).astype(np.uint8)
    for speed in (2, 9):
        pictures = list(seen(pale, waves(90, 0, 0)))
        for k, picture in enumerate(pictures):
            picture[60:150] = train[:, k * speed : k * speed + WIDTH]
        assert told(pictures) is None
        assert told([*seen(pale, waves(20, 0, 0)), *pictures, *seen(pale, waves(20, 0, 0))]) is None


def test_subtitles_do_not_hold_a_pan(wall):
    moves = np.column_stack((np.linspace(0, 380, 120) - 190, np.zeros(120), np.zeros(120), np.ones(120)))
    pictures = list(seen((0.3 * wall + 60).astype(np.uint8), moves))
    for picture in pictures:
        for y in (280, 310, 340):
            cv2.putText(picture, "What is written here stands still, and clear", (20, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    assert np.abs(told(pictures)[:, 0] - (moves[:, 0] - moves[0, 0])).max() < 10


def test_a_zoom_alone_is_told(wall):
    moves = np.column_stack((np.zeros((60, 3)), np.linspace(1, 0.7, 60)))
    found = told(seen(wall, moves))
    assert np.abs(found[:, 3] - moves[:, 3]).max() < 0.01 and np.abs(found[:, :2]).max() < 1.5


def test_a_frame_that_shows_nothing_does_not_end_it(wall):
    moves = waves(40, 15, 6)
    pictures = list(seen(wall, moves))
    pictures[20] = np.zeros_like(pictures[20])
    found = told(pictures)
    assert np.abs(found[:20, :2] - moves[:20, :2]).max() < 1.0 and len(found) == 40
    assert np.abs(np.diff(found[21:, :2] - moves[21:, :2], axis=0)).max() < 1.0


def test_detection_tells_how_the_camera_turns(lgd_data, tmp_path):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    source = lgd_data / "multiview" / "cam03.mp4"
    capture = cv2.VideoCapture(str(source))
    pictures = [capture.read()[1] for _ in range(24)]
    capture.release()
    height, width = pictures[0].shape[:2]
    moves = waves(24, 40, 25, 0.03)
    size = width - 160, height - 160
    middle = np.array(((width - 1) / 2, (height - 1) / 2))
    writer = cv2.VideoWriter(str(tmp_path / "hand.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 60.0, size)
    for picture, (right, down, roll, _) in zip(pictures, moves, strict=True):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        there = np.column_stack((turn, middle + (right, down) - turn @ middle))
        turned = cv2.warpAffine(picture, there, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        writer.write(turned[80:-80, 80:-80])
    writer.release()
    found = detect(tmp_path / "hand.mp4").camera_turns
    assert np.abs(found[:, :2] - moves[:, :2]).max() < 5 and np.abs(found[:, 2:] - moves[:, 2:]).max() < 0.01
    assert detect(source, frames=(0, 24)).camera_turns is None
