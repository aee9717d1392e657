# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire: round trips, fuzzed lines, limits, and paths that must stay in the job's folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import protocol
from bridge.errors import CODES, TABLE, LgdError

ROOT = Path(__file__).resolve().parents[2]
FIT = {"keypoints": "/k.npz", "person": "all", "mode": None, "focal": 1000, "trace": True, "out": "/tmp/job"}
MESSAGES = [
    protocol.message("hello", 1),
    protocol.message("fit", 2, **FIT),
    protocol.message("fit", 2, **FIT | {"person": [0, 2]}),
    protocol.message(
        "fit",
        2,
        source={"path": "a\udcff.mp4", "frames": [0, 9], "boxes": [[1, 2, 3, 4, None, None]]},
        out="é",
    ),
    protocol.message("cancel", 3, job=2),
    protocol.message("ready", 0, version="1.0.0", pid=5),
    protocol.message("progress", 2, stage="fit", done=1, total=3),
    protocol.message(
        "keypoints", 2, frame=0, people=[[[1.5, 2.5, 0.9]]], layout="coco17", image_size=[640, 480]
    ),
    protocol.message("result", 2, value={"motions": []}),
    protocol.message("error", 2, code="no_person", text="No one.", hint="", action=""),
    protocol.message("cancelled", 2),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m["type"])
def test_round_trip(message):
    line = protocol.encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert protocol.decode(line) == message


@pytest.mark.parametrize(
    "change", [{"betas": [0.0] * 9}, {"betas": ["a"] * 10}, {"betas": [None, [0.0] * 9]}, {"betas": [[0.0] * 10, 1.0]}, {"frames": [5]}, {"frames": ["a", 5]}, {"frames": [1, 2, 3]}, {"fps": 0}, {"focal": -5},
     {"person": []}, {"person": ["a"]}], ids=str
)  # fmt: skip
def test_values_that_no_request_can_have(change):
    with pytest.raises(protocol.ProtocolError, match=r"frames|betas|above 0|person"):
        protocol.check(protocol.message("fit", 2, **FIT | change))
    source = {"path": "a.mp4", **{key: value for key, value in change.items() if key in ("frames", "fps")}}
    if len(source) > 1:
        with pytest.raises(protocol.ProtocolError):
            protocol.check(protocol.message("detect", 2, source=source, out="/tmp"))


@pytest.mark.parametrize("betas", [[0.5] * 10, [None, [0.5] * 10], [[0.5] * 10], [[0] * 10, None]], ids=str)
def test_a_shape_is_told_of_one_or_of_each_of_several(betas):
    protocol.check(protocol.message("fit", 2, **FIT | {"betas": betas}))


@given(st.text(), st.integers(0, 2**52), st.integers(-(2**60), 2**60))
def test_any_text_and_number_travels(text, id, number):
    message = protocol.message("progress", id, stage=text, done=number, total=0)
    assert protocol.decode(protocol.encode(message)) == message


@given(st.binary(max_size=300))
def test_fuzzed_bytes_raise_nothing_else(line):
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["v", "id", "type", "source", "keypoints", "out", "path", "job", "text", "value"]


@given(
    st.dictionaries(
        st.sampled_from(FIELDS), JSON | st.sampled_from([1, "fit", "cancel", "result", "/tmp"]), max_size=6
    )
)
def test_fuzzed_objects_are_checked_or_refused(value):
    line = json.dumps(value).encode()
    try:
        message = protocol.decode(line)
    except protocol.ProtocolError as fault:
        assert fault.code in CODES
    else:
        assert message["type"] in protocol.TYPES and protocol.decode(protocol.encode(message)) == message


@given(st.sampled_from(MESSAGES), st.data())
def test_damaged_messages_are_refused_or_still_whole(message, data):
    line = bytearray(protocol.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = protocol.decode(bytes(line))
    except protocol.ProtocolError:
        return
    protocol.check(found)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_is_not_finite(number):
    with pytest.raises(protocol.ProtocolError):
        protocol.encode(protocol.message("result", 1, value={"x": [number]}))
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        with pytest.raises(protocol.ProtocolError):
            protocol.decode(
                b'{"v":%d,"id":1,"type":"result","value":{"x":%s}}' % (protocol.VERSION, text.encode())
            )


def test_limits():
    with pytest.raises(protocol.ProtocolError):
        protocol.encode(protocol.message("log", 1, text="x" * protocol.MAX_LINE))
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(b"[" * 100_000)
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(b" " * (protocol.MAX_LINE + 1))
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(b'{"v":1,"id":' + b"9" * 5000 + b"}")


@pytest.mark.parametrize(
    "bad",
    [
        {"v": 1, "id": True, "type": "hello"},
        {"v": True, "id": 1, "type": "hello"},
        {"v": 1, "id": -1, "type": "hello"},
        {"v": 1, "id": 1, "type": "refit"},
        {"v": 1, "id": 1, "type": ["hello"]},
        {"v": 1, "id": 1, "type": "hello", "more": 1},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp"},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp", "keypoints": "a", "source": {"path": "b"}},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp", "source": {"path": "b", "frame": 1}},
        {"v": 1, "id": 1, "type": "cancel", "job": "2"},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp", "source": {"path": "b", "boxes": [1, 2]}},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp", "source": {"path": "b", "boxes": [["a", 0, 9, 9, 0, 1]]}},
        {"v": 1, "id": 1, "type": "fit", "out": "/tmp", "keypoints": "a", "seed": 1 << 70},
    ],
)
def test_refused(bad):
    with pytest.raises(protocol.ProtocolError) as caught:
        protocol.decode(json.dumps(bad).encode())
    assert caught.value.code == "bad_message"


def test_other_version_is_told_apart():
    with pytest.raises(protocol.ProtocolError) as caught:
        protocol.decode(b'{"v":99,"id":7,"type":"whatever"}')
    assert (caught.value.code, caught.value.id) == ("protocol_mismatch", 7)


def test_files_stay_in_the_folder(tmp_path):
    job, other = tmp_path / "job", tmp_path / "job2"
    job.mkdir()
    other.mkdir()
    (job / "motion.npz").write_bytes(b"")
    (other / "motion.npz").write_bytes(b"")
    os.symlink(other / "motion.npz", job / "link.npz")
    good = {"motions": [str(job / "motion.npz")], "traces": [], "keypoints": None}
    protocol.check_files("fit", good, str(job))
    bad = [
        other / "motion.npz",
        job / ".." / "job2" / "motion.npz",
        job / "link.npz",
        job / "none.npz",
        "motion.npz",
        "a\0",
    ]
    for path in bad:
        with pytest.raises(protocol.ProtocolError):
            protocol.check_files("fit", {**good, "motions": [str(path)]}, str(job))
    with pytest.raises(protocol.ProtocolError):
        protocol.check_files("fit", {**good, "motions": [3]}, str(job))


def test_failures_become_terminal_messages():
    error = LgdError("no_person", "No one is there.", "Look again.")
    assert protocol.failure(4, error) == protocol.message(
        "error", 4, code="no_person", text="No one is there.", hint="Look again.", action=""
    )
    assert protocol.failure(4, LgdError("cancelled"))["type"] == "cancelled"
    for odd in (SystemExit(3), KeyError("x"), OSError(2, "no file"), RecursionError("y" * 10_000_000)):
        message = protocol.failure(4, odd)
        assert message["code"] == "internal"
        protocol.encode(message)


def test_every_code_has_a_sentence_and_an_exit_code():
    assert {code: LgdError(code).exit_code for code in TABLE} == CODES
    assert set(CODES.values()) == {1, 2, 3, 4, 130}
    assert all(LgdError(code).text.endswith(".") for code in TABLE)
    assert LgdError("never heard of").exit_code == 1


def test_light_imports():
    code = (
        "import sys, bridge.server, bridge.errors, bridge.cli; "
        "print([m for m in ('numpy', 'torch', 'cv2', 'mediapipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
