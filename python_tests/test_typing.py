# SPDX-License-Identifier: MIT
"""Types that users of the package see: complete under ``mypy --strict``, equal to what the compiled parts take."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dtnn_fast
from dtnn_fast.numpy import _core

PACKAGE = Path(dtnn_fast.__file__).parent
USER_SCRIPT = Path(__file__).with_name("typed_user_script.py")


def run_mypy(folder: Path, script: Path) -> subprocess.CompletedProcess[str]:
    """Check a program outside of the source folder, with the package as an installed one: mypy asks for py.typed."""
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--cache-dir", "cache", "--config-file", os.devnull]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [*command, str(script)], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


@pytest.mark.slow
def test_strict_mypy_finds_all_types_and_wrong_uses(tmp_path):
    good = run_mypy(tmp_path, USER_SCRIPT)
    assert good.returncode == 0, good.stdout + good.stderr
    wrong = {
        "dtnn_fast.DTNNN": "has no attribute",
        "dtnn_fast.ops.neighbour_list": "has no attribute",
        "dtnn_fast.DTNN.from_pretrained(3)": "incompatible type",
        "dtnn_fast.numpy.neighbor_list('i', [], half='no')": "incompatible type",
        "dtnn_fast.ops.native_operations.bond_vectors(3)": "Missing positional arguments",
        "reveal_type(dtnn_fast.screen)": "where: str | None =",
    }
    script = tmp_path / "wrong.py"
    script.write_text("\n".join(["import dtnn_fast", *wrong]))
    found = run_mypy(tmp_path, script).stdout.splitlines()
    for line, expected in enumerate(wrong.values(), start=2):
        assert any(text.startswith(f"wrong.py:{line}:") and expected in text for text in found), found


def test_type_checkers_and_python_see_the_same_names():
    checked = next(
        node
        for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert names | {"__version__"} == set(dir(dtnn_fast))
    for name in names:
        assert getattr(dtnn_fast, name) is not None


def test_stub_of_the_numpy_module_has_its_functions_and_arguments():
    stub = ast.parse((PACKAGE / "numpy" / "_core.pyi").read_text(encoding="utf-8"))
    functions = {node.name: node.args.args for node in stub.body if isinstance(node, ast.FunctionDef)}
    built = {name: value for name, value in vars(_core).items() if inspect.isroutine(value)}
    assert set(functions) == set(built)
    # The docstring opens with the signature, of which the names and dtypes are read here:
    # "closest_pair(positions: numpy.typing.NDArray[numpy.float64], ..., max_distance: float)".
    kinds = {"float64": "float64", "int64": "int64", "bool": "bool_", "bool_": "bool_"}
    for name, function in built.items():
        signature = function.__doc__.splitlines()[0].partition(" -> ")[0]
        arguments = re.findall(r"(\w+): (?:numpy[\w.]*\[numpy\.(\w+)\])?", signature)
        assert len(arguments) == len(functions[name])
        for (argument, dtype), stated in zip(arguments, functions[name], strict=True):
            expected = f"NDArray[{kinds[dtype]}]" if dtype else ast.unparse(stated.annotation)
            assert (argument, expected) == (stated.arg, ast.unparse(stated.annotation))
            assert dtype or expected in ("float", "int", "bool")


def test_types_of_the_native_operations_are_those_that_torch_knows():
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("dtnn_fast.ops")
    names = {
        "Tensor": "Tensor",
        "Optional[Tensor]": "Tensor | None",
        "List[float]": "Sequence[float]",
        "SymInt": "int | SymInt",
        **{name: name for name in ("int", "float", "bool", "str")},
    }
    schemas = {
        schema.name.removeprefix("dtnn_fast::"): schema
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("dtnn_fast::")
    }
    typed = {name: value for name, value in vars(ops.NativeOperations).items() if not name.startswith("_")}
    assert set(typed) == set(schemas)
    for name, schema in schemas.items():
        signature = inspect.signature(typed[name])
        parameters = list(signature.parameters.values())[1:]  # without self
        assert [parameter.name for parameter in parameters] == [argument.name for argument in schema.arguments], name
        for parameter, argument in zip(parameters, schema.arguments, strict=True):
            # As text, a SymInt is an int.
            kind = "SymInt" if argument.real_type.kind() == "SymIntType" else str(argument.type)
            default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
            assert (parameter.annotation, parameter.default) == (names[kind], default), (name, argument.name)
        results = [names[str(result.type)] for result in schema.returns]
        expected = f"tuple[{', '.join(results)}]" if len(results) > 1 else "".join(results) or "None"
        assert signature.return_annotation == expected, name
    assert ops.native_operations is torch.ops.dtnn_fast
