# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: results and figures on stdout, progress and messages on stderr, nothing written on failure."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn, TextIO

from . import places
from .errors import LgdError
from .faults import translate

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
CLEAR = "\r\x1b[K" if os.name != "nt" else "\r" + 79 * " " + "\r"  # Windows' console shows the escape as letters, unless told otherwise
CHECKOUT_ONLY = {"train": "bridge.train.command", "evaluate": "bridge.train.evaluate", "record": "bridge.train.detected"}
CANCELLED = {"train": "Cancelled; --resume goes on from what the run last saved, which it does every four minutes."}

# What sentences advise in the words of the add-on's menus: what the command line has in their place. The first that fits is taken.
OPTIONS = {
    "Press Repair in the preferences, or set Camera to New": "Install it (pip install pycolmap), or leave --travels out",
    "Draw a box round one who is missing, and solve them alone": "Give --box round one who is missing, and fit them alone",
    ". Detect shows them, to tick": "",
    "look for 2 people, or draw a box round the one to solve": "give --people 2, or --box round the one to take",
    "Draw a box round the person, choose other frames, or use another detector": "Give --box round the person, other --frames, or another --detector",
    "Draw a box round the person": "Give --box round the person",
    "set Camera to Travelling": "give the footage with --travels",
    "set Camera to New": "leave --camera out",
    "Set the range to one take": "Give one take by --frames A:B",
    "30 frames a second are taken.": "30 frames a second are taken; --fps tells another rate.",
    "30 frames a second are assumed.": "30 frames a second are assumed; --fps tells another rate.",
    "has no 'image_size'. Export the keypoints again;": "has no 'image_size'. Tell it by --size W,H;",
    "no size of the picture. Multiply x by the picture's width in pixels and y by its height;": "no size of the picture. Tell it by --size W,H;",
    "the smallest usual one that holds all points.": "the smallest usual one that holds all points; --size tells another.",
    ", as the worker's log tells": "",  # what it says is on standard error
    ", or release the worker": "",
    "in the movie clip editor and choose Scene Camera": "in Blender's movie clip editor, or elsewhere, and give it by --camera",
}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise LgdError (bad_input) instead of printing the usage."""
        text = message[:1].upper() + message[1:].rstrip(".")
        minus = " A value that begins with a minus is written --option=value." if "expected one argument" in text else ""
        raise LgdError("bad_input", f"{text}.", f"See `{self.prog} --help`.{minus}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 bad input, 3 no person, 4 set-up, 130 cancelled, 1 our defect."""
    arguments = sys.argv[1:] if argv is None else argv
    _open_streams()
    if not arguments:
        if sys.stdin is not None and sys.stdin.isatty():
            build_parser().print_help()
            return 0
        arguments = ["serve"]
    interrupted: list[int] = []

    def interrupt(number, frame):
        interrupted.append(number)
        raise KeyboardInterrupt

    signals = [signal.SIGINT, signal.SIGTERM]
    closed = getattr(signal, "SIGHUP", None)  # a terminal that is closed; under nohup it is ignored
    if closed is not None and signal.getsignal(closed) is signal.SIG_DFL:
        signals.append(closed)
    previous = [signal.signal(number, interrupt) for number in signals]
    try:
        return run(arguments)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
        # Packages that are being imported turn an interrupt into errors of their own.
        if interrupted or isinstance(error, KeyboardInterrupt):
            tell(CANCELLED.get(arguments[0], "Cancelled; nothing was written."))
            return 130
        fault = error if isinstance(error, LgdError) else translate(error)
        tell(by_options(fault.sentence()))
        return fault.exit_code
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def tell(text: str, end: str = "\n") -> None:
    """A message on standard error, in place of the line of progress on a terminal. That nobody reads it any more (`2>&1 | head`) ends no work."""
    try:
        print(f"{CLEAR}{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stderr.fileno())  # what is still in the buffer must go somewhere, or it makes the exit code 120
        os.close(null)


def by_options(text: str) -> str:
    """A sentence that advises the command line's own options in place of the add-on's menus."""
    for chosen, option in OPTIONS.items():
        text = text.replace(chosen, option)
    return text


def _open_streams() -> None:
    """Nowhere in the place of streams that whoever started us has closed: the next file opened would have their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


def run(arguments: list[str]) -> int:
    """Run one command; faults come out as exceptions."""
    if arguments[0] in CHECKOUT_ONLY:
        return _checkout(arguments[0], arguments[1:])
    options, rest = build_parser().parse_known_args(arguments)
    if rest:
        raise LgdError("bad_input", f"Unrecognized arguments: {' '.join(rest)}.", f"See `bridge {options.command} --help`.")
    if options.command == "serve":
        return _serve()
    stdout = _claim_stdout()
    try:
        if options.command == "selftest":
            from .selftest import selftest

            return selftest(options.device, stdout)
        if options.command == "fetch":
            return _fetch(options.source, stdout)
        from . import commands

        return (commands.detect if options.command == "detect" else commands.fit)(options, stdout)
    finally:
        with contextlib.suppress(OSError):  # what has been written stands, whether or not anybody still reads
            stdout.flush()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `train`, `evaluate` and `record` have their own options."""
    parser = Parser(prog="bridge", description="Footage to SMPL motion by learned gradient descent.")
    parser.add_argument("--version", action="version", version=places.version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    detect = commands.add_parser("detect", help="find 2D keypoints in a video or a folder of images")
    detect.add_argument("input", type=_named, help="a video, an image or a folder of images")
    detect.add_argument("-o", "--output", type=Path, default=Path("keypoints.npz"), metavar="FILE", help="default: keypoints.npz, here")
    _shared(detect)
    fit = commands.add_parser("fit", help="fit the body to footage or keypoints")
    fit.add_argument(
        "input", type=_named, help="a video, a folder of images, or keypoints (.npz, .json, a folder of .json)"
    )
    fit.add_argument("-o", "--output", type=Path, default=Path("motion.npz"), metavar="FILE", help="default: motion.npz, here; of several people motion_0.npz and so on")
    _shared(fit)
    fit.add_argument("--size", type=_size, metavar="W,H", help="the picture's width and height in pixels, for keypoint files that do not hold it")
    fit.add_argument("--mode", choices=("paper", "video"), help="default: video where its weights are here")
    fit.add_argument("--weights", metavar="FILE", help="weights of your own training (its best.pt) instead of those that ship")
    fit.add_argument("--focal", type=_positive, metavar="PX", help="the focal length in pixels (not mm), where it is known")
    fit.add_argument("--camera", metavar="FILE", help=".npz with T_world_cam, cam_K, or both, and perhaps distortion (OpenCV's 4, 5 or 8 values)")
    moves = fit.add_mutually_exclusive_group()  # else: as it is seen to
    moves.add_argument("--still", dest="moves", action="store_const", const="still", help="the camera stands still, whatever the background seems to do")
    moves.add_argument("--travels", dest="moves", action="store_const", const="travels", help="the camera travels, though that is not seen: find its path")
    fit.add_argument("--body", metavar="FILE", help="an SMPL body instead of the default one")
    fit.add_argument(
        "--steps", type=_count, metavar="N",
        help="learned steps, 0 to 8 (default: as many as the mode was trained with)")  # fmt: skip
    fit.add_argument("--plant-feet", action="store_true", help="afterwards hold feet that rest still on the ground, and none below it (a clean-up)")
    fit.add_argument("--trace", type=Path, metavar="FILE", help="write every step of the paper mode's descent there")
    for name, text in (
        ("train", "train a network"), ("evaluate", "measure the networks and the baselines"),
        ("record", "what a detector makes of rendered people, to train on"),
    ):  # fmt: skip
        commands.add_parser(name, help=f"{text} (in a checkout)", add_help=False)
    selftest = commands.add_parser("selftest", help="versions, devices, files, and one tiny fit")
    selftest.add_argument("--device", type=_device, default="auto")
    fetch = commands.add_parser("fetch", help="BlazePose's large network into this Python's mediapipe, for surer detection (the add-on's set-up does it)")
    fetch.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="a folder that holds its archive, or that itself, in place of the network")
    commands.add_parser("serve", help="be the add-on's worker on standard input and output")
    return parser


def _fetch(source: Path | None, out: TextIO) -> int:
    from . import models

    def on_part(done: float, total: float) -> None:
        if sys.stderr.isatty():
            tell(f"{done:.0f} of {total:.0f} MB", end="")

    package = models.mediapipe()
    if package is None:
        raise LgdError("setup_incomplete", f"mediapipe, into whose folder {models.NAME} goes, is not installed.", f"Install it in this Python: pip install {models.MEDIAPIPE}")
    if not models.suits(package):
        raise LgdError("setup_incomplete", f"The mediapipe in {package} is not the release that {models.NAME} goes into.", f"Install that in this Python: pip install {models.MEDIAPIPE}")
    if source is None and not models.there(package):
        tell(f"Fetching {models.NAME} ({models.MEGABYTES} MB).")
    try:
        models.fetch(package, source, on_part)
    except models.Unfetched as fault:
        raise LgdError("setup_incomplete", str(fault), models.WITHOUT) from fault
    print(f"{models.NAME} is in {package}", file=out)
    return 0


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=_range, metavar="A:B", help="from frame A to before frame B, from 0")
    parser.add_argument("--fps", type=_positive, metavar="R", help="frames a second of a folder of images, or of keypoints without a rate of their own")
    parser.add_argument(
        "--box", type=_box, action="append", default=[], metavar="x,y,w,h[@A:B]",
        help="left, top, width and height in pixels of a box round the person to take, in the frames from A to before "
        "B; before and after them the person is followed; may be given several times",
    )  # fmt: skip
    parser.add_argument("--person", type=_person, metavar="N|all", help="by prominence, 0 first; the default detector follows one person at a time")
    parser.add_argument(
        "--people", type=natural, metavar="N", help="so many are looked for by the default detector, one after the other, which takes as many times as long; "
        "fit takes them all",
    )  # fmt: skip
    parser.add_argument("--detector", metavar="FILE.onnx", help="a detector instead of the default one")
    parser.add_argument("--fast", action="store_true", help="the default detector's smaller network, and one look at each picture: two to three times as fast, and less sure")
    parser.add_argument("--device", type=_device, default="auto", metavar="auto|cpu|cuda|mps")


def _invalid(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(text)


def _named(text: str) -> str:
    if not text.strip():  # an unset variable of a shell; as a path it would be the folder one stands in
        raise _invalid("the footage has no name: give a file or a folder")
    return text


def _range(text: str) -> list[int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise _invalid(f"{text!r} is no range A:B of frames with A below B")
    return [int(match[1]), int(match[2])]


def _box(text: str) -> list:
    where, at, frames = text.partition("@")
    parts = where.split(",")
    try:
        x, y, w, h = (float(part) for part in parts)
    except ValueError:
        raise _invalid(f"{text!r} is no box x,y,w,h or x,y,w,h@A:B in pixels") from None
    if not all(abs(side) < 1e6 for side in (x, y, w, h)) or w <= 0 or h <= 0:
        raise _invalid(f"the box {text!r} has no width, no height or lies nowhere")
    return [x, y, w, h, *(_range(frames) if at else (None, None))]


def _size(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9]\d{0,5},[1-9]\d{0,5}", text):
        raise _invalid(f"{text!r} is no size W,H in pixels")
    return [int(side) for side in text.split(",")]


def _person(text: str) -> int | str:
    if text == "all":
        return text
    if not re.fullmatch(r"\d{1,6}", text):
        raise _invalid(f"{text!r} is neither a number from 0 nor all")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _invalid(f"{text!r} is no number") from None
    if not 0 < value < 1e9:
        raise _invalid(f"{text!r} is not above 0")
    return value


def natural(text: str) -> int:
    """A whole number from 1, for an option of the command line."""
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise _invalid(f"{text!r} is no whole number from 1")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-8]", text):
        raise _invalid(f"{text!r} is no number of steps from 0 to 8")
    return int(text)


def _device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise _invalid(f"{text!r} is not auto, cpu, cuda or mps")
    return text


def _claim_stdout() -> TextIO:
    # Other packages print to standard output (smplx does); results alone belong there.
    from .server import claim_output

    sink = claim_output()
    try:
        return open(os.dup(sink.fileno()), "w", encoding="utf-8", errors="surrogateescape")
    finally:
        sink.close()


def _serve() -> NoReturn:
    from .handlers import JOBS
    from .server import serve

    code = serve(JOBS, places.version(), places.drop_all)
    places.drop_all()
    sys.stderr.flush()
    os._exit(code)  # native libraries hang or crash in their clean-up more often than they need it


def _checkout(command: str, arguments: list[str]) -> int:
    if importlib.util.find_spec("bridge.train") is None:
        raise LgdError(
            "bad_input", f"`{command}` needs a checkout of the project.", "The add-on's zip leaves it out."
        )
    try:
        return int(importlib.import_module(CHECKOUT_ONLY[command]).main(arguments) or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else _say(end.code)


def _say(text: object) -> int:
    print(text, file=sys.stderr)
    return 2
