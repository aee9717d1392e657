# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the networks from a committed plan: `python -m bridge train --mode video|paper`.

With --device cuda on a GPU, where the same plans are tens of times faster. A run can be resumed on another device.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

import torch

from ..cli import DEVICE, Parser, natural
from ..errors import LgdError


def main(argv: list[str]) -> int:
    """`bridge train`: arguments after the command's name."""
    device = _device(argv)
    if device.type != "cpu":
        torch.set_default_device(device)  # before what is imported below makes its tables
    from . import config, loop

    parser = Parser(prog="bridge train", description=__doc__)
    parser.add_argument("--mode", choices=("video", "paper"), help="default: video, or the plan's")
    parser.add_argument("--plan", choices=sorted(config.PLANS), help="a plan in bridge/train/config.py (default: the mode's own)")
    parser.add_argument("--out", type=_path, help="folder of the run (default: runs/<plan>)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last.pt, where there is one")
    parser.add_argument("--init", type=_path, help="start from exported weights")
    parser.add_argument("--phase", type=int, default=0, help="start with this phase of the plan, from 0")
    parser.add_argument(
        "--data", type=_path, action="append", metavar="FOLDER",
        help="train on the AMASS .npz, .smpl and BVH files below it too (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--detected", type=_path, action="append", metavar="FILE",
        help="clips as a detector saw them, from `bridge record` (may be given several times)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=natural, default=1, help="of each process")
    parser.add_argument(
        "--processes", type=natural, help="share every batch; on CPUs faster than as many threads (default: 2, on a GPU 1)"
    )
    parser.add_argument("--export", type=_path, help="write the run's averaged weights as they are now, and stop")
    options = parser.parse_args(argv)
    processes = options.processes or (2 if device.type == "cpu" else 1)
    if device.type != "cpu" and processes > 1:
        raise LgdError("bad_input", "A GPU is used by one process.", "Leave out --processes.")
    _keep_memory(argv)
    torch.set_num_threads(options.threads)
    plan = config.PLANS[options.plan or options.mode or "video"]
    if options.mode not in (None, plan.mode):
        raise LgdError("bad_input", f"The plan {plan.name} trains {plan.mode} mode.", "Leave out --mode.")
    folder = options.out or Path("runs") / plan.name
    if folder.exists() and not folder.is_dir():
        raise LgdError("bad_input", f"{folder} is a file.", "Name a folder with --out.")
    if not 0 <= options.phase < len(plan.phases):
        text = f"The plan {plan.name} has no phase {options.phase}."
        raise LgdError("bad_input", text, f"Choose 0 to {len(plan.phases) - 1}.")
    if (folder / "last.pt").is_file() and not (options.resume or options.export):
        raise LgdError("bad_input", f"There is a run in {folder} already.", "Go on with it by --resume, or name another folder with --out.")
    if options.phase and options.resume:
        raise LgdError("bad_input", "A resumed run knows its phase.", "Leave out --phase or --resume.")
    if options.export is not None:
        if not (folder / "last.pt").is_file():
            raise LgdError("bad_input", f"There is no run in {folder} to export.", "Name its folder with --out.")
        if options.export.is_dir() or options.export.absolute() == (folder / "last.pt").absolute():
            raise LgdError("bad_input", f"{options.export} is {'a folder' if options.export.is_dir() else 'what the run resumes from'}.", "Name another file.")
        run = loop.Run(plan, folder, resume=True, init=None, data=options.data, recordings=options.detected)
        phase = plan.phases[min(run.phase, len(plan.phases) - 1)]
        run.export(options.export, run.task.validate(run.result(), phase))
        return 0
    wants = any(phase.detected for phase in plan.phases)
    if wants and not options.detected:
        raise LgdError(
            "bad_input", f"The plan {plan.name} trains on clips as a detector saw them.",
            "Record some with `bridge record`, and name the files with --detected.",
        )  # fmt: skip
    if options.detected and not wants:
        raise LgdError("bad_input", f"The plan {plan.name} trains on no recordings.", "Leave out --detected.")
    if plan.family and not options.init and not (options.resume and (folder / "last.pt").is_file()):
        text = f"The plan {plan.name} trains what {plan.family} keypoints have of their own."
        raise LgdError("bad_input", text, "Name what all share with --init.")
    arguments = (plan, folder, options.resume, options.init, options.data, options.phase, options.detected)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        if processes < 2:
            loop.Run(*arguments).go()
        else:
            loop.go_together(arguments, processes, options.threads)
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):  # a run that has begun is kept
                place.rmdir()
        raise
    return 0


def _path(text: str) -> Path:
    if not text.strip():  # an unset variable of a shell; as a path it would be the folder one stands in
        raise argparse.ArgumentTypeError("it has no name: give a file or a folder")
    return Path(text)


def _device(argv: list[str]) -> torch.device:
    """The device that --device names. Raises LgdError where it is another's or not here."""
    parser = Parser(prog="bridge train", add_help=False)
    parser.add_argument("--device", default="cpu")
    name = parser.parse_known_args(argv)[0].device
    if not DEVICE.fullmatch(name) or name in ("auto", "mps"):
        raise LgdError("bad_input", f"Networks are not trained on {name}.", "Choose cpu or cuda.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LgdError("bad_input", f"This machine has no device {name} that torch can use.", "Leave out --device.")
    return device


def _keep_memory(argv: list[str]) -> None:
    """Start again with an allocator that keeps freed memory: on Linux a third of the time goes into page faults else."""
    settings = {
        "OMP_WAIT_POLICY": "PASSIVE", "MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33),
        "MALLOC_TOP_PAD_": str(2**28),
    }  # fmt: skip
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.environ.update(settings)
        os.execv(sys.executable, [sys.executable, "-m", "bridge", "train", *argv])
