# SPDX-License-Identifier: GPL-3.0-or-later
"""Mean body, principal directions of shape, and a joint regressor that reads joints off the skin."""

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import spsolve

from bridge.body.joints import MIRROR, NAMES, PARENTS

REACH = 0.20
SUM_WEIGHT = 3.0
RIDGE = 0.05


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the triangles round each vertex (V) m^2."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.zeros(len(vertices))
    for i in range(3):
        np.add.at(total, faces[:, i], area / 3)
    return total


def volumes(bodies: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Enclosed volume (N) m^3 of closed meshes (N, V, 3)."""
    found = []
    for body in bodies:
        a, b, c = (body[faces[:, i]].astype(np.float64) for i in range(3))
        found.append((np.cross(a, b) * c).sum() / 6)
    return np.array(found)


def smooth_patch(faces: np.ndarray, count: int, patch: np.ndarray) -> csr_matrix:
    """A linear map (V, V) that replaces the `patch` vertices by the harmonic surface through its rim."""
    i = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    links = csr_matrix((np.ones(len(i)), (i[:, 0], i[:, 1])), (count, count))
    links = ((links + links.T) > 0).astype(np.float64).tocsr()
    laplacian = (diags(np.asarray(links.sum(1)).ravel()) - links).tocsr()
    rest = np.setdiff1d(np.arange(count), patch)
    rim = rest[np.asarray(links[patch][:, rest].sum(0)).ravel() > 0]
    solved = spsolve(laplacian[patch][:, patch].tocsc(), -laplacian[patch][:, rim].toarray())
    keep = csr_matrix((np.ones(len(rest)), (rest, rest)), (count, count))
    rows, columns = np.repeat(patch, len(rim)), np.tile(rim, len(patch))
    return keep + csr_matrix((np.asarray(solved).ravel(), (rows, columns)), (count, count))


def principal_shapes(
    bodies: np.ndarray, joints: np.ndarray, areas: np.ndarray, keep: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Principal components of area-weighted vertices and joints together.

    bodies: (N, V, 3) float32, centred in place; joints: (N, 24, 3). Returns the mean (V, 3), directions (V, 3, keep)
    per unit of standard deviation, unit-variance scores (N, keep) and the cumulative share of surface variance (keep).
    """
    count = len(bodies)
    mean = bodies.mean(0, dtype=np.float64)
    for start in range(0, count, 100):
        bodies[start : start + 100] -= mean.astype(np.float32)
    root = np.sqrt(areas / areas.sum()).astype(np.float32)
    gram = np.zeros((count, count))
    for start in range(0, bodies.shape[1], 1000):
        part = (bodies[:, start : start + 1000] * root[start : start + 1000, None]).reshape(count, -1)
        gram += part.astype(np.float64) @ part.astype(np.float64).T
    surface = gram.copy()
    offsets = (joints - joints.mean(0)).reshape(count, -1) / np.sqrt(24)
    gram += offsets @ offsets.T
    _, vectors = np.linalg.eigh(gram)
    scores = vectors[:, ::-1][:, :keep] * np.sqrt(count - 1)
    flat = bodies.reshape(count, -1)
    directions = np.stack([flat.T @ scores[:, k].astype(np.float32) for k in range(keep)], 1).astype(
        np.float64
    )
    directions /= count - 1
    explained = np.array([(s @ surface @ s) / (count - 1) for s in scores.T])
    return (
        mean,
        directions.reshape(-1, 3, keep),
        scores,
        np.cumsum(explained) / np.trace(surface),
    )


def orient_shapes(
    directions: np.ndarray, scores: np.ndarray, template: np.ndarray, heavy: np.ndarray
) -> np.ndarray:
    """Signs (keep): a positive first score is taller, every other one goes with the sampled weight `heavy` (N)."""
    top, low = template[:, 1].argmax(), template[:, 1].argmin()
    signs = np.where((scores * (heavy - heavy.mean())[:, None]).sum(0) < 0, -1.0, 1.0)
    signs[0] = 1.0 if directions[top, 1, 0] > directions[low, 1, 0] else -1.0
    return signs


def joint_regressor(
    template: np.ndarray,
    directions: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    mirror: np.ndarray,
) -> np.ndarray:
    """Non-negative regressor (24, V), rows summing to one, that reads the joints off the skin.

    directions: (V, 3, K) shapes per standard deviation; targets: (24, 3, K + 1) the joints' mean and directions.
    Vertices near a joint that move with it, its parent or its children are candidates; mirrored joints share rows.
    """
    regressor = np.zeros((24, len(template)))
    bound = weights > 0.02
    for joint, name in enumerate(NAMES):
        if name.startswith("right_"):
            continue
        family = [
            joint,
            *([PARENTS[joint]] if joint else []),
            *(j for j in range(24) if PARENTS[j] == joint),
        ]
        near = np.linalg.norm(template - targets[joint, :, 0], axis=1) < REACH
        ids = np.flatnonzero(near & bound[:, family].any(1))
        system = np.concatenate([template[ids, :, None] - targets[joint, None, :, :1], directions[ids]], 2)
        wanted = np.concatenate([np.zeros((3, 1)), targets[joint, :, 1:]], 1)
        n = len(ids)
        a = np.concatenate([
            system.reshape(n, -1).T * 1e3,
            np.full((1, n), 1e3 * SUM_WEIGHT),
            np.eye(n) * (1e3 * RIDGE * 0.05),
        ])  # fmt: skip
        b = np.concatenate([wanted.reshape(-1) * 1e3, [1e3 * SUM_WEIGHT], np.zeros(n)])
        row = np.zeros(len(template))
        row[ids] = nnls(a, b, maxiter=30 * n)[0]
        if MIRROR[joint] == joint:
            row = 0.5 * (row + row[mirror])
        row[row < 1e-4 * row.max()] = 0
        row /= row.sum()
        regressor[joint] = row
        regressor[MIRROR[joint]] = row[mirror] if MIRROR[joint] != joint else row
    return regressor
