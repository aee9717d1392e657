# SPDX-License-Identifier: GPL-3.0-or-later
"""What a detector would see of points: noise, confidence, gaps, exchanged labels.

The noise tables restate WHAM's stage-1 synthesis (Shin et al. 2024, MIT) and MotionBERT's 2D drift and confidence model
(Zhu et al. 2023, Apache-2.0).
"""

import math

import torch
from torch import Tensor

from ..keypoints.formats import POINT_INDEX, POINT_MIRROR, POINTS
from .data import chance, smooth_noise, uniform
from .recipe import Recipe

# sigma in m by kind of point: white jitter, bias of a window, peak size, chance of peaks
_NOISE = {
    "nose": (0.010, 0.040, 0.024, 0.10), "eye": (0.005, 0.010, 0.024, 0.10), "ear": (0.005, 0.010, 0.024, 0.10),
    "head_top": (0.010, 0.025, 0.024, 0.10), "neck": (0.012, 0.015, 0.045, 0.05),
    "shoulder": (0.015, 0.015, 0.045, 0.05), "elbow": (0.010, 0.025, 0.075, 0.025), "wrist": (0.005, 0.035, 0.12, 0.017),
    "hip": (0.020, 0.010, 0.024, 0.05), "knee": (0.010, 0.015, 0.09, 0.025), "ankle": (0.005, 0.025, 0.12, 0.017),
    "toe": (0.010, 0.025, 0.12, 0.017), "heel": (0.010, 0.025, 0.12, 0.017),
    "index": (0.010, 0.035, 0.12, 0.017), "pinky": (0.010, 0.035, 0.12, 0.017),
}  # fmt: skip


def _kind(name: str) -> str:
    if name in _NOISE:
        return name
    last = name.rsplit("_", 1)[-1]
    return last


NOISE = torch.tensor([_NOISE[_kind(name)] for name in POINTS])  # (30, 4)
MIRROR = torch.as_tensor(POINT_MIRROR.copy())


def _rows(*names: str) -> Tensor:
    return torch.tensor([POINT_INDEX[n] for n in names])


FACE = _rows("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
FEET = _rows("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
HANDS = _rows("left_index", "left_pinky", "right_index", "right_pinky")
ARMS = [_rows(*(f"{s}_{p}" for p in ("shoulder", "elbow", "wrist", "index", "pinky"))) for s in ("left", "right")]
LEGS = [_rows(*(f"{s}_{p}" for p in ("knee", "ankle", "big_toe", "small_toe", "heel"))) for s in ("left", "right")]
HIPS = _rows("left_hip", "right_hip", "mid_hip")
_CHILDREN = {
    "shoulder": ("elbow", "wrist", "index", "pinky"), "elbow": ("wrist", "index", "pinky"), "wrist": ("index", "pinky"),
    "hip": ("knee", "ankle", "big_toe", "small_toe", "heel"), "knee": ("ankle", "big_toe", "small_toe", "heel"),
    "ankle": ("big_toe", "small_toe", "heel"),
}  # fmt: skip


def _hides() -> Tensor:
    """(30, 30) 1 where hiding the first point hides the second: down the limbs."""
    table = torch.eye(len(POINTS))
    for side in ("left", "right"):
        for part, below in _CHILDREN.items():
            for child in below:
                table[POINT_INDEX[f"{side}_{part}"], POINT_INDEX[f"{side}_{child}"]] = 1
    return table


HIDES = _hides()


def span(count: int, frames: int, low: int, high: int, gen: torch.Generator) -> Tensor:
    """(B, T) one random run of low..high frames a clip."""
    length = uniform((count, 1), low, high, gen)
    start = uniform((count, 1), -0.3, 1, gen) * frames
    at = torch.arange(frames)[None]
    return (at >= start) & (at < start + length)


def table_noise(count: int, frames: int, gain: Tensor, own: float, gen: torch.Generator) -> Tensor:
    """Noise (B, T, 30, 3) m on points in space, as the tables have it.

    gain: (B, 1, 1, 1); own: every point's noise in a clip is up to so many times more or less than the tables say.
    """
    k = len(NOISE)
    table = NOISE[None, None, :, None]  # (1, 1, K, 1, 4)
    jitter = torch.randn(count, frames, k, 3, generator=gen) * table[..., 0]
    bias = torch.randn(count, 1, k, 3, generator=gen) * table[..., 1]
    if own > 1:  # no detector is the tables', nor is its jitter the measure of its bias
        most = math.log(own)
        jitter, bias = (v * uniform((count, 1, k, 1), -most, most, gen).exp() for v in (jitter, bias))
    peaks = torch.rand(count, frames, k, 1, generator=gen) < table[..., 3]
    jump = torch.randn(count, frames, 1, 3, generator=gen) * table[..., 2] * peaks
    return gain * (jitter + bias + jump)


def detect(
    points: Tensor, pelvis: Tensor, focal: Tensor, framed: Tensor, waist: Tensor, available: Tensor, recipe: Recipe,
    gen: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Rays (B, T, 30, 2), confidence and visibility (B, T, 30) of a noisy detector."""
    count, frames, k = points.shape[:3]
    gain = uniform((count, 1, 1, 1), *recipe.noise, gen)
    gain = torch.where(chance(count, recipe.clean_share, gen)[:, None, None, None], torch.zeros_like(gain), gain)
    noisy = points + table_noise(count, frames, gain, recipe.own_noise, gen)
    clean = points[..., :2] / points[..., 2:].clamp_min(0.2)
    rays = noisy[..., :2] / noisy[..., 2:].clamp_min(0.2)
    unit = (1.7 / pelvis[..., 2].clamp_min(0.5))[..., None, None] / 2  # half the person's height, as a tangent
    if recipe.drift:
        slow = smooth_noise(count, frames, k * 2, 9, gen).unflatten(-1, (k, 2)) * 0.008
        odd = (uniform((count, frames // 9 + 2, k), 0, 1, gen) < 0.1).float()
        odd = odd[:, (torch.arange(frames) // 9).clamp_max(odd.shape[1] - 1)]
        spread = uniform((count, frames, k, 2), -0.03, 0.03, gen) * odd[..., None]
        white = torch.randn(count, frames, k, 2, generator=gen) * 0.002
        has = (gain > 0).float()
        rays = rays + unit * (slow + spread + white) * recipe.drift * has

    gone = lose(rays, clean, focal, framed, recipe, gen)
    gone |= ~available[:, None]
    if recipe.waist:
        for rows, hidden in ((torch.cat(LEGS), waist), (HIPS, waist & chance(count, 0.5, gen))):
            gone[:, :, rows] |= hidden[:, None, None]
    if recipe.limb_swap or recipe.body_swap:
        rays, gone = _swap(rays, gone, recipe, gen)

    error = (rays - clean).norm(dim=-1) / unit.squeeze(-1)
    a, b, m, s = 0.028, 1.1, -0.0046, 0.143
    confidence = a / (error + a) + b * error.clamp_max(0.3) + m + s * torch.randn(error.shape, generator=gen)
    confidence = confidence.clamp(0.06, 1)
    plain = chance(count, 0.25, gen)[:, None, None]  # some detectors' confidence says nothing
    confidence = torch.where(plain, torch.full_like(confidence, 0.9), confidence)
    if recipe.limbs_gone or recipe.limbs_invented:
        rays, confidence, gone = _limbs(rays, confidence, gone, unit, recipe, gen)
    return rays, torch.where(gone, torch.zeros_like(confidence), confidence), ~gone


def _limbs(
    rays: Tensor, confidence: Tensor, gone: Tensor, unit: Tensor, recipe: Recipe, gen: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Whole limbs, or what lies beyond their middle joint, gone from whole clips; or as they are in another clip, with any confidence.

    rays: (B, T, 30, 2); confidence, gone: (B, T, 30); unit: (B, T, 1, 1) what brings rays to the size of a person.
    """
    count, frames = gone.shape[:2]
    rays, confidence, gone = rays.clone(), confidence.clone(), gone.clone()
    hips = POINT_INDEX["left_hip"], POINT_INDEX["right_hip"]
    limbs = [pair for arm in ARMS for pair in ((arm[1:], arm[0]), (arm[2:], arm[1]))]
    limbs += [pair for leg, hip in zip(LEGS, hips) for pair in ((leg, hip), (leg[1:], leg[0]))]
    both = chance(count, recipe.limbs_gone / 3, gen)
    for rows, root in limbs:
        hidden = chance(count, recipe.limbs_gone / 4, gen) | (both & (root in hips))
        gone[:, :, rows] |= hidden[:, None, None]
        hit = chance(count, recipe.limbs_invented / 4, gen)[:, None] & span(count, frames, frames // 20 + 1, 1.3 * frames, gen)
        other = torch.randperm(count, generator=gen)
        away = (rays[:, :, rows] - rays[:, :, root, None])[other] * (unit / unit[other])
        made = rays[:, :, root, None] + away + 0.02 * unit * torch.randn(away.shape, generator=gen)
        rays[:, :, rows] = torch.where(hit[..., None, None], made, rays[:, :, rows])
        sure = uniform((count, 1, 1), 0.06, 0.9, gen) + 0.08 * torch.randn(away.shape[:3], generator=gen)
        confidence[:, :, rows] = torch.where(hit[..., None], sure.clamp(0.06, 1), confidence[:, :, rows])
    return rays, confidence, gone


def lose(rays: Tensor, clean: Tensor, focal: Tensor, framed: Tensor, recipe: Recipe, gen: torch.Generator) -> Tensor:
    """(B, T, 30) the points that are not seen: by chance, in spans, cut off, outside the image, in sets that a file lacks.

    rays, clean: (B, T, 30, 2) as detected and as they are; focal (B) over the image's longer side; framed (B) the image has edges.
    """
    count, frames, k = rays.shape[:3]
    gone = torch.zeros(count, frames, k, dtype=torch.bool)
    rate = uniform((count, 1, 1), *recipe.missing, gen)
    gone |= torch.rand(count, frames, k, generator=gen) < rate
    if recipe.down_the_tree:
        start = torch.rand(count, frames, k, generator=gen) < recipe.down_the_tree
        gone |= (start.float() @ HIDES) > 0
    if frames > 1:
        spans(gone, recipe, gen)
    if recipe.crop_lower:
        line = uniform((count, 1, 1), 0.0, 1.0, gen)
        top, bottom = clean[..., 1].amin((1, 2)), clean[..., 1].amax((1, 2))
        cut = top[:, None, None] + (bottom - top)[:, None, None] * (0.35 + 0.6 * line)
        gone |= chance(count, recipe.crop_lower, gen)[:, None, None] & (rays[..., 1] > cut)
    if recipe.frame_person:  # what lies outside the image is not seen
        aspect = torch.where(chance(count, 0.5, gen)[:, None], torch.tensor([[1.0, 0.6]]), torch.tensor([[0.6, 1.0]]))
        half = (aspect * 0.5 / focal[:, None])[:, None, None]
        outside = (rays.abs() > half).any(-1) & framed[:, None, None]
        # A person who is never in the picture teaches nothing.
        outside &= ((~outside).sum(-1) >= 6).float().mean(1)[:, None, None] > 0.5
        gone |= outside
    if recipe.drop_sets:
        for rows in (FACE, FEET, HANDS):
            gone[:, :, rows] |= chance(count, recipe.drop_sets, gen)[:, None, None]
    return gone


def spans(gone: Tensor, recipe: Recipe, gen: torch.Generator) -> None:
    """Mark in `gone` (B, T, 30) limbs, both legs and whole people that are not seen for a while."""
    count, frames = gone.shape[:2]
    for rows in (*ARMS, *LEGS):
        hit = chance(count, recipe.limb_spans / 2, gen)[:, None] & span(count, frames, 3, 45, gen)
        gone[:, :, rows] |= hit[..., None]
    both = chance(count, recipe.limb_spans / 6, gen)[:, None] & span(count, frames, 10, 60, gen)
    for rows in (*LEGS, HIPS):
        gone[:, :, rows] |= both[..., None]
    gone |= (chance(count, recipe.nobody, gen)[:, None] & span(count, frames, 3, 20, gen))[..., None]


def _swap(rays: Tensor, gone: Tensor, recipe: Recipe, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """Left and right labels exchanged: a pair of limbs, or the whole body, for a while."""
    count, frames, k = gone.shape
    swap = torch.zeros(count, frames, k, dtype=torch.bool)
    for pair in (ARMS, LEGS):
        hit = chance(count, recipe.limb_swap / 2, gen)[:, None] & span(count, frames, 2, 15, gen)
        swap[:, :, torch.cat(pair)] |= hit[..., None]
    swap |= (chance(count, recipe.body_swap, gen)[:, None] & span(count, frames, 2, 15, gen))[..., None]
    return torch.where(swap[..., None], rays[:, :, MIRROR], rays), torch.where(swap, gone[:, :, MIRROR], gone)
