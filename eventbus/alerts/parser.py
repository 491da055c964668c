"""The grammar of expressions, and what is said of those that do not follow it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple, NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from eventbus.alerts.figures import FUNCTIONS, METRICS, Counter, Distribution, Function, Gauge, Metric
from eventbus.alerts.quantity import NUMBER_PATTERN, RATIO, TIME, duration_text, quantity
from eventbus.alerts.term import (
    Calculation,
    Constant,
    CounterTerm,
    DistributionTerm,
    GaugeTerm,
    RatioTerm,
    Term,
    calculate,
    fit,
)
from eventbus.errors import ConfigError

MAX_LENGTH = 400
"""Longer ones are no comparison that people could read; it also bounds how deeply terms can be nested."""
MIN_WINDOW_S = 0.1
MAX_WINDOW_S = 3600.0
"""How far back a window may reach: what samples within it need is kept in memory."""

_GRAMMAR = f"""
start: comparison (AND comparison)*
comparison: sum OP sum
?sum: product | sum (PLUS | MINUS) product -> calculation
?product: signed | product (TIMES | DIVIDED) signed -> calculation
?signed: atom | MINUS atom -> negation
?atom: NUMBER -> number
    | NAME "(" argument ("," argument)* ")" -> call
    | NAME -> name
    | "(" sum ")"
?argument: NAME | NUMBER
AND: "and"
OP: "<=" | ">=" | "==" | "!=" | "<" | ">"
PLUS: "+"
MINUS: "-"
TIMES: "*"
DIVIDED: "/"
NAME: /[A-Za-z_][A-Za-z0-9_]*(?:\\.[0-9]+)*/
NUMBER: /{NUMBER_PATTERN}/
%ignore /\\s+/
"""

_WORDS: Mapping[str, str] = {
    "NAME": "a metric or function",
    "NUMBER": "a number",
    "OP": "a comparison (< <= > >= == !=)",
    "AND": "and",
    "PLUS": "+",
    "MINUS": "-",
    "TIMES": "*",
    "DIVIDED": "/",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "$END": "the end",
}

_HINTS: Mapping[str, str] = {
    # what people write after a whole comparison -> what to do instead
    "or": "write two rules or thresholds, one for each",
    "not": "turn the comparison round",
    "AND": "write and in small letters",
    "&": "write and between two comparisons",
    "|": "write two rules or thresholds, one for each",
    "<": "write and between two comparisons",
    ">": "write and between two comparisons",
}

_OTHER_NAMES: Mapping[str, str] = {
    "avg": "mean",
    "average": "mean",
    "median": "p50",
    "med": "p50",
    "minimum": "min",
    "maximum": "max",
    "count": "increase",
    "sum": "increase",
    "delta": "increase",
    "latency": "ack_latency",
    "errors": "failed",
    "timeouts": "ack_timeouts",
    "limit": "window_limit",
    "in_flight": "pending",
}
"""What people coming from elsewhere write -> what it is called here."""

_PERCENTILE = re.compile(r"p([0-9]+(?:\.[0-9]+)?)")


class Parsed(NamedTuple):
    """One comparison: its two sides, what is between them, and the part of the text that it is."""

    left: Term
    op: str
    right: Term
    text: str


def parse_terms(text: str) -> list[Parsed]:
    """The comparisons of ``text``, at least one, with ``and`` between them. Raises ConfigError with column and cause,
    on one line."""
    if len(text) > MAX_LENGTH:
        _refuse(MAX_LENGTH, f"longer than {MAX_LENGTH} characters; split it")
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        _refuse_syntax(text, error)
    found: list[Parsed] = []
    start = 0
    for number in range(0, len(tree.children), 2):
        end = len(text)
        if number + 1 < len(tree.children):
            end = _token(tree.children[number + 1]).start_pos or 0
        found.append(_comparison(tree.children[number], start, text[start:end]))
        start = end + len("and")
    return found


def _comparison(tree: Tree[Token] | Token, start: int, text: str) -> Parsed:
    """One comparison, whose text begins at ``start``."""
    assert isinstance(tree, Tree)
    op = _token(tree.children[1])
    left, right = _term(tree.children[0]), _term(tree.children[2])
    if isinstance(left, Constant) and isinstance(right, Constant):
        at = start + len(text) - len(text.lstrip()) + 1
        _refuse(at, f"compares numbers only; name a metric: {', '.join(METRICS)}")
    if fit(left, right) is None:
        _refuse_mix(op, left, right, "compared")
    return Parsed(left, str(op), right, text)


@cache
def _lark() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def _refuse(column: int, reason: str) -> NoReturn:
    raise ConfigError(f"expression, column {column}: {reason}")


def _refuse_at(token: Token, reason: str) -> NoReturn:
    _refuse((token.start_pos or 0) + 1, reason)


def _refuse_syntax(text: str, error: UnexpectedInput) -> NoReturn:
    if isinstance(error, UnexpectedToken):
        token, allowed = error.token, error.accepts or error.expected
        found, at = str(token), token.start_pos
        if token.type == "$END":
            found, at = "", len(text)
    else:
        assert isinstance(error, UnexpectedCharacters)
        found, at, allowed = error.char, error.pos_in_stream, error.allowed
    hint = "write == to compare" if found == "=" else _HINTS[found] if found in ("&", "|") else ""
    if "$END" in (allowed or ()):
        hint = hint or _HINTS.get(found) or _HINTS.get(found[:1], "")
    if not hint:
        hint = "expected " + _or([word for terminal, word in _WORDS.items() if terminal in (allowed or ())])
    what = f"{_brief(found)} is not expected here" if found else "ends too soon"
    _refuse((at or 0) + 1, f"{what}; {hint}")


def _term(tree: Tree[Token] | Token) -> Term:
    assert isinstance(tree, Tree)
    parts = tree.children
    match tree.data:
        case "number":
            return _constant(_token(parts[0]))
        case "name":
            return _bare(_token(parts[0]))
        case "call":
            return _call(_token(parts[0]), [_token(part) for part in parts[1:]])
        case "negation":
            return _calculation(Constant(-1.0, RATIO, plain=True), Token("TIMES", "*"), _term(parts[1]))
        case _:
            return _calculation(_term(parts[0]), _token(parts[1]), _term(parts[2]))


def _token(part: Tree[Token] | Token) -> Token:
    assert isinstance(part, Token)
    return part


def _constant(token: Token) -> Constant:
    try:
        return Constant(*quantity(str(token)))
    except ConfigError as error:
        _refuse_at(token, str(error))


def _bare(token: Token) -> Term:
    """A name alone: a gauge's last value."""
    name = str(token)
    if name in FUNCTIONS or _PERCENTILE.fullmatch(name):
        _refuse_at(token, f"{name} is a function; write it as in {_example(name)}")
    metric = _metric(token)
    if isinstance(metric, Counter):
        _refuse_at(token, f"{name} is a total; use increase({name}), rate({name}) or ratio({name}, accepted)")
    if isinstance(metric, Distribution):
        _refuse_at(token, f"{name} has many values; use p99({name}), mean({name}) or max({name})")
    return GaugeTerm(metric, "last", None)


def _call(name: Token, arguments: list[Token]) -> Term:
    percent, function = _function(name)
    window_s = _window(arguments.pop()) if len(arguments) > 1 and arguments[-1].type == "NUMBER" else None
    for argument in arguments:
        if argument.type != "NAME":
            _refuse_at(argument, f"{_brief(argument)} is not a metric; write it as in {_example(name)}")
    most = 2 if name == "ratio" else 1
    if len(arguments) > most:
        _refuse_at(
            arguments[most], f"{name} takes {'two metrics' if most > 1 else 'one metric'}, as in {_example(name)}"
        )
    metrics = [_metric(argument) for argument in arguments]
    for argument, metric in zip(arguments, metrics, strict=True):
        if not isinstance(metric, function.of if function else Distribution):
            _refuse_at(argument, _not_of(name, metric, function))
    if window_s is not None and name == "last":
        _refuse_at(name, "last is one value and takes no window; use mean, min or max")
    return _figure(name, metrics, percent, window_s)


def _figure(name: Token, metrics: list[Metric], percent: float | None, window_s: float | None) -> Term:
    match metrics:
        case [Distribution() as distribution]:
            return DistributionTerm(distribution, str(name) if percent is None else percent, window_s)
        case [Gauge() as gauge]:
            return GaugeTerm(gauge, str(name), window_s)
        case [Counter() as part, Counter() as whole]:
            return _ratio(name, part, whole, window_s)
        case [Counter() as counter]:
            settled = METRICS["settled"]
            assert isinstance(settled, Counter)
            return (
                _ratio(name, counter, settled, window_s)
                if name == "ratio"
                else CounterTerm(counter, str(name), window_s)
            )
    raise AssertionError(metrics)


def _ratio(name: Token, part: Counter, whole: Counter, window_s: float | None) -> RatioTerm:
    if part.dimension != whole.dimension:
        _refuse_at(name, f"{part.name} is {part.dimension} and {whole.name} {whole.dimension}; they have no ratio")
    return RatioTerm(part, whole, window_s)


def _function(name: Token) -> tuple[float | None, Function | None]:
    """The percentile that ``name`` says, or the function that it is."""
    if match := _PERCENTILE.fullmatch(name):
        percent = float(match[1])
        if not 0 < percent <= 100:
            _refuse_at(name, f"{_brief(name)} is no percentile; use more than 0 and at most 100, as in p99.9")
        return percent, None
    if str(name) in METRICS:
        _refuse_at(name, f"{name} is a metric, not a function; use {', '.join(FUNCTIONS)} or a percentile such as p99")
    if str(name) not in FUNCTIONS:
        known = f"use {', '.join(FUNCTIONS)} or a percentile such as p99"
        _refuse_at(name, f"{_brief(name)} is not a function; {_meant(name, [*FUNCTIONS, 'p50', 'p95', 'p99'])}{known}")
    return None, FUNCTIONS[str(name)]


def _metric(token: Token) -> Metric:
    name = str(token)
    if name not in METRICS:
        _refuse_at(token, f"{_brief(name)} is not a metric; {_meant(name, METRICS)}use {', '.join(METRICS)}")
    return METRICS[name]


def _window(token: Token) -> float:
    found = _constant(token)
    if found.dimension != TIME:
        _refuse_at(token, f"{_brief(token)} is not a window; use a time such as 500ms, 10s, 1m")
    if not MIN_WINDOW_S <= found.value <= MAX_WINDOW_S:
        _refuse_at(token, f"a window of {token}; use {duration_text(MIN_WINDOW_S)} to {duration_text(MAX_WINDOW_S)}")
    return found.value


def _not_of(name: Token, metric: Metric, function: Function | None) -> str:
    kinds = function.of if function else (Distribution,)
    fitting = [other.name for other in METRICS.values() if isinstance(other, kinds)]
    own = {Gauge: "a gauge", Counter: "a total", Distribution: "a distribution"}[type(metric)]
    return f"{metric.name} is {own}, of which there is no {name}; use {name} with {', '.join(fitting)}"


def _calculation(left: Term, sign: Token, right: Term) -> Term:
    if sign in ("+", "-"):
        dimension = fit(left, right)
        if dimension is None:
            _refuse_mix(sign, left, right, "added" if sign == "+" else "subtracted")
    else:
        dimension = (left.dimension.times if sign == "*" else left.dimension.per)(right.dimension)
    if not (isinstance(left, Constant) and isinstance(right, Constant)):
        return Calculation(str(sign), left, right, dimension)
    value = calculate(sign, left.value, right.value)
    if value is None:
        _refuse_at(sign, "this is no number; do not divide by 0")
    return Constant(value, dimension, left.plain and right.plain)


def _refuse_mix(sign: Token, left: Term, right: Term, verb: str) -> NoReturn:
    hint = "give the number its unit" if _plain(left) or _plain(right) else "both sides must be of one kind"
    _refuse_at(sign, f"{_kind(left)} and {_kind(right)} cannot be {verb}; {hint}, as in 250ms, 1%, 64MiB, 950/s")


def _plain(term: Term) -> bool:
    return isinstance(term, Constant) and term.plain


def _kind(term: Term) -> str:
    return "a number without unit" if _plain(term) else str(term.dimension)


def _example(name: str) -> str:
    return FUNCTIONS[name].example if name in FUNCTIONS else f"{name}(ack_latency, 1m)"


def _meant(name: str, known: Iterable[str]) -> str:
    """ "did you mean ...? ", or nothing where no name is near."""
    lower = name.lower()
    near = [_OTHER_NAMES[lower]] if lower in _OTHER_NAMES else []
    near = [other for other in near if other in known] or get_close_matches(lower, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}? " if near else ""


def _brief(text: str) -> str:
    return repr(str(text[:40]))


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
