"""Small faults that could be made in a Python file: where each is, and the file's text with it.

Left alone is what changes no behaviour that a test could see: docstrings, messages (f-strings, whatever a ``raise``
says), annotations, decorators, ``device=`` (tests have one device), and the calls of ``SILENT``, which only show
progress. No fault is a string's.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

SILENT = frozenset({"say", "tell", "progress", "task"})
"""Calls of these, or of their methods, are not touched: they tell people or the watchdog how far the work is."""
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
PAIRS = ("min", "max"), ("amin", "amax"), ("clamp_min", "clamp_max"), ("any", "all"), ("ceil", "floor")
SWAPPED = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}


@dataclass(frozen=True)
class Mutant:
    """One fault: at ``start`` to ``end`` (bytes of the file) it reads ``text``."""

    function: str
    """Qualified; "" outside all classes and functions."""
    line: int
    before: str
    after: str
    start: int
    end: int
    text: str

    def applied(self, source: str) -> str:
        """The file's text with the fault in it."""
        raw = source.encode()
        return (raw[: self.start] + self.text.encode() + raw[self.end :]).decode()


@dataclass
class Signatures:
    """Which arguments of the package's functions have a default, by the function's name."""

    optional: dict[str, set[str]] = field(default_factory=dict)
    """Names of such arguments."""
    needed: dict[str, int] = field(default_factory=dict)
    """How many positional arguments a call cannot do without."""

    def read(self, source: str) -> None:
        """Take in the functions of a file; of those that share a name all defaults count."""
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                self._note(node)

    def _note(self, function: ast.FunctionDef) -> None:
        given = function.args
        positional = [*given.posonlyargs, *given.args]
        bare = len(positional) - len(given.defaults)
        keywords = [arg.arg for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default]
        self.optional.setdefault(function.name, set()).update([arg.arg for arg in positional[bare:]], keywords)
        needed = bare - (positional[0].arg in ("self", "cls") if positional else 0)
        if given.vararg or given.defaults:
            self.needed[function.name] = min(needed, self.needed.get(function.name, needed))


def mutants(source: str, signatures: Signatures) -> list[Mutant]:
    """All faults of a file, in the order of the text."""
    finder = _Finder(source, signatures)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda each: (each.start, each.end, each.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str, signatures: Signatures) -> None:
        self.found: list[Mutant] = []
        self._signatures, self._names = signatures, [""]
        self._lines = [0]
        for line in source.encode().splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _note(self, node: ast.expr | ast.stmt, after: ast.AST | str) -> None:
        text = after if isinstance(after, str) else ast.unparse(after)
        if not isinstance(after, str | ast.Call):
            text = f"({text})"
        assert node.end_lineno  # noqa: S101 - for mypy: parsed nodes have one
        start = self._lines[node.lineno - 1] + node.col_offset
        end = self._lines[node.end_lineno - 1] + (node.end_col_offset or 0)
        name = ".".join(self._names[1:])
        self.found.append(Mutant(name, node.lineno, ast.unparse(node), text, start, end, text))

    def _within(self, name: str, nodes: list[ast.expr | ast.stmt]) -> None:
        self._names.append(name)
        for node in nodes:
            self.visit(node)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        defaults = [each for each in (*node.args.defaults, *node.args.kw_defaults) if each]
        self._within(node.name, [*defaults, *node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node.name, [*node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def _skip(self, node: ast.AST) -> None:
        pass

    visit_JoinedStr = visit_Raise = visit_Import = visit_ImportFrom = _skip

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and not _silent(node.value):
            self._note(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if "__all__" in ast.unparse(node.targets[0]):
            return
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript) and "__init__" not in self._names:
            self._note(node, "pass")
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if not any(isinstance(each, ast.JoinedStr) for each in ast.walk(node)):
            self._note(node, "pass")
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is None or _is_text(value):
            return
        if isinstance(value, ast.Tuple) and len(value.elts) > 1:
            self._note(value, ast.Tuple([value.elts[1], value.elts[0], *value.elts[2:]], ast.Load()))
        elif not (isinstance(value, ast.Constant) and value.value is None):
            self._note(value, "None")
        self.visit(value)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._either_way(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._either_way(node)

    def _either_way(self, node: ast.If | ast.IfExp) -> None:
        for way in ("True", "False"):
            self._note(node.test, way)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._note(test, "True")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for number, operator in enumerate(node.ops):
            for other in COMPARED[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[number] = other()
                self._note(node, changed)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in COMPUTED and not any(map(_is_text, ast.walk(node))):
            self._note(node, ast.BinOp(node.left, COMPUTED[type(node.op)](), node.right))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._note(node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self._note(node, node.operand)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._note(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self._note(node, repr(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        if _silent(node):
            return
        for changed in self._calls(node):
            self._note(node, changed)
        self.generic_visit(node)

    def _calls(self, node: ast.Call) -> Iterator[ast.Call]:
        """The call of its opposite, and calls that leave an argument to its default."""
        name = _name(node.func)
        if name in SWAPPED:
            changed = copy.deepcopy(node)
            if isinstance(changed.func, ast.Attribute):
                changed.func.attr = SWAPPED[name]
            elif isinstance(changed.func, ast.Name):
                changed.func.id = SWAPPED[name]
            yield changed
        known = self._signatures.optional.get(name)
        for number, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "device") and (known is None or keyword.arg in known):
                yield ast.Call(node.func, node.args, node.keywords[:number] + node.keywords[number + 1 :])
        if len(node.args) > self._signatures.needed.get(name, len(node.args)):
            yield ast.Call(node.func, node.args[:-1], node.keywords)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _silent(call: ast.Call) -> bool:
    names = [_name(call.func)]
    if isinstance(call.func, ast.Attribute):
        names.append(_name(call.func.value))
    return bool(SILENT & {*names})


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
