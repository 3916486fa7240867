"""Horizontal bars of ratios as SVG text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidebyside.report import Ratio

WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 900, 400, 70, 56, 34, 18
GOOD, BAD, GRID, INK, SOFT = "#2e7d5b", "#b3543a", "#c8c8c8", "#222222", "#6a6a6a"


def bars(title: str, rows: list[tuple[str, str, Ratio]]) -> str:
    """A bar a row from 0 to its median, a thin line from the lowest to the highest pair, a tick at the goal. The line at 1
    is the other server. Bars past the edge are cut and marked by their number."""
    reach = max([1.2, *(r.goal or 0 for _, _, r in rows), *(min(r.median, 6.0) for _, _, r in rows)]) * 1.05
    x = lambda value: LEFT + min(value, reach) / reach * (WIDTH - LEFT - RIGHT)
    height = TOP + STEP * len(rows) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(12, 24, title, 'font-size="16" font-weight="bold"'),
        text(12, 42, "bar: median; thin line: lowest to highest pair; tick: goal; line at 1: the other server", f'fill="{SOFT}"'),
        line(x(1), TOP - 6, x(1), height - 10, GRID, 1.5),
    ]
    for index, (name, against, r) in enumerate(rows):
        y = TOP + STEP * index
        middle = y + BAR / 2
        parts += [
            text(LEFT - 8, middle, name, 'text-anchor="end"'),
            text(LEFT - 8, middle + 13, f"against {against}", f'text-anchor="end" font-size="10" fill="{SOFT}"'),
            f'<rect x="{LEFT}" y="{y}" width="{x(r.median) - LEFT:.1f}" height="{BAR}" fill="{GOOD if r.met else BAD}"/>',
            line(x(r.low), middle, x(r.high), middle, INK, 1),
            text(max(x(r.median), x(r.high), x(r.goal or 0)) + 6, middle + 4, f"{r.median:.2f}", 'font-weight="bold"'),
        ]
        if r.goal is not None:
            parts.append(line(x(r.goal), y - 4, x(r.goal), y + BAR + 4, INK, 2))
    return "\n".join([*parts, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
