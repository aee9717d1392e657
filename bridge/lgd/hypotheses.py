# SPDX-License-Identifier: GPL-3.0-or-later
"""Several starts solved together, and the best of them chosen over time.

A single view leaves a person turned by half a turn, limbs flipped in depth, and exchanged labels hard to tell apart
in one frame; over time they are not. Every hypothesis is a complete estimate of the clip; the choice is a Viterbi path
over frames. Its costs are log-likelihoods in nats: the network's own expected error of every joint is the scale of a
Laplace density, both for how good a frame is and for how far the joints may jump between frames; the points' misfit
counts by the reprojection energy's own scale, since of starts that training never saw the expected errors know little.
Frames near each other err alike, so ten are worth one; a jump from one start to another is an event of its own. Another
start than the network's own must be better than it may be throughout a clip without being right: of people seen to the waist
whole clips are explained a little better by limbs flipped in depth, and much better by exchanged labels, which are taken as
they are told there.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor

from ..keypoints.formats import POINT_MIRROR
from ..rotations import exp_so3
from .observation import Observation
from .video import State

OWN, EXCHANGED, TURNED, FLIPPED = range(4)  # the hypotheses in their order
# Nats a frame by which a start may be better throughout a clip without being right, of people whose legs are seen and of others.
# Exchanged labels: by 1.1 at most on 213 clips of whole people, by up to 20 on signers seen to the waist; where a detector had
# exchanged them all 3 to 4. Turned and flipped starts: by up to 8 on signers; where the network's own is wrong by 20 to 90.
BIAS_WHOLE, BIAS = (0.0, 1.5, 9.0, 9.0), (0.0, math.inf, 9.0, 9.0)
ODDS = 1.0  # nats a frame against all but the network's own start, lest a tie leave it
LASTING = 10  # frames after which the difference of two starts' costs has a correlation of 0.2 to 0.4 (validation clips)
Clips = TypeVar("Clips", Observation, State)


def mirrored_labels(rays: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """The same points with left and right exchanged."""
    index = torch.as_tensor(POINT_MIRROR.copy(), device=rays.device)
    return rays[:, :, index], confidence[:, :, index]


def turned(state: State) -> State:
    """The start turned by half a turn about the image's vertical."""
    half = exp_so3(torch.tensor([0.0, torch.pi, 0.0], device=state.tau.device))
    return _with_rotations(state, torch.cat((half @ state.rotations[:, :, :1], state.rotations[:, :, 1:]), 2))


def depth_flipped(state: State) -> State:
    """The start with every bone's depth reversed and every label kept.

    With F the reflection in depth and C the one through the body's frontal plane, in which the rest pose's bones lie,
    world rotations become F G C: each bone's image stays where it is.
    """
    reflect = torch.diag(torch.tensor([1.0, 1.0, -1.0], device=state.tau.device))
    local = reflect @ state.rotations @ reflect
    return _with_rotations(state, local)


def _with_rotations(state: State, rotations: Tensor) -> State:
    return State(rotations, state.tau, state.betas, state.focal, state.contact, state.up, state.doubt)


def stack(states: list[State]) -> State:
    """Hypotheses side by side on the batch axis."""
    return State(*(torch.cat([getattr(s, n) for s in states]) for n in State.__dataclass_fields__))


def choose(joints: Tensor, doubt: Tensor, misfit: Tensor, kinds: list[int], whole: bool) -> Tensor:
    """The likeliest path (T) through the hypotheses, by index.

    joints: (H, T, J, 3) m in the camera's axes, about the pelvis; doubt: (H, T, J) log of the expected error, m;
    misfit: (H, T) reprojection error in nats; kinds: (H) what each hypothesis is; whole: the legs are seen.
    """
    hypotheses, frames = doubt.shape[:2]
    cost = doubt.sum(-1) + misfit
    cost = (cost + _against(cost.mean(-1), kinds, whole)[:, None]) / min(LASTING, frames)
    # Staying costs nothing but what the motion itself is; leaving costs how far the joints jump beyond it.
    scale = doubt.exp()
    step = (joints[:, None, 1:] - joints[None, :, :-1]).norm(dim=-1)  # (to, from, T - 1, J)
    own = torch.diagonal(step, dim1=0, dim2=1).permute(2, 0, 1)  # (H, T - 1, J)
    usual = torch.maximum(own[:, None], own[None])
    spread = torch.maximum(scale[:, None, 1:], scale[None, :, :-1])
    jump = ((step - usual).clamp_min(0) / spread).sum(-1)
    jump[range(hypotheses), range(hypotheses)] = 0
    best, *costs = cost.T.tolist()  # plain numbers: arrays this small take longer
    came = []
    for now, jumps in zip(costs, jump.permute(2, 0, 1).tolist(), strict=True):
        totals = [[before + leap for before, leap in zip(best, to, strict=True)] for to in jumps]
        ends = [min(row) for row in totals]
        came.append([row.index(end) for row, end in zip(totals, ends, strict=True)])
        best = [end + here for end, here in zip(ends, now, strict=True)]
    path = [best.index(min(best))]
    for sources in reversed(came):
        path.append(sources[path[-1]])
    return torch.tensor(path[::-1], device=doubt.device)


def _against(cost: Tensor, kinds: list[int], whole: bool) -> Tensor:
    """What speaks against each hypothesis, (H) nats a frame, by its mean cost (H): the others are compared with the network's own
    start, exchanged labels with the likeliest of those that keep them."""
    bias = cost.new_tensor([(BIAS_WHOLE if whole else BIAS)[kind] for kind in kinds])
    own = cost[kinds.index(OWN)] if OWN in kinds else cost.amin()
    odds = cost.new_tensor([ODDS * (kind != OWN) for kind in kinds])
    against = torch.minimum((own - cost).clamp_min(0), bias) + odds
    if EXCHANGED in kinds:
        row, kept = kinds.index(EXCHANGED), [h for h, kind in enumerate(kinds) if kind != EXCHANGED]
        best = kept[int((cost + against)[kept].argmin())]
        against[row] = against[best] + torch.minimum((cost[best] - cost[row]).clamp_min(0), bias[row]) + odds[row]
    return against


def pick(state: State, path: Tensor) -> State:
    """One clip (batch of 1) made of the chosen hypotheses; clip-wide values come from the most chosen one."""
    frames = torch.arange(len(path), device=path.device)
    main = int(torch.mode(path).values)
    rows = {n: getattr(state, n)[path, frames][None] for n in ("rotations", "tau", "contact", "up", "doubt")}
    return State(
        rows["rotations"], rows["tau"], state.betas[main : main + 1], state.focal[main : main + 1], rows["contact"],
        rows["up"], rows["doubt"],
    )  # fmt: skip


def select(clips: Clips, rows: list[int]) -> Clips:
    """An observation's or a state's clips by index."""
    values = (getattr(clips, n) for n in clips.__dataclass_fields__)
    return type(clips)(*(v[rows] for v in values))
