# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoint layouts of the common detectors and the one internal set of 30 points they map to (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

POINTS: tuple[str, ...] = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    "neck", "mid_hip", "head_top",
    "left_index", "left_pinky", "right_index", "right_pinky",
)  # fmt: skip
"""The internal points; index and pinky are the knuckles at the finger's root."""

POINT_INDEX: dict[str, int] = {name: i for i, name in enumerate(POINTS)}


def _other_side(name: str) -> str:
    """The same point on the other side of the body; the name itself for points on the middle line."""
    for a, b in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(a):
            return b + name[len(a) :]
    return name


def _mirror_table(names: tuple[str, ...]) -> np.ndarray:
    index = {name: i for i, name in enumerate(names)}
    table = np.array([index[_other_side(name)] for name in names], dtype=np.int64)
    table.setflags(write=False)
    return table


POINT_MIRROR: np.ndarray = _mirror_table(POINTS)
"""(30,) int: each internal point's counterpart on the other side."""


@dataclass(frozen=True)
class Layout:
    """One detector's point order: names (K,), internal (K,) index into POINTS or -1, mirror (K,)."""

    name: str
    names: tuple[str, ...]
    internal: np.ndarray = field(repr=False)
    mirror: np.ndarray = field(repr=False)

    @property
    def count(self) -> int:
        """Number of points K."""
        return len(self.names)


def _layout(name: str, text: str) -> Layout:
    names = tuple(text.split())
    internal = np.array([POINT_INDEX.get(n, -1) for n in names], dtype=np.int64)
    internal.setflags(write=False)
    return Layout(name, names, internal, _mirror_table(names))


_COCO17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_FEET = "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout("coco17", _COCO17),
        _layout(
            "body25",
            "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip "
            "right_hip right_knee right_ankle left_hip left_knee left_ankle "
            "right_eye left_eye right_ear left_ear " + _FEET,
        ),
        _layout("body25b", _COCO17 + " neck head_top " + _FEET),
        _layout(
            "halpe26",
            _COCO17 + " head_top neck mid_hip left_big_toe right_big_toe left_small_toe right_small_toe "
            "left_heel right_heel",
        ),
        _layout(
            "blazepose33",
            "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer "
            "left_ear right_ear left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow "
            "left_wrist right_wrist left_pinky right_pinky left_index right_index left_thumb right_thumb "
            "left_hip right_hip left_knee right_knee left_ankle right_ankle left_heel right_heel "
            "left_big_toe right_big_toe",
        ),
    )
}
"""Every layout that keypoints.npz may name. BlazePose's foot_index stands for the big toe."""


def get_layout(name: str) -> Layout:
    """The layout of that name; raises LgdError (bad_input) for an unknown one."""
    try:
        return LAYOUTS[name]
    except KeyError:
        from bridge.errors import LgdError

        known = ", ".join(LAYOUTS)
        raise LgdError(
            "bad_input",
            f"The keypoint layout '{name}' is not known.",
            f"Known layouts are {known}.",
        ) from None


def to_internal(keypoints, confidence, layout: str | Layout) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (..., K, 2) and confidence (..., K) of a layout as the internal (..., 30, 2) and (..., 30), float32.

    A point that the layout lacks, or whose coordinates are not finite, has confidence 0 and coordinates 0.
    """
    lay = layout if isinstance(layout, Layout) else get_layout(layout)
    keypoints = np.asarray(keypoints, dtype=np.float32)
    confidence = np.asarray(confidence, dtype=np.float32)
    if keypoints.shape[-2:] != (lay.count, 2) or confidence.shape != keypoints.shape[:-1]:
        raise ValueError(
            f"shapes {keypoints.shape} and {confidence.shape} do not fit the {lay.count} points of {lay.name}"
        )
    lead = keypoints.shape[:-2]
    points = np.zeros((*lead, len(POINTS), 2), dtype=np.float32)
    conf = np.zeros((*lead, len(POINTS)), dtype=np.float32)
    here = np.flatnonzero(lay.internal >= 0)
    points[..., lay.internal[here], :] = keypoints[..., here, :]
    conf[..., lay.internal[here]] = confidence[..., here]
    bad = ~(np.isfinite(points).all(-1) & np.isfinite(conf))
    points[bad] = 0.0
    conf[bad] = 0.0
    return points, np.clip(conf, 0.0, 1.0)


def from_internal(points, confidence, layout: str | Layout) -> tuple[np.ndarray, np.ndarray]:
    """Internal points (..., 30, 2) and confidence (..., 30) in a layout's order; points the set lacks get confidence 0."""
    lay = layout if isinstance(layout, Layout) else get_layout(layout)
    points = np.asarray(points, dtype=np.float32)
    confidence = np.asarray(confidence, dtype=np.float32)
    index = np.maximum(lay.internal, 0)
    have = lay.internal >= 0
    return (
        np.where(have[:, None], points[..., index, :], np.float32(0)),
        np.where(have, confidence[..., index], np.float32(0)),
    )
