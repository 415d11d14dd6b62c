# SPDX-License-Identifier: MIT
"""Pages of the command reference, made from the program itself: its help texts, arguments and options."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import typer

from dtnn_fast.cli.app import app

PROGRAM = "dtnn-fast"
# Order of the overview, by what a user wants to do. A command that is missing here fails the build; one that this
# version lacks is left out.
PURPOSES = {
    "Predict and screen": ("screen", "predict", "rank", "report", "pack", "candidates"),
    "Check the best ones": ("refine", "dfpt"),
    "Train and compare": ("data fetch", "data info", "train", "ensemble", "tune", "evaluate"),
    "Make encoders, lattice models and potentials": ("distill", "train-lattice", "train-potential"),
    "Use elsewhere": ("serve", "export", "info"),
}
_FACT = re.compile(r"\s*\[((?:default: |required|x[<>]|-?[\d.]+<)[^\[\]]*)\]$")
# A line of examples: indented, or an item of a list.
_COMMAND = re.compile(r"^(?: {2,}|- )(dtnn-fast .*)$")
_OPTION = re.compile(r"(?<![\w`-])(--?[a-z][\w-]*)")


def all_commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the command of each command that can be run, subcommands with a space in their name."""
    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from all_commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def page_name(name: str) -> str:
    """Name the page of a command, relative to the folder of the site's sources."""
    return f"commands/{name.replace(' ', '_')}.md"


def overview() -> str:
    """Write the tables of all commands by purpose, for docs/commands/index.md."""
    known = dict(all_commands())
    listed = {name for names in PURPOSES.values() for name in names}
    if known.keys() - listed:
        raise ValueError(f"tools/site/commands.py: PURPOSES lacks {', '.join(sorted(known.keys() - listed))}")
    lines = []
    for purpose, names in PURPOSES.items():
        lines += ["", f"### {purpose}", "", "| command | what it does |", "| --- | --- |"]
        for name in filter(known.__contains__, names):
            first = re.split(r"\n\n", known[name].help.strip())[0].replace("\n", " ")
            link = page_name(name).removeprefix("commands/")
            lines.append(f"| [`{PROGRAM} {name}`]({link}) | {_text(first)} |")
    return "\n".join(lines)


def command_page(name: str, command: Any) -> str:
    """Write the page of a command: usage, description, arguments and options in their groups."""
    context = command.make_context(f"{PROGRAM} {name}", [], resilient_parsing=True)
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    lines = [f"# {PROGRAM} {name}", "", "```text", usage, "```", "", describe(command.help or "")]
    groups: dict[str, list[str]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:  # hidden
            continue
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        title = getattr(parameter, "rich_help_panel", None) or kind
        groups.setdefault(title, []).extend(_entry(parameter, *record))
    for title, entries in groups.items():
        lines += ["", f"## {title}", "", *entries]
    return "\n".join(lines) + "\n"


def _entry(parameter: Any, names: str, help_text: str) -> list[str]:
    """Write one argument or option as an entry of a definition list, with an anchor."""
    # Default and range stand at the end of the help, in brackets.
    facts = []
    while found := _FACT.search(help_text):
        help_text = help_text[: found.start()]
        facts.insert(0, found[1].replace("default: ", "Default: ").replace("required", "Required"))
    shown = f" *{_text('; '.join(facts))}*" if facts else ""
    anchor = (max(parameter.opts, key=len)).strip("-").replace("_", "-")
    return [f'<span id="{anchor}"></span>`{names}`', "", f":   {_text(help_text)}{shown}", ""]


def describe(help_text: str) -> str:
    """Turn a help text into Markdown: paragraphs, lists, and examples as code."""
    lines = []
    for paragraph in re.split(r"\n\n+", help_text.strip()):
        rows = paragraph.splitlines()
        code = [found[1] for row in rows if (found := _COMMAND.match(row))]
        items = [row for row in rows if not _COMMAND.match(row)]
        if all(row.startswith("- ") for row in items):
            lines += [*(f"- {_text(item[2:])}" for item in items), ""] if items else []
        else:
            lines += [_text(" ".join(items)), ""]
        lines += ["```bash", *code, "```", ""] if code else []
    return "\n".join(lines)


def _text(plain: str) -> str:
    """Escape what Markdown would read as markup, and show options as code."""
    escaped = re.sub(r"([\\*_\[\]|])", r"\\\1", html.escape(" ".join(plain.split()), quote=False))
    return _OPTION.sub(lambda option: f"`{option[1]}`", escaped)
