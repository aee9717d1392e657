# SPDX-License-Identifier: GPL-3.0-or-later
"""The floors that the method must reach, each compared with what was measured."""

from collections.abc import Callable
from dataclasses import dataclass

from .rows import LAST


@dataclass(frozen=True)
class Verdict:
    """One floor: what was asked, the value found (None: not measured in this run), whether it is met (None likewise)."""

    asked: str
    value: float | None
    limit: float
    met: bool | None

    def line(self) -> str:
        if self.met is None:
            return f"  {'--':<8}{self.asked}: not measured in this run"
        return f"  {'met' if self.met else 'MISSED':<8}{self.asked}: {self.value:.4g}"


def verdicts(result: dict) -> list[Verdict]:
    """All floors for the result of `command.evaluate`."""
    table, stress, views = (result.get(k) or {} for k in ("table", "stress", "multiview"))
    base, times = result.get("baselines") or {}, result.get("times") or {}
    pa = lambda row, condition, group="plain": table[row][condition][group]["pa"]  # noqa: E731
    every = lambda row, condition: base[row]["pa"][condition]["all"]  # noqa: E731
    view = lambda source, key: views[source]["video"]["given"]["mean"][key]  # noqa: E731
    percent = lambda new, old: 100 * (1 - new / old)  # noqa: E731
    # Weights that were trained with gradients lose by their absence whatever these are worth: no measure of that.
    blind = "paper_blind" if (result.get("blind_trained") or {}).get("paper") else None
    # Of a detector that swaps none nothing is measured.
    camera2 = lambda source: views[source]["video"]["given"]["camera 2"]["swapped_frames_wrong"]  # noqa: E731

    def more(row: str, other: str | None, condition: str) -> float:
        """How much further `row` lies below `other` than it does on clean 2D."""
        return (pa(other, condition) - pa(row, condition)) - (pa(other, "clean") - pa(row, "clean"))

    def near(distance: str) -> float:
        return abs(stress[f"distance_{distance}_pa"] - stress["distance_4m_pa"])

    return [
        _at_least("paper, val-plain clean: step 3 below step 0 in PA, %", lambda: percent(pa("paper3", "clean"), pa("paper0", "clean")), 15),
        _at_least("paper: that gain with 20 % missing over the gain on clean 2D, mm", lambda: more("paper3", "paper0", "missing"), 0),
        _at_least("paper: that gain with noise and 20 % missing over the gain on clean 2D, mm", lambda: more("paper3", "paper0", "noise 20%"), 0),
        _at_least("paper trained without gradient input, val-plain clean: PA rises by, mm", lambda: pa(blind, "clean") - pa("paper3", "clean"), 0),
        _at_least("paper trained without gradient input: rises more with 20 % missing, mm", lambda: more("paper3", blind, "missing"), 0),
        _at_least("paper trained without gradient input: rises more with noise and 20 % missing, mm", lambda: more("paper3", blind, "noise 20%"), 0),
        _at_least("paper faster than converged SMPLify at the common batch, times", lambda: base["smplify"]["ms_batch"] / times["paper3"]["ms_batch"], 100),
        _at_least("paper's PA below SMPLify's, subset, noise and 20 % missing, % (aim: 45)", lambda: percent(every("paper3", "noise 20%"), every("smplify", "noise 20%")), 0),
        _at_most("video, val-plain, clean 2D: PA, mm", lambda: pa(LAST, "clean"), 28),
        _at_most("video, val-plain, noise and 20 % missing: PA, mm", lambda: pa(LAST, "noise 20%"), 35),
        _at_most("video, val-hard, noise and occluded spans: PA, mm", lambda: pa(LAST, "spans", "hard"), 60),
        _at_most("video, val-plain, noise and 20 % missing: acceleration error, m/s^2", lambda: table[LAST]["noise 20%"]["plain"]["acc"], 8),
        _at_most("video, val-hard, noise and 5 % missing: acceleration error, m/s^2", lambda: table[LAST]["noise 5%"]["hard"]["acc"], 8),
        _at_least("video below paper with noise and 20 % missing, val-plain, %", lambda: percent(pa(LAST, "noise 20%"), pa("paper3", "noise 20%")), 30),
        _at_most("video, val-plain: PA from clean to 20 % missing rises by, mm", lambda: pa(LAST, "missing") - pa(LAST, "clean"), 8),
        _at_most("video, val-plain: PA from clean to noise and 20 % missing rises by, mm", lambda: pa(LAST, "noise 20%") - pa(LAST, "clean"), 8),
        _at_least("video: one shape for the clip (1 = yes)", lambda: stress["beta_vectors_in_a_clip"], 1),
        _at_most("start turned by 60 degrees: PA above the usual result by, mm", lambda: stress["start_turned_pa"] - stress["usual_pa"], 5),
        _at_most("start turned by 60 degrees: MPJPE above the usual result by, mm", lambda: stress["start_turned_mpjpe"] - stress["usual_mpjpe"], 5),
        _at_most("ten swapped frames, clean 2D: wrong ones, worst clip", lambda: stress["swap_wrong_frames_worst"], 2),
        _at_most("ten swapped frames, noise and 20 % missing: wrong ones, worst clip", lambda: stress["swap_noisy_wrong_frames_worst"], 2),
        _at_most("camera 2, BlazePose: swapped frames that come out wrong", lambda: camera2("blazepose"), 0),
        _at_most("camera 2, our detector: swapped frames that come out wrong", lambda: camera2("detector"), 0),
        _at_most("focal length wrong by a factor of two: PA changes by, mm", lambda: max(abs(stress["focal_half_pa_change"]), abs(stress["focal_double_pa_change"])), 5),
        _at_most("fifteen frames unseen: a joint moves beyond the truth by, mm a frame", lambda: stress["unseen_extra_mm_a_frame_camera"], 60),
        _at_most("at 1.2 m: PA differs from that at 4 m by, mm", lambda: near("1.2m"), 10),
        _at_most("at 15 m: PA differs from that at 4 m by, mm", lambda: near("15m"), 10),
        _at_most("beam clip, OpenPose, focal length given: PA, mm", lambda: view("openpose", "pa"), 45),
        _at_most("beam clip, OpenPose, focal length given: MPJPE, mm", lambda: view("openpose", "mpjpe"), 75),
        _at_most("beam clip, BlazePose, focal length given: PA, mm", lambda: view("blazepose", "pa"), 45),
        _at_most("beam clip, BlazePose, focal length given: MPJPE, mm", lambda: view("blazepose", "mpjpe"), 75),
        _at_most("beam clip, our detector, focal length given: PA, mm", lambda: view("detector", "pa"), 45),
        _at_most("beam clip, our detector, focal length given: MPJPE, mm", lambda: view("detector", "mpjpe"), 75),
        _at_least("video, 1,000 frames, all hypotheses: frames a second", lambda: stress["speed_fps_1000_frames"], 1000),
        _at_most("paper, a single image: ms", lambda: stress["paper_single_image_ms"], 20),
        _at_most("memory of both: MB", lambda: stress["peak_memory_mb"], 2048),
    ]  # fmt: skip


def _value(get: Callable[[], float | None]) -> float | None:
    try:
        value = get()
    except (KeyError, TypeError):
        return None
    return None if value is None or value != value else float(value)


def _at_most(asked: str, get: Callable, limit: float) -> Verdict:
    value = _value(get)
    return Verdict(f"{asked} (at most {limit:g})", value, limit, None if value is None else value <= limit)


def _at_least(asked: str, get: Callable, limit: float) -> Verdict:
    value = _value(get)
    return Verdict(f"{asked} (at least {limit:g})", value, limit, None if value is None else value >= limit)
