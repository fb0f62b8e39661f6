"""Translate DynamoDB's expressions to Python functions, and compute the size of an item."""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

Wire = Mapping[str, Any]
"""An attribute's value as in the client, such as {"S": "text"}."""
Item = dict[str, Wire]
Names = tuple[tuple[str, str], ...]
Test = Callable[[Mapping[str, Wire], Mapping[str, Wire]], bool]
"""Returns whether an item fulfils a condition, with the expression's values."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
TOKEN = re.compile(r"\s*(attribute_not_exists\([^)]*\)|\(|\)|AND\b|OR\b|[#:]?\w+|<>|<=|>=|=|<|>)")


@cache
def condition_of(expression: str, names: Names) -> Test:
    """Parse a condition: comparisons and attribute_not_exists, joined by AND, OR and parentheses."""
    tokens = TOKEN.findall(expression)
    if "".join(tokens) != re.sub(r"\s+", "", expression):
        raise NotImplementedError(expression)
    tokens.reverse()
    test = _either(tokens, dict(names))
    if tokens:
        raise NotImplementedError(expression)
    return test


def _either(tokens: list[str], names: Mapping[str, str]) -> Test:
    tests = [_all_of(tokens, names)]
    while tokens and tokens[-1] == "OR":
        tokens.pop()
        tests.append(_all_of(tokens, names))
    return tests[0] if len(tests) == 1 else lambda item, values: any(test(item, values) for test in tests)


def _all_of(tokens: list[str], names: Mapping[str, str]) -> Test:
    tests = [_single(tokens, names)]
    while tokens and tokens[-1] == "AND":
        tokens.pop()
        tests.append(_single(tokens, names))
    return tests[0] if len(tests) == 1 else lambda item, values: all(test(item, values) for test in tests)


def _single(tokens: list[str], names: Mapping[str, str]) -> Test:
    word = tokens.pop()
    if word == "(":
        inner = _either(tokens, names)
        tokens.pop()
        return inner
    if word.startswith("attribute_not_exists("):
        wanted = word[len("attribute_not_exists(") : -1]
        absent = names.get(wanted, wanted)
        return lambda item, values: absent not in item
    if not tokens or tokens[-1] not in COMPARISONS:
        raise NotImplementedError(word)
    name, compare, value = names.get(word, word), COMPARISONS[tokens.pop()], tokens.pop()

    def compared(item: Mapping[str, Wire], values: Mapping[str, Wire]) -> bool:
        there, given = item.get(name), values[value]
        if there is None or there.keys() != given.keys():
            return False  # values of different types are never compared, nor missing ones
        return compare(_plain(there), _plain(given))

    return compared


@cache
def changes_of(expression: str, names: Names) -> list[Callable[[Item, Mapping[str, Wire]], str]]:
    """Parse an update into functions; each changes an item and returns the name of the changed attribute."""
    known = dict(names)
    parts = re.split(r" ?\b(SET|REMOVE|ADD) ", expression)
    return [
        _change(verb, clause, known)
        for verb, clauses in zip(parts[1::2], parts[2::2], strict=True)
        for clause in re.split(r", (?![^(]*\))", clauses)
    ]


def _change(verb: str, clause: str, names: Mapping[str, str]) -> Callable[[Item, Mapping[str, Wire]], str]:
    found = re.fullmatch(
        r"(?P<name>[#\w]+)(?: = )?(?: ?(?:if_not_exists\(\S+, (?P<default>:\w+)\)|(?P<value>:\w+)))?", clause
    )
    if not found:
        raise NotImplementedError(clause)
    name = names.get(found["name"], found["name"])
    value, default = found["value"], found["default"]

    def change(item: Item, values: Mapping[str, Wire]) -> str:
        if verb == "REMOVE":
            item.pop(name, None)
        elif verb == "ADD":
            item[name] = {"N": str(Decimal(item.get(name, {"N": "0"})["N"]) + Decimal(values[value]["N"]))}
        elif default:
            item.setdefault(name, values[default])
        else:
            item[name] = values[value]
        return name

    return change


def _plain(value: Wire) -> Any:
    """Return a value that compares as in DynamoDB."""
    ((kind, content),) = value.items()
    if kind == "N":
        return float(content)
    if kind == "M":
        return {name: _plain(inner) for name, inner in content.items()}
    return [_plain(inner) for inner in content] if kind == "L" else content


def size_of(item: Item, names: Iterable[str]) -> int:
    """Return the bytes of some of an item's attributes (developer guide, "DynamoDB item sizes and formats")."""
    return sum([len(name) + _size(item[name]) for name in names if name in item])


def _size(value: Wire) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content)  # all text here is ASCII
    if kind == "N":
        return len(content) // 2 + 1
    if kind == "M":
        return 3 + sum([len(name) + _size(inner) + 1 for name, inner in content.items()])
    if kind == "L":
        return 3 + sum([_size(inner) + 1 for inner in content])
    return 1
