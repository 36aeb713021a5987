"""How the page looks; fonts are the browser's own, nothing is fetched from elsewhere."""

from __future__ import annotations

import gradio as gr

HEIGHT = 560  # pixels, of the pictures
SANS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "Consolas", "monospace")
CSS = """
.gradio-container { max-width: 1240px !important; width: 100%; margin: 0 auto !important; }
#introduction h1 { margin-bottom: 0; }
#tasks .wrap { flex-direction: column; gap: 6px; }
#small-print *, #facts *, #introduction p { color: var(--body-text-color-subdued); }
#small-print * { font-size: var(--text-sm); }
#result { align-items: center; min-height: 48px; }
#picture .wrap.translucent, #picture .wrap.default, #comparison .wrap.default {
  background: color-mix(in srgb, var(--block-background-fill) 70%, transparent);
}
#comparison::before, #comparison::after {
  position: absolute; bottom: 12px; z-index: 100; padding: 2px 10px; border-radius: 6px;
  background: rgb(0 0 0 / 55%); color: white; font-size: var(--text-sm); pointer-events: none;
}
#comparison::before { content: "before"; left: 20px; }
#comparison::after { content: "after"; right: 20px; }
footer { display: none !important; }
"""


def theme() -> gr.themes.Base:
    """Colors and fonts."""
    font, font_mono = ([gr.themes.Font(name) for name in names] for names in (SANS, MONO))
    return gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=font, font_mono=font_mono)
