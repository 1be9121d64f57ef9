"""What the parts of the package may know of each other, beyond the import contracts of pyproject.toml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmclf

PACKAGE = Path(llmclf.__file__).parent
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
PACKAGES = sorted(file.parent for file in PACKAGE.rglob("__init__.py"))
MAX_MODULES = 17

ALLOWED = {
    (
        "classifier.py",
        "_check_sample_weight",
    ): "scikit-learn's own way to check weights, which its guide for estimators names",
    ("files/orderly_end.py", "os._exit"): "an end that waits for nothing has no other name in Python",
    ("serve/model/process.py", "os._exit"): "an end that waits for nothing has no other name in Python",
    ("backends/local/products/packed.py", "torch.ops.mkldnn._reorder_linear_weight"): "an operator that torch names so",
    ("backends/local/products/packed.py", "torch.ops.mkldnn._linear_pointwise"): "an operator that torch names so",
    ("backends/local/products/attention.py", "torch.ops.mkldnn._linear_pointwise"): "an operator that torch names so",
    (
        "backends/local/products/attention.py",
        "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu",
    ): "an operator that torch names so",
    (
        "backends/local/trie_attention.py",
        "hasattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu')",
    ): "an operator that torch names so, and not every version has",
    ("backends/local/gguf/layers.py", "torch._C"): "where torch has what its documentation names to switch a mode off",
    ("throughput_limit.py", "torch.ops.mkldnn._reorder_linear_weight"): "an operator that torch names so",
    ("throughput_limit.py", "torch.ops.mkldnn._linear_pointwise"): "an operator that torch names so",
    ("backends/local/trie_attention.py", "config._attn_implementation"): "where transformers keeps a model's attention",
    (
        "backends/local/products/processor.py",
        "hasattr(torch.ops.mkldnn, '_reorder_linear_weight')",
    ): "an operator that torch names so, and not every build has",
    (
        "backends/local/products/processor.py",
        "hasattr(torch.ops.mkldnn, '_linear_pointwise')",
    ): "an operator that torch names so, and not every build has",
}
"""Private names of others that are read, each with the reason."""


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


def _own_names(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Names that stand for an object of the class whose body holds the function, besides ``self`` and ``cls``."""
    if isinstance(function, ast.Lambda):
        return set()
    if function.name in ("__eq__", "__lt__"):
        return {argument.arg for argument in function.args.args[1:]}
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _makes_own(node.value.func)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _makes_own(function: ast.expr) -> bool:
    return ast.unparse(function) in ("cls", "cls.__new__", "type(self)")


def private_reads(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every read of another object's private attribute, and of every import of a private name."""

    def visit(node: ast.AST, own: set[str]) -> Iterator[tuple[int, str]]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            own = own | _own_names(node)
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            value = node.value
            is_super = isinstance(value, ast.Call) and ast.unparse(value.func) == "super"
            if not is_super and not (isinstance(value, ast.Name) and value.id in own):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if _is_private(alias.name))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            owner, name = [*node.args, None, None][:2]
            is_own = isinstance(owner, ast.Name) and owner.id in own
            if not is_own and isinstance(name, ast.Constant) and _is_private(str(name.value)):
                yield node.lineno, ast.unparse(node)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, own)

    return visit(ast.parse(source), {"self", "cls"})


def test_nobody_reads_a_private_attribute_of_another_class():
    """Package and experiments are searched; what is allowed is listed with its reason, and every line of it is needed."""
    assert list(EXPERIMENTS.glob("*.py"))
    reads = {
        (str(file.relative_to(folder)), line, text)
        for folder in (PACKAGE, EXPERIMENTS)
        for file in folder.rglob("*.py")
        for line, text in private_reads(file.read_text(encoding="utf-8"))
    }
    assert sorted(read for read in reads if (read[0], read[2]) not in ALLOWED) == []
    assert set(ALLOWED) <= {(file, text) for file, _, text in reads}


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("clf._scorer", ["clf._scorer"]),
        ("def f(x): return x.a._b", ["x.a._b"]),
        ("f()._b", ["f()._b"]),
        ("getattr(x, '_b', None)", ["getattr(x, '_b', None)"]),
        ("class A:\n def f(self): return hasattr(self, '_b')", []),
        ("from m import _b, c", ["_b"]),
        ("class A:\n def f(self, other): return other._b", ["other._b"]),
        ("class A:\n def f(self): return self.b._c", ["self.b._c"]),
        ("class A:\n def __eq__(self, other): return other._b == self._b", []),
        ("class A:\n def f(cls):\n  new = cls(1)\n  new._b = 2", []),
        ("class A:\n def f(self): return super()._b(), self._c, self.__class__, x.__dict__", []),
    ],
)
def test_the_search_sees_what_is_private(source, reads):
    """It reports reads and imports of others' private names, and nothing that a class does with its own objects."""
    assert [text for _, text in private_reads(source)] == reads


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(PACKAGE.parent)))
def test_every_package_introduces_itself(package):
    """Its docstring says what is there, what it may import, and where the next one goes; its folder fits one glance."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    title, _, rest = docstring.partition("\n\n")
    assert title.endswith(".")
    assert re.search(r"\bimports?\b", rest), "say what the package may import"
    assert re.search(r"\b(?:[Tt]o add|adds?|goes|[Aa]nother)\b", rest), "say where the next one goes"
    assert len(list(package.glob("*.py"))) <= MAX_MODULES, "make a package of those that belong together"


def test_every_folder_with_modules_is_a_package():
    """So no folder is left out above."""
    assert {file.parent for file in PACKAGE.rglob("*.py")} == set(PACKAGES)
