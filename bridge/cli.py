# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: results and figures on stdout, progress and messages on stderr, nothing written on failure."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, TextIO

from . import places
from .errors import LgdError
from .faults import translate

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
CHECKOUT_ONLY = {"train": "bridge.train.loop", "evaluate": "bridge.train.evaluate"}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise LgdError (bad_input) instead of printing the usage."""
        text = message[:1].upper() + message[1:].rstrip(".")
        raise LgdError("bad_input", f"{text}.", f"See `{self.prog} --help`.")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 bad input, 3 no person, 4 set-up, 130 cancelled, 1 our defect."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        if sys.stdin is not None and sys.stdin.isatty():
            build_parser().print_help()
            return 0
        arguments = ["serve"]
    previous = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return run(arguments)
    except LgdError as error:
        print(f"\r{error.sentence()}" if sys.stderr.isatty() else error.sentence(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001
        fault = translate(error)
        print(fault.sentence(), file=sys.stderr)
        return fault.exit_code
    finally:
        signal.signal(signal.SIGTERM, previous)


def run(arguments: list[str]) -> int:
    """Run one command; faults come out as exceptions."""
    if arguments[0] in CHECKOUT_ONLY:
        return _checkout(arguments[0], arguments[1:])
    options = build_parser().parse_args(arguments)
    if options.command == "serve":
        return _serve()
    stdout = _claim_stdout()
    try:
        if options.command == "selftest":
            from .selftest import selftest

            return selftest(options.device, stdout)
        return (_detect if options.command == "detect" else _fit)(options, stdout)
    finally:
        stdout.flush()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `train` and `evaluate` have their own options."""
    parser = Parser(prog="bridge", description="Footage to SMPL motion by learned gradient descent.")
    parser.add_argument("--version", action="version", version=places.version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    detect = commands.add_parser("detect", help="find 2D keypoints in a video or a folder of images")
    detect.add_argument("input", help="a video, an image or a folder of images")
    detect.add_argument("-o", "--output", type=Path, default=Path("keypoints.npz"), metavar="FILE")
    _shared(detect)
    fit = commands.add_parser("fit", help="fit the body to footage or keypoints")
    fit.add_argument(
        "input", help="a video, a folder of images, or keypoints (.npz, .json, a folder of .json)"
    )
    fit.add_argument("-o", "--output", type=Path, default=Path("motion.npz"), metavar="FILE")
    _shared(fit)
    fit.add_argument("--mode", choices=("paper", "video"), help="default: video where its weights are here")
    fit.add_argument("--focal", type=_positive, metavar="PX", help="the focal length, where it is known")
    fit.add_argument("--camera", metavar="FILE", help=".npz with T_world_cam and perhaps cam_K")
    fit.add_argument("--body", metavar="FILE", help="an SMPL body instead of the default one")
    fit.add_argument("--steps", type=_count, metavar="N", help="steps of the descent")
    fit.add_argument("--trace", type=Path, metavar="FILE", help="write every step of the descent")
    for name, text in (("train", "train a network"), ("evaluate", "measure the networks and the baselines")):
        commands.add_parser(name, help=f"{text} (in a checkout)", add_help=False)
    selftest = commands.add_parser("selftest", help="versions, devices, files, and one tiny fit")
    selftest.add_argument("--device", type=_device, default="auto")
    commands.add_parser("serve", help="be the add-on's worker on standard input and output")
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=_range, metavar="A:B", help="from frame A to before frame B, from 0")
    parser.add_argument("--fps", type=_positive, metavar="R", help="frames a second of a folder of images")
    parser.add_argument("--box", type=_box, action="append", default=[], metavar="x,y,w,h[@A:B]")
    parser.add_argument("--person", type=_person, metavar="N|all", help="by prominence, 0 first")
    parser.add_argument("--detector", metavar="FILE.onnx", help="a detector instead of the default one")
    parser.add_argument("--device", type=_device, default="auto", metavar="auto|cpu|cuda|mps")


def _invalid(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(text)


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


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text):
        raise _invalid(f"{text!r} is no number of steps")
    return int(text)


def _device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise _invalid(f"{text!r} is not auto, cpu, cuda or mps")
    return text


class Console:
    """A job's messages on standard error: the same interface as `server.Task`."""

    def __init__(self, request: dict):
        self.request = request
        self.id = 1
        self._live = sys.stderr.isatty()
        self._shown = ("", -1, 0.0)

    def should_stop(self) -> bool:
        """Never: Ctrl-C interrupts."""
        return False

    def progress(self, stage: str, done: int, total: int) -> None:
        """One line that is written over on a terminal, one line a tenth elsewhere."""
        tenth, now = (10 * done // total if total else 0), time.monotonic()
        if self._live and (stage != self._shown[0] or now - self._shown[2] > 0.1 or done == total):
            print(
                f"\r\x1b[K{stage} {done}/{total}" if total else f"\r\x1b[K{stage}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        elif not self._live and (stage, tenth) != self._shown[:2]:
            print(f"{stage} {done}/{total}" if total else stage, file=sys.stderr)
        else:
            return
        self._shown = (stage, tenth, now)

    def send(self, type: str, **fields) -> None:
        """Streamed keypoints have no place on a terminal."""

    def warning(self, text: str) -> None:
        """A line of its own."""
        print(f"\r\x1b[K{text}" if self._live else text, file=sys.stderr)

    log = warning

    def clear(self) -> None:
        """Take the progress line away."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _detect(options: argparse.Namespace, stdout: TextIO) -> int:
    from . import handlers

    target = _target(options.output)
    request = {"type": "detect", **_source(options)}
    with _Beside(target) as folder:
        task = Console(request)
        result = handlers.detect({**request, "out": str(folder)}, task)  # type: ignore[arg-type]
        task.clear()
        if isinstance(options.person, int):
            result |= _keep(Path(result["keypoints"]), options.person)
        os.replace(result["keypoints"], target)
    print(
        f"{target}: {result['frames']} frames at {result['fps']:g} a second, {result['layout']}, "
        f"{result['image_size'][0]} x {result['image_size'][1]} px",
        file=stdout,
    )
    for entry in result["people"]:
        print(
            f"person {entry['person']}: seen in {entry['seen']} frames, {entry['first']} to {entry['last']}, "
            f"confidence {entry['confidence']:.2f}",
            file=stdout,
        )
    return 0


def _keep(file: Path, person: int) -> dict:
    from .handlers import describe_keypoints
    from .keypoints.tracks import Keypoints

    alone = Keypoints.load(file).person(person)
    alone.save(file)
    return describe_keypoints(alone)


def _fit(options: argparse.Namespace, stdout: TextIO) -> int:
    from . import handlers

    target = _target(options.output)
    trace = _target(options.trace) if options.trace else None
    request: dict[str, Any] = {"type": "fit", "person": 0 if options.person is None else options.person}
    if is_keypoints(options.input):
        if options.box or options.detector:
            raise LgdError(
                "bad_input", "--box and --detector are for footage.", "Leave them out for a keypoint file."
            )
        request |= {
            "keypoints": options.input,
            "frames": options.frames,
            "fps": options.fps,
            "device": options.device,
        }
    else:
        request |= _source(options)
    request |= {key: getattr(options, key) for key in ("mode", "focal", "camera", "body", "steps")}
    with _Beside(target) as folder:
        task = Console(request)
        result = handlers.fit({**request, "trace": trace is not None, "out": str(folder)}, task)  # type: ignore[arg-type]
        task.clear()
        names = [(Path(file), _numbered(target, file)) for file in result["motions"]]
        if trace is not None:
            if not result["traces"]:
                raise LgdError(
                    "bad_input", "This mode keeps no trace.", "Leave out --trace, or use --mode paper."
                )
            names += [(Path(file), _numbered(trace, file)) for file in result["traces"]]
        _publish(names)
    for (_, file), figures in zip(names, result["figures"], strict=False):
        error = (
            "no point seen" if figures["reprojection_px"] is None else f"{figures['reprojection_px']:.2f} px"
        )
        print(
            f"{file}: person {figures['person']}, {figures['frames']} frames, mode {figures['mode']}, reprojection "
            f"{error} (median), focal length {figures['focal']:.0f} px ({figures['focal_source']})",
            file=stdout,
        )
    print("seconds: " + ", ".join(f"{stage} {s:.2f}" for stage, s in result["seconds"].items()), file=stdout)
    return 0


def is_keypoints(text: str) -> bool:
    """Whether the input names keypoints: an .npz, a .json, or a folder with .json files."""
    path = Path(text)
    if path.is_dir():
        return any(entry.suffix.lower() == ".json" for entry in path.iterdir())
    return path.suffix.lower() in (".npz", ".json")


def _source(options: argparse.Namespace) -> dict:
    path = Path(options.input)
    if not path.exists():
        raise LgdError("bad_input", f"The input {path} does not exist.", "Check the path.")
    source = {"path": str(path), "frames": options.frames, "fps": options.fps, "boxes": options.box}
    return {"source": source, "detector": options.detector, "device": options.device}


def _target(path: Path) -> Path:
    if path.suffix.lower() != ".npz":
        raise LgdError("bad_input", f"The output {path} does not end in .npz.", "Choose such a name.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise LgdError(
            "bad_input", f"The output {path} cannot be written: its folder is not there, or it is a folder."
        )
    return path


def _numbered(target: Path, file: str) -> Path:
    number = re.search(r"_(\d+)$", Path(file).stem)
    return target.with_name(f"{target.stem}_{number[1]}{target.suffix}") if number else target


def _publish(names: list[tuple[Path, Path]]) -> None:
    # All parts are copied beside their targets first, so that only renames are left that can fail.
    ready = []
    try:
        for file, target in names:
            part = target.with_name(f".{target.name}.{os.getpid()}.part")
            ready.append((part, target))
            shutil.move(file, part)
        for part, target in ready:
            os.replace(part, target)
    finally:
        for part, _ in ready:
            part.unlink(missing_ok=True)


class _Beside:
    """A folder beside the target that is gone afterwards, whatever happens."""

    def __init__(self, target: Path):
        self._parent = target.absolute().parent

    def __enter__(self) -> Path:
        try:
            self._folder = tempfile.mkdtemp(prefix=".lgd-", dir=self._parent)
        except OSError as fault:
            raise LgdError(
                "disk", f"The folder {self._parent} cannot be written: {fault.strerror}."
            ) from fault
        return Path(self._folder)

    def __exit__(self, *_) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _claim_stdout() -> TextIO:
    # Other packages print to standard output (smplx does); results alone belong there.
    from .server import claim_output

    try:
        return open(os.dup(claim_output().fileno()), "w", encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):
        return sys.stdout  # standard output has no descriptor here (tests)


def _serve() -> NoReturn:
    from .handlers import JOBS
    from .server import serve

    code = serve(JOBS, places.version())
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
