# SPDX-License-Identifier: GPL-3.0-or-later
"""The main table on the val split, and the baselines' own on a fixed subset of frames."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...body.joints import LIMBS
from ...lgd.video import VideoConfig
from ..baselines import Fit, Frames, PosePrior, Smplify
from ..data import Mocap
from ..metrics import pa_mpjpe
from ..recipe import LAYOUT_SHARE
from ..synthesize import LandmarkSets
from .cases import CONDITIONS, Case, Soles, make_cases
from .figures import Sums, frame_errors, score, true_contacts
from .rows import BATCH, Networks, Row, milliseconds, predict

SUBSET = 600  # frames of the baselines' table, half of them of val-plain, half of val-hard
STEPS = VideoConfig().steps  # paper mode takes three, video mode so many
BASELINES = {
    "smplify": ("SMPLify", lambda s: s.smplify()),
    "lbfgs_3": ("same energy, L-BFGS, 3 steps", lambda s: s.generic("lbfgs", 3)),
    f"lbfgs_{STEPS}": (f"same energy, L-BFGS, {STEPS} steps", lambda s: s.generic("lbfgs", STEPS)),
    "lbfgs": ("same energy, L-BFGS, converged", lambda s: s.generic("lbfgs", None)),
    "adam_3": ("same energy, Adam, 3 steps", lambda s: s.generic("adam", 3)),
    f"adam_{STEPS}": (f"same energy, Adam, {STEPS} steps", lambda s: s.generic("adam", STEPS)),
    "adam": ("same energy, Adam, converged", lambda s: s.generic("adam", None)),
}  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """How much to run: cameras a clip, frames a clip (None: all), clips a group (None: all), frames of the baselines,
    frames for their times at batch 1, the conditions they run under."""

    cameras: int = 4
    longest: int | None = None
    most_clips: int | None = None
    subset: int = SUBSET
    single: int = 4
    conditions: tuple[str, ...] = ("clean", "noise 5%", "noise 20%", "spans")


QUICK = Scope(cameras=1, longest=60, most_clips=2, subset=4, single=0, conditions=("noise 20%",))


@dataclass
class Kept:
    """Frames of the subset under one condition, and our rows' joints there. frames: for the baselines; truth (N, 24, 3);
    groups (N); joints: row -> (N, 24, 3)."""

    frames: Frames
    truth: Tensor
    groups: list[str]
    joints: dict[str, list[Tensor]] = field(default_factory=dict)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main_table(
    mocap: Mocap, soles: Soles, networks: Networks, rows: list[Row], scope: Scope
) -> tuple[dict, dict[str, Kept]]:
    """All rows under all conditions: {row: {condition: {group: figures}}} with "truth" as a row for its own sliding;
    and the subset's frames by condition."""
    table: dict[str, dict] = {row.key: {} for row in rows}
    table["truth"] = {}
    kept: dict[str, Kept] = {}
    for condition in CONDITIONS:
        cases = make_cases(
            mocap, soles, ("plain", "hard", "walk"), condition, scope.cameras, scope.longest, scope.most_clips
        )
        chosen = _subset(cases, scope.subset)
        kept[condition] = _keep(soles, cases, chosen)
        for row in rows:
            started, sums = time.time(), Sums()
            mine: dict[int, Tensor] = {}
            for index, case in enumerate(cases):
                prediction = predict(row, networks, case, soles)
                score(case, prediction, sums)
                mine[index] = prediction.joints
            kept[condition].joints[row.key] = [mine[i][f] for i, f in chosen]
            table[row.key][condition] = sums.table()
            note(
                f"{condition}: {row.title}, {sum(c.frames for c in cases)} frames in {time.time() - started:.0f} s"
            )
        truth = Sums()
        for case in cases:
            if case.frames > 2 and true_contacts(case).any():
                truth_only(case, truth)
        table["truth"][condition] = truth.table()
    return table, kept


def truth_only(case: Case, sums: Sums) -> None:
    """The truth's own sliding: the floor of that column."""
    from .figures import Prediction

    score(case, Prediction(case.joints, case.soles, torch.zeros(case.frames, 24), case.betas), sums)


def _subset(cases: list[Case], count: int) -> list[tuple[int, int]]:
    """(case, frame) spread evenly over val-plain and over val-hard, half of them each; the same under every condition."""
    out = []
    for group in ("plain", "hard"):
        every = [
            (i, f) for i, c in enumerate(cases) if c.group == group for f in range(c.frames) if bool(c.ok[f])
        ]
        wanted = min(max(count // 2, 1), len(every))
        out += [every[int(i)] for i in torch.linspace(0, len(every) - 1, wanted)]
    return out


def _keep(soles: Soles, cases: list[Case], chosen: list[tuple[int, int]]) -> Kept:
    sets = LandmarkSets(soles.body, list(LAYOUT_SHARE))
    layout = torch.tensor([sets.layouts.index(cases[i].layout) for i, _ in chosen])
    frames = Frames(
        torch.stack([cases[i].rays[f] for i, f in chosen]), torch.stack([cases[i].confidence[f] for i, f in chosen]),
        sets.offsets[layout], sets.directions[layout], sets.parents,
    )  # fmt: skip
    return Kept(
        frames, torch.stack([cases[i].joints[f] for i, f in chosen]), [cases[i].group for i, _ in chosen]
    )


def baseline_table(
    soles: Soles, prior: PosePrior, kept: dict[str, Kept], rows: list[Row], names: list[str], scope: Scope
) -> dict[str, dict]:
    """{row: {"title", "pa": {condition: {group: mm}}, "mpjpe", "iterations", "converged", "px", "ms_1", "ms_batch"}}."""
    out: dict[str, dict] = {}
    for row in rows:
        entry = out.setdefault(row.key, {"title": row.title, "pa": {}, "mpjpe": {}})
        for condition in scope.conditions:
            _judge(entry, condition, torch.stack(kept[condition].joints[row.key]), kept[condition])
    for name in names:
        title, solve = BASELINES[name]
        entry = out.setdefault(
            name, {"title": title, "pa": {}, "mpjpe": {}, "iterations": {}, "converged": {}, "px": {}}
        )
        for condition in scope.conditions:
            part, parts, times = kept[condition], [], []
            for frames in _batches(part.frames):
                started = time.perf_counter()
                parts.append(solve(Smplify(soles.body, prior, frames)))
                times.append((len(frames), time.perf_counter() - started))
            _judge(entry, condition, torch.cat([p.joints for p in parts]), part)
            entry["iterations"][condition] = _mean(parts, "iterations")
            entry["converged"][condition] = _mean(parts, "converged")
            entry["px"][condition] = _mean(parts, "reprojection")
            if condition == "noise 20%":
                full = [seconds for count, seconds in times if count == BATCH]
                if full:  # a few frames take as long as many: their time is not that of the common batch
                    entry["ms_batch"] = sum(full) * 1000 / (BATCH * len(full))
                if scope.single:
                    entry["ms_1"] = _single(solve, soles, prior, part.frames, scope.single)
            note(f"{condition}: {title}, {len(part.frames)} frames in {sum(s for _, s in times):.0f} s")
    return out


def _single(
    solve: Callable[[Smplify], Fit], soles: Soles, prior: PosePrior, frames: Frames, count: int
) -> float:
    """ms a frame when each frame is solved alone."""
    some = torch.linspace(0, len(frames) - 1, count).long()
    started = time.perf_counter()
    for index in some:
        solve(Smplify(soles.body, prior, frames.rows(index[None])))
    return (time.perf_counter() - started) * 1000 / count


def _batches(frames: Frames) -> Iterator[Frames]:
    for first in range(0, len(frames), BATCH):
        yield frames.rows(slice(first, first + BATCH))


def _mean(parts: list[Fit], name: str) -> float:
    return float(torch.cat([getattr(p, name).float() for p in parts]).mean())


def _judge(entry: dict, condition: str, joints: Tensor, part: Kept) -> None:
    pa, plain = frame_errors(joints, part.truth)
    for key, values in (("pa", pa), ("mpjpe", plain)):
        figures = {"all": float(values.mean())}
        for group in ("plain", "hard"):
            mine = torch.tensor([g == group for g in part.groups])
            figures[group] = float(values[mine].mean()) if mine.any() else float("nan")
        entry[key][condition] = figures


def row_times(
    mocap: Mocap, soles: Soles, networks: Networks, rows: list[Row], repeats: int
) -> dict[str, dict]:
    """ms a frame of every row of ours, at batch 1 and at BATCH frames."""
    case = make_cases(mocap, soles, ("plain",), "noise 20%", 1, 300, 1)[0]
    out = {}
    for row in rows:
        single, many = milliseconds(row, networks, case, repeats)
        out[row.key] = {"ms_1": single, "ms_batch": many}
    return out


def pa_of(joints: Tensor, truth: Tensor) -> Tensor:
    """PA-MPJPE (T) mm over the limb joints of (T, 24, 3)."""
    return pa_mpjpe(joints[:, list(LIMBS)], truth[:, list(LIMBS)])
