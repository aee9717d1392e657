# SPDX-License-Identifier: GPL-3.0-or-later
"""What pose models want as input and what their outputs mean, in pixels of the picture (numpy and OpenCV)."""

from __future__ import annotations

import numpy as np

from bridge.keypoints.formats import get_layout

_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB
_STD = np.array([58.395, 57.12, 57.375], np.float32)

# COCO-WholeBody's body and feet in Halpe's order (index of ours -> index of theirs); its neck and head top are missing.
_WHOLEBODY = {**{i: i for i in range(17)}, 20: 17, 21: 20, 22: 18, 23: 21, 24: 19, 25: 22}


def to_layout(points: np.ndarray, conf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D, K, 2) and (D, K) as they are, or for the 133 points of COCO-WholeBody as Halpe-26."""
    if points.shape[1] != 133:
        return points, conf
    out = np.zeros((len(points), get_layout("halpe26").count, 2))
    sure = np.zeros(out.shape[:2])
    for ours, theirs in _WHOLEBODY.items():
        out[:, ours], sure[:, ours] = points[:, theirs], conf[:, theirs]
    return out, sure


def letterbox(image: np.ndarray, size: tuple[int, int], normal: bool, rgb_unit: bool = False):
    """A BGR picture fitted into (w, h), grey padding on the right and below, as (1, 3, h, w) float32, and the ratio.

    normal: mean and spread removed, as RTMDet wants (BGR order); rgb_unit: RGB in 0 to 1, as YOLO wants.
    """
    import cv2

    ratio = min(size[0] / image.shape[1], size[1] / image.shape[0])
    inner = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
    out = np.full((size[1], size[0], 3), 114, np.uint8)
    out[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    blob = out.astype(np.float32)
    if normal:
        blob = (blob - _MEAN[::-1]) / _STD[::-1]
    if rgb_unit:
        blob = blob[..., ::-1] / 255.0
    return blob.transpose(2, 0, 1)[None], ratio


def _picture(points: np.ndarray, ratio: float) -> np.ndarray:
    """Pixels of the scaled picture, counted from its edge or its first pixel's centre alike, in the full picture's."""
    return (points + 0.5) / ratio - 0.5


def people(outputs: list[np.ndarray], ratio: float) -> list[tuple[np.ndarray, float]]:
    """Boxes x, y, w, h with scores, best first, of a detector that gives dets (1, N, 5) and labels (1, N); label 0."""
    dets, labels = outputs[0][0], outputs[1][0]
    keep = (labels == 0) & (dets[:, 4] > 0.05)
    found = [(np.array([x0, y0, x1 - x0, y1 - y0]) / ratio, float(s)) for x0, y0, x1, y1, s in dets[keep]]
    return sorted((f for f in found if f[0][2] > 4 and f[0][3] > 4), key=lambda f: -f[1])


def rtmo(outputs: list[np.ndarray], ratio: float):
    """Points (D, K, 2), confidence (D, K), scores (D,) of RTMO's dets (1, N, 5) and keypoints (1, N, K, 3)."""
    raw = outputs[1][0].astype(np.float64)
    return _picture(raw[..., :2], ratio), np.clip(raw[..., 2], 0, 1), outputs[0][0][:, 4]


def yolo(output: np.ndarray, ratio: float):
    """Points, confidence and scores of YOLO pose (1, 5 + 3K, A), the 300 best candidates above 0.25."""
    rows = output[0].T.astype(np.float64)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")[:300]]
    rows = rows[rows[:, 4] > 0.25]
    raw = rows[:, 5:].reshape(len(rows), (rows.shape[1] - 5) // 3, 3)  # of nobody, too
    return _picture(raw[..., :2], ratio), raw[..., 2], rows[:, 4]


def movenet_input(image: np.ndarray, longest: int = 384):
    """A BGR picture scaled to `longest`, padded to multiples of 32, as RGB (1, h, w, 3), and the ratio."""
    import cv2

    ratio = longest / max(image.shape[:2])
    inner = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
    shape = (-(-inner[1] // 32) * 32, -(-inner[0] // 32) * 32, 3)
    out = np.zeros(shape, np.uint8)
    out[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)[..., ::-1]
    return out[None], ratio


def movenet_multi(output: np.ndarray, shape: tuple[int, int], ratio: float):
    """Points, confidence and scores of MoveNet MultiPose (1, 6, 56) for an input of (h, w)."""
    raw = output[0].astype(np.float64)
    parts = raw[:, :51].reshape(-1, 17, 3)
    points = parts[..., [1, 0]] * (shape[1], shape[0]) / ratio - 0.5
    return points, parts[..., 2], raw[:, 55]


def movenet_single(output: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, 2) in the input's pixels and confidence (K,) of MoveNet's (1, 1, K, 3)."""
    raw = output.reshape(-1, 3).astype(np.float64)
    return raw[:, [1, 0]] * size - 0.5, raw[:, 2]


def crop(image: np.ndarray, box, size: tuple[int, int], margin: float = 1.25):
    """The picture round a box x, y, w, h, with a margin, warped to (w, h); and the crop's centre and extent (2,) px."""
    import cv2

    x, y, w, h = (float(v) for v in box)
    centre = np.array([x + w / 2, y + h / 2])
    extent = np.array([w, h]) * margin
    aspect = size[0] / size[1]
    extent = np.array([max(extent[0], extent[1] * aspect), max(extent[1], extent[0] / aspect)])
    scale = size[0] / extent[0]
    corner = centre - extent / 2
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), centre, extent


def normalised(patch: np.ndarray) -> np.ndarray:
    """A BGR patch (h, w, 3) as RGB (1, 3, h, w) with mean and spread removed."""
    return ((patch[..., ::-1].astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)[None]


def simcc(outputs: list[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, 2) in the pixels of an input of (w, h) and confidence (K,) of simcc_x (1, K, Wx) and simcc_y (1, K, Wy), which split
    each pixel into two or more."""
    x, y = outputs[0][0], outputs[1][0]
    points = np.stack([x.argmax(-1), y.argmax(-1)], -1) * np.array([size[0] / x.shape[-1], size[1] / y.shape[-1]])
    return points, np.clip(np.minimum(x.max(-1), y.max(-1)).astype(np.float64), 0, 1)


def heatmaps(output: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, 2) in the input's pixels and confidence (K,) of heatmaps (1, K, h, w), a quarter cell refined."""
    maps = output[0].astype(np.float64)
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    best = flat.argmax(-1)
    x, y = best % width, best // width
    conf = np.clip(flat.max(-1), 0, 1)
    points = np.stack([x, y], -1).astype(np.float64)
    k = np.arange(count)
    inner = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    xi, yi = np.clip(x, 1, width - 2), np.clip(y, 1, height - 2)
    step = np.stack(
        [
            np.sign(maps[k, yi, xi + 1] - maps[k, yi, xi - 1]),
            np.sign(maps[k, yi + 1, xi] - maps[k, yi - 1, xi]),
        ],
        -1,
    )
    points += 0.25 * step * inner[:, None]
    return (points + 0.5) * np.array([size[0] / width, size[1] / height]) - 0.5, conf
