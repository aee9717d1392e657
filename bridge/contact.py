# SPDX-License-Identifier: GPL-3.0-or-later
"""Ground, gravity and contacts: the world frame of a take, and the anchoring of the root on feet at rest (numpy only).

World: Z up, metres, ground at z = 0, origin under the person's pelvis in the first solved frame, that frame's camera
looking along +Y.
"""

import numpy as np
from scipy.linalg import solveh_banded

CONTACT_HEIGHT = 0.03  # m: lower counts as touching, where no network says so
CONTACT_SPEED = 0.3  # m/s
ENOUGH = 5  # frames with a foot at rest, to tell the ground from
SAME_LEVEL = 0.03  # m: feet at rest this near each other stand on one level
A_STEP = 0.1  # m: this far apart is two levels
SLOPED = np.radians(10)  # what is up is seldom told worse: ground that slopes by more against it is stairs, or two levels


# The body's parts: share of its mass, the two joints between which its centre lies, and how far along (de Leva 1996, the mean of
# women and men; the trunk from the pelvis to the neck).
PARTS = (
    (0.0681, 15, 15, 0.0), (0.4302, 0, 12, 0.551), (0.0263, 16, 18, 0.577), (0.0263, 17, 19, 0.577), (0.0150, 18, 20, 0.457),
    (0.0150, 19, 21, 0.457), (0.0058, 20, 22, 1.0), (0.0058, 21, 23, 1.0), (0.1447, 1, 4, 0.385), (0.1447, 2, 5, 0.385),
    (0.0457, 4, 7, 0.44), (0.0457, 5, 8, 0.44), (0.0133, 7, 10, 0.5), (0.0133, 8, 11, 0.5),
)  # fmt: skip
# Of who stands on a leg: it is nearly straight (who sits has feet on the ground that do not carry), and what they lean on is not
# far off from what the picture tells (who lies has straight legs as well).
STRAIGHT, UPRIGHT = 0.85, np.cos(np.radians(35))
STANDING = 20  # frames that tell as much as the picture does
# A camera on its side, or upside down: what they lean on is farther off, and their feet rest at places so far apart (m) across the way they
# lean, and less by so much along it. Who lies stays where they are, or moves on along their legs.
ASIDE, WALKED, LEVEL = np.cos(np.radians(50)), 1.0, 0.4


def balanced_up(
    up: np.ndarray, joints: np.ndarray, soles: np.ndarray, contacts: np.ndarray, path: np.ndarray | None = None
) -> tuple[np.ndarray, float]:  # fmt: skip
    """The world's up (3) from its estimate and from balance: on the whole the centre of mass is above the feet that carry it.

    up: (3) as the picture tells it, joints (F, 24, 3) and soles (F, 4, 3) m about one origin, same axes; contacts (F, 4) in
    [0, 1]; path: (F, 3) m of that origin before a camera that stands still, which tells who walks however it is held. Returns the direction
    and the angle (rad) between the two, NaN where nobody stands.
    """
    up = up / np.linalg.norm(up)
    mass = sum(part[0] for part in PARTS)
    centre = sum(m / mass * (joints[:, a] * (1 - t) + joints[:, b] * t) for m, a, b, t in PARTS)
    hips, knees, ankles = (joints[:, list(j)] for j in ((1, 1, 2, 2), (4, 4, 5, 5), (7, 7, 8, 8)))
    leg = np.linalg.norm(knees - hips, axis=-1) + np.linalg.norm(ankles - knees, axis=-1)
    carries = np.where((contacts > 0.5) & (np.linalg.norm(ankles - hips, axis=-1) > STRAIGHT * leg), contacts, 0)
    stands = carries.any(-1)
    if stands.sum() < ENOUGH:
        return up, float("nan")
    support = (soles * carries[..., None]).sum(1)[stands] / carries.sum(-1)[stands, None]
    lean = centre[stands] - support
    lean /= np.linalg.norm(lean, axis=-1, keepdims=True)
    usual = np.median(lean, 0) / np.linalg.norm(np.median(lean, 0))
    apart = float(np.arccos(np.clip(usual @ up, -1, 1)))
    if path is not None and usual @ up < ASIDE:
        places = support + path[stands]
        along = places @ usual
        ways = [np.ptp(np.percentile(way, (5, 95), axis=0), axis=0) for way in (places - along[:, None] * usual, along)]
        if np.linalg.norm(ways[0]) > max(WALKED, ways[1] / LEVEL):
            up = usual
    lean = lean[lean @ up > UPRIGHT]
    share = len(lean) / (len(lean) + STANDING)
    mixed = (1 - share) * up + (share * lean.mean(0) if len(lean) else 0)
    return mixed / np.linalg.norm(mixed), apart


def world_from_up(up: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) camera to world that sends `up` (3) to +Z and the camera's axis into the +Y half-plane."""
    z = up / np.linalg.norm(up)
    forward = np.array([0.0, 0.0, 1.0]) - z[2] * z
    if np.linalg.norm(forward) < 1e-3:  # the camera looks straight up or down: its own "up" points ahead
        forward = np.array([0.0, -1.0, 0.0]) - -z[1] * z
    y = forward / np.linalg.norm(forward)
    return np.stack((np.cross(y, z), y, z))


def average_direction(directions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weighted mean direction of (F, 3) and its agreement in [0, 1]; the frames that disagree most count less."""
    unit = directions / np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    w = weights / max(weights.sum(), 1e-9)
    mean = (unit * w[:, None]).sum(0)
    for _ in range(5):
        angle = np.arccos(np.clip(unit @ (mean / max(np.linalg.norm(mean), 1e-9)), -1, 1))
        robust = w / (1 + (angle / 0.15) ** 2)
        mean = (unit * robust[:, None]).sum(0) / max(robust.sum(), 1e-9)
    return mean / max(np.linalg.norm(mean), 1e-9), float(np.clip(np.linalg.norm(mean), 0, 1))


def lowest_skin(skin: np.ndarray, pelvis: np.ndarray, up: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of the body is lowest along `up` (3), (F, 3) m, and its speed (F) in m/s; of a single frame 0.

    skin: (F, K, 3) m about the pelvis (F, 3), same axes.
    """
    frames = len(skin)
    at = (skin @ up.astype(skin.dtype)).argmin(1)
    around = (np.arange(frames)[:, None] + (-1, 0, 1)).clip(0, frames - 1)
    track = pelvis[around] + skin[around, at[:, None]]
    moved = np.linalg.norm(track[:, 2] - track[:, 0], axis=-1)
    return track[:, 1], moved / np.maximum(times[around[:, 2]] - times[around[:, 0]], 1e-4)


def ground_height(
    soles: np.ndarray, seen: np.ndarray, contacts: np.ndarray | None = None, laid: np.ndarray | None = None
) -> float:  # fmt: skip
    """Height (m) of the ground under sole points (F, 4, 3), z up: the 5th percentile of the lowest one over the frames
    seen (F).

    contacts: (F, 4) in [0, 1] as a network reads them; where at least ENOUGH frames have one, the ground is the level at which most
    feet rest, or a step below it one at which at least half as many do: some bad frames do not lift a person off the ground, and
    of stairs it is the lowest. laid: (F) m what else of the body is at rest, inf where nothing is; below the soles it is what
    somebody sits, kneels or lies on.
    """
    heights = soles[..., 2]
    if laid is not None:
        laid = np.where(laid < heights.min(-1), laid, np.inf)[:, None]
        heights = np.concatenate((heights, laid), 1)
        contacts = None if contacts is None else np.concatenate((contacts, np.isfinite(laid)), 1)
    lowest = heights[seen].min(-1) if seen.any() else heights.min(-1)
    if contacts is not None:
        touching = contacts[seen] > 0.5
        resting = np.sort(np.where(touching, heights[seen], np.inf).min(-1)[touching.any(-1)])
        if len(resting) >= ENOUGH:
            above, below = (np.searchsorted(resting, resting + d, s) for d, s in ((SAME_LEVEL, "right"), (-SAME_LEVEL, "left")))
            near = above - below
            level = resting[near.argmax()]
            lower = (2 * near >= near.max()) & (resting < level - A_STEP)
            if lower.any():
                level = resting[lower][0]
            for _ in range(10):  # from the foot of a heap to its middle
                level = np.median(resting[np.abs(resting - level) <= SAME_LEVEL])
            return float(level)
    return float(np.percentile(lowest, 5))


def level_ground(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that makes the ground under a walk level.

    points: (F, 3) m lowest sole point of each frame in a nearly level world, z up; weights: (F) 0 where the foot moves.
    A plane is fitted with a prior of level ground: slopes of about 4 degrees are believed of the estimated gravity,
    heights to 3 cm, and a tenth of the frames count as independent. Of who jumps few frames' feet move slowly on one plane, so the prior
    wins; what slopes by more than SLOPED is left as it is: a flight of stairs is a plane as well.
    """
    slope_prior, height_noise = 0.07, 0.03
    w = weights.astype(float) * 0.1 / height_noise**2
    slope = np.zeros(2)
    if w.sum() <= 0:
        return np.eye(3)
    for _ in range(8):
        mean = (points * w[:, None]).sum(0) / w.sum()
        d = points - mean
        a = (d[:, :2] * w[:, None]).T @ d[:, :2] + np.eye(2) / slope_prior**2
        slope = np.linalg.solve(a, (d[:, :2] * w[:, None]).T @ d[:, 2])
        off = d[:, 2] - d[:, :2] @ slope
        w = weights * 0.1 / height_noise**2 / (1 + (off / (2 * height_noise)) ** 2)
    normal = np.array([-slope[0], -slope[1], 1.0])
    normal /= np.linalg.norm(normal)
    axis = np.cross(normal, [0.0, 0.0, 1.0])
    sine, cosine = np.linalg.norm(axis), normal[2]
    if sine < 1e-9 or sine > np.sin(SLOPED):
        return np.eye(3)
    k = axis / sine
    skew = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    return np.eye(3) + sine * skew + (1 - cosine) * skew @ skew


def stand_on_ground(
    pelvis: np.ndarray, lower: np.ndarray, up: np.ndarray, ground: float | np.ndarray | None, times: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """The path's depth corrected so that what of the body is lowest, mostly a foot, is on the ground, where the camera's angle lets it tell.

    pelvis: (F, 3) m, camera frame; lower: (F, K, 3) m about it, soles and skin; up: (3), or (F, 3) of a moving camera; ground: height along
    `up` from the camera, one or (F), or None to find it; seen: (F) bool. A body moved along its ray by a share d of its distance
    keeps its image and changes its height by d (up . pelvis): that is d's leverage. Least squares over d in time: depth is believed to 3 %, a
    standing foot to 3 cm (robust: a foot in the air drops out), d changes by 0.3 % a frame at 30 fps; a tenth of the
    frames count as independent.
    """
    frames = len(pelvis)
    if frames < 3 or not seen.any():
        return pelvis
    up = np.broadcast_to(up, pelvis.shape)
    lever = (pelvis * up).sum(-1)
    lowest = np.einsum("fka,fa->fk", lower, up).min(-1)
    d = np.zeros(frames)
    independent, height_noise, depth_noise = 0.1, 0.03, 0.03
    steps = 1 / (0.003 * np.maximum(np.diff(times), 1e-4) * 30) ** 2  # times that hardly rise would leave nothing else any say
    for _ in range(10):
        height = lowest + lever * (1 + d)
        level = np.median(height[seen]) if ground is None else ground
        off = height - level
        w = seen * independent / height_noise**2 / (1 + (off / (2 * height_noise)) ** 2)
        diagonal = w * lever**2 + independent / depth_noise**2
        diagonal[1:] += steps
        diagonal[:-1] += steps
        band = np.zeros((2, frames))
        band[1] = diagonal
        band[0, 1:] = -steps
        d = solveh_banded(band, w * lever * (level - lowest - lever)).clip(-0.15, 0.15)
    return pelvis * (1 + d)[:, None]


def contacts_by_height(soles: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Contacts (F, 4) in {0, 1} of sole points (F, 4, 3) in a world with its ground at z = 0 (paper mode)."""
    if len(soles) < 2:
        return (soles[..., 2] < CONTACT_HEIGHT).astype(np.float32)
    speed = np.linalg.norm(np.gradient(soles, times, axis=0), axis=-1)
    return ((soles[..., 2] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)).astype(np.float32)


def anchor_root(
    root: np.ndarray, feet: np.ndarray, contact: np.ndarray, doubt: np.ndarray, slip: float = 0.004,
    depth: np.ndarray | tuple = (0.0, 0.0, 1.0), together: float = 10.0,
) -> np.ndarray:  # fmt: skip
    """The root's path moved so that feet at rest stay where they are.

    root: (F, 3) m as seen, a static camera's or the world's axes; feet: (F, 4, 3) m about the root, same axes; contact:
    (F, 4) in [0, 1]; doubt: (F, 3) expected error (m) of each coordinate of the path as seen; slip: m a frame that a foot at
    rest may move by; depth: (3) or (F, 3) the camera's axis; together: frames over which errors
    of the path as seen are alike. Least squares, one tridiagonal system an axis: (path - seen) / doubt against foot motion / slip. A foot that is seen to move across the image is not at rest, whatever its contact says:
    what is uncertain is depth.
    """
    frames = len(root)
    if frames < 3:
        return root
    path = _box_mean(root[:, None] + feet, 5)
    steps = path[1:] - path[:-1]
    ahead = np.broadcast_to(depth, root.shape)[1:, None]
    across = np.linalg.norm(steps - (steps * ahead).sum(-1, keepdims=True) * ahead, axis=-1)
    seen_at_rest = 1 / (1 + (across / (2 * slip)) ** 4)
    both = np.minimum(contact[1:], contact[:-1])
    both = both * smooth_ramp((both - 0.3) / 0.4) * seen_at_rest  # a step would be seen as a corner of the path
    stiff = both.sum(-1) / slip**2
    # A foot at rest asks the root to move by minus the foot's own motion about it.
    pull = (both[..., None] * -(feet[1:] - feet[:-1])).sum(1) / slip**2
    out = np.empty_like(root)
    for axis in range(3):
        trust = 1 / max(together, 1.0) / np.maximum(doubt[:, axis], 1e-3) ** 2
        # Between contacts the path follows the seen path's own steps.
        free = 1 / 0.02**2
        steps = stiff + free
        aim = pull[:, axis] + free * (root[1:, axis] - root[:-1, axis])
        diagonal = trust.copy()
        diagonal[1:] += steps
        diagonal[:-1] += steps
        right = trust * root[:, axis]
        right[1:] += aim
        right[:-1] -= aim
        band = np.zeros((2, frames))
        band[1] = diagonal
        band[0, 1:] = -steps
        out[:, axis] = solveh_banded(band, right)
    return out


def smooth_ramp(x: np.ndarray) -> np.ndarray:
    """From 0 at 0 to 1 at 1 without corners."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _box_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Running mean over `width` frames (odd), shorter at the ends. values: (F, ...)."""
    half = width // 2
    total = np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, 0)))
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[high] - total[low]) / (high - low).reshape(-1, *([1] * (values.ndim - 1)))
