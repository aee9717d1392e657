# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: what to measure, and where the result goes."""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch

from ... import models
from ...body.files import load_body
from ...body.smpl import BodyModel
from ...cli import Parser, natural
from ...errors import LgdError
from ...lgd.checkpoint import weights_name
from ..baselines import cached_prior
from ..data import data_folder, load_mocap
from ..loop import git_commit
from .cases import Soles
from .made_up import ARMS, LEGS, evaluate_made_up
from .multiview import evaluate_multiview
from .noise import noise_alone
from .rendered import CLIPS, QUICK_CLIPS, rendered
from .report import text
from .rows import BATCH, Networks, our_rows
from .stress import stress
from .tables import BASELINES, QUICK, Scope, baseline_table, main_table, note, row_times
from .targets import verdicts

SECTIONS = ("table", "times", "baselines", "multiview", "stress", "noise", "rendered", "handheld", "carried", "waist", "seats", "arms")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="bridge evaluate", description="Measure the networks and the baselines.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--quick", action="store_true", help="a small part of everything, in two to four minutes")
    parser.add_argument("--rows", metavar="A,B,...", help="only these of: " + ", ".join(_names()))
    parser.add_argument("--sections", metavar="A,B,...", help="only these of: " + ", ".join(SECTIONS))
    parser.add_argument("--video-weights", type=Path, metavar="FILE", help="instead of those that ship")
    parser.add_argument("--paper-weights", type=Path, metavar="FILE")
    parser.add_argument("--video-blind-weights", type=Path, metavar="FILE", help="trained without feedback")
    parser.add_argument(
        "--paper-blind-weights", type=Path, metavar="FILE", help="trained without gradient input"
    )
    parser.add_argument(
        "--subset", type=natural, default=None, metavar="N", help="frames of the baselines' table (600)"
    )
    parser.add_argument(
        "--prior", type=Path, metavar="FILE", help="keep the baselines' pose prior in this file"
    )
    parser.add_argument("--threads", type=natural, default=2)
    return parser


def _names() -> list[str]:
    return [r.key for r in our_rows()] + list(BASELINES)


def main(argv: list[str]) -> int:
    """`bridge evaluate`: arguments after the command's name. Tables on stdout; raises LgdError for what is missing."""
    options = build_parser().parse_args(argv)
    names = _chosen(options.rows, _names(), "rows")
    sections = _chosen(options.sections, list(SECTIONS), "sections")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise LgdError("bad_input", f"The folder of {options.json} does not exist.", "Make it first.")
    if options.json is not None and options.json.is_dir():
        raise LgdError("bad_input", f"{options.json} is a folder.", "Name a file in it.")
    torch.set_num_threads(options.threads)
    started = time.time()
    result = evaluate(options, names, sections)
    result["minutes"] = round((time.time() - started) / 60, 1)
    print(text(result), end="", flush=True)
    if options.json is not None:
        _write(options.json, result)
    return 0


def _chosen(listed: str | None, known: list[str], what: str) -> list[str]:
    if listed is None:
        return known
    wanted = [w.strip() for w in listed.split(",") if w.strip()]
    odd = [w for w in wanted if w not in known]
    if odd or not wanted:
        raise LgdError(
            "bad_input",
            f"There are no such {what}: {', '.join(odd) or 'none named'}.",
            f"Known: {', '.join(known)}.",
        )
    return [k for k in known if k in wanted]


def evaluate(options: argparse.Namespace, names: list[str], sections: list[str]) -> dict:
    """Everything asked for, as one dict of plain values."""
    scope = QUICK if options.quick else Scope()
    if options.subset is not None:
        scope = Scope(**{**scope.__dict__, "subset": options.subset})
    body = BodyModel(load_body())
    mocap = load_mocap(body)
    val = mocap.of_split("val")
    soles = Soles(body)
    networks = Networks(
        options.video_weights, options.paper_weights, options.video_blind_weights, options.paper_blind_weights
    )
    rows = [r for r in our_rows() if r.key in names]
    baselines = [n for n in BASELINES if n in names]
    result: dict = {
        "quick": options.quick, "commit": git_commit(), "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "detector": models.NAME if models.there(models.mediapipe()) else "BlazePose full",
        "weights": {"video": _weights("video", options.video_weights), "paper": _weights("paper", options.paper_weights)},
        "blind_trained": networks.blind_trained, "batch": BATCH, "subset": scope.subset,
        "titles": {**{r.key: r.title for r in our_rows()}, "truth": "the truth itself"},
    }  # fmt: skip
    if "waist" in sections:
        from . import waist  # OpenCV

        waist.ready(data_folder())
    if "multiview" in sections:
        note("multiview ...")
        modes, cameras = (("video",), (1, 2)) if options.quick else (("video", "paper"), (0, 1, 2, 3))
        result["multiview"] = evaluate_multiview(data_folder(), networks, modes, cameras)
    if "stress" in sections:
        note("stress ...")
        files = [str(f) if f else "-" for f in (options.video_weights, options.paper_weights)]
        result["stress"] = stress(val, soles, networks, options.quick, files)
    if "times" in sections:
        note("times ...")
        result["times"] = row_times(val, soles, networks, rows, 2 if options.quick else 7)
    if "noise" in sections:
        note("noise ...")
        result["noise"] = noise_alone(val, soles, scope.longest, scope.most_clips)
    if "rendered" in sections:
        note("rendered ...")
        result["rendered"] = rendered(val, soles, networks, rows, QUICK_CLIPS if options.quick else CLIPS)
    for section, kinds in (("seats", LEGS), ("arms", ARMS)):
        if section in sections:
            note(f"{section} ...")
            result[section] = evaluate_made_up(val, soles, networks, rows, kinds, options.quick)
    if "handheld" in sections:
        note("handheld ...")
        from .handheld import evaluate_handheld  # OpenCV

        result["handheld"] = evaluate_handheld(data_folder(), networks, (2,) if options.quick else (0, 1, 2, 3))
    if "carried" in sections:
        note("carried ...")
        from .carried import evaluate_carried  # OpenCV

        result["carried"] = evaluate_carried(data_folder(), val, body, networks, 1 if options.quick else 3)
    if "waist" in sections:
        result["waist"] = waist.evaluate_waist(data_folder(), networks)
        note("waist ..." if result["waist"] else "waist: no data (bridge/train/evaluate/waist.py says where it comes from)")
    if "table" in sections or "baselines" in sections:
        table, kept = main_table(val, soles, networks, rows, scope)
        result["table"] = table if "table" in sections else None
        if "baselines" in sections:
            prior = cached_prior(mocap.of_split("train"), options.prior, 4000 if options.quick else 20000)
            result["baselines"] = baseline_table(soles, prior, kept, rows, baselines, scope)
            result["subset"] = len(next(iter(kept.values())).frames)
    result["floors"] = [v.__dict__ for v in verdicts(result)]
    return result


def _weights(mode: str, path: Path | None) -> str:
    return weights_name(mode) if path is None else str(path)


def _write(path: Path, result: dict) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(result, indent=1))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
