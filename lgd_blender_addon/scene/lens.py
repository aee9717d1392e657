# SPDX-License-Identifier: GPL-3.0-or-later
"""The lens distortion that a movie clip's Lens panel tells, as the solver wants it."""

import bpy
import numpy as np

from .._bridge import LgdError
from . import footage as places

ROUNDS = 30  # of straightening a point: 1e-6 of the picture's width at k1 = -0.3


def clip_of(found: places.Footage):
    """The movie clip that shows a footage: the one it was read from, else one of the same file whose lens is told; or None."""
    own = bpy.data.movieclips.get(found.block) if found.place in ("CLIP", "CAMERA") else None
    if own is not None and shows(own, found.path):  # an image behind a camera may have another clip's name
        return own
    return next((clip for clip in bpy.data.movieclips if _coefficients(clip.tracking.camera).any() and shows(clip, found.path)), None)


def shows(clip, path: str) -> bool:
    """Whether a movie clip is the footage at `path`."""
    try:
        return places.from_clip(clip).path == path
    except LgdError:  # its file is gone
        return False


def _coefficients(lens) -> np.ndarray:
    model = lens.distortion_model
    names = {"POLYNOMIAL": "k1 k2 k3", "DIVISION": "division_k1 division_k2", "BROWN": "brown_k1 brown_k2 brown_k3 brown_k4 brown_p1 brown_p2"}
    return np.array([getattr(lens, name) for name in names.get(model, "nuke_k1 nuke_k2").split()])


def distortion_of(clip) -> tuple[dict, str]:
    """`distortion` (8), OpenCV's k1 k2 p1 p2 k3 k4 k5 k6, and `distortion_K` (3, 3) px of a clip's lens; {} for a straight one.

    And what is to be told where a lens cannot be read, or "". Blender's y points up and its pixels begin at their edges.
    """
    lens = clip.tracking.camera
    k = _coefficients(lens)
    if not k.any():
        return {}, ""
    if lens.distortion_model not in ("POLYNOMIAL", "DIVISION", "BROWN") or (lens.distortion_model == "BROWN" and k[3]):
        kind = "Brown model with K4" if lens.distortion_model == "BROWN" else f"{lens.distortion_model.title()} model"
        return {}, f"The lens of {clip.name} is told by the {kind}, which is not read: it is taken as straight. Polynomial, Division and Brown are."
    if lens.distortion_model == "POLYNOMIAL":
        values = [k[0], k[1], 0, 0, k[2], 0, 0, 0]
    elif lens.distortion_model == "DIVISION":
        values = [0, 0, 0, 0, 0, k[0], k[1], 0]
    else:
        values = [k[0], k[1], -k[5], k[4], k[2], 0, 0, 0]
    focal, (x, y) = lens.focal_length_pixels, lens.principal_point_pixels
    K = np.array([[focal, 0, x - 0.5], [0, focal * lens.pixel_aspect, clip.size[1] - y - 0.5], [0, 0, 1.0]])
    return {"distortion": np.array(values, dtype=float), "distortion_K": K}, ""


def bend(told: dict, x: float, y: float) -> tuple[float, float]:
    """Where a lens told by `distortion_of` shows what a straight one shows at (x, y) px."""
    (fx, _, cx), (_, fy, cy), _ = told["distortion_K"].tolist()
    x, y = _bent(told["distortion"].tolist(), (x - cx) / fx, (y - cy) / fy)[:2]
    return x * fx + cx, y * fy + cy


def straighten(told: dict, x: float, y: float) -> tuple[float, float]:
    """The inverse of `bend`. Where the lens shows nothing: somewhere."""
    (fx, _, cx), (_, fy, cy), _ = told["distortion_K"].tolist()
    values, seen = told["distortion"].tolist(), ((x - cx) / fx, (y - cy) / fy)
    x, y = seen
    for _ in range(ROUNDS):
        out_x, out_y, radial = _bent(values, x, y)
        radial = max(radial, 0.1)
        x, y = x + (seen[0] - out_x) / radial, y + (seen[1] - out_y) / radial
    return x * fx + cx, y * fy + cy


def _bent(values, x: float, y: float) -> tuple[float, float, float]:
    """OpenCV's lens model on a ray (x / z, y / z), and its radial factor there."""
    k1, k2, p1, p2, k3, k4, k5, k6 = values
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    tangential = (2 * p1 * x * y + p2 * (r + 2 * x * x), p1 * (r + 2 * y * y) + 2 * p2 * x * y)
    return x * radial + tangential[0], y * radial + tangential[1], radial
