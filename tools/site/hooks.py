# SPDX-License-Identifier: MIT
"""What MkDocs calls while it builds the site; mkdocs.yml names this file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from built_pages import loaded_from_elsewhere
from commands import all_commands, page_name
from links import rewrite_tutorial_links
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import ROOT, command_pages, fit_text, outside_pages, tutorials


def on_startup(**kwargs: Any) -> None:
    """Let tutorials import the installed package where the folder of the same name here has no compiled parts."""
    if not (ROOT / "dtnn_fast" / "_ops.so").exists():
        os.environ["PYTHONSAFEPATH"] = "1"


def on_config(config: Any, **kwargs: Any) -> Any:
    """Fill in the parts of the navigation that are made of files and commands."""
    for section in config["nav"]:
        if "Tutorials" in section:
            section["Tutorials"] = [{title: uri} for title, uri in tutorials().items()]
        for part in section.get("Reference", ()):
            if isinstance(part, dict) and "Commands" in part:
                part["Commands"] += [{name: page_name(name)} for name, _ in all_commands()]
    config["nav"] = [section for section in config["nav"] if section.get("Tutorials") != []]
    return config


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Add the pages from outside of docs/, and a page for each command."""
    for path, uri in outside_pages().items():
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    for uri, text in command_pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Fit a page's text to the site."""
    return fit_text(markdown, page.file.src_uri, [file.src_uri for file in files])


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Give a tutorial links to other pages and to its own file."""
    if not page.file.src_uri.startswith("tutorials/"):
        return html
    urls = {file.src_uri: file.url_relative_to(page.file) for file in files.documentation_pages()}
    try:
        return rewrite_tutorial_links(html, page.file.src_uri, urls)
    except ValueError as error:
        raise PluginError(str(error)) from error


def on_post_build(config: Any, **kwargs: Any) -> None:
    """Fail where a page loads something from another host."""
    found = loaded_from_elsewhere(Path(config["site_dir"]))
    if found:
        raise PluginError(f"pages load from other hosts: {found}")
