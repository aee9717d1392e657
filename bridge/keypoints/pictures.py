# SPDX-License-Identifier: GPL-3.0-or-later
"""Single pictures from files."""

import os
import re
from pathlib import Path

import numpy as np

from ..errors import LgdError


def opencv():
    """The module cv2. Raises LgdError where it is not to be had."""
    # FFmpeg and OpenCV write their own remarks to stderr, where our sentences belong.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2
    except ImportError as error:
        raise LgdError(
            "setup_incomplete",
            f"OpenCV (opencv-python) cannot be imported: {error}.",
            "Repair the set-up.",
            "lgd.setup_repair",
        ) from None
    return cv2


def read_image(path: Path, as_stored: bool = False) -> np.ndarray:
    """BGR uint8 (h, w, 3), upright as the file's EXIF tag says. as_stored: without a look at that. Raises LgdError (bad_input)."""
    cv2 = opencv()
    try:
        # Not imread: it does not open every path on Windows. The colour flag also applies the EXIF orientation.
        data = np.fromfile(path, dtype=np.uint8)
        flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0)
        image = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise LgdError("bad_input", f"The image {path.name} cannot be read.", "Remove it or save it again.")
    return image


def is_turned(path: Path, upright: np.ndarray) -> bool:
    """Whether a picture's EXIF tag turns it from how it is stored, which is how Blender shows it. upright: as `read_image` gives it."""
    return not np.array_equal(read_image(path, as_stored=True), upright)


def left_out(path: Path, what: str) -> list[str]:
    """What is told where one file of a numbered sequence was named (x_0001.png), as file browsers suggest: that the others are left out."""
    head, digits, tail = re.fullmatch(r"(.*?)(\d*)(\D*)", path.stem, re.DOTALL).groups()  # type: ignore[union-attr]
    if not digits:
        return []
    alike = re.compile(re.escape(head) + r"\d+" + re.escape(tail + path.suffix))
    try:
        others = sum(1 for name in os.listdir(path.parent) if alike.fullmatch(name)) - 1
    except OSError:
        return []
    return [f"{path.name} alone is read. To have the {others} {what} numbered like it that lie beside it, choose the folder."] if others > 0 else []
