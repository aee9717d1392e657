# SPDX-License-Identifier: GPL-3.0-or-later
"""Arms that motion capture has too few of, on the trunks that it has: raised, before the face, crossed, behind the back.

An arm of the motion capture is above the shoulder in one frame of ten, and steeply in one of six hundred. Places are described
as the left arm sees them: x outward, y up and z forward in the frame of the chest, from the shoulder, in lengths of the arm to
the wrist. The right arm is its mirror image.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..rotations import exp_so3
from .data import Windows, chance, ramp, smooth_noise

UPPER_ARM = 0.5  # of the arm to the wrist
# Where hands are: of a hundred; the wrist; where the elbow points.
HANDS = {
    "hanging": (8, (0.12, -0.97, 0.05), (0.2, 0.0, -1.0)),
    "up": (9, (0.08, 0.97, 0.05), (1.0, 0.0, 0.2)),
    "up and apart": (6, (0.5, 0.82, 0.05), (0.3, -0.6, -0.5)),
    "up and forward": (5, (0.05, 0.65, 0.7), (1.0, -0.6, 0.0)),
    "forward": (8, (-0.05, 0.02, 0.96), (0.8, -0.8, 0.0)),
    "sideways": (8, (0.96, 0.02, 0.05), (0.0, -0.5, -0.8)),
    "beside the head": (5, (0.4, 0.45, 0.15), (0.5, -1.0, -0.2)),
    "to the ear": (6, (-0.15, 0.30, 0.12), (0.8, -0.8, 0.4)),
    "to the mouth": (5, (-0.22, 0.15, 0.30), (0.5, -1.0, 0.2)),
    "before the face": (4, (-0.15, 0.25, 0.50), (0.6, -1.0, 0.0)),
    "on the head": (3, (-0.25, 0.50, 0.05), (1.0, 0.2, 0.4)),
    "behind the head": (3, (-0.20, 0.42, -0.12), (1.0, 0.3, 0.3)),
    "on the hip": (6, (0.05, -0.62, 0.02), (1.0, 0.0, -0.5)),
    "folded": (5, (-0.42, -0.35, 0.32), (0.6, -1.0, 0.0)),
    "on the chest": (3, (-0.35, -0.20, 0.28), (0.7, -1.0, 0.0)),
    "before the belly": (5, (-0.25, -0.62, 0.42), (0.8, 0.0, -0.8)),
    "at work": (6, (-0.10, -0.45, 0.62), (0.5, -1.0, -0.3)),
    "on the thigh": (3, (-0.05, -0.75, 0.50), (0.7, 0.0, -0.8)),
    "behind the back": (2, (-0.25, -0.62, -0.22), (1.0, 0.0, -0.6)),
}
PLACE, ELBOW = 0.1, 0.3  # deviations of wrist and elbow from clip to clip
GESTURE = 0.12  # the same, at most, within a clip
REACH = (0.3, 0.99)
ROUND = (0.35, 0.0, 0.4)  # by how far, at most, a hand half way from one place to another keeps out of the straight line
BOTH_ALIKE, BOTH = 0.45, 0.75  # both arms at one place; at two; else one arm is as captured
MOVING = 0.4  # go from one place to another
COLLAR = 25.0  # degrees, at most, by which the collarbones of raised arms rise; those of the motion capture hardly do
TWIST = 12.0  # degrees about the forearm


def _arm(hand: Tensor, pole: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 3, 3) turns of a left upper arm in the frame of the chest, and of its elbow, that bring the wrist to `hand`."""
    far = hand.norm(dim=-1, keepdim=True)
    reach = far.clamp(*REACH)
    along = hand / far.clamp_min(1e-6)
    aside = normalize(pole - (pole * along).sum(-1, keepdim=True) * along, dim=-1)
    fore = 1 - UPPER_ARM
    cosine = (UPPER_ARM**2 + reach**2 - fore**2) / (2 * UPPER_ARM * reach)
    upper = along * cosine + aside * (1 - cosine**2).clamp_min(0).sqrt()
    lower = (along * reach - upper * UPPER_ARM) / fore
    front = normalize(lower - (lower * upper).sum(-1, keepdim=True) * upper, dim=-1)
    turn = torch.stack((upper, torch.linalg.cross(front, upper), front), -1)
    bent = torch.acos((lower * upper).sum(-1).clamp(-1, 1))
    zero = torch.zeros_like(bent)
    return turn, exp_so3(torch.stack((zero, -bent, zero), -1))


def _elbows_kept(shift: Tensor, hand: Tensor) -> Tensor:
    """Shifts (..., 3) of hands, without most of what would bend an arm that is nearly straight: elbows answer to little there."""
    far = hand.norm(dim=-1, keepdim=True)
    along = hand / far.clamp_min(1e-6)
    return shift - (shift * along).sum(-1, keepdim=True) * along * (2 * far - 1.1).clamp(0, 0.85)


def _mirrored(turns: Tensor) -> Tensor:
    """(..., 3, 3) the same turns seen in a mirror across x."""
    sign = torch.tensor([-1.0, 1.0, 1.0])
    return turns * sign[:, None] * sign


def reaching(windows: Windows, chosen: Tensor, gen: torch.Generator, kind: str | None = None) -> Windows:
    """The chosen (B) clips with one arm or both where HANDS has them, at rest or on the way from there to elsewhere.

    A `kind` of HANDS puts both there, throughout.
    """
    if not chosen.any():
        return windows
    count, frames = windows.rotations.shape[:2]
    places = list(HANDS.values())
    if kind:
        which = torch.full((count, 2, 2), list(HANDS).index(kind))  # (B, arms, from and to)
    else:
        share = torch.tensor([float(row[0]) for row in places])
        which = torch.multinomial(share, count * 4, replacement=True, generator=gen).view(count, 2, 2)
        how = torch.rand(count, generator=gen)
        which = torch.where((how < BOTH_ALIKE)[:, None, None], which[:, :1].expand(-1, 2, -1), which)
        goes = chance(count, MOVING if frames > 1 else 0.0, gen)
        which = torch.where(goes[:, None, None], which, which[..., :1].expand(-1, -1, 2))
    ends = torch.tensor([row[1:] for row in places])[which]  # (B, arms, from and to, wrist and elbow, 3)
    other = torch.randn(count, 1, 2, 2, 3, generator=gen) + torch.randn(count, 2, 2, 2, 3, generator=gen)
    other = torch.where((which[..., 0] == which[..., 1])[..., None, None, None], other[:, :, :1], other) / math.sqrt(2)
    wrists = ends[..., 0, :] + _elbows_kept(other[..., 0, :] * PLACE, ends[..., 0, :])  # (B, arms, from and to, 3)
    poles = ends[..., 1, :] + other[..., 1, :] * ELBOW
    way = ramp(count, frames, gen)[:, :, None, None]
    hand, pole = (e[:, None, :, 0] + (e[:, None, :, 1] - e[:, None, :, 0]) * way for e in (wrists, poles))  # (B, T, arms, 3)
    moves = (which[..., 0] != which[..., 1])[:, None, :, None]
    hand = hand + moves * 4 * way * (1 - way) * torch.tensor(ROUND) * torch.rand(count, 1, 1, 1, generator=gen)
    length = wrists.norm(dim=-1, keepdim=True)[:, None]
    swing = torch.rand(count, 1, 1, 1, generator=gen) * moves  # how far the arm stays as straight as at both ends
    far = hand.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    hand = hand * (1 - swing + swing * (length[..., 0, :] + (length[..., 1, :] - length[..., 0, :]) * way) / far)
    gesture = GESTURE * torch.rand(count, 1, 1, 1, generator=gen)
    hand = hand + _elbows_kept(smooth_noise(count, frames, 6, 10, gen).unflatten(-1, (2, 3)) * gesture, hand)
    shoulder, elbow = _arm(hand, pole)
    twist = math.radians(TWIST) * torch.randn(count, 1, 2, generator=gen).expand(-1, frames, -1)
    zero = torch.zeros_like(twist)
    elbow = elbow @ exp_so3(torch.stack((twist, zero, zero), -1))

    raised = (shoulder[..., 1, 0].clamp(-0.2, 0.9) + 0.2) / 1.1  # by how far the upper arm is up, 0 to 1
    rise = math.radians(COLLAR) * torch.rand(count, 1, 1, generator=gen) * raised
    collar = exp_so3(torch.stack((zero, zero, rise), -1))
    made = torch.stack((collar, collar.transpose(-1, -2) @ shoulder, elbow), 3)  # (B, T, arms, collar shoulder elbow, 3, 3)
    made = torch.stack((made[:, :, 0], _mirrored(made[:, :, 1])), 2)

    arms = torch.ones(count, 2, dtype=torch.bool)
    if not kind:
        one = torch.rand(count, generator=gen) < 0.5
        arms = (how < BOTH)[:, None] | torch.stack((one, ~one), 1)
    rows = torch.tensor([[13, 16, 18], [14, 17, 19]])
    turns = windows.rotations.clone()
    turns[:, :, rows] = torch.where((arms & chosen[:, None])[:, None, :, None, None, None], made, turns[:, :, rows])
    return Windows(turns, windows.trans, windows.lower_true)
