"""Serves the page; the machine sends nothing anywhere, and neither does the browser."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError
from .photos import Limits

QUIET = {  # read by Gradio and by what it imports
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
# What a browser may load for this page, and from where. Gradio writes scripts into its page.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
    )
)
PATIENCE = 1  # seconds for connections that are open when the server is told to end


def serve(load: Callable[[str], nn.Module], host: str, port: int, limits: Limits) -> None:
    """Serve the page until Ctrl-C or SIGTERM; all files that it made are gone then.

    Args:
        load: gives the network of a task of :mod:`compacter_arch.zoo`.
        host: address to listen at; 127.0.0.1 is reached from this machine alone.
        port: 0 for any that is free.
        limits: of what is accepted.

    Raises:
        UserError: Gradio is missing; the address cannot be used.
    """
    with listen(host, port) as listening, tempfile.TemporaryDirectory(prefix="compacter-") as name:
        folder = Path(name).resolve()
        os.environ.update(QUIET, GRADIO_TEMP_DIR=str(folder))
        try:
            import gradio as gr
            import uvicorn
            from fastapi import FastAPI
        except ImportError as error:
            raise UserError(
                f'the page needs {error.name}: pip install "compacter-arch[demo]"'
            ) from error
        from .layout import Page
        from .style import CSS, theme

        page = Page(load, limits, folder)
        app = gr.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            page.blocks(),
            path="/",
            footer_links=[],
            show_error=False,
            max_file_size=limits.size,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=CSS,
        )

        class Server(uvicorn.Server):
            """Stops the work when it is told to end; pages that are open then are no error."""

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                page.closing = True
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                await super().shutdown(sockets)

        config = uvicorn.Config(
            with_policy(app), log_level="error", timeout_graceful_shutdown=PATIENCE
        )
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        # uvicorn ends by itself at either signal, and then raises it again.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            Server(config).run(sockets=[listening])
        with page.one_at_a_time:  # what is left of a tile, so that no file comes after this
            pass


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        UserError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: {reason}") from error


def with_policy(app: Any) -> Any:
    """An ASGI application whose answers forbid a browser to load anything from elsewhere."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await app(scope, receive, send_with_policy)

    return answered
