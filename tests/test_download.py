"""Downloading weights from a server of our own on 127.0.0.1: what arrives, and what does not."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from easyseg import download as download_module
from easyseg.console import reporting
from easyseg.errors import DownloadError, WeightsError
from easyseg.models.registry import get_spec
from easyseg.models.weights import find_weights, is_obtainable, locate_weights

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Server(ThreadingHTTPServer):
    """Answers every request by ``answer``, which a test sets.

    Attributes:
        requests: Number of requests so far.
        waiting: Set when an answer starts to stall.
        released: Ends all stalls; set when the test is over.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = whole
        self.requests = 0
        self.waiting, self.released = threading.Event(), threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/sam_vit_b_01ec64.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.server.answer(self)

    def do_HEAD(self):
        if self.server.answer is silent:
            self.stall()
        elif self.server.answer is not_found:
            self.send_error(404)
        elif self.server.answer is sign_in_page:
            self.start(len(CONTENT), "text/html; charset=utf-8")
        else:
            self.start(len(CONTENT))

    def log_message(self, *_):
        pass

    def start(self, length, kind="application/octet-stream"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def stall(self):
        self.wfile.flush()
        self.server.waiting.set()
        self.server.released.wait(60)


def whole(handler):
    handler.start(len(CONTENT))
    handler.wfile.write(CONTENT)


def cut_off(handler):
    handler.start(len(CONTENT))
    handler.wfile.write(CONTENT[:HALF])


def silent(handler):
    handler.stall()


def stalled(handler):
    cut_off(handler)
    handler.stall()


def slow(handler):
    handler.start(len(CONTENT))
    for start in range(0, len(CONTENT), len(CONTENT) // 4):
        handler.server.released.wait(0.4)
        handler.wfile.write(CONTENT[start : start + len(CONTENT) // 4])


def other_content(handler):
    handler.start(5)
    handler.wfile.write(b"other")


def not_found(handler):
    handler.send_error(404)


def sign_in_page(handler):
    page = b"\n<!DOCTYPE html><html><body>Please sign in</body></html>"
    handler.start(len(page), "text/html")
    handler.wfile.write(page)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Let the cache be an empty folder, and no proxy stand before 127.0.0.1."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("EASYSEG_CACHE", str(folder))
    monkeypatch.delenv("EASYSEG_WEIGHTS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def spec(server):
    return replace(get_spec("vit_b"), url=server.url, sha256=SHA256)


def contents(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


@contextmanager
def failing(cache, message, kept=0):
    """Expect an error that says what was found and names the ways out, and leaves nothing.

    But what came before the connection was lost is kept: so many bytes.
    """
    with pytest.raises(WeightsError, match=message) as caught:
        yield
    for part in (
        "the weights of vit_b (sam_vit_b_01ec64.pth, sha256 ",
        "are not on this machine, and downloading http://127.0.0.1:",
        f"to {cache / 'sam_vit_b_01ec64.pth'} failed: ",
        "backbone.weights to the path",
        "yourself",
        "EASYSEG_CACHE",
        "~/.cache/easyseg",
        "EASYSEG_WEIGHTS",
        "'lite_medsam'",
        "'random'",
    ):
        assert part in str(caught.value)
    assert ("what came is kept" in str(caught.value)) == (kept > 0)
    assert [file.stat().st_size for file in cache.glob(".*.kept")] == [kept] * (kept > 0)
    assert len(contents(cache)) == (kept > 0)


def test_weights_can_be_had_if_their_server_answers(server, spec, cache):
    assert is_obtainable(spec)
    server.answer = not_found
    assert not is_obtainable(spec)
    server.answer = sign_in_page
    assert not is_obtainable(spec)
    assert not is_obtainable(replace(spec, url=None))
    assert contents(cache) == []
    assert server.requests == 0  # No byte of the file was asked for.


def test_a_server_that_does_not_answer_is_not_waited_for(server, spec, monkeypatch):
    monkeypatch.setattr(download_module, "_ANSWER_TIMEOUT", 0.2)
    server.answer = silent
    assert not is_obtainable(spec)
    server.server_close()
    assert not is_obtainable(spec)


def test_weights_that_are_here_need_no_server(server, spec, cache):
    cache.mkdir(parents=True)
    (cache / "sam_vit_b_01ec64.pth").write_bytes(CONTENT)
    server.answer = not_found
    assert is_obtainable(spec)


def test_a_damaged_file_is_not_counted_as_obtainable(server, spec, cache):
    cache.mkdir(parents=True)
    (cache / "sam_vit_b_01ec64.pth").write_bytes(CONTENT[:-1])
    assert not is_obtainable(spec)
    (cache / "sam_vit_b_01ec64.pth").write_bytes(CONTENT)
    assert is_obtainable(spec)


def test_a_file_that_another_process_holds_open_may_stay_if_it_is_the_right_one(
    server, spec, cache, monkeypatch
):
    def held(self, target):
        raise PermissionError("the file is open in another process")

    monkeypatch.setattr(Path, "replace", held)
    file = cache / "sam_vit_b_01ec64.pth"
    with pytest.raises(DownloadError, match="open in another process"):
        download_module.download(spec.url, file, spec.sha256)
    file.write_bytes(CONTENT)
    download_module.download(spec.url, file, spec.sha256)
    assert contents(cache) == [file.name]


def test_a_download_is_kept_in_the_cache(server, spec, cache):
    assert locate_weights(spec) is None
    file = find_weights(spec)
    assert file == cache / "sam_vit_b_01ec64.pth" == locate_weights(spec)
    assert file.read_bytes() == CONTENT
    assert contents(cache) == [file.name]
    assert find_weights(spec) == file
    assert server.requests == 1


@pytest.mark.skipif(os.name != "posix", reason="about POSIX permissions")
def test_others_may_read_a_shared_cache(spec):
    before = os.umask(0o022)
    try:
        assert find_weights(spec).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_what_is_here_is_not_downloaded(server, spec, cache, tmp_path, monkeypatch):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"anything")
    assert find_weights(spec, mine) == mine
    right = tmp_path / "right.pth"
    right.write_bytes(CONTENT)
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(right))
    assert find_weights(spec) == right == locate_weights(spec)
    assert server.requests == 0


def test_only_the_official_file_with_a_known_hash_is_downloaded(server, spec):
    with pytest.raises(WeightsError, match="sha256 0123") as caught:
        find_weights(spec, sha256="0123")
    assert server.url not in str(caught.value)
    with pytest.raises(WeightsError, match="are not on this machine; you can"):
        find_weights(replace(spec, sha256=None))
    assert server.requests == 0


def test_cut_off_and_again(server, spec, cache):
    server.answer = cut_off
    with failing(cache, f"connection was cut off: .*{HALF} bytes read", kept=HALF):
        find_weights(spec)
    server.answer = whole
    assert find_weights(spec).read_bytes() == CONTENT
    assert len(contents(cache)) == 1


@pytest.mark.parametrize(("answer", "kept"), [(silent, 0), (stalled, HALF)])
def test_a_stalled_server(server, spec, cache, monkeypatch, answer, kept):
    monkeypatch.setattr(download_module, "_TIMEOUT", 0.3)
    server.answer = answer
    started = time.monotonic()
    with failing(cache, r"timed out, the server sent nothing for 0\.3 seconds", kept=kept):
        find_weights(spec)
    assert time.monotonic() - started < 15


def test_a_slow_server_is_waited_for(server, spec, monkeypatch):
    monkeypatch.setattr(download_module, "_TIMEOUT", 1.2)
    server.answer = slow
    assert find_weights(spec).read_bytes() == CONTENT


def test_a_wrong_hash(server, spec, cache):
    server.answer = other_content
    found = hashlib.sha256(b"other").hexdigest()
    with failing(cache, f"the sha256 of what came is {found}, expected {SHA256}"):
        find_weights(spec)


def test_not_found(server, spec, cache):
    server.answer = not_found
    with failing(cache, "the server answered 404"):
        find_weights(spec)


def test_a_page_instead_of_the_file(server, spec, cache):
    server.answer = sign_in_page
    with failing(cache, "an HTML page instead of the file"):
        find_weights(spec)


def test_connection_refused(spec, cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with failing(cache, r"the connection failed: .*[Rr]efused"):
        find_weights(replace(spec, url=f"http://127.0.0.1:{port}/"))


def test_a_full_disk(spec, cache, monkeypatch):
    def fill(self, url, output_file, _):
        output_file.write(CONTENT[:HALF])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", fill)
    with failing(cache, f"could not be written: .*{os.strerror(errno.ENOSPC)}"):
        find_weights(spec)


def test_a_cache_that_is_no_folder(spec, cache):
    cache.parent.mkdir()
    cache.touch()
    with failing(cache, "could not be written"):
        find_weights(spec)


def start_download(server, file):
    """Start a download in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from easyseg.download import download;"
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, server.url, str(file), SHA256],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_two_processes_at_once(server, spec, cache):
    both = threading.Barrier(2)

    def together(handler):
        handler.start(len(CONTENT))
        handler.wfile.write(CONTENT[:HALF])
        both.wait(60)
        handler.wfile.write(CONTENT[HALF:])

    server.answer = together
    file = cache / spec.filename
    processes = [start_download(server, file) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=60) == (None, b"")
        assert process.returncode == 0
    assert server.requests == 2
    assert file == find_weights(spec)
    assert file.read_bytes() == CONTENT
    assert contents(cache) == [file.name]


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_an_interrupted_process(server, spec, cache, name):
    server.answer = stalled
    process = start_download(server, cache / spec.filename)
    assert server.waiting.wait(60)
    give_up = time.monotonic() + 60
    while sum(part.stat().st_size for part in cache.glob(".*.part")) < HALF:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.Signals[name])
    process.communicate(timeout=60)
    assert process.returncode != 0
    server.answer = whole
    if name == "SIGKILL":
        # Nobody could tidy up; the part is removed once it is too old to be a live download's.
        (left,) = cache.iterdir()
        assert left.suffix == ".part"
        find_weights(spec).unlink()
        assert contents(cache) == [left.name]
        os.utime(left, (0, 0))
    else:
        (kept,) = cache.glob(".*.kept")
        assert kept.read_bytes() == CONTENT[:HALF]
        assert len(contents(cache)) == 1
    assert find_weights(spec).read_bytes() == CONTENT
    assert contents(cache) == [spec.filename]


def test_progress_is_shown_on_a_live_console(spec, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with reporting(1):
        find_weights(spec)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err or "1.0/1.0 MB" in err


@pytest.mark.parametrize("verbosity", [None, 0])
def test_silence(spec, monkeypatch, capfd, verbosity):
    monkeypatch.setenv("FORCE_COLOR", "1")
    if verbosity is None:
        find_weights(spec)
    else:
        with reporting(verbosity):
            find_weights(spec)
    assert capfd.readouterr() == ("", "")


def test_one_line_where_no_bar_can_be_drawn(spec, capsys):
    with reporting(1):
        find_weights(spec)
    err = capsys.readouterr().err
    assert err.startswith("downloading http://127.0.0.1")
    assert "MB" not in err


# Going on where an earlier download was cut off.


def resuming(version, *, cut=False, accepts=True, content=CONTENT, told="ETag"):
    """Make an answer as a server with versions and ranges gives it, and note the asked ranges."""

    def answer(handler):
        asked = handler.headers.get("Range")
        answer.ranges.append(asked)
        start = int(asked.split("=")[1].rstrip("-")) if asked and accepts else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if version:
            handler.send_header(told, version)
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            size = len(content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        handler.wfile.write(content[start : HALF if cut else None])

    answer.ranges = []
    return answer


@pytest.mark.parametrize("told", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_cut_off_download_goes_on_where_it_ended(server, tmp_path, sha256, told):
    file = tmp_path / "set.zip"
    server.answer = resuming('"1"', cut=True, told=told)
    with pytest.raises(DownloadError, match=r"cut off: .* what came is kept"):
        download_module.download(server.url, file, sha256)
    server.answer = resuming('"1"', told=told)
    download_module.download(server.url, file, sha256)
    assert server.answer.ranges == [f"bytes={HALF}-"]
    assert file.read_bytes() == CONTENT
    assert contents(tmp_path) == ["set.zip"]


@pytest.mark.parametrize(
    ("version", "asked"), [('"1"', [f"bytes={HALF}-"]), (None, [None]), ('W/"1"', [None])]
)
def test_only_a_known_version_is_kept(server, tmp_path, version, asked):
    file = tmp_path / "set.zip"
    server.answer = resuming(version, cut=True)
    with pytest.raises(DownloadError, match="cut off"):
        download_module.download(server.url, file)
    server.answer = resuming(version)
    download_module.download(server.url, file)
    assert server.answer.ranges == asked
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("accepts", [True, False])
def test_another_version_is_fetched_from_its_beginning(server, tmp_path, accepts):
    file = tmp_path / "set.zip"
    other = CONTENT[::-1]
    server.answer = resuming('"1"', cut=True)
    with pytest.raises(DownloadError, match="cut off"):
        download_module.download(server.url, file)
    server.answer = resuming('"2"', content=other, accepts=accepts)
    download_module.download(server.url, file)
    assert server.answer.ranges == [f"bytes={HALF}-", None][: 1 + accepts]
    assert file.read_bytes() == other
    assert contents(tmp_path) == ["set.zip"]


def test_a_shorter_version_is_fetched_from_its_beginning(server, tmp_path):
    file = tmp_path / "set.zip"
    server.answer = resuming('"1"', cut=True)
    with pytest.raises(DownloadError, match="cut off"):
        download_module.download(server.url, file)
    server.answer = resuming('"2"', content=b"short")
    download_module.download(server.url, file)
    assert file.read_bytes() == b"short"


def test_a_busy_server_costs_nothing_of_what_is_kept(server, tmp_path):
    file = tmp_path / "set.zip"
    server.answer = resuming('"1"', cut=True)
    with pytest.raises(DownloadError, match="cut off"):
        download_module.download(server.url, file)
    server.answer = not_found
    with pytest.raises(DownloadError, match=r"404.* what came is kept"):
        download_module.download(server.url, file)
    server.answer = resuming('"1"')
    download_module.download(server.url, file)
    assert server.answer.ranges == [f"bytes={HALF}-"]
    assert file.read_bytes() == CONTENT


def test_what_was_kept_of_a_wrong_file_is_found_out(server, tmp_path):
    file = tmp_path / "set.zip"
    server.answer = resuming('"1"', cut=True, content=CONTENT[::-1])
    with pytest.raises(DownloadError, match="cut off"):
        download_module.download(server.url, file, SHA256)
    server.answer = resuming('"1"')
    with pytest.raises(DownloadError, match="sha256"):
        download_module.download(server.url, file, SHA256)
    assert contents(tmp_path) == []
    download_module.download(server.url, file, SHA256)
    assert file.read_bytes() == CONTENT


def test_a_page_is_no_file_without_a_hash_either(server, tmp_path):
    server.answer = sign_in_page
    with pytest.raises(DownloadError, match="an HTML page instead of the file"):
        download_module.download(server.url, tmp_path / "set.zip")
    assert contents(tmp_path) == []
