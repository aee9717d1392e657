# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX pose models and person detectors by their file, recognised by inputs and outputs, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.errors import LgdError
from bridge.keypoints import onnx_decode as decode
from bridge.keypoints.borders import clip_box, masked
from bridge.keypoints.formats import get_layout
from bridge.keypoints.track import box_of, spread_of, suppress_duplicates
from bridge.places import named

KINDS = {
    "simcc": "RTMPose or RTMW (SimCC)",
    "heatmap": "heatmap pose model (ViTPose)",
    "movenet_single": "MoveNet single pose",
    "rtmo": "RTMO",
    "yolo": "YOLO pose",
    "movenet_multi": "MoveNet MultiPose",
    "person": "person detector (RTMDet or YOLOX)",
}
CROPPED = ("simcc", "heatmap", "movenet_single")
"""Kinds that see one person in a crop and need a box for each."""

_LAYOUT_BY_COUNT = {17: "coco17", 26: "halpe26", 133: "halpe26"}
_LEAST_PERSON = 0.3


class Model:
    """One ONNX file: kind (a key of KINDS), layout or None, size (w, h) or None where free; run(image) -> outputs."""

    def __init__(self, path: Path, device: str):
        runtime = _runtime()
        self.path = path
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=_providers(runtime, device))
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no other base class
            raise LgdError(
                "bad_input",
                f"{path.name} cannot be loaded as an ONNX model ({_reason(error)}).",
                "Check that the download of the model is complete.",
            ) from None
        inputs = self.session.get_inputs()
        self.input = inputs[0]
        self.outputs = self.session.get_outputs()
        self.names = [o.name for o in self.outputs]
        self.kind, self.points, self.size = self._recognise(len(inputs))
        self.layout = None
        if self.kind != "person":
            if self.points not in _LAYOUT_BY_COUNT:
                known = ", ".join(str(k) for k in _LAYOUT_BY_COUNT)
                raise LgdError(
                    "bad_input",
                    f"{path.name} gives {self.points} points a person, whose order is not known.",
                    f"Use a model of {known} points (COCO, Halpe, COCO-WholeBody).",
                )
            self.layout = _LAYOUT_BY_COUNT[self.points]

    def _recognise(self, inputs: int) -> tuple[str, int, tuple[int, int] | None]:
        shape = [d if isinstance(d, int) and d > 0 else None for d in self.input.shape]
        outs = [[d if isinstance(d, int) and d > 0 else None for d in o.shape] for o in self.outputs]
        whole = "int" in self.input.type
        if inputs == 1 and len(shape) == 4 and (shape[1] == 3 or shape[3] == 3):
            first = shape[1] == 3
            height, width = (shape[2], shape[3]) if first else (shape[1], shape[2])
            size = (width, height) if width and height else None
            if len(outs) == 2:
                if len(outs[0]) == len(outs[1]) == 3 and self._simcc(outs) and size:
                    return "simcc", outs[0][1] or 0, size
                if len(outs[0]) == 3 and outs[0][-1] == 5 and len(outs[1]) == 4 and outs[1][-1] == 3:
                    return "rtmo", outs[1][2] or 0, size or (640, 640)
                if len(outs[0]) == 3 and outs[0][-1] == 5 and len(outs[1]) == 2:
                    return "person", 0, size or (640, 640)
            if len(outs) == 1:
                out = outs[0]
                if out[-2:] == [6, 56]:
                    return "movenet_multi", 17, None
                if len(out) == 4 and out[-1] == 3 and out[1] == 1 and not first and size:
                    return "movenet_single", out[2] or 0, size
                if len(out) == 4 and first and size and not whole:
                    return "heatmap", out[1] or 0, size
                if len(out) == 3 and first and out[1] and out[1] > 5 and (out[1] - 5) % 3 == 0:
                    return "yolo", (out[1] - 5) // 3, size or (640, 640)
        raise LgdError(
            "bad_input",
            f"{self.path.name} is an ONNX model, but not of a kind that is known: "
            f"input {self.input.shape}, outputs {[o.shape for o in self.outputs]}.",
            "Known kinds: " + ", ".join(KINDS.values()) + ".",
        )

    def _simcc(self, outs) -> bool:
        named = "simcc" in self.names[0].lower()
        return named or (outs[0][1] is not None and outs[0][1] == outs[1][1] and (outs[0][2] or 0) > 60)

    def run(self, blob: np.ndarray) -> list[np.ndarray]:
        """The outputs for one input array, cast to the model's number type."""
        kinds = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
        blob = np.ascontiguousarray(blob, dtype=kinds.get(self.input.type, np.float32))
        try:
            return [np.asarray(o) for o in self.session.run(None, {self.input.name: blob})]
        except Exception as error:  # noqa: BLE001 - as above
            raise LgdError(
                "bad_input", f"{self.path.name} fails to run ({_reason(error)}).", "Try the CPU as device."
            ) from None


def _reason(error: Exception) -> str:
    # "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from a/b.onnx failed:Protobuf parsing failed."
    first = next(iter(str(error).splitlines()), "").rpartition(" failed:")[2].strip()
    return first[:200].rstrip(".") or type(error).__name__


class OnnxFinder:
    """People in a picture by a pose model, and for models that see a crop by a person detector before it.

    detector: a pose model's file, a folder of ONNX files, or (pose model, person detector). A person detector that
    lies beside the pose model is used where the pose model needs one. layout: that of the points found.
    """

    def __init__(self, detector: str | Path | Sequence[str | Path], device: str = "auto"):
        self.notes: list[str] = []
        files, beside = _files(detector)
        models = [Model(path, device) for path in files]
        # Of several pose models, one that sees a crop is the finer; another then finds the people for it.
        poses = sorted((m for m in models if m.kind != "person"), key=lambda m: m.kind not in CROPPED)
        pose = poses[0] if poses else None
        if pose is None:
            raise LgdError(
                "bad_input",
                f"{files[0].name} finds people but not their points.",
                "Name a pose model such as RTMPose or RTMO.",
            )
        self.pose = pose
        self.person: Model | None = next((m for m in models if m.kind == "person"), None)
        self.whole = next((m for m in models if m.kind not in (*CROPPED, "person")), None)
        self.crops = self.pose.kind in CROPPED
        if self.crops and self.person is None and self.whole is None:
            self._look_beside(beside, device)
            if self.person is None and self.whole is None:
                self.notes.append(
                    "No person detector was given: the pose model follows one person from the box, or from the whole "
                    "picture. Put a person detector (RTMDet or YOLOX, .onnx) into the pose model's folder."
                )
        assert pose.layout is not None
        self.layout = pose.layout
        self._spread = spread_of(get_layout(self.layout))
        self._last: np.ndarray | None = None
        self._normal: bool | None = None

    def _look_beside(self, files: list[Path], device: str) -> None:
        for path in files:
            try:
                model = Model(path, device)
            except LgdError:
                continue
            if model.kind == "person":
                self.person = model
                self.notes.append(f"People are found by {path.name}, which lies beside the pose model.")
                return

    def find(self, image: np.ndarray, boxes) -> tuple[np.ndarray, np.ndarray]:
        """Points (D, K, 2) px and confidence (D, K) of the people in an upright BGR picture."""
        height, width = image.shape[:2]
        seen = image
        if boxes:
            borders = [b for b in (clip_box(box, width, height) for box in boxes) if b is not None]
            seen = masked(image, borders)
        try:
            points, conf, scores = self._whole(self.pose, seen) if not self.crops else self._crops(seen, boxes)
        except (IndexError, ValueError) as error:  # what the file declares tells its kind; what it gives may be of another shape
            raise LgdError(
                "bad_input", f"{self.pose.path.name}, or the person detector beside it, gives other outputs than models of its kind do.",
                "Export the model again, for one picture at a time, or use another one.",
            ) from error  # fmt: skip
        kept = suppress_duplicates(points, conf, scores, self._spread) if len(points) else []
        points, conf = points[kept], conf[kept]
        if self.crops:
            self._last = box_of(points[0], conf[0]) if len(kept) else None
        return points, conf

    def _crops(self, image: np.ndarray, boxes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pairs = [self._crop(image, box) for box in self._people(image, boxes)]
        count = get_layout(self.layout).count
        points = np.array([p for p, _ in pairs]).reshape(-1, count, 2)
        conf = np.array([c for _, c in pairs]).reshape(-1, count)
        return points, conf, conf.mean(-1)

    def _people(self, image: np.ndarray, boxes) -> list[np.ndarray]:
        height, width = image.shape[:2]
        if self.person is not None:
            found = self._detect(image)
            return [b for b, s in found if s >= _LEAST_PERSON]
        if self.whole is not None:
            points, conf, _ = self._whole(self.whole, image)
            found = [box_of(p, c) for p, c in zip(points, conf, strict=True)]
            return [b for b in found if b is not None]
        if boxes:
            return [np.array(b, dtype=float) for b in boxes]
        return [np.array([0, 0, width, height], float) if self._last is None else self._last]

    def _detect(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        assert self.person is not None
        # RTMDet wants mean and spread removed, YOLOX plain values; the files look alike: the surer answer tells.
        ways = (True, False) if self._normal is None else (self._normal,)
        best: list[tuple[np.ndarray, float]] = []
        for way in ways:
            blob, ratio = decode.letterbox(image, self.person.size or (640, 640), normal=way)
            found = decode.people(self.person.run(blob), ratio)
            if found and (not best or found[0][1] > best[0][1]):
                best, winner = found, way
        if self._normal is None and best and best[0][1] > 0.5:
            self._normal = winner
        return best

    def _whole(self, model: Model, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if model.kind == "movenet_multi":
            blob, ratio = decode.movenet_input(image)
            out = decode.movenet_multi(model.run(blob)[0], (blob.shape[1], blob.shape[2]), ratio)
        else:
            blob, ratio = decode.letterbox(
                image, model.size or (640, 640), normal=False, rgb_unit=model.kind == "yolo"
            )
            outputs = model.run(blob)
            out = decode.rtmo(outputs, ratio) if model.kind == "rtmo" else decode.yolo(outputs[0], ratio)
        points, conf, scores = out
        points, conf = decode.to_layout(points, conf)
        good = scores >= _LEAST_PERSON if model.kind != "movenet_multi" else scores >= 0.15
        return points[good], conf[good], scores[good]

    def _crop(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model = self.pose
        assert model.size is not None
        patch, centre, extent = decode.crop(image, box, model.size)
        if model.kind == "movenet_single":
            points, conf = decode.movenet_single(model.run(patch[None, ..., ::-1])[0], model.size)
        else:
            outputs = model.run(decode.normalised(patch))
            one = decode.simcc(outputs, model.size) if model.kind == "simcc" else decode.heatmaps(outputs[0], model.size)
            points, conf = one
        points = points / np.array(model.size) * extent + centre - extent / 2
        points, conf = decode.to_layout(points[None], conf[None])
        return points[0], conf[0]

    def close(self) -> None:
        """Nothing is held open."""


def _files(detector) -> tuple[list[Path], list[Path]]:
    given = [detector] if isinstance(detector, str | Path) else list(detector)
    paths = [named(p) for p in given if p]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(p for p in paths[0].iterdir() if p.suffix.lower() == ".onnx")
        if not paths:
            raise LgdError(
                "bad_input", f"The folder {given[0]} holds no .onnx files.", "Name a pose model's file."
            )
    for path in paths:
        if not path.is_file():
            raise LgdError(
                "bad_input", f"The model {path} does not exist.", "Check the path of the ONNX model."
            )
    if not paths:
        raise LgdError("bad_input", "No detector was named.", "Name a pose model's file.")
    beside = sorted(p for p in paths[0].parent.iterdir() if p.suffix.lower() == ".onnx" and p not in paths)
    return paths, beside[:8]


def _runtime():
    try:
        import onnxruntime
    except ImportError as error:
        raise LgdError(
            "setup_incomplete",
            f"ONNX models need onnxruntime, which cannot be imported: {error}.",
            "Add onnxruntime in the set-up, or use the default detector.",
        ) from None
    return onnxruntime


def _providers(runtime, device: str) -> list[str]:
    have = runtime.get_available_providers()
    wanted = {
        "cpu": [],
        "cuda": ["CUDAExecutionProvider", "ROCMExecutionProvider"],
        "mps": ["CoreMLExecutionProvider"],
    }.get(device.partition(":")[0], ["CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider"])
    return [p for p in wanted if p in have] + ["CPUExecutionProvider"]
