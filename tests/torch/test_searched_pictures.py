# SPDX-License-Identifier: GPL-3.0-or-later
"""What the search for a camera's path is shown: pictures, and where nobody is in them."""

import pytest

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2")

from bridge.camera import bend, undistort  # noqa: E402
from bridge.keypoints import camera_path  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402

K = np.array([[330.0, 0, 319.5], [0, 330, 179.5], [0, 0, 1]])
BENT = np.array([-0.25, 0.05, 0.001, -0.002, 0.0])
FILMED = np.stack((np.linspace(540, 560, 17), np.linspace(140, 220, 17)), -1)  # somebody beside the middle, as the lens shows them


class Enough(Exception):
    pass


def test_what_a_lens_bends_lies_where_it_was():
    straight, reached = undistort(FILMED, K, BENT)
    assert reached.all() and np.linalg.norm(straight - FILMED, axis=-1).min() > 20
    assert bend(straight, K, BENT) == pytest.approx(FILMED, abs=0.01)


def test_people_are_left_out_where_a_lens_that_bends_shows_them(tmp_path, monkeypatch):
    """Not where their keypoints lie without its distortion: their own points would be taken for the background's."""
    pytest.importorskip("pycolmap")
    for k in range(3):
        assert cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((360, 640, 3), np.uint8))
    written = []

    def enough(*_):
        raise Enough

    monkeypatch.setattr(camera_path, "write", lambda place, index, grey, free: written.append(free))
    monkeypatch.setattr(camera_path, "_searched", enough)
    straight = undistort(FILMED, K, BENT)[0]
    seen = Keypoints(np.tile(straight, (1, 3, 1, 1)), np.ones((1, 3, 17)), "coco17", (640, 360), fps=15.0)
    with pytest.raises(Enough):
        camera_path.find_camera_path({"path": str(tmp_path), "fps": 15.0}, seen, K, BENT)
    at = FILMED.round().astype(int)
    assert len(written) == 3 and not written[1][at[:, 1], at[:, 0]].any() and written[1][:, :450].all()
