# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted feet: where a foot rests it holds still on the ground, and no foot is below it (numpy and scipy).

A clean-up of a finished motion, asked for by name and off otherwise; what a fit is judged by is taken without it. What the soles
must move by is a smooth path of its own (least squares); what both feet ask for alike the root takes, slowly, the rest the legs, each by
the one bend of the knee that brings the ankle there, about the axis it bends about already.

World: Z up, metres, ground at z = 0.
"""

import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, uniform_filter1d
from scipy.spatial.transform import Rotation

from .contact import smooth_ramp

LEGS = ((1, 4, 7, 10), (2, 5, 8, 11))  # hip, knee, ankle, toes
OTHER = [1, 0, 3, 2]  # of four sole points, the same foot's
PAUSE = 1 / 3  # s: in a longer gap between two frames a foot may have taken a step
SURE, SLOW, FAST = (0.5, 0.8), 0.2, 0.6  # a contact between these begins to count; m/s: a foot this slow rests, this fast does not
SLIP, LEVEL = 0.0003, 0.001  # m a frame, m: how still a foot rests, and how exactly on its level
BEND, NEAR = 0.001, 0.015  # m a frame^2, m: how smoothly soles are moved (frames at 30 fps), and how far from where they were
ROOT, ROOT_BEND = 0.005, 0.001  # m, m a frame^2: how closely and how slowly the root follows what the feet ask for
# m: feet that rest nearer to the ground stand on it (fits put them up to 6 cm off it), farther on something else; alike: on the same.
# Nothing between: a foot that were brought half of the way would rest in the air.
FLOOR, ALIKE = 0.08, 0.03
FAR = (0.1, 0.2)  # m: a foot that holding it still would put so far from where it is seen does slide, whatever its contact says
TIPTOE = 0.05  # m: a heel that rests by more above its toes, while it is more than half of it, is held up, as of who stands on tiptoe; by less is within what fits are off by
REACH = 0.9995  # of a leg's length, where the root could not go down far enough: no ankle is put further from the hip, or than it was
# Of a leg's length: so far the hip lets the foot reach, the rest the root goes down for. Nearer to its whole length the last millimetres
# turn the knee by tens of degrees, and it snaps: 0.993 is a knee bent by 14 degrees. The lower, the more all legs are bent.
EASY = 0.993
ROLL = np.radians((25, 45))  # of a sole that rests: tipped by less it is laid level across, by more it rests on the foot's edge, as of who kneels
# m: a knee that is less far in front of the line from hip to ankle (17 degrees of bend) does not tell where it goes as the leg is
# shortened, which is forward: fits and captured motion overstretch knees by up to 10 degrees.
PLAIN = 0.03


def plant_feet(
    rotations: np.ndarray, pelvis: np.ndarray, rest: np.ndarray, soles: np.ndarray, contacts: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A motion's rotations (F, 24, 3, 3) and pelvis (F, 3) with its feet planted.

    rotations: about each joint's parent, the root's in the world; pelvis: (F, 3) m, world; rest: (24, 3) m joints of the rest pose;
    soles: (4, 3) m from the left ankle, left toes, right ankle, right toes; contacts: (F, 4) in [0, 1] of left heel, left toe, right
    heel, right toe; times: (F) s. Without contacts nothing changes.
    """
    ends = [0, *(np.flatnonzero(np.diff(times) > PAUSE) + 1).tolist(), len(times)]
    if len(ends) > 2:  # where a foot went in between is not known
        parts = [plant_feet(rotations[a:b], pelvis[a:b], rest, soles, contacts[a:b], times[a:b]) for a, b in zip(ends, ends[1:])]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    if len(pelvis) < 3:
        return rotations, pelvis
    pace = 30 * float(np.median(np.diff(times)))  # how many frames at 30 fps one of these lasts
    legs = [_Leg(rotations, pelvis, rest, joints, soles[2 * side : 2 * side + 2]) for side, joints in enumerate(LEGS)]
    resting = np.stack([_resting(leg.soles[:, k], contacts[:, 2 * side + k], times) for side, leg in enumerate(legs) for k in (0, 1)], 1)
    if not resting.any():
        return rotations, pelvis
    levels = _levels(np.concatenate([leg.soles[..., 2] for leg in legs], 1), resting, pace)
    wanted = []
    for side, leg in enumerate(legs):
        rests = resting[:, 2 * side : 2 * side + 2]
        placed = np.stack([_planted(leg.soles[:, k], rests[:, k], levels[:, 2 * side + k], pace) for k in (0, 1)], 1)
        wanted.append(leg.foot(placed, rests, gaussian_filter1d(rests.min(-1), 3 / pace, mode="nearest")))
    carries = np.stack([resting[:, :2].max(-1), resting[:, 2:].max(-1)], 1)
    moves = np.stack([ankle - leg.ankle for leg, (ankle, _) in zip(legs, wanted, strict=True)], 1)
    shift = _common(moves, carries, pace)
    straight = np.stack([leg.straightness() for leg in legs], 1)
    shift[:, 2] = _common(moves[..., 2:], carries * straight**2, pace)[:, 0]
    drop = np.max([leg.beyond(ankle, shift) for leg, (ankle, _) in zip(legs, wanted, strict=True)], 0)
    shift[:, 2] -= _over(drop, pace)
    out = rotations.copy()
    for leg, (ankle, turn) in zip(legs, wanted, strict=True):
        leg.bend(out, ankle, turn, shift)
    return out, pelvis + shift


class _Leg:
    """One leg of a motion in the world: where its joints and its two sole points are, and how it is bent to another ankle."""

    def __init__(self, rotations: np.ndarray, pelvis: np.ndarray, rest: np.ndarray, joints: tuple[int, ...], soles: np.ndarray):
        self.joints = joints
        hip, knee, ankle, toes = joints
        self.root = rotations[:, 0]
        self.thigh = self.root @ rotations[:, hip]
        self.shin = self.thigh @ rotations[:, knee]
        self.sole = self.shin @ rotations[:, ankle]
        self.hip = pelvis + self.root @ (rest[hip] - rest[0])
        self.knee = self.hip + self.thigh @ (rest[knee] - rest[hip])
        self.ankle = self.knee + self.shin @ (rest[ankle] - rest[knee])
        toe = self.ankle + self.sole @ (rest[toes] - rest[ankle])
        self.soles = np.stack((self.ankle + self.sole @ soles[0], toe + self.sole @ rotations[:, toes] @ soles[1]), 1)
        self.long = float(np.linalg.norm(rest[knee] - rest[hip])), float(np.linalg.norm(rest[ankle] - rest[knee]))

    def foot(self, placed: np.ndarray, rests: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ankle (F, 3) and the turn (F, 3, 3) that bring heel and toes where they are placed (F, 2, 3), the one that rests
        (F, 2) above all; flat: (F) share to which the sole lies level across as well."""
        along = placed[:, 1] - placed[:, 0]
        turn = _turn_between(self.soles[:, 1] - self.soles[:, 0], along)
        axis = along / np.linalg.norm(along, axis=-1, keepdims=True)
        across = np.cross(axis, [0.0, 0.0, 1.0])
        up = np.einsum("fab,fb->fa", turn, self.sole[:, :, 1])  # the rest pose stands on the ground: its y is the sole's up
        level = np.cross(across, axis)
        roll = np.arctan2((np.cross(up, level) * axis).sum(-1), (up * level).sum(-1))
        level_across = smooth_ramp((ROLL[1] - np.abs(roll)) / (ROLL[1] - ROLL[0]))
        turn = _about(axis, roll * flat * level_across) @ turn
        weight = (rests + 0.02)[..., None]  # where neither rests, both alike
        offsets = np.einsum("fab,fkb->fka", turn, self.soles - self.ankle[:, None])
        return ((placed - offsets) * weight).sum(1) / weight.sum(1), turn

    def _across(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (F, 3) without what lies along the line from hip to ankle."""
        line = self.ankle - self.hip
        line = line / np.linalg.norm(line, axis=-1, keepdims=True)
        return vectors - (vectors * line).sum(-1, keepdims=True) * line

    def straightness(self) -> np.ndarray:
        """By how much (F) the knee gives way for a millimetre that the leg is shortened: most where it is straight."""
        line = self.ankle - self.hip
        length = np.linalg.norm(line, axis=-1)
        out = np.linalg.norm(np.cross(self.knee - self.hip, line), axis=-1) / length
        return np.clip(length / (4 * np.maximum(out, 1e-6)), 1, 8)

    def beyond(self, ankle: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """How far (F) m the hip, moved by `shift`, must go down for the leg to reach the ankle (F, 3) with ease."""
        apart = self.hip + shift - ankle
        reach = np.maximum(EASY * sum(self.long), np.linalg.norm(self.hip - self.ankle, axis=-1))
        below = np.sqrt(np.maximum(reach**2 - (apart[:, :2] ** 2).sum(-1), 0))
        # Going down hardly shortens a leg that is held out level: beyond 60 degrees off upright nothing is asked of the root.
        upright = smooth_ramp((apart[:, 2] / np.linalg.norm(apart, axis=-1) - 0.5) / 0.25)
        return np.clip(apart[:, 2] - below, 0, FLOOR) * upright

    def bend(self, out: np.ndarray, ankle: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> None:
        """Write the leg's rotations that bring its ankle (F, 3) there and turn its foot by (F, 3, 3) in the world."""
        hip = self.hip + shift
        before, line = self.ankle - self.hip, ankle - hip
        upper, lower = self.long
        reach = np.maximum(REACH * (upper + lower), np.linalg.norm(before, axis=-1))
        length = np.clip(np.linalg.norm(line, axis=-1), abs(upper - lower) + 1e-3, np.minimum(reach, upper + lower))
        straight = line / np.linalg.norm(line, axis=-1, keepdims=True)
        swing = _turn_between(before, line)
        aside, forward = self._across(self.knee - self.hip), self._across(self.thigh[:, :, 2])
        told = smooth_ramp((aside * forward).sum(-1, keepdims=True) / PLAIN)
        bent = np.einsum("fab,fb->fa", swing, told * aside + (1 - told) * PLAIN * forward)
        bent -= (bent * straight).sum(-1, keepdims=True) * straight
        bent /= np.maximum(np.linalg.norm(bent, axis=-1, keepdims=True), 1e-9)
        cosine = np.clip((upper**2 + length**2 - lower**2) / (2 * upper * length), -1, 1)[:, None]
        knee = hip + upper * (cosine * straight + np.sqrt(1 - cosine**2) * bent)
        thigh = _turn_between(self.knee - self.hip, knee - hip) @ self.thigh
        shin = _turn_between(self.ankle - self.knee, hip + length[:, None] * straight - knee) @ self.shin
        inverse = lambda m: m.transpose(0, 2, 1)  # noqa: E731
        for joint, local in zip(self.joints, (inverse(self.root) @ thigh, inverse(thigh) @ shin, inverse(shin) @ turn @ self.sole), strict=False):
            out[:, joint] = local


def _resting(point: np.ndarray, contact: np.ndarray, times: np.ndarray) -> np.ndarray:
    """To what share (F) a sole point (F, 3) rests: its contact, unless it is seen to move."""
    speed = np.linalg.norm(np.gradient(point, times, axis=0), axis=-1)
    return smooth_ramp((contact - SURE[0]) / (SURE[1] - SURE[0])) * smooth_ramp((FAST - speed) / (FAST - SLOW))


def _levels(heights: np.ndarray, resting: np.ndarray, pace: float) -> np.ndarray:
    """At what height (F, 4) m each sole point rests: on the ground, or on what lies at the height of all that rest near it; and one that is
    held up over the foot's other as far over it, as it goes up and comes down."""
    rests, out = resting > 0, np.zeros_like(heights)
    above = gaussian_filter1d(heights - heights[:, OTHER], 2 / pace, axis=0, mode="nearest")
    raised = np.zeros_like(rests)
    for k, other in enumerate(OTHER):
        for a, b in runs(rests[:, k] & (above[:, k] > TIPTOE / 2)):
            raised[a:b, k] = np.median(above[a:b, k]) > TIPTOE and rests[a:b, other].any()
    flat = rests & ~raised
    found = np.sort(heights[flat])
    for k in range(heights.shape[1]):
        for a, b in runs(flat[:, k]):
            around = heights[a:b]
            alike = flat[a:b] & (np.abs(around - np.median(around[:, k])) < ALIKE)
            level = float(around[alike].mean()) if alike.any() else float(np.median(around[:, k]))
            heap = level  # of all that rest as high, which stand on one and the same, the middle
            for _ in range(10):
                heap = found[min(np.searchsorted(found, (heap - ALIKE, heap + ALIKE)).sum() // 2, len(found) - 1)]
            out[a:b, k] = level if abs(heap) > FLOOR else 0
    for k, other in enumerate(OTHER):
        for a, b in runs(raised[:, k]):
            frames = np.arange(a, b)
            told = frames[rests[a:b, other]]  # between these the other is not claimed for a while
            share = smooth_ramp(2 * above[a:b, k] / TIPTOE - 1)
            out[a:b, k] = np.interp(frames, told, out[told, other]) + share * above[a:b, k]
    return out


def _planted(point: np.ndarray, rests: np.ndarray, level: np.ndarray, pace: float) -> np.ndarray:
    """A sole point's path (F, 3) m that holds still on its level (F) where it rests (F), unless that takes it FAR from where it is seen, and
    is nowhere below the ground, unless it goes farther below it than FLOOR: from there to half as far again it is raised by less."""
    nowhere = np.zeros(len(point))
    out = point.copy()
    near = np.ones(len(point))
    for _ in range(5):
        held = rests * near
        stay = np.minimum(held[1:], held[:-1]) / (SLIP * pace) ** 2
        change = np.stack([_smoothly(point[:, axis], stay, nowhere, level, pace) for axis in (0, 1)], 1)
        off = np.linalg.norm(change, axis=-1)
        if off.max() < FAR[0]:
            break
        near = np.minimum(near, smooth_ramp((FAR[1] - off) / (FAR[1] - FAR[0])))
    out[:, :2] += change
    ground = np.zeros(len(point))
    for a, b in runs(point[:, 2] < 0):  # who goes far below it is on lower ground: raising that on its way there alone would be a bump
        ground[a:b] = point[a:b, 2] * (1 - smooth_ramp(3 + 2 * float(point[a:b, 2].min()) / FLOOR))
    hold, under, bottom = rests / LEVEL**2, 0.0 * rests, np.where(rests > 0, level, ground)
    for _ in range(8):
        moved = point[:, 2] + _smoothly(point[:, 2], stay, hold + under, bottom, pace)
        sunk = (moved < ground - 3 * LEVEL) & (level >= 0)
        if not sunk.any():
            break
        under[sunk] = np.maximum(4 * under[sunk], 1 / (3 * LEVEL) ** 2)
    out[:, 2] = moved
    return out


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Stretches [a, b) in which mask (F) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(int), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _smoothly(path: np.ndarray, stay: np.ndarray, hold: np.ndarray, level: np.ndarray, pace: float) -> np.ndarray:
    """The change d (F) of a path (F) for which the sum of stay (step of path + d)^2, hold (path + d - level)^2, (d / NEAR)^2 and (second
    difference of d / BEND)^2 is least: one system of five diagonals."""
    bands = _bending(len(path), BEND * pace**2)
    bands[2] += hold + 1 / NEAR**2
    bands[2, 1:] += stay
    bands[2, :-1] += stay
    bands[1, 1:] -= stay
    right = hold * (level - path)
    pull = stay * np.diff(path)
    right[1:] -= pull
    right[:-1] += pull
    return solveh_banded(bands, right)


def _bending(frames: int, scale: float) -> np.ndarray:
    """The upper diagonals (3, F), outermost first, of the sum of squared second differences over scale^2."""
    bands = np.zeros((3, frames))
    bands[2, :-2] += 1
    bands[2, 1:-1] += 4
    bands[2, 2:] += 1
    bands[1, 1:-1] -= 2
    bands[1, 2:] -= 2
    bands[0, 2:] += 1
    return bands / scale**2


def _common(moves: np.ndarray, carries: np.ndarray, pace: float) -> np.ndarray:
    """The root's shift (F, 3): what the feet that carry (F, 2) ask for, moves (F, 2, 3), as slowly as a root sways."""
    bands = _bending(len(moves), ROOT_BEND * pace**2)
    bands[2] += carries.sum(-1) / ROOT**2 + 1 / NEAR**2
    return solveh_banded(bands, (moves * carries[..., None]).sum(1) / ROOT**2)


def _over(values: np.ndarray, pace: float) -> np.ndarray:
    """A smooth curve (F) nowhere below values (F)."""
    half = max(round(4 / pace), 1)
    out = maximum_filter1d(values, 4 * half + 1, mode="nearest")
    for _ in range(2):
        out = uniform_filter1d(out, 2 * half + 1, mode="nearest")
    return out


def _turn_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least rotation (F, 3, 3) that brings the direction of a (F, 3) to that of b (F, 3)."""
    across = np.cross(a, b)
    sine = np.linalg.norm(across, axis=-1)
    return _about(across / np.maximum(sine, 1e-12)[:, None], np.arctan2(sine, (a * b).sum(-1)))


def _about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotations (F, 3, 3) about unit axes (F, 3) by angles (F) rad."""
    return Rotation.from_rotvec(axis * angle[:, None]).as_matrix()
