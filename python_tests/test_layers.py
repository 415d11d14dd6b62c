# SPDX-License-Identifier: MIT
"""Packages depend on lower packages only, and no two modules import each other in a circle.

Imports inside of functions and for type checking count too: they tie packages together just as much.
"""

import ast
from pathlib import Path

import dtnn_fast

ROOT = Path(dtnn_fast.__file__).parent

# From low to high. Packages of one layer do not import each other.
LAYERS = [
    {"errors", "_backend", "_version"},
    {"files", "settings_file", "typed_settings", "plotting", "numpy"},
    {"_library"},
    {"ops"},
    {"reference"},
    {"crystals"},
    {"symmetry", "phonons"},
    {"formats"},
    {"datasets"},
    {"nn"},
    {"encoders"},
    {"model", "potentials"},
    {"training", "screening", "candidates"},
    {"distillation", "evaluation", "tuning", "refinement", "dfpt", "reporting"},
    {"integrations", "serving"},
    {"cli"},
]
# The switch between native operations and reference implementations imports the latter when first asked for them.
EXEMPT = {("_backend", "reference")}
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports(name):
    """The modules of this package that a module imports, anywhere in its file."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - (node.level - 1)]
        source = ".".join(base + (node.module.split(".") if node.module else []))
        for alias in node.names:
            inner = f"{source}.{alias.name}".strip(".")
            found.add(inner if inner in MODULES else source)
    # A module may use what its own package's __init__ defines, such as exit codes or the compiled part.
    exempt = {other for user, other in EXEMPT if user == name}
    return found - {name, ".".join(package), ""} - exempt


def test_every_package_has_a_layer():
    packages = {name.partition(".")[0] for name in MODULES} - {"", "__main__"}
    assert packages == set(HEIGHT)


def test_packages_import_lower_packages_only():
    wrong = []
    for name in MODULES:
        package = name.partition(".")[0]
        for imported in imports(name) if package in HEIGHT else ():
            other = imported.partition(".")[0]
            if other != package and HEIGHT[other] >= HEIGHT[package]:
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imports(name) for name in MODULES if name not in ("", "__main__")}
    circles, done = [], set()

    def visit(name, trail):
        if name in trail:
            circles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for imported in sorted(graph[name]):
                visit(imported, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert not circles
