# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX models by file, on small synthetic models of the real ones' inputs and outputs."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx import TensorProto, helper, numpy_helper

from bridge.errors import LgdError
from bridge.keypoints.detect import detect
from bridge.keypoints.onnx_decode import simcc
from bridge.keypoints.onnx_detect import Model, OnnxFinder

RED, GREEN = (150.0, 100.0), (190.0, 210.0)  # where the picture's two blobs lie
W, H = 400, 300


def picture():
    image = np.zeros((H, W, 3), np.uint8)
    cv2.circle(image, tuple(int(v) for v in RED), 7, (0, 0, 255), -1)
    cv2.circle(image, tuple(int(v) for v in GREEN), 7, (0, 255, 0), -1)
    return cv2.GaussianBlur(image, (0, 0), 3)


def save(path, nodes, inputs, outputs, constants=()):
    values = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants]
    graph = helper.make_graph(nodes, "g", inputs, outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def colours(count):
    """A convolution that shows red to the even points and green to the odd ones, from normalised RGB."""
    weights = np.zeros((count, 3, 1, 1), np.float32)
    weights[0::2, 0], weights[1::2, 1] = 0.3, 0.3
    return weights


def simcc_model(path, count=17, size=(192, 256)):
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"]),
        helper.make_node("Resize", ["c", "", "scales"], ["r"], mode="linear"),
        helper.make_node("ReduceMax", ["r"], ["simcc_x"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["r"], ["simcc_y"], axes=[3], keepdims=0),
    ]
    outs = [value("simcc_x", ["N", count, size[0] * 2]), value("simcc_y", ["N", count, size[1] * 2])]
    constants = [("w", colours(count)), ("scales", np.array([1, 1, 2, 2], np.float32))]
    return save(path, nodes, [value("input", ["N", 3, size[1], size[0]])], outs, constants)


def heatmap_model(path, count=17, size=(192, 256)):
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"]),
        helper.make_node("AveragePool", ["c"], ["maps"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    outs = [value("maps", ["N", count, size[1] // 4, size[0] // 4])]
    return save(path, nodes, [value("input", ["N", 3, size[1], size[0]])], outs, [("w", colours(count))])


def fixed_model(path, input_shape, results, kind=TensorProto.FLOAT):
    """A model that gives the same results (name, array, shape as declared) for any picture."""
    nodes = [helper.make_node("Identity", [f"k_{n}"], [n]) for n, _, _ in results]
    outs = [
        value(n, s, TensorProto.INT64 if a.dtype == np.int64 else TensorProto.FLOAT) for n, a, s in results
    ]
    return save(
        path, nodes, [value("input", input_shape, kind)], outs, [(f"k_{n}", a) for n, a, _ in results]
    )


def person_model(path, boxes, size=640):
    """boxes x, y, w, h, score px of the picture above."""
    ratio = min(size / W, size / H)
    dets = np.array([[x * ratio, y * ratio, (x + w) * ratio, (y + h) * ratio, s] for x, y, w, h, s in boxes])
    labels = np.zeros((1, len(boxes)), np.int64)
    results = [("dets", dets[None].astype(np.float32), [1, "n", 5]), ("labels", labels, [1, "n"])]
    return fixed_model(path, [1, 3, size, size], results)


def expect(points, limit=2.0):
    assert np.abs(points[0::2] - RED).max() < limit and np.abs(points[1::2] - GREEN).max() < limit


@pytest.mark.parametrize("make, limit", [(simcc_model, 2.0), (heatmap_model, 3.0)])
def test_cropping_models_with_person_detector(tmp_path, make, limit):
    pose = make(tmp_path / "pose.onnx")
    person_model(tmp_path / "det.onnx", [(100, 60, 150, 200, 0.9), (0, 0, 40, 40, 0.1)])
    finder = OnnxFinder(pose, "cpu")  # finds the detector beside it
    assert "det.onnx" in finder.notes[0] and finder.layout == "coco17"
    points, conf = finder.find(picture(), [])
    assert points.shape == (1, 17, 2) and conf.min() > 0.2
    expect(points[0], limit)
    points, _ = OnnxFinder((pose, tmp_path / "det.onnx"), "cpu").find(picture(), [])
    expect(points[0], limit)
    points, _ = OnnxFinder(tmp_path, "cpu").find(picture(), [])
    expect(points[0], limit)


def test_cropping_model_alone_follows_the_box(tmp_path):
    finder = OnnxFinder(simcc_model(tmp_path / "pose.onnx", 26), "cpu")
    assert "No person detector" in finder.notes[0] and finder.layout == "halpe26"
    expect(finder.find(picture(), [(110, 70, 130, 180)])[0][0])
    expect(finder.find(picture(), [])[0][0])
    # What lies outside the box is hidden: the green blob cannot be found.
    points, conf = finder.find(picture(), [(100, 60, 100, 80)])
    assert not len(points) or conf[0, 1::2].max() < 0.2


def test_wholebody_becomes_halpe26(tmp_path):
    finder = OnnxFinder(simcc_model(tmp_path / "rtmw.onnx", 133), "cpu")
    points, conf = finder.find(picture(), [(110, 70, 130, 180)])
    assert points.shape == (1, 26, 2) and (conf[0, 17:20] == 0).all() and (conf[0, 20:] > 0.2).all()


def people_points():
    rng = np.random.default_rng(0)
    return rng.uniform([20, 20], [120, 200], (17, 2)), rng.uniform([220, 40], [330, 250], (17, 2))


def test_rtmo(tmp_path):
    a, b = people_points()
    ratio = 640 / W
    kp = np.stack([np.c_[(p + 0.5) * ratio - 0.5, np.full(17, 0.8)] for p in (a, b, a + 1)])[None]
    dets = np.array([[[0, 0, 9, 9, 0.9], [0, 0, 9, 9, 0.8], [0, 0, 9, 9, 0.5]]])
    path = fixed_model(
        tmp_path / "rtmo.onnx",
        [1, 3, 640, 640],
        [
            ("dets", dets.astype(np.float32), [1, "n", 5]),
            ("keypoints", kp.astype(np.float32), [1, "n", 17, 3]),
        ],
    )
    points, conf = OnnxFinder(path, "cpu").find(picture(), [])
    assert len(points) == 2 and np.allclose(points[0], a, atol=1e-2) and np.allclose(points[1], b, atol=1e-2)
    assert np.allclose(conf, 0.8)


def test_yolo_pose(tmp_path):
    a, b = people_points()
    ratio = 640 / W
    rows = np.zeros((50, 56))
    for i, (p, s) in enumerate(((a, 0.9), (b, 0.7), (a + 1, 0.6), (b, 0.1))):
        rows[i] = np.r_[100, 100, 50, 50, s, np.c_[(p + 0.5) * ratio - 0.5, np.full(17, 0.9)].ravel()]
    path = fixed_model(
        tmp_path / "yolo.onnx", [1, 3, 640, 640], [("o", rows.T[None].astype(np.float32), [1, 56, 50])]
    )
    points, _ = OnnxFinder(path, "cpu").find(picture(), [])
    assert len(points) == 2 and np.allclose(points, [a, b], atol=1e-2)
    rows[:, 4] = 0.1
    nobody = fixed_model(tmp_path / "nobody.onnx", [1, 3, 640, 640], [("o", rows.T[None].astype(np.float32), [1, 56, 50])])
    points, conf = OnnxFinder(nobody, "cpu").find(picture(), [])
    assert len(points) == 0 and len(conf) == 0


@pytest.mark.parametrize("split", (1, 2, 3))
def test_simcc_of_any_split_is_read(split):
    """The scores of one point at (30, 70) in an input of 192 x 256."""
    x, y = np.zeros((1, 1, 192 * split)), np.zeros((1, 1, 256 * split))
    x[0, 0, 30 * split], y[0, 0, 70 * split] = 0.8, 0.7
    points, conf = simcc([x, y], (192, 256))
    assert np.allclose(points, [[30, 70]]) and np.allclose(conf, 0.7)


def test_movenet_multipose_tracks_two_people(tmp_path):
    a, b = people_points()
    ratio, shape = 384 / W, np.array([288, 384])
    out = np.zeros((1, 6, 56), np.float32)
    for i, p in enumerate((a, b)):
        yx = ((p + 0.5) * ratio)[:, ::-1] / shape
        out[0, i] = np.r_[np.c_[yx, np.full(17, 0.7)].ravel(), 0, 0, 1, 1, 0.6]
    path = fixed_model(tmp_path / "mp.onnx", [1, "h", "w", 3], [("o", out, [1, 6, 56])], TensorProto.INT32)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(20):
        cv2.imwrite(str(folder / f"{i}.png"), picture())
    calls = []
    k = detect(folder, detector=path, device="cpu", on_frame=lambda *c: calls.append(c), fps=25)
    assert (k.people, k.frames, k.layout) == (2, 20, "coco17") and k.seen().all() and len(calls) == 20
    assert np.allclose(k.keypoints[0, 3], a, atol=0.01) and np.allclose(k.keypoints[1, 19], b, atol=0.01)
    assert calls[4][:3] == (4, 5, 20) and calls[4][3].shape == (2, 17, 2)


def test_movenet_single(tmp_path):
    out = np.zeros((1, 1, 17, 3), np.float32)
    out[..., 0], out[..., 1], out[..., 2] = np.linspace(0.2, 0.8, 17), np.linspace(0.6, 0.4, 17), 0.9
    path = fixed_model(tmp_path / "t.onnx", [1, 192, 192, 3], [("o", out, [1, 1, 17, 3])], TensorProto.INT32)
    assert Model(path, "cpu").kind == "movenet_single"
    points, _ = OnnxFinder(path, "cpu").find(picture(), [(100, 50, 160, 160)])
    assert abs(points[0, 8, 0] - 179.5) < 1 and abs(points[0, 8, 1] - 129.5) < 1


def test_faults_are_sentences(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(LgdError, match="cannot be loaded"):
        OnnxFinder(tmp_path / "bad.onnx")
    with pytest.raises(LgdError, match="does not exist"):
        OnnxFinder(tmp_path / "none.onnx")
    other = fixed_model(tmp_path / "other.onnx", [1, 10], [("o", np.zeros((1, 10), np.float32), [1, 10])])
    with pytest.raises(LgdError, match="not of a kind"):
        OnnxFinder(other)
    with pytest.raises(LgdError, match="finds people but not their points"):
        OnnxFinder(person_model(tmp_path / "d.onnx", [(0, 0, 50, 50, 0.9)]))
    with pytest.raises(LgdError, match="21 points"):
        OnnxFinder(simcc_model(tmp_path / "hand.onnx", 21))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LgdError, match="no .onnx"):
        OnnxFinder(tmp_path / "empty")


def test_outputs_of_another_shape_than_declared_are_told(tmp_path):
    """Three boxes with points for one: what the file declares leaves the number open."""
    shapes = ("dets", np.full((1, 3, 5), 0.9, np.float32), [1, "n", 5]), ("keypoints", np.ones((1, 1, 17, 3), np.float32), [1, "m", 17, 3])
    nobody = ("dets", np.zeros((0, 1, 5), np.float32), ["b", "n", 5]), ("keypoints", np.ones((0, 1, 17, 3), np.float32), ["b", "n", 17, 3])
    for results in (shapes, nobody):
        finder = OnnxFinder(fixed_model(tmp_path / "m.onnx", [1, 3, 640, 640], results), "cpu")
        with pytest.raises(LgdError, match="gives other outputs"):
            finder.find(picture(), [])
    person = fixed_model(
        tmp_path / "person.onnx", [1, 3, 640, 640],
        [("dets", np.ones((0, 1, 5), np.float32), ["b", "n", 5]), ("labels", np.zeros((0, 1), np.int64), ["b", "n"])],
    )  # fmt: skip
    with pytest.raises(LgdError, match="gives other outputs"):
        OnnxFinder([simcc_model(tmp_path / "pose.onnx"), person], "cpu").find(picture(), [])
