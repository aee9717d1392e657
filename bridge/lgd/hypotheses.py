# SPDX-License-Identifier: GPL-3.0-or-later
"""Several starts solved together, and the best of them chosen over time.

A single view leaves a person turned by half a turn, limbs flipped in depth, and exchanged labels hard to tell apart
in one frame; over time they are not. Every hypothesis is a complete estimate of the clip; the choice is a Viterbi path
over frames. Its costs are learned and measured in metres: the network's own expected joint error, and how far the joints
jump between frames. No weight is set by hand.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..keypoints.formats import POINT_MIRROR
from ..rotations import exp_so3
from .observation import Observation
from .video import State

NAMES = ("as seen", "labels exchanged", "turned", "depth flipped")


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
    names = [n for n in State.__dataclass_fields__ if n != "energy"]
    return State(*(torch.cat([getattr(s, n) for s in states]) for n in names))


@dataclass
class Choice:
    """path (T) index of the hypothesis chosen in each frame; cost (H, T) m."""

    path: Tensor
    cost: Tensor


def choose(joints: Tensor, doubt: Tensor) -> Choice:
    """The cheapest path through the hypotheses.

    joints: (H, T, 24, 3) m in the camera's frame, about the pelvis; doubt: (H, T, 24) log of the expected error, m.
    """
    hypotheses, frames = doubt.shape[:2]
    cost = doubt.exp().mean(-1)
    best = cost[:, 0]
    came = torch.zeros(hypotheses, frames, dtype=torch.long, device=cost.device)
    # Staying costs nothing but what the motion itself is; leaving costs how far the joints jump beyond it.
    step = (joints[:, None, 1:] - joints[None, :, :-1]).norm(dim=-1).mean(-1)  # (to, from, T - 1)
    own = torch.diagonal(step, dim1=0, dim2=1).T  # (H, T - 1)
    jump = (step - own[None]).clamp_min(0) + (step - own[:, None]).clamp_min(0)
    jump = jump / 2
    for t in range(1, frames):
        total = best[None] + jump[:, :, t - 1]
        came[:, t] = total.argmin(1)
        best = total.gather(1, came[:, t : t + 1]).squeeze(1) + cost[:, t]
    path = torch.empty(frames, dtype=torch.long, device=cost.device)
    path[-1] = best.argmin()
    for t in range(frames - 1, 0, -1):
        path[t - 1] = came[path[t], t]
    return Choice(path, cost)


def pick(state: State, path: Tensor) -> State:
    """One clip (batch of 1) made of the chosen hypotheses; clip-wide values come from the most chosen one."""
    frames = torch.arange(len(path), device=path.device)
    main = int(torch.mode(path).values)
    rows = {n: getattr(state, n)[path, frames][None] for n in ("rotations", "tau", "contact", "up", "doubt")}
    return State(
        rows["rotations"], rows["tau"], state.betas[main : main + 1], state.focal[main : main + 1], rows["contact"],
        rows["up"], rows["doubt"],
    )  # fmt: skip


def select(obs: Observation, rows: list[int]) -> Observation:
    """An observation's clips by index."""
    return Observation(*(getattr(obs, n)[rows] for n in Observation.__dataclass_fields__))
