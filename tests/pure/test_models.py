# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching the network that is not bundled: from a folder, from a registry, and what goes wrong on the way."""

import contextlib
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import time

import pytest

from bridge import models

CONTENT = b"a large network " * 50000


def archive(content: bytes | None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, data in {"README.md": b"read", **({models.FILE: content} if content else {})}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(autouse=True)
def pinned(monkeypatch):
    monkeypatch.setattr(models, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(models, "BYTES", len(CONTENT))


@pytest.fixture
def registry(monkeypatch):
    """A registry of one's own, told as npm is told of it; what it was asked for, and what it answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked: list[str] = []
        answer = archive(CONTENT)

        def do_GET(self):
            self.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.answer)))
            self.end_headers()
            self.wfile.write(self.answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/npm/")
    yield Handler
    server.shutdown()
    server.server_close()


def left(prefix) -> list[str]:
    return sorted(path.name for path in prefix.rglob("*") if path.is_file())


def test_fetched_from_the_registry_and_only_once(tmp_path, registry):
    parts = []
    assert not models.there(tmp_path)
    models.fetch(tmp_path, on_part=lambda done, total: parts.append((done, total)))
    assert models.there(tmp_path) and left(tmp_path) == [models.FILE]
    assert models.place(tmp_path).read_bytes() == CONTENT
    assert parts and all(0 < done <= total for done, total in parts)
    models.fetch(tmp_path)
    assert registry.asked == [f"/npm/@mediapipe/pose/-/{models.ARCHIVE}"]


def test_from_a_folder_under_npms_own_name(tmp_path):
    (tmp_path / f"mediapipe-{models.ARCHIVE}").write_bytes(archive(CONTENT))
    models.fetch(tmp_path / "env", tmp_path)
    assert models.there(tmp_path / "env")
    models.fetch(tmp_path / "other", tmp_path / f"mediapipe-{models.ARCHIVE}")  # which is told itself
    assert models.there(tmp_path / "other")


def test_a_damaged_one_is_not_there_and_is_fetched_anew(tmp_path, registry):
    for damaged in (bytes(len(CONTENT)), CONTENT[:-1]):
        models.place(tmp_path).parent.mkdir(parents=True, exist_ok=True)
        models.place(tmp_path).write_bytes(damaged)
        assert not models.there(tmp_path)
        models.fetch(tmp_path)
        assert models.there(tmp_path)


def test_the_hosts_own_address_is_asked_where_none_is_set(tmp_path, monkeypatch):
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    asked = []

    def urlopen(address, **_):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(models.urllib.request, "urlopen", urlopen)
    with pytest.raises(models.Unfetched, match="no network"):
        models.fetch(tmp_path)
    assert asked == [f"https://registry.npmjs.org/@mediapipe/pose/-/{models.ARCHIVE}"] and left(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (archive(b"other"), "hash differs"),
        (archive(None), "has no pose_landmark_heavy"),
        (archive(CONTENT)[:300], "could not be fetched"),
        (b"<html>Please log in to this network</html>", "could not be fetched"),
        (b"", "could not be fetched"),
    ],
)
def test_what_is_no_such_archive_is_refused(tmp_path, registry, answer, word):
    registry.answer = answer
    with pytest.raises(models.Unfetched, match=word):
        models.fetch(tmp_path)
    assert not models.there(tmp_path) and left(tmp_path) == []


@pytest.fixture
def talker(monkeypatch):
    """A registry that says what it is told to, by its function on the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{listener.getsockname()[1]}")
    threads = []

    def says(talk):
        def answer():
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.recv(1 << 16)
                talk(connection)

        threads.append(threading.Thread(target=answer, daemon=True))
        threads[-1].start()

    yield says
    listener.close()
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + archive(CONTENT)[:300],  # and the connection breaks
        b"HTTP/1.1 302 Found\r\nLocation: http://login:here/\r\n\r\n",
    ],
)
def test_who_does_not_speak_as_a_registry_does(tmp_path, talker, answer):
    talker(lambda connection: connection.sendall(answer))
    with pytest.raises(models.Unfetched, match="could not be fetched"):
        models.fetch(tmp_path)
    assert left(tmp_path) == []


def test_a_setting_that_is_no_address(tmp_path, monkeypatch):
    for registry in ("http://a host/npm", "http://host:port", "host/npm"):
        monkeypatch.setenv("npm_config_registry", registry)
        with pytest.raises(models.Unfetched, match="could not be fetched"):
            models.fetch(tmp_path)


def test_a_slow_connection_can_be_cancelled(tmp_path, talker):
    stop, ended = threading.Event(), []

    def trickle(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 41000000\r\n\r\n\x1f\x8b")
        while not ended:
            connection.sendall(b"\x08")
            time.sleep(0.02)

    def fetch():
        with pytest.raises(models.Cancelled):
            models.fetch(tmp_path, should_stop=stop.is_set)
        ended.append(True)

    talker(trickle)
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(0.3)
    stop.set()
    thread.join(3)
    cancelled = bool(ended)
    ended.append(False)  # the talker ends
    assert cancelled and left(tmp_path) == []


def test_a_registry_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(models.Unfetched, match="could not be fetched"):
        models.fetch(tmp_path)


def test_cancelled_leaves_nothing(tmp_path, registry):
    with pytest.raises(models.Cancelled):
        models.fetch(tmp_path, should_stop=lambda: True)
    assert not models.there(tmp_path) and left(tmp_path) == []


def test_an_environment_that_takes_no_files(tmp_path):
    (tmp_path / "modules").write_text("a file")
    with pytest.raises(models.Unfetched):
        models.fetch(tmp_path, tmp_path)


def test_an_offline_folder_without_it(tmp_path):
    with pytest.raises(models.Unfetched, match=f"has no {models.ARCHIVE}"):
        models.fetch(tmp_path / "env", tmp_path)


def test_an_environment_without_mediapipe(tmp_path):
    assert models.mediapipe(tmp_path) is None and not models.there(None)
    with pytest.raises(models.Unfetched, match="mediapipe is not there"):
        models.fetch(models.mediapipe(tmp_path))


@pytest.mark.parametrize("packages", ["lib/python3.11/site-packages", "Lib/site-packages"])
def test_mediapipe_is_found_in_an_environment(tmp_path, packages):
    folder = tmp_path / packages / "mediapipe"
    folder.mkdir(parents=True)
    assert models.mediapipe(tmp_path) == folder
