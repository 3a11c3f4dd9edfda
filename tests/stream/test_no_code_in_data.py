"""Data is never code: nothing in the packages can run what came from a file or from the network."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("stormlive", "stormlive_models", "stormlive_sim")
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# (module, function) that unpickle, and pyzmq's methods that do.
FUNCTIONS = {("torch", "load"), ("torch", "save"), ("numpy", "load"), ("np", "load"), ("yaml", "load")}
METHODS = {"recv_pyobj", "send_pyobj", "load_state_dict_from_url", "read_pickle"}
KEYWORDS = {"allow_pickle"}


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                top = module.partition(".")[0]
                yield from (
                    f"{module}.{name.name}" for name in names if top in MODULES or (top, name.name) in FUNCTIONS
                )
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield name
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in FUNCTIONS:
                yield f"{module}.{name}"
            case ast.Attribute(attr=name) if name in METHODS:
                yield name
            case ast.keyword(arg=str(name)) if name in KEYWORDS:
                yield name


def sources(package: str) -> list[Path]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_runs_data(package: str) -> None:
    paths = sources(package)
    assert len(paths) > 5
    found = {str(path): list(offences(ast.parse(path.read_bytes()))) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "socket.recv_pyobj()",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(offences(ast.parse(line)))


@pytest.mark.parametrize("line", ["model.eval()", "re.compile('a')", "json.load(file)", "load_file(path)"])
def test_the_search_lets_go(line: str) -> None:
    assert not list(offences(ast.parse(line)))
