# SPDX-License-Identifier: GPL-3.0-or-later
"""People who sit and kneel: trunks of subjects that no network has seen over legs as `legs.SEATS` has them, and over their own."""

import torch

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
OWN = "as captured"


def evaluate_seats(mocap: Mocap, soles: Soles, networks: Networks, rows: list[Row], quick: bool) -> dict:
    """{row: {kind of SEATS: {condition: PA-MPJPE in mm}}} of clips of 96 frames, the focal length given."""
    windows = windows_of(mocap.of_subjects(VAL_PLAIN), FRAMES, STRIDE)
    taken = upright(windows).nonzero().squeeze(-1)[: 4 if quick else None]
    windows = Windows(windows.rotations[taken], windows.trans[taken], windows.lower_true[taken])
    out: dict = {row.key: {} for row in rows}
    for kind in (OWN, *SEATS):
        for condition in SHOWN:
            cases = _cases(windows, kind, condition, soles)
            for row in rows:
                errors = [frame_errors(predict(row, networks, case, soles).joints, case.joints)[0].mean() for case in cases]
                out[row.key].setdefault(kind, {})[condition] = float(torch.stack(errors).mean())
    return out


def _cases(windows: Windows, kind: str, condition: str, soles: Soles) -> list[Case]:
    if kind != OWN:
        windows = seated(windows, torch.ones(len(windows.trans), dtype=torch.bool), generator(SEED), kind)
    sets = LandmarkSets(soles.body, list(LAYOUT_SHARE))
    return cases_of(synthesize(windows, sets, CONDITIONS[condition], generator(SEED)), soles, "plain", sets.layouts)
