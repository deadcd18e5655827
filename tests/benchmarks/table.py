"""Figures as a table, and as a picture for the documentation."""

from __future__ import annotations

import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "explanation" / "benchmarks.md"
PICTURE = DOCS / "images" / "benchmarks.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
OURS = "steady_queue"

UNITS = {
    "rate": "a second",
    "client_us": "client, µs a job",
    "worker_us": "worker, µs a job",
    "server_us": "server, µs a job",
    "kept": "of the rate without",
    "to1": "to=1, a second",
    "to4": "to=4, a second",
    "to_enqueue": "to enqueue",
    "to_run": "to run",
    "transactions": "transactions a second",
    "commands": "Redis commands a second",
    "p50": "p50, ms",
    "p99": "p99, ms",
}


def text(figures: dict[str, Any]) -> str:
    """Markdown, a table for each workload: medians, and how ours was beside each, run by run."""
    return "\n\n".join(_table(workload, by_peer) for workload, by_peer in figures.items())


def _table(workload: str, by_peer: dict[str, Any]) -> str:
    names = _names(by_peer)
    lines = [f"| {workload} | {' | '.join(UNITS[name] for name in names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for peer in by_peer:
        cells = [_cell(by_peer, peer, name) for name in names]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _names(by_peer: dict[str, Any]) -> list[str]:
    """Of all figures, in the order of UNITS: not every peer has each."""
    return [name for name in UNITS if any(name in figures for figures in by_peer.values())]


def _cell(by_peer: dict[str, Any], peer: str, name: str) -> str:
    mine, theirs = (by_peer[whose].get(name) for whose in (OURS, peer))
    if not theirs:
        return "none"
    shown = _number(statistics.median(theirs))
    if peer == OURS:
        return f"**{shown}**"
    if not mine:
        return shown
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True) if b)
    return f"{shown} ({ratio:.2f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write(figures: dict[str, Any]) -> None:
    """Into the page, between its marks, and as a picture beside it."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    said = f"Measured on {date.today()}, Python {platform.python_version()}, two processors."
    PAGE.write_text(f"{before}{BEGIN}\n{text(figures)}\n\n{said}\n{END}{after}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(figures))


STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .title { font-weight: 600 }
  rect { fill: #9aa5b1 } .ours { fill: #2f855a }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } rect { fill: #667 } .ours { fill: #48bb78 }
  }
"""
LINE, WIDTH, NAMES, BARS = 22, 720, 130, 470


def picture(figures: dict[str, Any]) -> str:
    """Bars of the rates, a group for each workload that has one."""
    parts: list[str] = []
    top = 10
    for workload, by_peer in figures.items():
        rates = {p: statistics.median(v["rate"]) for p, v in by_peer.items() if "rate" in v}
        if not rates:
            continue
        parts.append(
            f'<text class="title" x="0" y="{top + 14}">{escape(workload)}, a second</text>'
        )
        top += LINE
        for peer, rate in rates.items():
            width = rate / max(rates.values()) * BARS
            own = ' class="ours"' if peer == OURS else ""
            parts.append(
                f'<text x="0" y="{top + 14}">{escape(peer)}</text>'
                f'<rect{own} x="{NAMES}" y="{top + 2}" width="{width:.1f}" height="16"/>'
                f'<text x="{NAMES + width + 6:.1f}" y="{top + 14}">{_number(rate)}</text>'
            )
            top += LINE
        top += LINE // 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img"'
        f' aria-label="Jobs a second of each queue"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )
