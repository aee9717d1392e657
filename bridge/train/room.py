# SPDX-License-Identifier: GPL-3.0-or-later
"""A room of textured planes, as a camera that is carried through it sees it: what COLMAP is shown to measure how it follows."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

LEVELS = 6  # of a texture's sizes, each half of the one before: far planes are smooth, or their grain would stay where the picture is
WIDE, HIGH, THINGS = 25.0, 9.0, 14  # m: half of the floor's side, the walls' height; boards that stand about


@dataclass
class Plane:
    """A rectangle from origin (3) m along unit vectors right and up (3), size (2) m, its texture scale px a metre."""

    origin: ArrayLike
    right: ArrayLike
    up: ArrayLike
    size: tuple[float, float]
    texture: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        self.origin, self.right, self.up = (np.asarray(v, float) for v in (self.origin, self.right, self.up))
        self.textures = [self.texture]
        for _ in range(LEVELS - 1):
            self.textures.append(cv2.pyrDown(self.textures[-1]))

    def draw(self, image: np.ndarray, depth: np.ndarray, rays: np.ndarray, place: np.ndarray) -> None:
        """Paint it into image (H, W, 3) where it is nearer than depth (H, W) along rays (H, W, 3) from place (3)."""
        normal = np.cross(self.right, self.up)
        with np.errstate(all="ignore"):
            away = ((self.origin - place) @ normal) / (rays @ normal)
            a, b = (away * (rays @ along) + (place - self.origin) @ along for along in (self.right, self.up))
        shown = (away > 0.2) & (away < depth) & (a >= 0) & (b >= 0) & (a < self.size[0]) & (b < self.size[1])
        if not shown.any():
            return
        box = tuple(slice(max(at.min() - 1, 0), at.max() + 2) for at in np.nonzero(shown))
        away, a, b, shown = (part[box] for part in (away, a, b, shown))
        with np.errstate(all="ignore"):
            steps = [np.hypot(np.gradient(a, axis=k), np.gradient(b, axis=k)) if a.shape[k] > 1 else np.zeros(a.shape) for k in (0, 1)]  # m a pixel
            level = np.clip(np.nan_to_num(np.log2(np.maximum(np.maximum(*steps) * self.scale, 1))), 0, LEVELS - 1)
        a, b = (np.where(shown, c, 0).astype(np.float32) for c in (a, b))
        colour = np.zeros((*shown.shape, 3), np.float32)
        for k, texture in enumerate(self.textures):
            share = np.where(shown, np.clip(1 - np.abs(level - k), 0, 1), 0).astype(np.float32)
            if share.any():
                at = self.scale * texture.shape[1] / self.texture.shape[1]
                colour += share[..., None] * cv2.remap(texture, a * at, b * at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        image[box][shown], depth[box][shown] = colour[shown], away[shown]


class Room:
    """A floor at z = 0, four walls, and boards on both sides of a path along x, pasted over with cuttings of pictures."""

    def __init__(self, rng: np.random.Generator, pictures: list[np.ndarray]):
        def pasted(width: int, height: int) -> np.ndarray:
            return _collage(rng, pictures, width, height)

        up = (0, 0, 1)
        self.planes = [Plane((-WIDE, -WIDE, 0), (1, 0, 0), (0, 1, 0), (2 * WIDE, 2 * WIDE), pasted(5000, 5000), 100)]
        for origin, along in (((-WIDE, 8, 0), (1, 0, 0)), ((-WIDE, -12, 0), (1, 0, 0)), ((-20, -WIDE, 0), (0, 1, 0)), ((20, -WIDE, 0), (0, 1, 0))):
            self.planes.append(Plane(origin, along, up, (2 * WIDE, HIGH), pasted(4000, 720), 80))
        for k in range(THINGS):
            x, y = rng.uniform(-15, 15), rng.uniform(2.5, 7) if k % 2 else rng.uniform(-11, -6)
            turned = rng.uniform(-0.6, 0.6)
            size = rng.uniform(0.5, 2.5), rng.uniform(0.5, 3)
            self.planes.append(Plane((x, y, 0), (np.cos(turned), np.sin(turned), 0), up, size, pasted(600, 600), 200))

    def picture(self, K: np.ndarray, world: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) float32 through lens K (3, 3) px from T_world_cam (4, 4). size: (w, h) px."""
        x, y = np.meshgrid(*(np.arange(side) for side in size))
        rays = np.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(x.shape)), -1) @ world[:3, :3].T
        image, depth = np.full((*x.shape, 3), 200, np.float32), np.full(x.shape, np.inf)
        for plane in self.planes:
            plane.draw(image, depth, rays, world[:3, 3])
        return image


def _collage(rng: np.random.Generator, pictures: list[np.ndarray], width: int, height: int) -> np.ndarray:
    """Nothing in it is there twice, as it would be in a pattern, which COLMAP takes for one place."""
    image = np.full((height, width, 3), 150, np.uint8)
    for _ in range(width * height // 40000):
        source = pictures[rng.integers(len(pictures))]
        w, h = (min(int(side), limit) for side, limit in zip(rng.integers(80, 420, 2), (source.shape[1], source.shape[0]), strict=True))
        x, y = rng.integers(0, source.shape[1] - w + 1), rng.integers(0, source.shape[0] - h + 1)
        cut = np.rot90(source[y : y + h, x : x + w], rng.integers(4)) * rng.uniform(0.5, 1) + rng.uniform(0, 60)
        x, y = rng.integers(0, width - cut.shape[1] + 1), rng.integers(0, height - cut.shape[0] + 1)
        image[y : y + cut.shape[0], x : x + cut.shape[1]] = np.clip(cut, 0, 255)
    return cv2.GaussianBlur(image, (0, 0), 1)


def looking(place: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """T_world_cam (4, 4) of a camera at place (3) that looks at target (3), rolled by so many rad."""
    ahead = (target - place) / np.linalg.norm(target - place)
    right = np.cross(ahead, (0.0, 0, 1))
    right /= np.linalg.norm(right)
    world = np.eye(4)
    world[:3, :3] = np.stack((right, np.cross(ahead, right), ahead), 1) @ [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    world[:3, 3] = place
    return world
