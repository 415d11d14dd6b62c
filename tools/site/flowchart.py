# SPDX-License-Identifier: MIT
"""Draws Mermaid's flow charts as SVG when the site is built, so that its pages need no script of three megabytes.

Only what the pages use is read: ``flowchart``, nodes with labels, ``&``, arrows with labels. Charts are drawn from top
to bottom, in layers: a node is one layer below the lowest of the nodes that point to it. An arrow back to a node that
points here stands beside the other one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

from drawings import arrow, box, picture, text, text_width

_CHART = re.compile(r"^```mermaid\nflowchart [A-Z]+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NODE = re.compile(r'(?P<id>\w+)(?:\[\(?"(?P<label>[^"]*)"\)?\])?')
_ARROW = re.compile(r'\s*(?:-- (?P<quote>"?)(?P<label>[^"]*?)(?P=quote) )?-->\s*')
_ROW, _HEIGHT, _GAP, _MARGIN = 74, 30, 22, 8
_WIDEST_LABEL = 190
_BESIDE = 12  # how far an arrow and its answer are from the middle of their nodes


def flowcharts_as_drawings(markdown: str) -> str:
    """Replace each block of a Mermaid flow chart by its drawing."""
    return _CHART.sub(lambda chart: draw_flowchart(chart[1]), markdown)


def read_flowchart(chart: str) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Read the labels of the nodes, and the labels of the arrows by their ends."""
    labels: dict[str, str] = {}
    arrows: dict[tuple[str, str], str] = {}
    for line in filter(None, map(str.strip, chart.splitlines())):
        found = _ARROW.search(line)
        if found is None:
            raise ValueError(f"flowchart: expected an arrow `-->`, got {line!r}")
        ends = []
        for side in (line[: found.start()], line[found.end() :]):
            nodes = [_NODE.fullmatch(node.strip()) for node in side.split("&")]
            if None in nodes:
                raise ValueError(f'flowchart: expected nodes such as `a` or `a["text"]`, got {side!r}')
            for node in nodes:
                if node["label"] or node["id"] not in labels:
                    labels[node["id"]] = node["label"] or node["id"]
            ends.append([node["id"] for node in nodes])
        arrows |= {(a, b): found["label"] or "" for a in ends[0] for b in ends[1]}
    return labels, arrows


def draw_flowchart(chart: str) -> str:
    """Draw a flow chart, given by the lines below its first one, as an SVG element."""
    labels, arrows = read_flowchart(chart)
    listed = list(arrows)
    answers = {(b, a): (a, b) for k, (a, b) in enumerate(listed) if (b, a) in listed[k + 1 :]}
    rows = _rows(labels, [ends for ends in arrows if ends not in answers])
    # An arrow over several rows bends around their boxes, by a place without a box in each.
    size = {name: max(map(text_width, _lines(label))) + 24 for name, label in labels.items()}
    chains = {}
    for a, b in (ends for ends in listed if ends not in answers):
        inner = [(a, b, row) for row in range(rows[a] + 1, rows[b])]
        rows |= {place: place[2] for place in inner}
        size |= dict.fromkeys(inner, 10)
        if inner:  # where its label stands
            size[inner[0]] = max(10, text_width(arrows[a, b]))
        chains[a, b] = [a, *inner, b]
    neighbors = defaultdict(list)
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            neighbors[upper].append(lower)
            neighbors[lower].append(upper)
    # Labels beside a pair of arrows need room on both sides of its nodes.
    room = dict(size)
    for ends in (*answers, *answers.values()):
        half = text_width(arrows[ends]) + 2 * _BESIDE
        room |= {name: max(room[name], 2 * half) for name in ends}
    x = _columns(rows, neighbors, room)
    # Rows with labels of several lines are higher.
    height = [_HEIGHT] * (max(rows.values()) + 1)
    for name, label in labels.items():
        height[rows[name]] = max(height[rows[name]], 14 + 17 * len(_lines(label)))
    top = [_MARGIN]
    for row in height:
        top.append(top[-1] + row + _ROW - _HEIGHT)
    parts = []
    for ends, label in arrows.items():
        a, *inner, b = chains[answers.get(ends, ends)]
        points = [(x[a], top[rows[a]] + height[rows[a]])]
        for place in inner:
            points += [(x[place], top[rows[place]]), (x[place], top[rows[place]] + height[rows[place]])]
        points.append((x[b], top[rows[b]]))
        beside = _BESIDE if ends in answers else -_BESIDE if ends in answers.values() else 0
        points = [(across + beside, down) for across, down in (points[::-1] if ends in answers else points)]
        parts.append(arrow(points, curved=True))
        if label:
            first, second = points[1:3] if inner else points[:2]
            across, down = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2 + 4
            side = {_BESIDE: " left", -_BESIDE: " right", 0: ""}[beside]
            parts.append(text(across + beside / 2, down, label, f"small halo{side}"))
    for name, label in labels.items():
        parts.append(box(x[name] - size[name] / 2, top[rows[name]], size[name], height[rows[name]], _lines(label)))
    right = max(x[place] + room[place] / 2 for place in rows) + _MARGIN
    names = ", ".join(labels.values())
    return picture(right, top[-1] - (_ROW - _HEIGHT) + _MARGIN, parts, f"Flow chart of {names}", inline=True)


def _lines(label: str) -> list[str]:
    """Break a long label behind its colon, and then between words."""
    lines, line = [], ""
    for word in label.split():
        if line and (
            (line.endswith(":") and text_width(label) > _WIDEST_LABEL) or text_width(f"{line} {word}") > _WIDEST_LABEL
        ):
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def _rows(labels: dict[str, str], arrows: list[tuple[str, str]]) -> dict:
    """Give each node the row below the lowest node that points to it; sources go right above what they point to."""
    above, below = defaultdict(list), defaultdict(list)
    for a, b in arrows:
        above[b].append(a)
        below[a].append(b)
    rows: dict = {}

    def row(name: str, path: tuple[str, ...] = ()) -> int:
        if name in path:
            raise ValueError(f"flowchart: expected no circle, got {' -> '.join((*path, name))}")
        if name not in rows:
            rows[name] = max((row(a, (*path, name)) + 1 for a in above[name]), default=0)
        return rows[name]

    for name in labels:
        row(name)
    for name in labels:
        if not above[name]:
            rows[name] = min(rows[b] for b in below[name]) - 1
    return rows


def _columns(rows: dict, neighbors: dict, size: dict) -> dict:
    """Choose the middle of each place: close to its neighbors, and apart from others of its row."""
    by_row = defaultdict(list)
    for place, row in rows.items():
        by_row[row].append(place)
    x = {}
    for places in by_row.values():
        left = 0.0
        for place in places:
            x[place] = left + size[place] / 2
            left += size[place] + _GAP
    order = sorted(by_row)
    for sweep in range(24):
        for row in order if sweep % 2 == 0 else reversed(order):
            side = row - 1 if sweep % 2 == 0 else row + 1
            wanted = {}
            for place in by_row[row]:
                near = [x[other] for other in neighbors[place] if rows[other] == side or sweep > 16]
                wanted[place] = sum(near) / len(near) if near else x[place]
            x |= _apart(sorted(by_row[row], key=wanted.__getitem__), wanted, size)
    left = min(x[place] - size[place] / 2 for place in rows) - _MARGIN
    return {place: middle - left for place, middle in x.items()}


def _apart(places: list, wanted: dict, size: dict) -> dict:
    """Place boxes of one row, in this order, as close to what they want as gaps allow: means of touching groups."""
    groups: list[tuple[list, list[float]]] = []  # places, and where the first would be for each one's wish
    offset = {}
    for place in places:
        offset[place] = 0.0
        groups.append(([place], [wanted[place]]))
        while len(groups) > 1:
            (left, left_wishes), (right, right_wishes) = groups[-2:]
            start = sum(left_wishes) / len(left_wishes)
            end = start + offset[left[-1]] + (size[left[-1]] + size[right[0]]) / 2 + _GAP
            if sum(right_wishes) / len(right_wishes) >= end:
                break
            shift = end - start
            for moved in right:
                offset[moved] += shift
            groups[-2:] = [(left + right, left_wishes + [wish - shift for wish in right_wishes])]
    return {place: sum(wishes) / len(wishes) + offset[place] for group, wishes in groups for place in group}
