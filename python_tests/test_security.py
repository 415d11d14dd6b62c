# SPDX-License-Identifier: MIT
"""What SECURITY.md promises about files of others: nothing is unpickled or evaluated, no shell is started."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dtnn_fast

PACKAGE = Path(dtnn_fast.__file__).parent
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EVALUATING = {"eval", "exec", "compile", "__import__"}
# Our processes send each other messages through a pair of sockets that no one else has, and through Ray, whose own
# messages are pickled too.
PICKLE_BETWEEN_PROCESSES = ("screening/ray_engine.py", "screening/ray_workers.py", "screening/readers.py")


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in UNPICKLING)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLING:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in EVALUATING or called in ("torch.load", "os.system", "os.popen"):
                yield called
            if called in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
                yield called
            if options.get("allow_pickle") == "True" or options.get("shell") == "True":
                yield f"{called} with {options}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_dangers_are_seen(code):
    assert list(dangers(ast.parse(code)))


def test_nothing_is_unpickled_or_evaluated():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = list(dangers(ast.parse(path.read_text(encoding="utf-8"))))
        if names:
            found[path.relative_to(PACKAGE).as_posix()] = names
    assert found == {name: ["pickle"] for name in PICKLE_BETWEEN_PROCESSES}
