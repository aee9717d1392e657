# SPDX-License-Identifier: GPL-3.0-or-later
"""Official SMPL files: read without chumpy or scipy, refused where they are not plain data, converted once."""

import os
import pickle
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from bridge.arrays import load_arrays, save_arrays
from bridge.body.files import DEFAULT_BODY, convert_official, load_body
from bridge.body.joints import PARENTS
from bridge.errors import LgdError
from bridge.inputs import body_file

ROOT = Path(__file__).resolve().parents[2]
COUNT = 6890


@pytest.fixture(scope="module")
def arrays():
    """Random numbers in the structure of an official file."""
    rng = np.random.default_rng(3)
    weights = rng.random((COUNT, 24)) ** 8
    regressor = np.zeros((24, COUNT))
    for joint in range(24):
        ids = rng.choice(COUNT, 20, replace=False)
        regressor[joint, ids] = rng.dirichlet(np.ones(20))
    posedirs = np.zeros((COUNT, 3, 207), np.float32)  # mostly zero: quick to write and to compress
    posedirs[::20] = rng.normal(size=posedirs[::20].shape) * 0.001
    parents = np.array([4294967295, *PARENTS[1:]], np.uint32)
    return {
        "v_template": rng.normal(size=(COUNT, 3)),
        "shapedirs": rng.normal(size=(COUNT, 3, 10)) * 0.01,
        "posedirs": posedirs,
        "J_regressor": regressor,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.stack([parents, np.arange(24, dtype=np.uint32)]),
        "f": rng.integers(0, COUNT, (13776, 3)).astype(np.uint32),
    }


class _Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did, in which the official files were made."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def fake_class(monkeypatch, module, name, state):
    """An object that pickles as `module.name` with this state, without that module."""
    for i in range(1, module.count(".") + 2):
        parent = ".".join(module.split(".")[:i])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    # A real class of that name (scipy keeps old module names alive) is put aside too: its pickle would be another.
    if not hasattr(getattr(sys.modules[module], name, None), "made_here"):
        made = type(name, (), {"__module__": module, "made_here": True})
        monkeypatch.setattr(sys.modules[module], name, made, raising=False)
    thing = getattr(sys.modules[module], name)()
    thing.__dict__.update(state)
    return thing


def csc_state(dense):
    columns, rows = np.nonzero(dense.T)
    starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=dense.shape[1]))]).astype(np.int32)
    return {"_shape": dense.shape, "data": dense[rows, columns], "indices": rows.astype(np.int32),
            "indptr": starts, "maxprint": 50}  # fmt: skip


def as_official(monkeypatch, arrays):
    """The official pickle's dict: chumpy arrays, an old scipy sparse matrix, extra entries."""
    data = dict(arrays)
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        data[key] = fake_class(
            monkeypatch, "chumpy.ch", "Ch", {"x": arrays[key], "_status": "new", "_cache": {}}
        )
    data["J_regressor"] = fake_class(
        monkeypatch, "scipy.sparse.csc", "csc_matrix", csc_state(arrays["J_regressor"])
    )
    return data | {"bs_type": "lrotmin", "bs_style": "lbs", "J": np.zeros((24, 3))}


def dump(path: Path, data, python2=True, protocol=2) -> Path:
    with path.open("wb") as file:
        (_Python2Pickler if python2 else pickle.Pickler)(file, protocol).dump(data)
    return path


def same(body, arrays):
    for key in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor"):
        assert body[key].shape == arrays[key].shape
        assert np.abs(body[key] - arrays[key]).max() < 1e-7, key
    assert (body["f"] == arrays["f"]).all()
    assert (body["kintree_table"] == arrays["kintree_table"]).all()
    assert body["uv_faces"] is None and body["landmark_names"] == []


@pytest.mark.parametrize("python2, protocol", [(True, 2), (False, 2), (False, 4), (False, 5)])
def test_official_pickle(monkeypatch, arrays, tmp_path, python2, protocol):
    data = as_official(monkeypatch, arrays)
    source = dump(tmp_path / "basicModel_f_lbs_10_207_0_v1.0.0.pkl", data, python2, protocol)
    before = {name for name in sys.modules if name.startswith(("chumpy", "scipy"))}
    monkeypatch.undo()  # from here on there is no chumpy
    converted = convert_official(source, tmp_path / "bodies")
    body = load_body(converted)
    same(body, arrays)
    assert body["gender"] == "female"
    assert body["id"].startswith("smpl-female-") and body["id"] == load_body(source)["id"]
    assert {name for name in sys.modules if name.startswith(("chumpy", "scipy"))} <= before
    assert [p.name for p in converted.parent.iterdir()] == [converted.name], "nothing is left beside the file"


def test_real_scipy_matrices(arrays, tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csc_matrix, sparse.csr_matrix):
        source = dump(
            tmp_path / "SMPL_MALE.pkl", arrays | {"J_regressor": kind(arrays["J_regressor"])}, False
        )
        body = load_body(source)
        same(body, arrays)
        assert body["gender"] == "male"


def test_chumpy_selections(monkeypatch, arrays, tmp_path):
    doubled = np.concatenate([arrays["shapedirs"], arrays["shapedirs"]], 2)
    flat = np.arange(doubled.size).reshape(doubled.shape)[..., :10]
    inner = fake_class(monkeypatch, "chumpy.ch", "Ch", {"x": doubled})
    node = fake_class(monkeypatch, "chumpy.reordering", "Select",
                      {"a": inner, "idxs": flat.ravel(), "preferred_shape": flat.shape})  # fmt: skip
    source = dump(tmp_path / "SMPL_NEUTRAL.pkl", arrays | {"shapedirs": node})
    monkeypatch.undo()
    same(load_body(source), arrays)


def test_official_npz(arrays, tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    plain, mixed = tmp_path / "SMPL_NEUTRAL.npz", tmp_path / "mixed" / "SMPL_NEUTRAL.npz"
    mixed.parent.mkdir()
    np.savez(plain, **arrays)
    np.savez(
        mixed, **arrays | {"J_regressor": np.array(sparse.csc_matrix(arrays["J_regressor"]), dtype=object)}
    )
    for source in (plain, mixed):
        same(load_body(convert_official(source, tmp_path / "bodies")), arrays)


def test_more_shapes_are_cut_to_ten(arrays, tmp_path):
    source = dump(tmp_path / "SMPL_NEUTRAL.pkl",
                  arrays | {"shapedirs": np.concatenate([arrays["shapedirs"]] * 3, 2)}, False)  # fmt: skip
    same(load_body(source), arrays)


def test_converted_once(arrays, tmp_path):
    source = dump(tmp_path / "SMPL_NEUTRAL.pkl", arrays, False)
    first = convert_official(source, tmp_path / "bodies")
    stamp = first.stat().st_mtime_ns
    assert convert_official(source, tmp_path / "bodies") == first and first.stat().st_mtime_ns == stamp
    dump(source, arrays | {"v_template": arrays["v_template"] + 1}, False)
    assert convert_official(source, tmp_path / "bodies") != first


def test_a_request_names_the_official_file_and_has_it_converted(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("LGD_HOME", str(tmp_path / "home"))
    source = dump(tmp_path / "SMPL_NEUTRAL.PKL", arrays, False)
    converted = body_file(str(source))
    assert converted.parent == tmp_path / "home" / "bodies"
    same(load_body(converted), arrays)
    assert body_file(str(converted)) == converted and body_file("") is None


def test_a_damaged_conversion_is_made_again(arrays, tmp_path):
    source = dump(tmp_path / "SMPL_NEUTRAL.pkl", arrays, False)
    made = convert_official(source, tmp_path / "bodies")
    made.write_bytes(made.read_bytes()[:1000])
    same(load_body(convert_official(source, tmp_path / "bodies")), arrays)


class _Call:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("where", ["root", "inside", "npz"])
@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, np.load, pickle.loads])
def test_evil_pickle_is_refused(arrays, tmp_path, function, where):
    mark = tmp_path / "mark"
    argument = {eval: f"__import__('os').mkdir({str(mark)!r})"}.get(function, str(mark))
    evil = _Call(function, argument)
    arrays = {key: value for key, value in arrays.items() if key != "posedirs"}  # refused before it is missed
    if where == "npz":
        source = tmp_path / "SMPL_NEUTRAL.npz"
        holder = np.empty(1, object)
        holder[0] = evil
        np.savez(source, **arrays | {"J_regressor": holder})
    else:
        source = dump(tmp_path / "SMPL_NEUTRAL.pkl", evil if where == "root" else arrays | {"J": evil}, False)
    with pytest.raises(LgdError) as caught:
        convert_official(source, tmp_path / "bodies")
    assert caught.value.code == "model_file" and "refused" in caught.value.text and caught.value.hint
    assert not mark.exists() and not (tmp_path / "bodies").exists()


class _Kind:
    """Pickles as numpy's dtype of objects, with flags that deny it."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


ADDRESS = b"A" * 8  # where a program that believed it would look


@pytest.mark.parametrize("evil", [
    _Call(np.ndarray, (1,), np.dtype(object), ADDRESS),
    _Call(np.core.numeric._frombuffer if np.__version__ < "2" else np._core.numeric._frombuffer, bytearray(ADDRESS), _Kind(), (1,), "C"),
    _Call(np.ndarray, (1,), "f8", ADDRESS),
    np.array(["text"]),
], ids=["called", "denied", "numbers", "text"])  # fmt: skip
def test_a_file_cannot_name_addresses(arrays, tmp_path, evil):
    source = dump(tmp_path / "SMPL_NEUTRAL.pkl", arrays | {"f": evil}, False, 5)
    read = "import sys; from pathlib import Path; from bridge.body.files import load_body; load_body(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", read, source], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "LgdError" in done.stderr.splitlines()[-1], (done.returncode, done.stderr)


def test_references_outside_the_file_are_refused(tmp_path):
    source = tmp_path / "SMPL_NEUTRAL.pkl"
    source.write_bytes(b"\x80\x02X\x01\x00\x00\x00aQ.")
    with pytest.raises(LgdError, match="refused"):
        load_body(source)


@pytest.mark.parametrize("change, words", [
    ({"kintree_table": np.zeros((2, 52))}, "SMPL\\+H"),
    ({"kintree_table": np.zeros((2, 55))}, "SMPL-X"),
    ({"kintree_table": np.zeros((2, 16))}, "MANO"),
    ({"kintree_table": np.zeros((2, 24))}, "joint tree"),
    ({"v_template": np.zeros((10475, 3))}, "10475 vertices"),
    ({"posedirs": np.zeros((COUNT, 3, 9))}, "posedirs"),
    ({"shapedirs": np.zeros((COUNT, 3, 4))}, "shapedirs"),
    ({"weights": np.zeros((COUNT, 24))}, "weights"),
    ({"v_template": np.full((COUNT, 3), np.nan)}, "not numbers"),
    ({"v_template": np.array(1.0)}, "one number"),
    ({"kintree_table": np.array(24)}, "one number"),
    ({"kintree_table": np.full((2, 24), np.nan)}, "not numbers"),
    ({"f": np.full((10, 3), np.nan)}, "not numbers"),
    ({"v_template": "hello"}, "arrays cannot be read"),
    ({"v_template": np.full((COUNT, 3), 0.5) * np.arange(COUNT)[:, None]}, "not in metres"),
    ({"f": np.full((4, 3), COUNT)}, "faces"),
    ({"f": None}, "it has no f"),
])  # fmt: skip
def test_wrong_models_get_one_sentence(arrays, tmp_path, change, words):
    data = {key: value for key, value in (arrays | change).items() if value is not None}
    with pytest.raises(LgdError, match=words) as caught:
        convert_official(dump(tmp_path / "SMPL_NEUTRAL.pkl", data, False), tmp_path / "bodies")
    text = caught.value.text
    assert caught.value.code == "model_file" and text.endswith(".") and "\n" not in text and len(text) < 160


@pytest.mark.parametrize(
    "content", [b"", b"hello world", b"PK\x03\x04 broken", b"\x80\x04", b"\x80\x02]q\x00."]
)
def test_other_files_get_one_sentence(tmp_path, content):
    source = tmp_path / "picture.jpg"
    source.write_bytes(content)
    for read in (load_body, lambda path: convert_official(path, tmp_path)):
        with pytest.raises(LgdError) as caught:
            read(source)
        assert caught.value.code == "model_file" and "picture.jpg" in caught.value.text


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(LgdError, match="cannot be read"):
        load_body(tmp_path / "absent.npz")
    with np.load(Path(load_body.__code__.co_filename).with_name("default_body.npz")) as file:
        parts = {name: file[name] for name in file.files}
    np.savez(tmp_path / "future.npz", **parts | {"format": np.array(2)})
    with pytest.raises(LgdError, match="newer version"):
        load_body(tmp_path / "future.npz")
    parts.pop("faces")
    np.savez(tmp_path / "cut.npz", **parts)
    with pytest.raises(LgdError, match="damaged"):
        load_body(tmp_path / "cut.npz")


def test_a_damaged_default_body_is_the_installations_fault(tmp_path, monkeypatch):
    from bridge.body import files

    (tmp_path / "default_body.npz").write_bytes(files.DEFAULT_BODY.read_bytes()[:5000])
    monkeypatch.setattr(files, "DEFAULT_BODY", tmp_path / "default_body.npz")
    with pytest.raises(LgdError, match="default body is damaged") as caught:
        load_body()
    assert caught.value.code == "setup_incomplete"


def test_smplx_poses_a_converted_file_alike(arrays, tmp_path):
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    body = load_body(dump(tmp_path / "SMPL_NEUTRAL.pkl", arrays, False))
    pose, betas = torch.randn(1, 69, generator=torch.manual_seed(1)) * 0.3, torch.ones(1, 10)
    ours, direct = (
        smplx.SMPL("", data_struct=smplx.utils.Struct(**d))(body_pose=pose, betas=betas)
        for d in (body, arrays)
    )
    assert (ours.vertices - direct.vertices).abs().max() < 1e-5
    straight = smplx.SMPL("", data_struct=smplx.utils.Struct(**body | {"posedirs": body["posedirs"] * 0}))(
        body_pose=pose, betas=betas
    )
    assert (ours.vertices - straight.vertices).abs().max() > 1e-4, "the pose corrections are in use"


def test_a_file_that_was_replaced_is_the_body_of_the_next_fit(tmp_path):
    """By a worker that lives on, while the add-on reads the new one: a motion of the other could not be built."""
    fitter = pytest.importorskip("bridge.lgd.fitter")
    file = tmp_path / "body.npz"
    for number, name in enumerate(("first", "second")):
        save_arrays(file, {**load_arrays(DEFAULT_BODY), "id": name})
        os.utime(file, (number, number))
        assert fitter._body(str(file), "cpu")[1]["id"] == name
    with pytest.raises(LgdError, match="cannot be read"):
        fitter._body(str(tmp_path / "gone.npz"), "cpu")
