# SPDX-License-Identifier: MIT
"""Parts of the site's drawings: boxes, arrows and texts as SVG, in colours that follow light and dark mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

Point = tuple[float, float]

# In a page the site's style sheet sets the variables --drawing-*; a file that is shown alone follows the system.
_STYLE = """
.drawing{--ink:var(--drawing-ink,#1f2937);--soft:var(--drawing-soft,#6b7280);--fill:var(--drawing-fill,#eef2ff);\
--line:var(--drawing-line,#4f5fae);--back:var(--drawing-back,#ffffff);--a:var(--drawing-a,#2563eb);\
--b:var(--drawing-b,#d9480f);--c:var(--drawing-c,#0f766e)}
@media (prefers-color-scheme:dark){.drawing{--ink:var(--drawing-ink,#e5e7eb);--soft:var(--drawing-soft,#9ca3af);\
--fill:var(--drawing-fill,#262b45);--line:var(--drawing-line,#8c9eff);--back:var(--drawing-back,#1e2129);\
--a:var(--drawing-a,#7aa2ff);--b:var(--drawing-b,#ff9f6b);--c:var(--drawing-c,#5eead4)}}
.drawing text{font:14px system-ui,sans-serif;fill:var(--ink);text-anchor:middle}
.drawing text.small{font-size:12px;fill:var(--soft)}
.drawing text.left{text-anchor:start}.drawing text.right{text-anchor:end}
.drawing text.code{font-family:ui-monospace,monospace;font-size:12.5px}.drawing text.bold{font-weight:600}
.drawing text.pre{white-space:pre}.drawing text.inverse{fill:var(--back)}.drawing .back{fill:var(--back)}
.drawing text.halo{paint-order:stroke;stroke:var(--back);stroke-width:5px}
.drawing .box{fill:var(--fill);stroke:var(--line);stroke-width:1.2}
.drawing .plain{fill:none;stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3}
.drawing .arrow{fill:none;stroke:var(--line);stroke-width:1.4}.drawing .head{fill:var(--line)}
.drawing .bond{fill:none;stroke:var(--soft);stroke-width:1.6}
.drawing .a{fill:var(--a)}.drawing .b{fill:var(--b)}.drawing .c{fill:var(--c)}
.drawing .line-a{fill:none;stroke:var(--a);stroke-width:2}.drawing .line-b{fill:none;stroke:var(--b);stroke-width:2}
.drawing .line-c{fill:none;stroke:var(--c);stroke-width:2}
"""
_LEAST_WIDTH = 660
_IMAGE = re.compile(r"^!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]*images/how/[\w-]+\.svg)\)$", re.MULTILINE)


def inline_drawings(markdown: str, folder: Path) -> str:
    """Put the drawings of images/how/ into the page, where they follow its colours."""

    def inlined(image: re.Match[str]) -> str:
        drawing = (folder / image["path"]).read_text(encoding="utf-8")
        return f'<div class="drawing-frame" markdown="0">{drawing.strip()}</div>'

    return _IMAGE.sub(inlined, markdown)


def picture(width: float, height: float, parts: Sequence[str], title: str, inline: bool = False, top: int = 0) -> str:
    """Make an SVG element of `parts` below `top`; with `inline` in the frame that pages have around it."""
    size = f'viewBox="0 {top} {width:.0f} {height - top:.0f}" width="{width:.0f}" height="{height - top:.0f}"'
    # On a narrow screen a drawing is scrolled once its texts would become too small.
    size += f' style="min-width:{min(width, _LEAST_WIDTH):.0f}px"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" role="img" aria-label={quoteattr(title)} {size}>',
        f"<style>{_STYLE}</style>",
        *parts,
        "</svg>",
    ]
    drawing = "\n".join(line.strip() for line in "\n".join(lines).splitlines() if line.strip())
    return f'<div class="drawing-frame" markdown="0">{drawing}</div>' if inline else drawing + "\n"


def text_width(words: str) -> float:
    """Estimate the width of a text in pixels, rather too large."""
    return 7.6 * len(words)


def text(x: float, y: float, words: str, style: str = "") -> str:
    """Write a line of text; `style` names classes of the style sheet."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, lines: Sequence[str], style: str = "box") -> str:
    """Draw a rectangle with centered lines of text; lines that begin with a dot are small."""
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" class="{style}"/>']
    first = y + height / 2 + 5 - 17 * (len(lines) - 1) / 2
    for k, line in enumerate(lines):
        parts.append(text(x + width / 2, first + 17 * k, line.removeprefix("."), "small" if line[:1] == "." else ""))
    return "".join(parts)


def arrow(points: Sequence[Point], style: str = "arrow", curved: bool = False) -> str:
    """Draw an arrow through `points`; `curved` makes each step an S that starts and ends vertically."""
    (x0, y0), *rest = points
    path, (x, y) = f"M{x0:.1f} {y0:.1f}", (x0, y0)
    end_x, end_y = points[-1]
    before_x, before_y = points[-2]
    length = ((end_x - before_x) ** 2 + (end_y - before_y) ** 2) ** 0.5
    ux, uy = (end_x - before_x) / length, (end_y - before_y) / length
    if curved:
        ux, uy = 0.0, 1.0 if end_y > before_y else -1.0
    for k, (to_x, to_y) in enumerate(rest):
        # The line ends inside of the head, so that its tip stays sharp.
        stop_x, stop_y = (to_x - 6 * ux, to_y - 6 * uy) if k == len(rest) - 1 else (to_x, to_y)
        if curved:
            middle = (y + stop_y) / 2
            path += f"C{x:.1f} {middle:.1f} {stop_x:.1f} {middle:.1f} {stop_x:.1f} {stop_y:.1f}"
        else:
            path += f"L{stop_x:.1f} {stop_y:.1f}"
        x, y = to_x, to_y
    corners = [
        (end_x, end_y),
        (end_x - 8 * ux - 4 * uy, end_y - 8 * uy + 4 * ux),
        (end_x - 8 * ux + 4 * uy, end_y - 8 * uy - 4 * ux),
    ]
    head = " ".join(f"{px:.1f},{py:.1f}" for px, py in corners)
    return f'<path d="{path}" class="{style}"/><polygon points="{head}" class="head"/>'


def line(a: Point, b: Point, style: str = "bond") -> str:
    """Draw a straight line."""
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" class="{style}"/>'


def ball(at: Point, radius: float, style: str) -> str:
    """Draw an atom."""
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" class="{style}"/>'
