# SPDX-License-Identifier: GPL-3.0-or-later
"""`bridge selftest`: versions, devices, files found, and one tiny fit that must land on its points."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from . import models, places, protocol
from .errors import LgdError
from .faults import translate, translated

# package to import: (distribution names, needed for everything)
PACKAGES = {
    "numpy": (("numpy",), True),
    "scipy": (("scipy",), True),
    "torch": (("torch",), True),
    "cv2": (("opencv-python", "opencv-contrib-python", "opencv-python-headless"), True),
    "mediapipe": (("mediapipe",), False),
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu"), False),
    "pycolmap": (("pycolmap",), False),
    "smplx": (("smplx",), False),
}
COCO_JOINTS = {  # COCO-17 point: SMPL joint
    5: "left_shoulder", 6: "right_shoulder", 7: "left_elbow", 8: "right_elbow", 9: "left_wrist", 10: "right_wrist",
    11: "left_hip", 12: "right_hip", 13: "left_knee", 14: "right_knee", 15: "left_ankle", 16: "right_ankle",
}  # fmt: skip
FRAMES, FOCAL, SIZE, DISTANCE = 8, 1000.0, (1280, 720), 4.0


def selftest(device: str, out: TextIO) -> int:
    """Print the report to `out`; 0 if all is well, 4 where the set-up is incomplete, 1 where the tiny fit fails."""
    print(f"bridge {places.version()}, protocol {protocol.VERSION}, {places.BRIDGE}", file=out)
    print(f"Python {platform.python_version()}, {platform.platform()}, {sys.executable}", file=out)
    print(f"user folder {places.user_folder()}", file=out)
    faults = _packages(out)
    if faults:
        raise faults[0]
    _devices(out)
    _files(out)
    try:
        with translated(lambda text: print(f"warning: {text}", file=sys.stderr)):
            _tiny_fit(device, out)
    except LgdError:
        print("tiny fit: FAILED", file=out)
        raise
    print("all is well" if _detects() else f"all is well but for the default detector: pip install {models.MEDIAPIPE} (for Python 3.11 or 3.12)", file=out)
    return 0


def _packages(out: TextIO) -> list[LgdError]:
    faults = []
    for name, (distributions, needed) in PACKAGES.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed{'' if needed else ' (optional)'}", file=out)
            if needed:
                faults.append(translate(ModuleNotFoundError(f"No module named {name}", name=name)))
            continue
        try:
            if needed:
                importlib.import_module(name)
        except Exception as error:  # noqa: BLE001
            fault = translate(error)
            faults.append(LgdError("setup_incomplete", fault.text, "Repair the set-up."))
            print(f"{name}: cannot be loaded ({error})", file=out)
            continue
        print(f"{name} {_version(distributions)}{'' if name != 'mediapipe' or _detects() else f' (unusable: the default detector needs {models.MEDIAPIPE})'}", file=out)
    return faults


def _detects() -> bool:
    """Whether the default detector's package is there, in a release that has it."""
    package = models.mediapipe()
    return package is not None and models.suits(package)


def _version(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of an unknown version"


def _devices(out: TextIO) -> None:
    import torch

    names = ["cpu"]
    names += [f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    print(f"devices: {', '.join(names)}; {torch.get_num_threads()} threads", file=out)


def _files(out: TextIO) -> None:
    from .body.files import load_body
    from .lgd.checkpoint import available_weights

    body = load_body()
    print(f"default body: {body['id']}, {len(body['v_template'])} vertices", file=out)
    weights = available_weights()
    for mode, entry in weights.items():
        print(f"weights, {mode} mode: {entry['name']} {entry['hash']} ({entry['file']})", file=out)
    print(f"{models.NAME}: {'there' if models.there(models.mediapipe()) else 'not there (optional; `bridge fetch` brings it)'}", file=out)
    if not weights:
        raise LgdError("setup_incomplete", "The weights are missing.", "Install the add-on again.")


def _tiny_fit(device: str, out: TextIO) -> None:
    import numpy as np

    from .keypoints.tracks import Keypoints
    from .lgd.checkpoint import available_weights
    from .lgd.fitter import FitOptions, fit

    points, confidence = _standing()
    height = float(np.ptp(points[..., 1][confidence > 0]))
    keypoints = Keypoints(points[None], confidence[None], "coco17", SIZE, fps=30.0)
    for mode in available_weights():
        start = time.perf_counter()
        motion, _ = fit(keypoints, FitOptions(mode=mode, focal=FOCAL, device=device))
        seconds = time.perf_counter() - start
        error = float(np.median(motion.reprojection_px))
        if not all(np.isfinite(a).all() for a in (motion.poses, motion.trans, motion.betas, motion.joints)):
            raise LgdError("internal", f"The tiny fit in {mode} mode gave numbers that are not finite.")
        if not error < 0.1 * height:
            raise LgdError("internal", f"The tiny fit in {mode} mode is {error:.1f} px off its points.")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            motion.save(Path(folder) / "motion.npz")
        print(
            f"tiny fit, {mode} mode: {FRAMES} frames, {seconds:.2f} s, {error:.2f} px of {height:.0f}",
            file=out,
        )


def _standing():
    """The default body, standing and turning a little, as COCO-17 points (F, 17, 2) px and confidence (F, 17)."""
    import numpy as np

    from .body.files import load_body
    from .body.joints import NAMES

    body = load_body()
    joints = np.asarray(body["J_regressor"], float) @ body["v_template"]
    rest = np.zeros((17, 3))
    confidence = np.zeros((FRAMES, 17), np.float32)
    for point, name in COCO_JOINTS.items():
        rest[point] = joints[NAMES.index(name)] - joints[0]
        confidence[:, point] = 0.9
    angles = np.linspace(-0.3, 0.3, FRAMES)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x = cos * rest[:, 0] + sin * rest[:, 2]
    z = DISTANCE - (cos * rest[:, 2] - sin * rest[:, 0])  # SMPL looks along +z, towards this camera
    y = np.broadcast_to(-rest[:, 1], x.shape)
    centre = (np.array(SIZE) - 1) / 2
    return (np.stack([x, y], -1) / z[..., None] * FOCAL + centre).astype(np.float32), confidence
