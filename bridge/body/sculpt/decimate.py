# SPDX-License-Identifier: GPL-3.0-or-later
"""Symmetric edge collapse that keeps a subset of the original vertices (Garland and Heckbert 1997, half edges).

Because survivors do not move, shape directions and weights of the small mesh are rows of the large one's.
"""

import heapq
from collections import defaultdict

import numpy as np

LENGTH_WEIGHT = 2e-3
BEND_WEIGHT = 4.0
MIN_TURN = 0.3
MIN_QUALITY = 0.03


def split_quads(
    vertices: np.ndarray, quads: np.ndarray, quad_uvs: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (F, 3) and their UV ids (F, 3); the diagonal is the shorter one, the same on both sides.

    vertices: (V, 3) symmetric; mirror: (V). Raises ValueError for a quad that is its own mirror image.
    """
    key = {tuple(sorted(q)): i for i, q in enumerate(quads.tolist())}
    long_first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    long_second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    faces, uvs = [], []
    decided: dict[int, frozenset[int]] = {}
    for i, quad in enumerate(quads.tolist()):
        twin = key[tuple(sorted(int(mirror[v]) for v in quad))]
        if twin == i:
            raise ValueError("a quad of the base mesh is its own mirror image")
        if i in decided:
            cut = decided[i]
        else:
            cut = frozenset((quad[0], quad[2]) if long_first[i] <= long_second[i] else (quad[1], quad[3]))
            decided[twin] = frozenset(int(mirror[v]) for v in cut)
        order = (0, 1, 2, 3) if quad[0] in cut else (1, 2, 3, 0)
        a, b, c, d = order
        for corners in ((a, b, c), (a, c, d)):
            faces.append([quad[k] for k in corners])
            uvs.append([quad_uvs[i, k] for k in corners])
    return np.array(faces), np.array(uvs)


class Decimator:
    """A triangle mesh under symmetric collapse.

    vertices: (V, 3) symmetric; faces: (F, 3); uvs: (F, 3) UV ids of the corners; mirror: (V) images;
    weights: (V, J) skinning weights: edges across which they change are kept longer.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        uvs: np.ndarray,
        mirror: np.ndarray,
        weights: np.ndarray,
    ):
        self._p = [tuple(p) for p in vertices.tolist()]
        self._mirror = mirror.tolist()
        self._weights = weights
        self.faces: list[list[int]] = faces.tolist()  # empty once collapsed
        self.uvs: list[list[int]] = uvs.tolist()
        self._around: list[set[int]] = [set() for _ in self._p]
        for i, face in enumerate(faces.tolist()):
            for v in face:
                self._around[v].add(i)
        a, b, c = (vertices[faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        area = 0.5 * np.linalg.norm(normal, axis=1)
        unit = normal / np.maximum(2 * area, 1e-20)[:, None]
        plane = np.concatenate([unit, -(unit * a).sum(1, keepdims=True)], 1)
        quadric = plane[:, :, None] * plane[:, None, :] * area[:, None, None]
        self._quadric = np.zeros((len(vertices), 4, 4))
        self._area = np.zeros(len(vertices))
        for i in range(3):
            np.add.at(self._quadric, faces[:, i], quadric / 3)
            np.add.at(self._area, faces[:, i], area / 3)
        self.count = len(vertices)

    def _neighbours(self, v: int) -> set[int]:
        found = {w for f in self._around[v] for w in self.faces[f]}
        found.discard(v)
        return found

    def _cost(self, u: int, v: int) -> float:
        target = np.array([*self._p[v], 1.0])
        error = target @ (self._quadric[u] + self._quadric[v]) @ target
        length2 = sum((x - y) ** 2 for x, y in zip(self._p[u], self._p[v], strict=True))
        bend = np.abs(self._weights[u] - self._weights[v]).sum()
        return float(error + LENGTH_WEIGHT * (1 + BEND_WEIGHT * bend) * length2 * self._area[u])

    def _corner_map(self, u: int, v: int) -> dict[int, int] | None:
        """UV id at u -> UV id at v across the edge's two faces, None where a seam forbids the collapse."""
        mapping: dict[int, int] = {}
        for f in self._around[u] & self._around[v]:
            face, uv = self.faces[f], self.uvs[f]
            at_u, at_v = uv[face.index(u)], uv[face.index(v)]
            if mapping.setdefault(at_u, at_v) != at_v:
                return None
        for f in self._around[u] - self._around[v]:
            if self.uvs[f][self.faces[f].index(u)] not in mapping:
                return None
        return mapping

    def _allowed(self, u: int, v: int) -> bool:
        shared = self._around[u] & self._around[v]
        if len(shared) != 2 or len(self._neighbours(u) & self._neighbours(v)) != 2:
            return False
        if len(self._around[u]) < 4 and len(self._neighbours(v)) < 4:
            return False
        for f in self._around[u] - shared:
            face = self.faces[f]
            before = [np.array(self._p[w]) for w in face]
            after = [np.array(self._p[v if w == u else w]) for w in face]
            n0 = _cross(before[1] - before[0], before[2] - before[0])
            n1 = _cross(after[1] - after[0], after[2] - after[0])
            size = float(np.sqrt(n1 @ n1))
            if n0 @ n1 < MIN_TURN * float(np.sqrt(n0 @ n0)) * size or size == 0:
                return False
            longest = max(
                float(d @ d) for d in (after[1] - after[0], after[2] - after[1], after[0] - after[2])
            )
            if size < MIN_QUALITY * longest:
                return False
        return self._corner_map(u, v) is not None

    def _both_allowed(self, u: int, v: int) -> bool:
        twin, other = self._mirror[u], self._mirror[v]
        if twin == u:
            return other == v and self._allowed(u, v)
        if twin in self._neighbours(u) or not self._allowed(u, v):
            return False
        if other == v and not (self._neighbours(u) & self._neighbours(twin)) <= (self._neighbours(v) | {v}):
            return False
        return self._allowed(twin, other)

    def _collapse(self, u: int, v: int) -> None:
        mapping = self._corner_map(u, v) or {}
        for f in list(self._around[u]):
            face = self.faces[f]
            if v in face:
                for w in face:
                    self._around[w].discard(f)
                self.faces[f] = []
            else:
                k = face.index(u)
                face[k] = v
                self.uvs[f][k] = mapping[self.uvs[f][k]]
                self._around[v].add(f)
        self._around[u] = set()
        self._quadric[v] += self._quadric[u]
        self._area[v] += self._area[u]
        self.count -= 1

    def run(self, target: int, protected: set[int]) -> np.ndarray:
        """Collapse until at most `target` vertices are left; returns the survivors' ids, rising."""
        side = [self._p[v][0] > 0 or self._mirror[v] == v for v in range(len(self._p))]
        stamp: dict[int, int] = defaultdict(int)
        heap: list[tuple[float, int, int, int, int]] = []

        def push(u: int) -> None:
            if u in protected or self._mirror[u] in protected or not side[u] or not self._around[u]:
                return
            stamp[u] += 1
            for v in sorted(self._neighbours(u)):
                if self._mirror[u] != u or self._mirror[v] == v:
                    heapq.heappush(heap, (self._cost(u, v), u, v, stamp[u], 0))

        for u in range(len(self._p)):
            push(u)
        while self.count > target and heap:
            _, u, v, version, _ = heapq.heappop(heap)
            if (
                version != stamp[u]
                or not self._around[u]
                or not self._around[v]
                or not self._both_allowed(u, v)
            ):
                continue
            touched = self._neighbours(u)
            twin = self._mirror[u]
            self._collapse(u, v)
            if twin != u:
                self._collapse(twin, self._mirror[v])
            for w in sorted(touched | self._neighbours(v)):
                push(w)
        return np.array([v for v in range(len(self._p)) if self._around[v]])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array(
        [
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        ]
    )
