# SPDX-License-Identifier: GPL-3.0-or-later
"""Legs that motion capture has too few of, under the trunks that it has: people who sit, kneel, and stand where nobody sees it.

Almost nobody sits in the motion capture, and many who are filmed do. Angles as joints are described: of a thigh from straight
down, turned forward (flexed), then about the vertical outward (spread), and about itself with the toes outward (turned out); of
a shin from the thigh's line backward (bent).
"""

import math

import torch
from torch import Tensor

from ..rotations import exp_so3, log_so3
from .data import LEG_OF_FILE, Windows, chance, ramp, smooth_noise

_CHAIR, _STOOL, _OVER, _ON_KNEE = (85, 10, 5, 85), (52, 10, 5, 62), (95, -8, 5, 85), (88, 38, 60, 95)
_LONG, _TAILOR, _HEELS, _KNEE = (88, 10, 8, 8), (80, 42, 40, 115), (70, 8, 0, 140), (4, 5, 4, 90)
# How people sit and kneel: of a hundred; the left and the right leg (flexed, spread, turned out, bent), in degrees; how far the
# pelvis leans back, and the deviation of it.
SEATS = {
    "on a chair": (36, _CHAIR, _CHAIR, 8, 13),
    "on a high stool": (10, _STOOL, _STOOL, 4, 10),
    "one leg over the other": (10, _OVER, (82, 2, 2, 82), 10, 12),
    "ankle on knee": (6, _ON_KNEE, _CHAIR, 12, 12),
    "legs stretched": (7, _LONG, _LONG, 8, 15),
    "cross-legged": (11, _TAILOR, _TAILOR, 8, 12),
    "on the heels": (8, _HEELS, _HEELS, 0, 10),
    "on both knees": (6, _KNEE, _KNEE, 0, 8),
    "on one knee": (6, _KNEE, (88, 10, 5, 90), 0, 10),
}
EACH = (12.0, 8.0, 10.0, 16.0)  # deviation of those angles from clip to clip, half of their variance the same on both sides
FIDGET = 6.0  # degrees, within a clip
MOST_BENT = 150.0
UPRIGHT = 40.0  # degrees off: whose trunk leans by more is left alone
SPINE = (3, 6, 9)
BOW = (25.0, 12.0)  # degrees forward, mean and deviation, half way down to a seat or up from it


def _heading(root: Tensor) -> Tensor:
    """(..., 3, 3) the turn about the vertical of roots (..., 3, 3)."""
    yaw = torch.atan2(root[..., 0, 2], root[..., 2, 2])
    zero = torch.zeros_like(yaw)
    return exp_so3(torch.stack((zero, yaw, zero), -1))


def _about(axis: int, angle: Tensor) -> Tensor:
    """(..., 3, 3) turns by angles in radians about an axis."""
    vector = torch.zeros(*angle.shape, 3)
    vector[..., axis] = angle
    return exp_so3(vector)


def upright(windows: Windows) -> Tensor:
    """(B) whose trunk is upright throughout."""
    return (windows.rotations[:, :, 0, 1, 1] > math.cos(math.radians(UPRIGHT))).all(1)


def seated(windows: Windows, chosen: Tensor, gen: torch.Generator, kind: str | None = None, rising: float = 0.0) -> Windows:
    """The chosen (B) clips of upright people sitting or kneeling (as `kind` of SEATS says, or as drawn), where they were in the middle.

    A share `rising` of them sits down in the clip, or rises, from and to what was captured.
    """
    chosen = chosen & upright(windows)
    if not chosen.any():
        return windows
    count, frames = windows.rotations.shape[:2]
    rows = list(SEATS.values())
    if kind:
        which = torch.full((count,), list(SEATS).index(kind))
    else:
        which = torch.multinomial(torch.tensor([float(row[0]) for row in rows]), count, replacement=True, generator=gen)
    angles = torch.tensor([row[1:3] for row in rows], dtype=torch.float32)[which]  # (B, 2 legs, 4)
    other_way = chance(count, 0.5, gen)
    angles = torch.where(other_way[:, None, None], angles.flip(1), angles)
    other = torch.randn(count, 1, 4, generator=gen) + torch.randn(count, 2, 4, generator=gen)
    angles = angles + other / math.sqrt(2) * torch.tensor(EACH)
    fidget = FIDGET * torch.rand(count, 1, 1, 1, generator=gen)
    angles = angles[:, None] + smooth_noise(count, frames, 8, 12, gen).unflatten(-1, (2, 4)) * fidget
    angles[..., 3].clamp_(0, MOST_BENT)
    flexed, spread, out, bent = angles.deg2rad().unbind(-1)  # (B, T, 2)
    side = torch.tensor([1.0, -1.0])
    thighs = _about(1, side * spread) @ _about(0, -flexed) @ _about(1, side * out)

    goes = torch.zeros(count, dtype=torch.bool)
    way = torch.ones(count, frames)  # 0 as captured, 1 seated
    if rising and frames > 1:
        goes = chance(count, rising, gen)
        down = ramp(count, frames, gen)
        way = torch.where(goes[:, None], torch.where(chance(count, 0.5, gen)[:, None], down, 1 - down), way)
    lean = torch.tensor([row[3:] for row in rows], dtype=torch.float32)[which]
    lean = (lean[:, 0] + lean[:, 1] * torch.randn(count, generator=gen)).deg2rad()
    slump = torch.rand(count, generator=gen) * lean / len(SPINE)  # what of it the back makes good again
    lean, slump = lean[:, None] * way, slump[:, None] * way
    if goes.any():
        bow = (BOW[0] + BOW[1] * torch.randn(count, generator=gen)).deg2rad()
        lean = lean - 4 * way * (1 - way) * bow[:, None]
    turns = windows.rotations.clone()
    heading = _heading(turns[:, :, 0])
    root = turns[:, :, 0] @ _about(0, -lean)
    own = root.transpose(-1, -2) @ turns[:, :, 0]  # legs as captured, below a trunk that leans
    legs = torch.cat((own[:, :, None] @ turns[:, :, [1, 2]], turns[:, :, [4, 5]]), 2)
    seat = torch.cat(((root.transpose(-1, -2) @ heading)[:, :, None] @ thighs, _about(0, bent)), 2)
    trans = windows.trans[:, frames // 2, None].expand_as(windows.trans)
    if goes.any():
        along, seat = _going(root, legs, seat, way, windows.trans)
        trans = torch.where(goes[:, None, None], along, trans)
    turns[:, :, 0] = root
    turns[:, :, list(SPINE)] = _about(0, slump)[:, :, None] @ turns[:, :, list(SPINE)]
    turns[:, :, [1, 2, 4, 5]] = seat
    pick = chosen[:, None, None]
    return Windows(
        torch.where(pick[..., None, None], turns, windows.rotations), torch.where(pick, trans, windows.trans), windows.lower_true & ~chosen
    )


def _going(root: Tensor, legs: Tensor, seat: Tensor, way: Tensor, trans: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, T, 3) of the hips and turns (B, T, 4, 3, 3) of legs on the `way` (B, T) from captured ones to seated.

    Who goes stays over their feet while they do, and moves as captured where they are up.
    """
    between = log_so3(legs.transpose(-1, -2) @ seat)

    def at(share: Tensor) -> Tensor:
        return torch.where((share == 1)[..., None, None, None], seat, legs @ exp_so3(between * share[..., None, None]))

    def feet(turns: Tensor) -> Tensor:
        thighs = root[:, :, None] @ turns[:, :, :2]
        return -(thighs[..., 1] + (thighs @ turns[:, :, 2:])[..., 1]).mean(2) * (LEG_OF_FILE / 2)

    now = at(way)
    before = torch.cat((way[:, :1], way[:, :-1]), 1)
    step = torch.diff(trans, dim=1, prepend=trans[:, :1]) * (1 - way)[..., None] - (feet(now) - feet(at(before)))
    return trans[:, :1] + step.cumsum(1), now


def standing(windows: Windows, chosen: Tensor, gen: torch.Generator) -> tuple[Windows, Tensor]:
    """The chosen (B) clips of upright people with legs that stand, held as in some frame of the batch; and which those are (B).

    Mean legs of motion capture are bent, and so are those that a network invents for people whom it sees to the waist; but who is
    filmed so stands, mostly.
    """
    turns = windows.rotations
    root = turns[:, :, 0]
    hips = root[:, :, None] @ turns[:, :, [1, 2]]
    shins = hips @ turns[:, :, [4, 5]]
    stands = (torch.cat((hips, shins), 2)[..., 1, 1] > math.cos(math.radians(15))).all(-1).flatten().nonzero().squeeze(-1)
    chosen = chosen & upright(windows)
    if not (len(stands) and chosen.any()):
        return windows, torch.zeros_like(chosen)
    taken = stands[torch.randint(len(stands), (len(chosen),), generator=gen)]
    heading = _heading(root)
    below = turns[:, :, [4, 5, 7, 8, 10, 11]].flatten(0, 1)[taken][:, None].expand(-1, turns.shape[1], -1, -1, -1)
    level = (heading.transpose(-1, -2)[:, :, None] @ hips).flatten(0, 1)[taken][:, None]
    legs = torch.cat(((root.transpose(-1, -2) @ heading)[:, :, None] @ level, below), 2)
    changed = turns.clone()
    rows = [1, 2, 4, 5, 7, 8, 10, 11]
    changed[:, :, rows] = torch.where(chosen[:, None, None, None, None], legs, turns[:, :, rows])
    return Windows(changed, windows.trans, windows.lower_true & ~chosen), chosen
