# SPDX-License-Identifier: GPL-3.0-or-later
"""Which feet and wrists are at rest: read by a small network off the solved motion and the points' own motion."""

import torch
from torch import Tensor, nn

from ..body.smpl import Posed
from ..keypoints.formats import POINT_INDEX
from .energy import FEET, FEET_JOINTS
from .observation import PERSON, Observation

WRISTS = torch.tensor((20, 21))  # joints
# For left heel, left toe, right heel, right toe, left wrist, right wrist: the point itself, and one that every detector has.
OWN = torch.cat((FEET, torch.tensor([POINT_INDEX["left_wrist"], POINT_INDEX["right_wrist"]])))
NEAR = torch.tensor([POINT_INDEX[f"{side}_{part}"] for side, part in
        (("left", "ankle"), ("left", "ankle"), ("right", "ankle"), ("right", "ankle"), ("left", "wrist"), ("right", "wrist"))])  # fmt: skip
JOINTS = torch.cat((FEET_JOINTS, WRISTS))  # whose expected error tells how far the solved motion may be trusted
SLOW = 0.005  # m a frame at 30 fps: about what rest looks like under a detector's noise


class Touch(nn.Module):
    """`forward` gives the logit of each of the six points being at rest, frame by frame, whatever the clip's length."""

    def __init__(self, width: int = 32, kernel: int = 9):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(9, width, kernel, padding=kernel // 2), nn.GELU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2), nn.GELU(), nn.Conv1d(width, 1, 1),
        )  # fmt: skip

    def forward(self, posed: Posed, turn: Tensor, up: Tensor, doubt: Tensor, obs: Observation, static: Tensor) -> Tensor:
        """Logits (B, T, 6).

        posed: in the virtual camera's frame; turn: (B, T, 3, 3) camera to virtual camera; up: (B, T, 3) in the virtual
        camera's frame; doubt: (B, T, 24) log m; static: (B) in {0, 1}.
        """
        places = torch.cat((posed.points[:, :, FEET], posed.joints[:, :, WRISTS]), 2)
        heights = places @ nn.functional.normalize(up, dim=-1)[..., None]  # (B, T, 6, 1)
        above = (heights - heights[:, :, :4].amin(2, keepdim=True)).squeeze(-1)
        speed = _speed(places @ turn)
        seen = [(obs.confidence[..., rows] > 0).to(speed) for rows in (OWN, NEAR)]
        across = [obs.velocity[:, :, rows].norm(dim=-1) * PERSON for rows in (OWN, NEAR)]
        hand = torch.zeros_like(speed)
        hand[..., 4:] = 1
        features = torch.stack(
            (
                (speed / SLOW).log1p(), *((a / SLOW).log1p() * s for a, s in zip(across, seen, strict=True)), *seen,
                (above * 10).clamp(0, 5), hand, static[:, None, None].expand_as(speed), doubt[..., JOINTS] + 2.5,
            ), 2,
        )  # fmt: skip
        count, frames = speed.shape[:2]
        out = self.layers(features.permute(0, 3, 2, 1).flatten(0, 1))  # (B * 6, 9, T)
        return out.unflatten(0, (count, 6))[:, :, 0].transpose(1, 2)


def _speed(places: Tensor) -> Tensor:
    """(B, T, K) m a frame by central differences. places: (B, T, K, 3)."""
    out = torch.zeros_like(places[..., 0])
    if places.shape[1] > 2:
        out[:, 1:-1] = (places[:, 2:] - places[:, :-2]).norm(dim=-1) / 2
        out[:, 0], out[:, -1] = out[:, 1], out[:, -2]
    return out
