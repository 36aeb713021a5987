"""The command and its server: what it listens to, what it refuses, what it leaves behind."""

from __future__ import annotations

import socket
import sys

import pytest

from ..conftest import Project


def test_gradio_is_named_where_it_is_missing(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = project.run("demo", "--port", "0", "--device", "cpu")
    assert result.status == 2 and result.out == ""
    assert result.err == (
        'basicsr demo: error: the page needs gradio: pip install "compacter-arch[demo]"\n'
    )


@pytest.mark.parametrize("host, port", [("127.0.0.1", "-1"), ("256.0.0.1", "0")])
def test_address_that_cannot_be(project: Project, host: str, port: str):
    result = project.run("demo", "--device", "cpu", "--host", host, "--port", port)
    assert result.status == 2 and result.err.count("\n") == 1
    assert f"error: --host {host} --port {port}: " in result.err


def test_port_that_is_taken(project: Project):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = project.run("demo", "--device", "cpu", "--port", port)
    assert result.status == 2 and result.err.count("\n") == 1
    assert f"--port {port}: Address already in use" in result.err


@pytest.mark.parametrize("flag", ["--max_pixels", "--max_size"])
def test_limits_are_positive(project: Project, flag: str):
    result = project.run("demo", flag, "0")
    assert result.status == 2 and flag in result.err
