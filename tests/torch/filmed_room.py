# SPDX-License-Identifier: GPL-3.0-or-later
"""A room to film in, and the ways in which a camera goes through it, or stays."""

import numpy as np

from bridge.keypoints.tracks import Keypoints
from bridge.train.render import background
from bridge.train.room import Room, looking

SIZE, FOCAL, FRAMES = (640, 360), 560.0, 45
K = np.array([[FOCAL, 0, (SIZE[0] - 1) / 2], [0, FOCAL, (SIZE[1] - 1) / 2], [0, 0, 1]])
T = np.arange(FRAMES) / 30
WALK = np.stack((1.2 * T, 0 * T, 0 * T), -1)
BESIDE = np.stack([looking(p + (0, -4, 1.5) + 0.02 * np.sin(9 * t) * np.array([0, 1, 1]), p + (0.2, 0, 0.9)) for p, t in zip(WALK, T, strict=True)])
TURNING = np.stack([looking(np.array([0, -4, 1.5]), np.array([0.4 * np.sin(2 * t), 0, 0.9])) for t in T])


def furnished():
    rng = np.random.default_rng(0)
    pictures = [np.clip(background(640, 480, rng) + rng.normal(0, 12, (480, 640, 1)), 0, 255).astype(np.uint8) for _ in range(4)]
    return Room(rng, pictures)


def keypoints(path, points, **more):
    """Points (F, 17, 3) of the world as seen along path."""
    seen = np.einsum("fba,fkb->fka", path[:, :3, :3], points - path[:, None, :3, 3])
    pixels = seen[..., :2] / seen[..., 2:] * FOCAL + K[:2, 2]
    return Keypoints(pixels[None], np.full((1, *pixels.shape[:2]), 0.9), "coco17", SIZE, **{"fps": 30.0} | more)
