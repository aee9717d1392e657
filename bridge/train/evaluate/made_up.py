# SPDX-License-Identifier: GPL-3.0-or-later
"""People with legs or arms that training makes up: subjects that no network has seen who sit, kneel and reach, and as they were captured."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..arms import HANDS, reaching
from ..data import VAL_PLAIN, Mocap, Windows, generator
from ..legs import SEATS, seated, upright
from ..recipe import LAYOUT_SHARE
from ..synthesize import LandmarkSets, synthesize
from ..tasks import windows_of
from .cases import CONDITIONS, Case, Soles, cases_of
from .figures import frame_errors
from .rows import Networks, Row, predict

FRAMES, STRIDE, SEED = 96, 48, 5
SHOWN = ("clean", "noise 20%")
OWN, RISING = "as captured", "sit down or rise"
Change = Callable[[Windows, Tensor, torch.Generator], Windows]
LEGS: dict[str, Change] = {**{kind: partial(seated, kind=kind) for kind in SEATS}, RISING: partial(seated, rising=1.0)}
ARMS: dict[str, Change] = {kind: partial(reaching, kind=kind) for kind in HANDS}


def evaluate_made_up(mocap: Mocap, soles: Soles, networks: Networks, rows: list[Row], kinds: dict[str, Change], quick: bool) -> dict:
    """{row: {kind: {condition: PA-MPJPE in mm}}} of clips of 96 frames of LEGS or ARMS, the focal length given."""
    windows = windows_of(mocap.of_subjects(VAL_PLAIN), FRAMES, STRIDE)
    taken = upright(windows).nonzero().squeeze(-1)[: 4 if quick else None]
    windows = Windows(windows.rotations[taken], windows.trans[taken], windows.lower_true[taken])
    out: dict = {row.key: {} for row in rows}
    everyone = torch.ones(len(taken), dtype=torch.bool)
    for kind, change in {OWN: None, **kinds}.items():
        changed = change(windows, everyone, generator(SEED)) if change else windows
        for condition in SHOWN:
            cases = _cases(changed, condition, soles)
            for row in rows:
                errors = [frame_errors(predict(row, networks, case, soles).joints, case.joints)[0].mean() for case in cases]
                out[row.key].setdefault(kind, {})[condition] = float(torch.stack(errors).mean())
    return out


def _cases(windows: Windows, condition: str, soles: Soles) -> list[Case]:
    sets = LandmarkSets(soles.body, list(LAYOUT_SHARE))
    return cases_of(synthesize(windows, sets, CONDITIONS[condition], generator(SEED)), soles, "plain", sets.layouts)
