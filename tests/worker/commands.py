# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the commands feed them, and what a refusal looks like."""

import cv2
import numpy as np


def keypoints(path, **change):
    arrays = {
        "keypoints": np.random.default_rng(0).uniform(0, 400, (5, 17, 2)).astype(np.float32),
        "confidence": np.full((5, 17), 0.9, np.float32),
        "layout": "coco17",
        "image_size": np.array([640, 480]),
        "fps": 30.0,
        **change,
    }
    np.savez(path, **{key: entry for key, entry in arrays.items() if entry is not None})
    return path


def blank_video(path, frames=30):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (320, 240))
    for _ in range(frames):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()
    return path


def bad(result, *words):
    code, out, err = result
    assert code == 2 and out == "", err
    lines = [line for line in err.splitlines() if line and not line.startswith(("read", "detect"))]
    assert len(lines) == 1, err
    for word in words:
        assert word in lines[0], err
