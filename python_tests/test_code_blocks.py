# SPDX-License-Identifier: MIT
"""Every code block on the site runs, or says why it cannot.

- Python: the blocks of a page one after the other, with the names and files of page_folder.py; those with prompts as
  doctests, section by section.
- Shell: commands of dtnn-fast run if they are cheap, else their arguments are parsed by the program; of other programs
  the files, modules and extras that they name must exist.
- TOML: settings of ``dtnn-fast train``. SQL: queries over a screening. YAML: parses.
- ``<!-- not run: reason -->`` before a block: it is left out. `MARKED` counts them.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import shutil
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import typer
import yaml
from page_blocks import ANY_MARK, PAGES, ROOT, Block, page_blocks, read_blocks, shell_commands
from page_folder import make_folder, page_names
from pages import command_pages
from typer.testing import CliRunner

from dtnn_fast.cli.app import app

BLOCKS = [block for page in PAGES for block in page_blocks(page)]
# The pages of the commands are made from the help texts when the site is built.
BLOCKS += [block for page, text in command_pages().items() for block in read_blocks(page, text)]
# Formulas, outputs and trees of files have no language; the site's tools draw Mermaid and test_docs.py reads it.
TEXTS = ("", "text", "mermaid")
CODE = ("python", "bash", "toml", "sql", "yaml")
# Blocks that do not run, by page. A block that comes or goes changes a number here, which a reviewer sees.
MARKED = {
    "CONTRIBUTING.md": 2,
    "docs/clusters.md": 5,
    "docs/compile.md": 4,
    "docs/cuda_emulation.md": 1,
    "docs/data.md": 1,
    "docs/install.md": 4,
    "docs/performance.md": 1,
    "docs/serve.md": 3,
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
# Commands that take about a second on the files of page_folder.py, unless an option is among `EXPENSIVE`.
CHEAP = {"predict", "screen", "rank", "report", "refine", "pack", "candidates", "dfpt", "info", "data info"}
EXPENSIVE = {"--device", "--engine", "--shard", "--merge", "--collect", "--potential", "--lattice", "--model"}
MOST_CANDIDATES = 1000


def named(block: Block | tuple[str, str]) -> str:
    return str(block) if isinstance(block, Block) else ":".join(block)


def running(language: str) -> list[Block]:
    """The blocks that run here; of those that .ci/run takes from a page, the scripts in Python."""
    marks = (None, "ci") if language == "python" else (None,)
    return [block for block in BLOCKS if block.language == language and block.mark in marks]


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    make_folder(folder)
    return folder


@pytest.fixture
def page_folder(template, tmp_path, monkeypatch) -> Path:
    """A folder with the files that pages use, in which a test runs on one thread."""
    folder = shutil.copytree(template, tmp_path / "page")
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language not in TEXTS], ids=named)
def test_language_and_mark(block):
    assert block.language in CODE or block.mark == "not run", "no test runs this language"
    if block.mark is not None:
        assert len(block.reason.split()) >= (3 if block.mark == "not run" else 1), "the mark has no reason"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("", "text")], ids=named)
def test_commands_are_marked_as_such(block):
    first = block.text.split(maxsplit=1)[0]
    usage = block.page.startswith("commands/")
    assert usage or first not in ("dtnn-fast", "python", "pip", "pytest", "bash", "import", "from", ">>>")


def test_marks_are_counted_and_stand_before_blocks():
    marked = {}
    for block in BLOCKS:
        if block.mark == "not run":
            marked[block.page] = marked.get(block.page, 0) + 1
    assert marked == MARKED
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(ANY_MARK.findall(text)) == sum(block.mark is not None for block in page_blocks(page)), page


def test_marks_of_ci_are_steps_of_ci():
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".ci").iterdir())
    for block in BLOCKS:
        if block.mark == "ci" and block.language != "python":
            assert f"readme_command {block.reason})" in scripts, block


# Python

WITH_PROMPTS = [block for block in running("python") if block.text.startswith(">>>")]
SECTIONS = list(dict.fromkeys((block.page, block.section) for block in WITH_PROMPTS))
SCRIPTS = list(dict.fromkeys(block.page for block in running("python") if block not in WITH_PROMPTS))


def missing_packages(examples):
    trees = [ast.parse(example.source) for example in examples]
    names = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    return sorted({name.partition(".")[0] for name in names if not find_spec(name.partition(".")[0])})


@pytest.mark.parametrize("page", SCRIPTS)
def test_python_blocks_of_a_page_run_one_after_the_other(page, page_folder):
    names = page_names()
    for block in running("python"):
        if block.page == page and block not in WITH_PROMPTS:
            # Lines are those of the page, so that a traceback names them.
            code = compile("\n" * block.line + block.text, block.page, "exec")
            exec(code, names)


@pytest.mark.parametrize("section", SECTIONS, ids=named)
def test_blocks_with_prompts_print_what_the_page_shows(section, page_folder):
    names, skipped = {}, []
    for block in WITH_PROMPTS:
        if (block.page, block.section) != section:
            continue
        examples = doctest.DocTestParser().get_examples(block.text)
        assert any(example.want for example in examples), f"{block}: the block shows no result"
        missing = missing_packages(examples)
        if missing:
            skipped += missing
            continue
        report = []
        test = doctest.DocTest(examples, names, str(block), block.page, block.line, block.text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages about their own calls
            runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
            failed = runner.run(test, out=report.append, clear_globs=False).failed
        names = test.globs
        assert not failed, "".join(report)
    if skipped:
        pytest.skip(f"not installed: {', '.join(skipped)}")


def test_blocks_with_prompts_are_found():
    assert len(SECTIONS) == 10
    assert len(WITH_PROMPTS) == 14


# Shell


def parse(words: list[str]) -> tuple[str, list[str]]:
    """Parse the words after ``dtnn-fast`` by the program; gives the command's name and its words."""
    command = typer.main.get_command(app)
    name = ""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command = command.commands[words[0]]
        name, words = f"{name} {words[0]}".strip(), words[1:]
    try:
        command.make_context(f"dtnn-fast {name}", list(words))
    except typer.Exit:  # of --help and the like
        pass
    except Exception as error:
        raise AssertionError(f"dtnn-fast {name}: {error}") from error
    return name, words


def is_cheap(name: str, words: list[str]) -> bool:
    if name not in CHEAP or EXPENSIVE & {word.partition("=")[0] for word in words}:
        return False
    if name == "candidates":
        return int(words[words.index("-n") + 1]) <= MOST_CANDIDATES
    return name in ("info", "rank", "report") or "--ranking" in words or any(Path(word).exists() for word in words)


def check_command(words: list[str]) -> str:
    """Run or check a command of the shell; says which."""
    program = Path(words[0]).name
    if program == "torchrun":
        words = words[words.index("-m") :]
        program = "python"
    if program in ("python", "python3") and words[:2] == ["-m", "dtnn_fast"]:
        program, words = "dtnn-fast", words[1:]
    if program == "dtnn-fast":
        name, rest = parse(words[1:])
        if not is_cheap(name, rest):
            return "parsed"
        if name in ("screen", "dfpt"):  # examples of a page are alternatives, which take the same output
            shutil.rmtree(rest[rest.index("-o") + 1] if "-o" in rest else "screening", ignore_errors=True)
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code in (0, 3), result.output + str(result.exception)
        return "run"
    if program == "export":
        return "checked"
    if program == "pip":
        extras = [extra for word in words for names in re.findall(r"\[([\w,]+)\]", word) for extra in names.split(",")]
        assert set(extras) <= EXTRAS.keys()
        return "checked"
    files = [word for word in words[1:] if re.search(r"\w/?\w*(\.py|\.sh|\.md)$|^benchmarks|^python_tests", word)]
    if program in ("python", "python3") and "-m" in words:
        files = [words[words.index("-m") + 1].replace(".", "/") + ".py"]
    if program in ("python", "python3", "bash", "pytest") and files[:1]:
        assert (ROOT / files[0]).exists() or Path(files[0]).exists(), f"there is no {files[0]}"
        return "checked"
    raise AssertionError(f"cannot run {' '.join(words)!r} here: give the block a mark with the reason")


def of_pages(language: str) -> list[str]:
    return list(dict.fromkeys(block.page for block in running(language)))


@pytest.mark.parametrize("page", of_pages("bash"))
def test_commands_of_a_page_run_or_parse(page, page_folder):
    for block in running("bash"):
        if block.page == page:
            for words in shell_commands(block.text):
                try:
                    check_command(words)
                except AssertionError as error:
                    raise AssertionError(f"{block}: {error}") from error


# Others


@pytest.mark.parametrize("block", running("toml"), ids=named)
def test_settings_are_those_of_train(block, page_folder):
    Path("settings.toml").write_text(block.text, encoding="utf-8")
    result = CliRunner().invoke(app, ["train", "--config", "settings.toml", "--print-config"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("block", running("sql"), ids=named)
def test_queries_run(block, page_folder):
    duckdb = pytest.importorskip("duckdb")
    assert len(duckdb.sql(block.text).fetchall()) > 0


@pytest.mark.parametrize("block", running("yaml"), ids=named)
def test_yaml_parses(block):
    assert yaml.safe_load(block.text)


# The tests' own tools


def test_blocks_and_marks_are_read():
    page = "# A\n\n<!-- not run: needs a cluster here -->\n```bash\na\n```\n\n"
    page += "## B\n\n- x\n  ```python\n  1\n  ```\n```\nt\n```\n"
    marked, indented, plain = read_blocks("page.md", page)
    assert (marked.mark, marked.reason, marked.line, marked.section) == ("not run", "needs a cluster here", 4, "")
    assert (indented.language, indented.text, indented.mark, indented.section) == ("python", "1\n", None, "B")
    assert (plain.language, plain.text) == ("", "t\n")


def test_scripts_are_split_into_commands():
    text = "a -x 'b c' # d\nE=1 f \\\n  g && h > i\n# j\n"
    assert list(shell_commands(text)) == [["a", "-x", "b c"], ["f", "g"], ["h"]]


@pytest.mark.parametrize(
    "command",
    [
        "dtnn-fast scream x",
        "dtnn-fast rank screening --no-such",
        "kubectl get x",
        "python no.py",
        "pip install '.[no]'",
    ],
)
def test_wrong_commands_are_found(command, page_folder):
    with pytest.raises(AssertionError):
        check_command(next(iter(shell_commands(command))))


def test_cheap_commands_run_and_others_are_parsed(page_folder):
    assert check_command(["dtnn-fast", "predict", "NaCl.cif"]) == "run"
    assert check_command(["dtnn-fast", "train", "mp.npz"]) == "parsed"
    assert check_command(["dtnn-fast", "candidates", "-n", "1000000", "-o", "x"]) == "parsed"
    assert not os.path.exists("x")
