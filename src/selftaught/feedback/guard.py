"""Keep model output from being executed inside third-party verifiers.

reasoning-gym scores some answers with `eval(answer)` or SymPy's `parse_expr(answer)`, which is `eval` after a
little rewriting. In the worker, `eval` becomes `ast.literal_eval` and `parse_expr` refuses everything but a
plain expression of numbers, single letters and elementary functions.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from typing import Any

_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc asin acos atan acot sinh cosh tanh asinh acosh atanh arcsin arccos arctan exp log ln "
        "sqrt cbrt Abs abs sign floor ceiling factorial pi oo erf gamma Mod Max Min Integral Derivative",
    )
)
_TOKEN = re.compile(r"\s+|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+|[A-Za-z]\w*|\*\*|[-+*/^(),=!|]")


def is_plain_expression(text: str) -> bool:
    """Whether `text` is made of numbers, one-letter names, elementary functions and operators only."""
    at = 0
    while at < len(text):
        m = _TOKEN.match(text, at)
        if m is None:
            return False
        word = m[0]
        if word[0].isalpha() and word not in _FUNCTIONS and not re.fullmatch(r"[A-Za-z]\d*", word):
            return False
        at = m.end()
    return True


_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.rmdir",
              "os.kill", "subprocess.", "socket.", "shutil.", "ctypes.")  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def forbid_side_effects() -> None:
    """Forbid this process to write files, start processes or use the network from now on.

    A second line of defense, for jobs that need none of these; an audit hook, so not a sandbox against native code.
    """

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN) or (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
            raise PermissionError(f"refused: {event} in a verifier")

    sys.addaudithook(hook)


def guard_expressions() -> None:
    """Replace SymPy's public `parse_expr` by one that refuses anything but plain expressions.

    Call it before importing a library that takes `parse_expr` from SymPy. SymPy's own use of it, on its own
    texts, is unchanged.
    """
    import sympy
    import sympy.parsing

    sympy.parse_expr = sympy.parsing.parse_expr = _guarded_parse_expr  # pyright: ignore


def _guarded_parse_expr(s: str, *args: Any, **kwargs: Any) -> Any:
    """SymPy's `parse_expr`, for plain expressions only."""
    from sympy.parsing.sympy_parser import parse_expr

    if not is_plain_expression(s):
        raise ValueError("refused: not a plain expression")
    return parse_expr(s, *args, **kwargs)


def guard_scorer(dataset: Any) -> None:
    """Make the module that scores a reasoning-gym dataset parse answers instead of executing them.

    `bitwise_arithmetic` evaluates its own problem, never the answer, and needs the operators.
    """
    module = sys.modules[type(dataset).__module__]
    if not module.__name__.endswith(".bitwise_arithmetic"):
        module.eval = ast.literal_eval  # pyright: ignore[reportAttributeAccessIssue]
    if hasattr(module, "parse_expr") and not module.__name__.endswith(".propositional_logic"):
        module.parse_expr = _guarded_parse_expr  # pyright: ignore[reportAttributeAccessIssue]
