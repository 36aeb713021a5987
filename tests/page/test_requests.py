"""What a program may ask of the page's server: nothing of this machine, nothing of elsewhere."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_arch.inference.encoding import encode
from compacter_arch.inference.images import Photo

from ..conftest import REPOSITORY

pytest.importorskip("gradio", reason='needs pip install "compacter-arch[demo]"')

PATIENCE = 60  # seconds
SECRET = "secret.png"  # an image beside the one that was sent
PNG = encode(Photo(np.full((9, 12, 3), 99, np.uint8)), ".png")


@dataclass
class Server:
    """A server of the page, and one that counts who asks it for something.

    Args:
        url: of the page.
        folder: where it was started.
        elsewhere: address of an image on the other server.
        asked: what was asked of that.
    """

    url: str
    folder: Path
    elsewhere: str
    asked: list[str] = field(default_factory=list)
    sessions: int = 0

    def call(self, action: str, *data: Any) -> dict[str, Any]:
        """What an action of the page answers to a program, in the end."""
        functions = json.loads(self.get("/config"))["dependencies"]
        number = next(f["id"] for f in functions if f["api_name"] == action)
        self.sessions += 1
        session = f"session{self.sessions}"
        content = {"data": data, "fn_index": number, "session_hash": session}
        request = urllib.request.Request(
            f"{self.url}/gradio_api/queue/join",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()
        events = f"{self.url}/gradio_api/queue/data?session_hash={session}"
        with urllib.request.urlopen(events, timeout=PATIENCE) as lines:
            for line in lines:
                told = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                if told.get("msg") == "process_completed":
                    return told["output"]
        raise AssertionError("no answer")

    def get(self, path: str) -> bytes:
        """What the server gives."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return answer.read()

    def send(self, name: str, data: bytes) -> str:
        """Upload a file; returns its place on the server."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        request = urllib.request.Request(
            f"{self.url}/gradio_api/upload",
            head.encode() + data + b"\r\n--x--\r\n",
            {"Content-Type": "multipart/form-data; boundary=x"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("started_here")
    (folder / SECRET).write_bytes(PNG)
    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            """Not on the terminal."""

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    process = subprocess.Popen(
        [sys.executable, "-m", "compacter_arch", "demo", "--port=0", "--device=cpu"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = process.stdout.readline().split()[0]
    yield Server(url, folder, f"http://127.0.0.1:{other.server_port}/{SECRET}", asked)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    other.shutdown()


def file_data(path: str, **others: Any) -> dict[str, Any]:
    """A file as Gradio's pages name it to their server."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **others}


def actions(server: Server, file: Any) -> list[dict[str, Any]]:
    """What both actions answer for a file."""
    return [server.call("show", file), server.call("restore", file, "gray_dn")]


def test_what_was_sent_is_shown_and_restored(server: Server):
    path = server.send("photo.png", PNG)
    shown, restored = actions(server, file_data(path, orig_name="photo.png"))
    assert "12 × 9" in json.dumps(shown["data"], ensure_ascii=False)
    assert "12 × 9" in json.dumps(restored["data"], ensure_ascii=False)


@pytest.mark.parametrize("others", [{}, {"is_stream": True}, {"url": "/gradio_api/file=x"}])
@pytest.mark.parametrize("place", ["relative", "absolute", "above", "link"])
def test_other_files_of_the_machine_are_not_read(server: Server, place: str, others: dict):
    sent = Path(server.send("photo.png", PNG))
    secret = server.folder / SECRET
    if place == "link":
        sent = sent.with_name("link.png")
        sent.unlink(missing_ok=True)
        sent.symlink_to(secret)
    path = {
        "relative": SECRET,
        "absolute": str(secret),
        "above": os.path.relpath(secret, sent.parent).join((f"{sent.parent}/", "")),
        "link": str(sent),
    }[place]
    for answer in actions(server, file_data(path, **others)):
        assert "data" not in answer
        assert answer["error"] == f"{SECRET}: was not sent to this page"


@pytest.mark.parametrize("others", [{}, {"is_stream": True}])
def test_addresses_are_not_fetched(server: Server, others: dict):
    for file in (
        file_data(server.elsewhere, **others),
        file_data(SECRET, url=server.elsewhere, **others),
        file_data("https://192.0.2.1/secret.png", **others),
    ):
        for answer in actions(server, file):
            assert "data" not in answer
            assert "was not sent to this page" in answer["error"]
    assert not server.asked


@pytest.mark.parametrize("file", ["x.png", 3, [], {}, {"path": None}, [{"path": "x"}], True])
def test_what_is_no_file(server: Server, file: Any):
    for answer in actions(server, file):
        assert "data" not in answer
    assert b"Compacter" in server.get("/")


def test_task_that_is_none(server: Server):
    answer = server.call("restore", file_data(server.send("photo.png", PNG)), "../../x.pth")
    assert "not in the list of choices" in answer["error"]


@pytest.mark.parametrize("name", ["file=/etc/passwd", "file={secret}", "proxy={elsewhere}"])
def test_server_gives_no_other_file(server: Server, name: str):
    name = name.format(secret=server.folder / SECRET, elsewhere=server.elsewhere)
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.get(f"/gradio_api/{name}")
    assert caught.value.code in (400, 403, 404)
    assert not server.asked


@pytest.mark.parametrize("name", ["../../up.png", "/tmp/up.png", "a/../../up.png"])
def test_name_of_what_is_sent_leads_nowhere(server: Server, name: str):
    path = Path(server.send(name, PNG))
    known = Path(server.send("photo.png", PNG))
    assert path.parent.parent == known.parent.parent
