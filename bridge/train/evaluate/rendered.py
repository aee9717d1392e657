# SPDX-License-Identifier: GPL-3.0-or-later
"""What our own detector makes of people: subjects that no network has seen, rendered, and found by BlazePose."""

from ..data import Mocap, Sampler, generator
from ..detected import LAYOUT, Detections, record
from ..synthesize import LandmarkSets
from .cases import GROUPS, Case, Soles, cases_of
from .figures import Sums, score
from .rows import Networks, Row, predict

CLIPS, QUICK_CLIPS, SEED = 28, 4, 5


def rendered(mocap: Mocap, soles: Soles, networks: Networks, rows: list[Row], clips: int) -> dict:
    """{row: {group: {"pa", "mpjpe", "acc"}}} of clips of 48 frames in captured poses, the focal length given."""
    cases = [case for group in ("plain", "hard") for case in _cases(mocap, soles, group, clips)]
    out = {}
    for row in rows:
        sums = Sums()
        for case in cases:
            score(case, predict(row, networks, case, soles), sums)
        out[row.key] = sums.table()
    return out


def _cases(mocap: Mocap, soles: Soles, group: str, clips: int) -> list[Case]:
    sampler = Sampler(mocap.of_subjects(GROUPS[group]), soles.body, widen=False)
    sets = LandmarkSets(soles.body, [LAYOUT])
    return cases_of(Detections(record(sampler, clips, SEED), sets).whole(generator(0)), soles, group, sets.layouts)
