# SPDX-License-Identifier: MIT
"""The documentation site: all pages, names and commands are in it, and its tools do what they say.

.ci/run builds the site itself, by ``mkdocs build --strict``.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
import yaml
from built_pages import loaded_from_elsewhere
from commands import all_commands, describe, page_name
from draw_how_it_works import DRAWINGS, FOLDER
from drawings import inline_drawings
from flowchart import draw_flowchart, flowcharts_as_drawings, read_flowchart
from links import rewrite_links, rewrite_tutorial_links
from pages import DOCS, ROOT, command_pages, fit_text, outside_pages, tutorials

import dtnn_fast
from dtnn_fast.cli.app import app

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
DESCRIBED = re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)
# `dtnn_fast.reference` has the names of `dtnn_fast.ops`, with the same arguments.
PACKAGES = sorted(
    name
    for name in dtnn_fast._SUBMODULES - {"reference"}
    if hasattr(import_module(f"dtnn_fast.{name}"), "__all__") or name == "errors"
)


def nav_pages(part):
    if isinstance(part, str):
        yield part
    for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from nav_pages(item)


def find(path):
    """The object of a dotted path; a module is tried before an attribute."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {path}")


# Pages


def test_every_page_is_in_the_navigation_once():
    listed = list(nav_pages(CONFIG["nav"]))
    files = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | set(outside_pages().values())
    assert sorted(listed) == sorted(files)


def test_nothing_is_loaded_from_other_hosts():
    assert CONFIG["theme"]["font"] is False
    assert "extra_javascript" not in CONFIG
    assert all("://" not in sheet for sheet in CONFIG["extra_css"])
    assert CONFIG["strict"] is True


def test_tutorials_have_titles():
    assert len(tutorials()) == len(list((DOCS / "tutorials").glob("[0-9]*.py")))


# Reference


def optional(path):
    """The object of a path, or the path itself where a package of an integration is not installed."""
    try:
        return find(path)
    except ImportError:
        return path


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_described(package):
    module = import_module(f"dtnn_fast.{package}")
    names = (
        module.__all__ if hasattr(module, "__all__") else [n for n, v in vars(module).items() if isinstance(v, type)]
    )
    described = [optional(path) for path in DESCRIBED]
    missing = []
    for name in names:
        if name == "ModuleType":
            continue
        value = optional(f"dtnn_fast.{package}.{name}") if package == "integrations" else getattr(module, name)
        if not any(value is other or value == other == f"dtnn_fast.{package}.{name}" for other in described):
            missing.append(name)
    assert missing == []


def test_every_name_of_the_top_level_is_described():
    described = [optional(path) for path in DESCRIBED]
    names = set(dtnn_fast.__all__) - {"__version__"}
    assert sorted(name for name in names if not any(getattr(dtnn_fast, name) is other for other in described)) == []


def test_described_names_exist_and_are_described_once():
    assert len(set(DESCRIBED)) == len(DESCRIBED) > 120
    for path in DESCRIBED:
        if not path.startswith("dtnn_fast.integrations."):
            find(path)


def test_every_page_of_the_reference_begins_with_an_example():
    for page in (DOCS / "reference").glob("*.md"):
        if page.name != "index.md":
            assert "```python" in page.read_text(encoding="utf-8").partition("\n## ")[0], page


# Commands


def leaves(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_has_a_page_with_all_its_options():
    pages = command_pages()
    known = dict(leaves(typer.main.get_command(app)))
    assert {page_name(name) for name in known} == pages.keys()
    assert len(known) >= 18
    for name, command in known.items():
        text = pages[page_name(name)]
        assert text.startswith(f"# dtnn-fast {name}\n")
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                argument = parameter.param_type_name == "argument"
                shown = [parameter.metavar or parameter.name] if argument else parameter.opts
                assert all(option in text for option in shown), (name, parameter.name)


def test_the_overview_has_every_command():
    text = fit_text((DOCS / "commands" / "index.md").read_text(encoding="utf-8"), "commands/index.md", [])
    for name, _ in all_commands():
        assert f"[`dtnn-fast {name}`]({page_name(name).removeprefix('commands/')})" in text


def test_help_texts_become_markdown():
    help_text = "Rank a_b.\n\nExamples:\n\n- dtnn-fast rank a --by 'x * y'\n- dtnn-fast rank b\n\n- one\n- two --top\n"
    expected = "Rank a\\_b.\n\nExamples:\n\n```bash\ndtnn-fast rank a --by 'x * y'\ndtnn-fast rank b\n```\n\n"
    assert describe(help_text) == f"{expected}- one\n- two `--top`\n"
    assert describe("Examples:\n  dtnn-fast rank a\n") == "Examples:\n\n```bash\ndtnn-fast rank a\n```\n"
    assert "part-\\*.parquet" in command_pages()["commands/screen.md"]
    assert re.search(r"`--top <int range>`\n\n:   .*\*Default: 20; x&gt;=0\*", command_pages()["commands/screen.md"])


# Links


def test_links_lead_to_pages_or_become_paths(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("docs/a.md", "docs/b.md", "CHANGELOG.md", "setup.cfg"):
        (tmp_path / name).write_text("# Title\n\n# Other\n")
    uris = {tmp_path / "docs/a.md": "a.md", tmp_path / "docs/b.md": "b.md", tmp_path / "CHANGELOG.md": "x/changelog.md"}
    text = (
        "[b.md](b.md#part) [C](../CHANGELOG.md) [setup.cfg](../setup.cfg) [all](../docs) [no](no.md) [x](#y)\n"
        "[web](https://example.org)\n```\n[B](../setup.cfg)\n```\n"
    )
    assert rewrite_links(text, tmp_path / "docs/a.md", "a.md", uris, tmp_path) == (
        "[Title](b.md#part) [C](x/changelog.md) `setup.cfg` all (`docs/`) [no](no.md) [x](#y)\n"
        "[web](https://example.org)\n```\n[B](../setup.cfg)\n```\n"
    )
    shapes = rewrite_links("list [N][3], `[N][3]`", tmp_path / "docs/a.md", "a.md", uris, tmp_path)
    assert shapes == "list [N]\\[3], `[N][3]`"
    moved = rewrite_links("[A\nand](docs/a.md)", tmp_path / "CHANGELOG.md", "x/changelog.md", uris, tmp_path)
    assert moved == "[A\nand](../a.md)"


def test_links_of_tutorials_lead_to_pages():
    urls = {"screening.md": "../../screening/", "tutorials/02_b.py": "../02_b/"}
    html = '<h1>A</h1><a href="../screening.md#x">s</a> <a class="y" href="02_b.py">b</a> <a href="https://x.org/a.md">'
    text = rewrite_tutorial_links(html, "tutorials/01_a.py", urls)
    assert '<a href="../../screening/#x">s</a> <a class="y" href="../02_b/">b</a> <a href="https://x.org/a.md">' in text
    assert text.index("</h1>") < text.index('href="01_a.py" download') < text.index("screening")
    with pytest.raises(ValueError, match=r"tutorials/01_a.py: the link no.md leads to no page"):
        rewrite_tutorial_links('<a href="no.md">', "tutorials/01_a.py", urls)


def test_what_pages_load_from_elsewhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://x.org/"><link rel="stylesheet" href="https://x.org/a.css">'
        '<a href="https://x.org/">x</a><script src="//y.org/b.js"></script><script src="c.js"></script>'
        "<style>p{background:url('https://z.org/e.png')}</style><p style='background:url(f.png)'>"
    )
    (tmp_path / "b.css").write_text('@import "https://x.org/font.css"; p{background:url(data:image/png;base64,AA)}')
    (tmp_path / "c.html").write_text('<a href="https://x.org/">x</a>')
    assert loaded_from_elsewhere(tmp_path) == {
        "a.html": ["https://x.org/a.css", "//y.org/b.js", "https://z.org/e.png"],
        "b.css": ["https://x.org/font.css"],
    }


# Drawings


def text_boxes(drawing):
    """The texts of a drawing as [text, x, y, width, height], with widths as in common fonts."""
    found = []
    for part in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text"):
        style = part.get("class").split()
        size = 12.0 if "small" in style else 12.5 if "code" in style else 14.0
        width = len(part.text) * size * (0.6 if {"code", "bold"} & set(style) else 0.52)
        shift = 0 if "left" in style else 1 if "right" in style else 0.5
        found.append([part.text, float(part.get("x")) - shift * width, float(part.get("y")) - size, width, size])
    return found


def check_texts(drawing):
    left, top, width, height = map(float, re.search(r'viewBox="([^"]*)"', drawing)[1].split())
    texts = text_boxes(drawing)
    assert not [(a[0], b[0]) for k, a in enumerate(texts) for b in texts[:k] if overlap(a[1:], b[1:])]
    outside = [t for t, x, y, w, h in texts if x < left or y < top or x + w > left + width or y + h > top + height]
    assert outside == []


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_of_drawings_are_apart_and_inside(name):
    check_texts(DRAWINGS[name]())


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_those_of_the_tool(name):
    assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == DRAWINGS[name]()


def test_every_drawing_is_shown():
    shown = re.findall(r"images/how/(\w+)\.svg", (DOCS / "how_it_works.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(DRAWINGS) == sorted(path.stem for path in FOLDER.iterdir())


def boxes(drawing):
    root = ElementTree.fromstring(drawing)
    return [
        [float(part.get(name)) for name in ("x", "y", "width", "height")]
        for part in root.iter("{http://www.w3.org/2000/svg}rect")
        if part.get("class") == "box"
    ]


def overlap(a, b):
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.parametrize(
    "chart", re.findall(r"```mermaid\n.*?\n(.*?)```", (DOCS / "architecture.md").read_text(), re.DOTALL)
)
def test_flow_charts_are_drawn_whole(chart):
    drawing = draw_flowchart(chart).removeprefix('<div class="drawing-frame" markdown="0">').removesuffix("</div>")
    labels, arrows = read_flowchart(chart)
    found = boxes(drawing)
    assert len(found) == len(labels)
    assert drawing.count('class="head"') == len(arrows)
    check_texts(drawing)
    assert not any(overlap(a, b) for k, a in enumerate(found) for b in found[:k])
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in found)


def test_rows_follow_the_arrows():
    drawing = draw_flowchart('a["first"] -- "goes" --> b & c\nb --> d\nc --> d\na --> d\n')
    root = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawing, re.DOTALL)[0])
    texts = {t.text: float(t.get("y")) for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts["first"] < texts["goes"] < texts["b"] == texts["c"] < texts["d"]


def test_an_answer_stands_beside_its_arrow():
    drawing = draw_flowchart("a -- asks --> b\nb -- says what --> a\n")
    heads = [tip.split()[0].split(",") for tip in re.findall(r'<polygon points="([^"]*)"', drawing)]
    (asks_x, asks_y), (says_x, says_y) = ((float(x), float(y)) for x, y in heads)
    assert asks_y > says_y  # the answer goes up
    assert says_x - asks_x == pytest.approx(24)
    assert len(boxes(re.search(r"<svg.*</svg>", drawing, re.DOTALL)[0])) == 2
    assert ">asks</text>" in drawing
    assert ">says what</text>" in drawing


@pytest.mark.parametrize("chart", ["a b\n", "a --> b\nb --> c\nc --> a\n", 'a --> b["x\n'])
def test_other_flow_charts_are_refused(chart):
    with pytest.raises(ValueError, match="flowchart: expected"):
        draw_flowchart(chart)


def test_charts_and_drawings_are_put_into_the_page():
    text = flowcharts_as_drawings("A\n\n```mermaid\nflowchart TD\na --> b\n```\n\nB\n")
    assert text.startswith('A\n\n<div class="drawing-frame"')
    assert text.endswith("</div>\n\nB\n")
    assert "\n\n" not in re.search(r"<svg.*</svg>", text, re.DOTALL)[0]  # Markdown would end the block there
    shown = inline_drawings("![x](images/how/layer.svg)\n", DOCS)
    assert shown.count("<svg") == 1
    assert inline_drawings("![x](images/large.png)\n", DOCS) == "![x](images/large.png)\n"


def test_files_of_the_site_are_in_the_repository():
    assert (DOCS / CONFIG["theme"]["logo"]).is_file()
    assert all((DOCS / sheet).is_file() for sheet in CONFIG["extra_css"])
    assert all((ROOT / hook).is_file() for hook in CONFIG["hooks"])
    assert all(Path(ROOT / path).exists() for path in CONFIG["watch"])
