# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the default body in clothes: what a 2D detector is shown to record how it errs (`detected.py`).

A painter's rasteriser: faces from back to front, each in one colour. A detector does not ask for more.
"""

import math

import cv2
import numpy as np

from ..body import joints as J
from ..body.smpl import BodyModel

LEGS_ON, ARMS_ON = (0, 1, 2), (3, 6, 9, 13, 14, 16, 17)
FEET = (7, 8, 10, 11)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of a mesh."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    facing, out = np.cross(b - a, c - a), np.zeros_like(vertices)
    for k in range(3):
        np.add.at(out, faces[:, k], facing)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


class Wardrobe:
    """Dresses a body: colours of the faces and how far cloth stands off the skin, drawn anew for each clip."""

    def __init__(self, body: BodyModel):
        """body: with named landmarks, as the default body has them."""
        data = body.data
        self.body, self.faces = body, np.asarray(data["f"], np.int64)
        self.template = np.asarray(data["v_template"], float)
        self.normals = vertex_normals(self.template, self.faces)
        self.part = np.asarray(data["weights"]).argmax(1)
        named = dict(zip(data["landmark_names"], data["landmark_vertices"], strict=True))
        self.eyes = [self.template[int(named[name])] for name in ("left_eye", "right_eye")]
        self.nose = self.template[int(named["nose"])]

    def dress(self, rng: np.random.Generator) -> tuple[np.ndarray, BodyModel]:
        """Colours of the faces (F, 3) in 0 to 255, and the body in its clothes."""
        at, part = self.template, self.part
        skin = np.sort(rng.uniform((60, 90, 120), (180, 200, 235)))
        colour, off = np.tile(skin, (len(at), 1)), np.zeros(len(at))
        sleeves, long = (18, 19) if rng.random() < 0.5 else (), (4, 5) if rng.random() < 0.7 else ()
        shirt, trousers, shoes = (_cloth(rng) for _ in range(3))
        for joints, cloth, chance, thick in (
            (ARMS_ON + sleeves, shirt, 0.95, (0.003, 0.025)), (LEGS_ON + long, trousers, 1.0, (0.003, 0.025)),
            (FEET, shoes, 0.8, (0.0, 0.01)),
        ):  # fmt: skip
            if rng.random() < chance:
                here = np.isin(part, joints)
                colour[here], off[here] = cloth, rng.uniform(*thick)
        head = part == J.NAMES.index("head")
        low, high, middle = at[head, 1].min(), at[head, 1].max(), np.median(at[head, 2])
        hair = rng.uniform(10, 60) + rng.uniform(0, 40, 3) * (0.2, 0.5, 1.0)
        share = (at[:, 1] - low) / (high - low)
        grown = head & ((share > 0.8) | ((share > rng.uniform(0.2, 0.5)) & (at[:, 2] < middle)))
        colour[grown], off[grown] = hair, rng.uniform(0.003, 0.03)
        for eye in self.eyes:
            for centre, radius, paint in (
                (eye, 0.022, (225, 225, 225)), (eye, 0.010, (40, 30, 20)), (eye + (0, 0.022, 0), 0.010, hair),
            ):  # fmt: skip
                colour[np.linalg.norm(at - centre, axis=1) < radius] = paint
        from_nose = at - self.nose
        mouth = (abs(from_nose[:, 0]) < 0.025) & (abs(from_nose[:, 1] + 0.035) < 0.008) & (from_nose[:, 2] > -0.045)
        colour[mouth] = skin * (0.6, 0.55, 0.8)
        dressed = BodyModel({**self.body.data, "v_template": at + self.normals * off[:, None]})
        # Clothes do not move the joints.
        dressed.joint_template, dressed.joint_shapes = self.body.joint_template, self.body.joint_shapes
        return colour[self.faces].mean(1), dressed


def _cloth(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(15, 235, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(15, 235))


def background(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Patches and shapes of colour (H, W, 3) float32."""
    coarse = rng.uniform(20, 235, (*rng.integers(2, 12, 2), 3)).astype(np.float32)
    if rng.random() < 0.5:
        grey = coarse.mean(-1, keepdims=True)
        coarse = grey + 0.25 * (coarse - grey)
    how = (cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_CUBIC)[rng.integers(3)]
    image = np.clip(cv2.resize(coarse, (width, height), interpolation=how), 0, 255)
    for _ in range(rng.integers(0, 8)):
        corners = cv2.convexHull((rng.uniform(0, 1, (4, 2)) * (width, height)).astype(np.int32))
        cv2.fillConvexPoly(image, corners, rng.uniform(10, 245, 3).tolist())
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 4))


class Studio:
    """One clip's place: background, light and camera noise."""

    def __init__(self, width: int, height: int, rng: np.random.Generator):
        self.width, self.height, self.rng = width, height, rng
        self.image = background(width, height, rng)
        light = rng.normal(size=3) + (0, 1.0, 0.8)  # from above and behind the camera
        self.light, self.ambient = light / math.sqrt(light @ light), rng.uniform(0.3, 0.6)
        self.blur, self.grain = rng.uniform(0.3, 1.5), rng.uniform(0, 8)

    def picture(self, vertices: np.ndarray, pixels: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8. vertices (V, 3) in the camera's frame (OpenCV's) and their pixels (V, 2); colours (F, 3)."""
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        normal, centre = np.cross(b - a, c - a), (a + b + c) / 3
        shown = np.flatnonzero((normal * centre).sum(1) < 0)
        shown = shown[np.argsort(-centre[shown, 2])]
        normal = normal[shown] / np.maximum(np.linalg.norm(normal[shown], axis=1, keepdims=True), 1e-12)
        shade = self.ambient + (1 - self.ambient) * np.clip(-normal @ self.light, 0, 1)
        image = self.image.copy()
        corners = np.round(pixels[faces[shown]] * 16).astype(np.int32)
        for corner, paint in zip(corners, (colours[shown] * shade[:, None]).tolist(), strict=True):
            cv2.fillConvexPoly(image, corner, paint, cv2.LINE_8, 4)
        grain = self.rng.normal(size=image.shape).astype(np.float32) * self.grain
        return np.clip(cv2.GaussianBlur(image, (0, 0), self.blur) + grain, 0, 255).astype(np.uint8)
