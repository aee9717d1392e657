# SPDX-License-Identifier: GPL-3.0-or-later
"""The result as text."""

from .targets import verdicts

_UNITS = {
    "pa": "PA-MPJPE mm",
    "mpjpe": "MPJPE mm",
    "acc": "acceleration error m/s^2",
    "slide": "sliding mm a frame",
    "ground": "feet off the ground mm",
}
_TITLE = 34


def _cell(value: float | None, width: int = 10) -> str:
    if value is None or value != value:
        return "-".rjust(width)
    return f"{value:.1f}".rjust(width) if abs(value) < 1000 else f"{value:.0f}".rjust(width)


def _line(title: str, cells: list[float | None]) -> str:
    return title.ljust(_TITLE) + "".join(_cell(c) for c in cells)


def text(result: dict) -> str:
    """All that was measured, as tables."""
    parts = [_head(result)]
    if result.get("table"):
        parts += _main(result)
    if result.get("times"):
        parts += [f"Time, ms a frame (batch 1; batch {result['batch']})"]
        parts += [
            _line(result["titles"][k], [v["ms_1"], v["ms_batch"]]) for k, v in result["times"].items()
        ] + [""]
    if result.get("baselines"):
        parts += _baselines(result)
    if result.get("multiview"):
        parts += _multiview(result["multiview"])
    if result.get("noise"):
        parts += ["The detected points at their true depths, none missing: PA-MPJPE mm; noise averaged over 1 s; over 3.2 s"]
        parts += [_line(f"val-{k}", [v["points"], v["second"], v["lasting"]]) for k, v in result["noise"].items()] + [""]
    if result.get("rendered"):
        parts += _rendered(result)
    for section, what in (("seats", "people who sit and kneel"), ("arms", "hands in places")):
        if result.get(section):
            parts += _made_up(result, section, what)
    if result.get("handheld"):
        parts += ["Beam clip, one camera turned, our detector: limb points in the world, the clip laid on the truth, mm, camera untold; followed; its error, degrees; clips seen to travel; no lens told: how far it is off by the background, %; by the person alone; up, degrees; by the person alone"]
        keys = ("untold", "followed", "turns", "travels", "lens", "lens_person", "up", "up_person")
        parts += [_line(way, [v[key] for key in keys]) for way, v in result["handheld"].items()] + [""]
    if result.get("carried"):
        parts += ["A camera carried through a room, our detector: limb joints in the world, the clip laid on the truth, mm, path untold; found; the true one; metres walked; truly; focal length, times; the path's turns, degrees; its up, degrees; the ground's slope under the walk, mm; clips seen to travel"]
        keys = ("untold", "found", "true", "way", "true_way", "focal", "turns", "up", "slope", "seen")
        parts += [_line(way, [v[key] for key in keys]) for way, v in result["carried"].items()] + [""]
    if result.get("waist"):
        parts += _waist(result["waist"])
    if result.get("stress"):
        parts += ["Stress tests of video mode"]
        for name, value in result["stress"].items():
            parts.append(
                f"  {name.replace('_', ' ')}: "
                + (f"{value:.4g}" if isinstance(value, (int, float)) else str(value))
            )
        parts.append("")
    found = verdicts(result)
    met, missed = sum(v.met is True for v in found), sum(v.met is False for v in found)
    parts += [
        f"Floors: {met} met, {missed} missed, {len(found) - met - missed} not measured",
        *(v.line() for v in found),
    ]
    return "\n".join(parts) + "\n"


def _head(result: dict) -> str:
    lines = [
        f"{'Quick look' if result['quick'] else 'Evaluation'}, commit {result['commit'][:10]}, {result['machine']}"
    ]
    lines += [f"  {mode}: {name}" for mode, name in result["weights"].items()]
    lines.append(f"  our detector: {result['detector']}")
    for mode, trained in result["blind_trained"].items():
        how = (
            "trained without it"
            if trained
            else "the same weights with that input zeroed, not trained without it"
        )
        lines.append(f"  {mode} without its feedback: {how}")
    return "\n".join(lines) + "\n"


def _main(result: dict) -> list[str]:
    table, titles, lines = result["table"], result["titles"], []
    conditions = list(next(iter(table.values())))
    for group, keys in (
        ("plain", ("pa", "mpjpe", "acc")),
        ("hard", ("pa", "mpjpe", "acc")),
        ("walk", ("pa", "slide", "ground")),
    ):
        for key in keys:
            head = f"val-{group}: {_UNITS[key]}"
            lines.append(head.ljust(_TITLE) + "".join(c.rjust(10) for c in conditions))
            for row, entry in table.items():
                cells = [entry.get(c, {}).get(group, {}).get(key) for c in conditions]
                if row != "truth" or key == "slide":
                    lines.append(_line(titles.get(row, row), cells))
            lines.append("")
    return lines


def _baselines(result: dict) -> list[str]:
    base = result["baselines"]
    conditions = list(next(iter(base.values()))["pa"])
    lines = [
        f"Baselines and our rows on the same {result['subset']} frames (val-plain and val-hard), true focal length"
    ]
    for key, group in (("pa", "all"), ("pa", "plain"), ("pa", "hard"), ("mpjpe", "all")):
        lines.append(f"{_UNITS[key]}, {group}".ljust(_TITLE) + "".join(c.rjust(10) for c in conditions))
        lines += [_line(e["title"], [e[key][c][group] for c in conditions]) for e in base.values()]
        lines.append("")
    lines.append(f"iterations; converged %; px left; ms a frame at batch 1; at batch {result['batch']}")
    for entry in base.values():
        if "iterations" in entry:
            mean = lambda k: sum(entry[k].values()) / len(entry[k])  # noqa: B023, E731
            lines.append(_line(
                entry["title"], [mean("iterations"), 100 * mean("converged"), mean("px"), entry.get("ms_1"), entry.get("ms_batch")]
            ))  # fmt: skip
    lines += [
        "px: of a person 300 px tall. No public fitter of 2D points to SMPL installs from PyPI (see baselines.py).",
        "",
    ]
    return lines


def _rendered(result: dict) -> list[str]:
    keys = [(group, key) for group in ("plain", "hard") for key in ("pa", "mpjpe", "acc")]
    head = "Rendered people, found by BlazePose: PA mm, MPJPE mm, acceleration error m/s^2 on val-plain; on val-hard"
    rows = result["rendered"].items()
    return [head, *(_line(result["titles"][k], [v.get(g, {}).get(n) for g, n in keys]) for k, v in rows), ""]


def _made_up(result: dict, section: str, what: str) -> list[str]:
    lines = []
    for row, kinds in result[section].items():
        conditions = list(next(iter(kinds.values())))
        lines.append(f"{result['titles'][row]}: {what}, PA-MPJPE mm: {'; '.join(conditions)}")
        lines += [_line(f"    {kind}", list(found.values())) for kind, found in kinds.items()] + [""]
    return lines


def _multiview(views: dict) -> list[str]:
    lines = [
        "Beam clip, one camera at a time: PA, MPJPE of landmarks; PA, MPJPE of SMPL joints (mm); focal over true"
    ]
    for source, modes in views.items():
        for mode, kinds in modes.items():
            for known, results in kinds.items():
                for name, r in results.items():
                    title = f"{source}, {mode}, focal {known}, {name}" if name == "mean" else f"    {name}"
                    cells = [r["pa"], r["mpjpe"], r["pa_joints"], r["mpjpe_joints"]]
                    extra = f"{r['focal_over_true']:10.2f}" if "focal_over_true" in r else ""
                    if "swapped_frames_wrong" in r:
                        extra += f"   swapped frames: {r['swapped_frames']}, that come out wrong: {r['swapped_frames_wrong']}"
                    lines.append(title.ljust(_TITLE + 8) + "".join(_cell(c) for c in cells) + extra)
    return [*lines, ""]


def _waist(seen: dict) -> list[str]:
    lines = ["People seen to the waist. Four webcams: PA and MPJPE of the arms, mm, focal length given; unknown; frames that face the other way, %"]
    for name, kinds in seen.get("desk", {}).items():
        figures = [kinds[known][key] for known in ("given", "unknown") for key in ("pa", "mpjpe")]
        lines.append(_line(f"    {name}", [*figures, kinds["given"]["away"], kinds["unknown"]["away"]]))
    if signers := seen.get("signers"):
        lines.append("Signers: clips; frames; those that face the other way, %; hands before the chest that come out behind it, %")
        lines.append(_line("    all", list(signers.values())))
    return [*lines, ""]
