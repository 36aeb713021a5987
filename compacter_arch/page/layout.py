"""What the page shows, and what happens when something is done on it. Needs Gradio."""

from __future__ import annotations

import html
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from torch import nn

from ..errors import UserError
from ..inference.restoration import Restorer
from .photos import Limits, restore_upload, show_upload
from .style import HEIGHT
from .tasks import choices

QUEUE = 16  # jobs that may wait
SWEEP, KEPT = 600, 7200  # seconds between two looks for old files; for which a file is kept
PROGRESS = gr.Progress()

TITLE = "Compacter"
INTRODUCTION = """# Compacter
Restores photographs with networks of 400,000 parameters, on the computer that serves this page."""
SMALL_PRINT = """PNG, JPEG, WebP, TIFF or BMP, of 8 or 16 bits; up to {megabytes} MB and {pixels:g}
million pixels. Depth, transparency, color profile and metadata are kept. Closing the page stops
the work."""


class Page:
    """The page's actions. One photograph is restored at a time.

    Args:
        load: gives the network of a task; called once for each.
        limits: of what is accepted.
        folder: for files that are made; Gradio's own is the same.
    """

    def __init__(self, load: Callable[[str], nn.Module], limits: Limits, folder: Path) -> None:
        self.load, self.limits, self.folder = cache(load), limits, folder
        self.left: set[str] = set()  # sessions that are over
        self.closing = False
        self.one_at_a_time = threading.Lock()

    def clear(self) -> tuple[Any, ...]:
        """Show no photograph."""
        return (
            gr.Image(None, visible=True),
            gr.ImageSlider(None, visible=False),
            gr.Button(interactive=False),
            gr.DownloadButton(value=None, visible=False),
            "",
        )

    def show(self, upload: str | None) -> tuple[Any, ...]:
        """Show the photograph that was chosen, if one was."""
        if upload is None:
            return None, gr.Button(), ""
        try:
            picture, facts = show_upload(self.uploaded(upload), self.limits, self.folder)
        except UserError as error:
            raise in_words(error) from error
        return picture, gr.Button(interactive=True), facts

    def restore(
        self,
        upload: str | None,
        task: str,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Any, ...]:
        """Restore the photograph and show both."""
        if upload is None:
            raise in_words(UserError("choose a photograph first"))
        session = request.session_hash or ""

        def tell(done: int, total: int) -> None:
            if self.closing or session in self.left:
                raise UserError("stopped")
            progress((done, total), desc="Restoring", unit="tiles")

        start = time.perf_counter()
        try:
            with self.one_at_a_time:
                file, restorer = self.uploaded(upload), Restorer(self.load(task))
                result = restore_upload(file, self.limits, restorer, self.folder, tell)
        except UserError as error:
            raise in_words(error) from error
        finally:
            self.left.discard(session)
        return (
            gr.Image(visible=False),
            gr.ImageSlider((str(result.before), str(result.after)), visible=True),
            gr.DownloadButton(f"Download {result.file.name}", value=result.file, visible=True),
            f"{result.facts}, in {time.perf_counter() - start:.1f} s",
        )

    def uploaded(self, name: str) -> Path:
        """A file that was sent to us; a client may ask for any other, or for an address.

        Raises:
            UserError: it was not.
        """
        path = Path(os.path.realpath(name))
        if self.folder not in path.parents:
            raise UserError(f"{path.name}: was not sent to this page")
        return path

    def take_uploads_alone(self, upload: gr.File) -> None:
        """Let a component copy, before we see it, nothing but what was sent to us.

        Gradio itself refuses other files only in servers that it starts by itself, and fetches
        addresses in all.
        """
        copy = upload.async_move_resource_to_block_cache

        async def checked(name: str | Path | None) -> str | None:
            if name is not None:
                try:
                    self.uploaded(str(name))
                except UserError as error:
                    raise in_words(error) from error
            return await copy(name)

        vars(upload)["async_move_resource_to_block_cache"] = checked

    def leave(self, request: gr.Request) -> None:
        """Stop what is done for a page that was closed."""
        self.left.add(request.session_hash or "")

    def blocks(self) -> gr.Blocks:
        """The page, to be served."""
        with gr.Blocks(
            title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(SWEEP, KEPT)
        ) as blocks:
            gr.Markdown(INTRODUCTION, elem_id="introduction")
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    upload = gr.File(label="Photograph", file_types=["image"], height=180)
                    self.take_uploads_alone(upload)
                    task = gr.Radio(
                        choices(), value=choices()[0][1], label="What to do", elem_id="tasks"
                    )
                    start = gr.Button("Restore", variant="primary", interactive=False)
                    small_print = SMALL_PRINT.format(
                        megabytes=self.limits.megabytes, pixels=self.limits.pixels / 10**6
                    )
                    gr.Markdown(small_print, elem_id="small-print")
                with gr.Column(scale=3, min_width=480):
                    picture = gr.Image(
                        label="Before",
                        height=HEIGHT,
                        interactive=False,
                        buttons=[],
                        elem_id="picture",
                    )
                    slider = gr.ImageSlider(
                        show_label=False,
                        height=HEIGHT,
                        max_height=HEIGHT,
                        interactive=False,
                        visible=False,
                        buttons=["fullscreen"],
                        elem_id="comparison",
                    )
                    with gr.Row(elem_id="result"):
                        facts = gr.Markdown(elem_id="facts")
                        download = gr.DownloadButton(
                            variant="primary", visible=False, scale=0, min_width=260
                        )
            chosen = gr.on(
                [upload.upload, upload.clear],
                self.clear,
                None,
                [picture, slider, start, download, facts],
                show_progress="hidden",
                api_visibility="private",
            )
            chosen.then(
                self.show,
                upload,
                [picture, start, facts],
                show_progress_on=picture,
                api_visibility="private",
            )
            start.click(
                self.restore,
                [upload, task],
                [picture, slider, download, facts],
                show_progress_on=[picture, slider],
                api_visibility="private",
            )
            blocks.unload(self.leave)
        return blocks.queue(max_size=QUEUE, default_concurrency_limit=1, api_open=False)


def in_words(error: UserError) -> gr.Error:
    """An error that the page shows; Gradio takes its text for HTML."""
    return gr.Error(html.escape(str(error)), duration=None, print_exception=False)
