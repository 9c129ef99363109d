"""Parameters and how they are defined: a dependency graph whose nodes are numbers modulo `mod`.

A formula is what a sentence says of a parameter, as words: `("7",)`, `("owls", "plus", "3")` or
`("owls", "times", "bears")`. Definitions map each parameter's name to its formula.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from random import Random

Formula = tuple[str, ...]
Definitions = Mapping[str, Formula]

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
}
COMMUTES = ("plus", "times")
_KINDS = ("constant", "unary", "binary")
_WEIGHTS = {"constant": 0.3, "unary": 0.3, "binary": 0.4}


@functools.cache
def operands(formula: Formula) -> tuple[str, ...]:
    """The parameters that a formula uses, in order."""
    return tuple(word for word in formula[::2] if not word.isdigit())


def compute(formula: Formula, values: Mapping[str, int], mod: int) -> int:
    """What a formula comes to, given the values of its operands."""
    numbers = [int(word) if word.isdigit() else values[word] for word in formula[::2]]
    return numbers[0] % mod if len(numbers) == 1 else OPERATIONS[formula[1]](*numbers) % mod


def closure(definitions: Definitions, name: str) -> set[str]:
    """`name` and every parameter that it depends on, however indirectly."""
    found, waiting = {name}, [name]
    while waiting:
        for operand in operands(definitions[waiting.pop()]):
            if operand not in found:
                found.add(operand)
                waiting.append(operand)
    return found


def distances(definitions: Definitions, name: str) -> dict[str, int]:
    """The fewest references from `name` down to each parameter that it depends on; 0 for itself."""
    found, edge = {name: 0}, [name]
    for far in range(1, len(definitions)):
        below = dict.fromkeys(operand for each in edge for operand in operands(definitions[each]))
        edge = [each for each in below if each not in found]
        found |= dict.fromkeys(edge, far)
    return found


def evaluate(definitions: Definitions, mod: int, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Every parameter's value; those in `given` are taken from there instead of their formula."""
    values: dict[str, int] = dict(given or {})

    def reach(name: str) -> None:
        if name not in values:
            for operand in operands(definitions[name]):
                reach(operand)
            values[name] = compute(definitions[name], values, mod)

    for name in definitions:
        reach(name)
    return values


def topological(definitions: Definitions, wanted: set[str], rng: Random) -> list[str]:
    """The wanted parameters in an order that computes operands first, chosen at random step by step."""
    left = [name for name in definitions if name in wanted]
    done: set[str] = set()
    order = []
    while left:
        ready = [name for name in left if done.issuperset(operands(definitions[name]))]
        order.append(rng.choice(ready))
        done.add(order[-1])
        left.remove(order[-1])
    return order


def draw_component(rng: Random, names: list[str], needed: int, mod: int) -> dict[str, Formula]:
    """Formulas for `names`: the first `needed` of them are what the parameter `names[needed - 1]` depends on.

    The others use earlier parameters and are used by none of the needed ones.
    """
    made: dict[str, Formula] = {}
    unused: list[str] = []
    for k, name in enumerate(names):
        if k < needed:
            kind = _kind(rng, k, len(unused), left=needed - k)
            formula = _formula(rng, kind, unused, list(made), mod, tight=len(unused) > needed - k)
            unused = [each for each in unused if each not in formula] + [name]
        else:
            kind = _kind(rng, k, 0, left=len(names))
            formula = _formula(rng, kind, [], list(made), mod)
        made[name] = formula
    return made


def _kind(rng: Random, made: int, unused: int, left: int) -> str:
    """A kind of formula that still lets every needed parameter be used by the last one.

    A binary formula over two unused parameters lowers their number by one, a unary one over an unused
    parameter leaves it, a constant raises it; after the last parameter exactly one must be left.
    """
    allowed = {
        "constant": unused + 1 <= left,
        "unary": made >= 1 and unused <= left,
        "binary": made >= 2,
    }
    kinds = [kind for kind in _KINDS if allowed[kind]]
    return rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]


def _formula(rng: Random, kind: str, unused: list[str], made: list[str], mod: int, *, tight: bool = False) -> Formula:
    """A formula of one kind; it uses parameters that nothing uses yet, two of them where `tight`."""
    if kind == "constant":
        return (str(rng.randrange(mod)),)
    operation = rng.choice(list(OPERATIONS))
    first = rng.choice(unused or made)
    if kind == "unary":
        return (first, operation, _constant(rng, operation, mod))
    pool = [each for each in (unused if tight else made) if each != first]
    second = rng.choice(pool)
    pair = [first, second]
    rng.shuffle(pair)
    return (pair[0], operation, pair[1])


def _constant(rng: Random, operation: str, mod: int) -> str:
    """A constant operand that changes something: not 0, and not 1 in a product."""
    return str(rng.randrange(2 if operation == "times" else 1, mod))


def twin_of(component: Definitions, names: Mapping[str, str], rng: Random, mod: int) -> dict[str, Formula]:
    """The same graph with the same operations under other names, its constants drawn anew."""
    made: dict[str, Formula] = {}
    for name, formula in component.items():
        if len(formula) == 1:
            made[names[name]] = (str(rng.randrange(mod)),)
        else:
            left, operation, right = formula
            right = _constant(rng, operation, mod) if right.isdigit() else names[right]
            made[names[name]] = (names[left], operation, right)
    return made


def canonical(definitions: Definitions, marked: Iterable[str]) -> list[tuple]:
    """A form of the graph that names, sentence order and the order of commuting operands do not change.

    Colours are refined from each parameter's operation, constants and mark by those of its operands and
    users until no class splits any more (Weisfeiler and Leman 1968).
    """
    marked = set(marked)
    users: dict[str, list[tuple[str, int]]] = {name: [] for name in definitions}
    for name, formula in definitions.items():
        for place, operand in enumerate(operands(formula)):
            users[operand].append((name, 0 if formula[1] in COMMUTES else place))
    own = {name: (name in marked, *_label(formula)) for name, formula in definitions.items()}
    colour = _ranks(own)
    while True:
        seen = {
            name: (colour[name], _operand_colours(formula, colour), sorted((colour[u], p) for u, p in users[name]))
            for name, formula in definitions.items()
        }
        finer = _ranks(seen)
        if len(set(finer.values())) == len(set(colour.values())):
            return sorted((finer[name], own[name], seen[name][1]) for name in definitions)
        colour = finer


def _label(formula: Formula) -> tuple[str, ...]:
    return tuple(word for k, word in enumerate(formula) if k % 2 or word.isdigit())


def _operand_colours(formula: Formula, colour: Mapping[str, int]) -> list[int]:
    found = [colour[operand] for operand in operands(formula)]
    return sorted(found) if len(found) == 2 and formula[1] in COMMUTES else found


def _ranks(keys: Mapping[str, tuple]) -> dict[str, int]:
    order: list[tuple] = []
    for key in sorted(keys.values()):
        if not order or order[-1] != key:
            order.append(key)
    return {name: order.index(key) for name, key in keys.items()}
