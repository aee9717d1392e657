# SPDX-License-Identifier: GPL-3.0-or-later
"""The layouts' orders, mirrors and the mapping to the internal points."""

import numpy as np
import pytest

from bridge.errors import LgdError
from bridge.keypoints.formats import (
    LAYOUTS,
    POINT_INDEX,
    POINT_MIRROR,
    POINTS,
    from_internal,
    get_layout,
    to_internal,
)


def test_point_order_and_mirror():
    assert len(POINTS) == 30 and len(set(POINTS)) == 30
    assert (
        POINTS[0] == "nose"
        and POINTS[17] == "left_big_toe"
        and POINTS[23:26] == ("neck", "mid_hip", "head_top")
    )
    assert (POINT_MIRROR[POINT_MIRROR] == np.arange(30)).all()
    assert POINT_MIRROR[POINT_INDEX["left_index"]] == POINT_INDEX["right_index"]
    assert POINT_MIRROR[POINT_INDEX["neck"]] == POINT_INDEX["neck"]


@pytest.mark.parametrize(
    "name, count, some",
    [
        ("coco17", 17, {5: "left_shoulder", 16: "right_ankle"}),
        ("body25", 25, {1: "neck", 4: "right_wrist", 8: "mid_hip", 14: "left_ankle", 16: "left_eye", 19: "left_big_toe", 24: "right_heel"}),
        ("body25b", 25, {0: "nose", 17: "neck", 18: "head_top", 21: "left_heel", 22: "right_big_toe"}),
        ("halpe26", 26, {17: "head_top", 18: "neck", 19: "mid_hip", 20: "left_big_toe", 21: "right_big_toe", 25: "right_heel"}),
        ("blazepose33", 33, {2: "left_eye", 5: "right_eye", 17: "left_pinky", 20: "right_index", 29: "left_heel", 32: "right_big_toe"}),
    ],
)  # fmt: skip
def test_layout(name, count, some):
    layout = LAYOUTS[name]
    assert layout.count == count == len(set(layout.names))
    assert (layout.mirror[layout.mirror] == np.arange(count)).all()
    for i, point in some.items():
        assert POINTS[layout.internal[i]] == point
    known = layout.internal[layout.internal >= 0]
    assert len(set(known)) == len(known)
    # Mirroring in the layout and in the internal set is the same thing.
    for i, j in enumerate(layout.internal):
        if j >= 0:
            assert layout.internal[layout.mirror[i]] == POINT_MIRROR[j]


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_round_trip(name):
    layout = LAYOUTS[name]
    rng = np.random.default_rng(0)
    kp = rng.uniform(0, 1000, (2, 5, layout.count, 2)).astype(np.float32)
    conf = rng.uniform(0.1, 1, (2, 5, layout.count)).astype(np.float32)
    points, c = to_internal(kp, conf, name)
    assert points.shape == (2, 5, 30, 2) and c.shape == (2, 5, 30) and points.dtype == np.float32
    assert (c > 0).sum() == 10 * (layout.internal >= 0).sum()
    back, c_back = from_internal(points, c, name)
    have = layout.internal >= 0
    assert np.array_equal(back[..., have, :], kp[..., have, :]) and np.array_equal(
        c_back[..., have], conf[..., have]
    )


def test_missing_is_missing_not_invented():
    kp = np.full((3, 17, 2), 7.0)
    kp[1, 5] = np.nan
    points, conf = to_internal(kp, np.ones((3, 17)), "coco17")
    assert np.isfinite(points).all()
    assert conf[1, POINT_INDEX["left_shoulder"]] == 0 and conf[0, POINT_INDEX["left_shoulder"]] == 1
    for name in ("neck", "mid_hip", "left_heel", "head_top", "left_index"):
        assert (conf[:, POINT_INDEX[name]] == 0).all()


def test_faults():
    with pytest.raises(LgdError, match="coco99"):
        get_layout("coco99")
    with pytest.raises(ValueError):
        to_internal(np.zeros((3, 16, 2)), np.zeros((3, 16)), "coco17")
