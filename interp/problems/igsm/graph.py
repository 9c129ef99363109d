"""Parameters and their definitions: a dependency graph whose nodes are numbers modulo `mod`.

A formula is the definition of a parameter, as words: `("7",)`, `("owls", "plus", "3")` or `("owls", "times",
"bears")`. Definitions map each parameter's name to its formula.
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
# How often each form of a formula is drawn, where it is allowed.
_FORM_WEIGHTS = {"constant": 0.3, "unary": 0.3, "binary": 0.4}


@functools.cache
def operands(formula: Formula) -> tuple[str, ...]:
    """Return the parameters that a formula uses, in order."""
    return tuple(word for word in formula[::2] if not word.isdigit())


def compute(formula: Formula, values: Mapping[str, int], mod: int) -> int:
    """Return the value of a formula, given the values of its operands."""
    numbers = [int(word) if word.isdigit() else values[word] for word in formula[::2]]
    return numbers[0] % mod if len(numbers) == 1 else OPERATIONS[formula[1]](*numbers) % mod


def closure(definitions: Definitions, name: str) -> set[str]:
    """Return `name` and every parameter that it depends on, directly or not."""
    reached, queue = {name}, [name]
    while queue:
        for operand in operands(definitions[queue.pop()]):
            if operand not in reached:
                reached.add(operand)
                queue.append(operand)
    return reached


def distances(definitions: Definitions, name: str) -> dict[str, int]:
    """Return the fewest references from `name` to each parameter that it depends on; 0 for itself."""
    distance, frontier = {name: 0}, [name]
    for depth in range(1, len(definitions)):
        below = dict.fromkeys(operand for parameter in frontier for operand in operands(definitions[parameter]))
        frontier = [operand for operand in below if operand not in distance]
        distance |= dict.fromkeys(frontier, depth)
    return distance


def evaluate(definitions: Definitions, mod: int, fixed: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return every parameter's value; those in `fixed` take their value from there instead of their formula."""
    values: dict[str, int] = dict(fixed or {})

    def reach(name: str) -> None:
        if name not in values:
            for operand in operands(definitions[name]):
                reach(operand)
            values[name] = compute(definitions[name], values, mod)

    for name in definitions:
        reach(name)
    return values


def topological(definitions: Definitions, wanted: set[str], rng: Random) -> list[str]:
    """Return the wanted parameters in a random order that computes operands first."""
    remaining = [name for name in definitions if name in wanted]
    done: set[str] = set()
    order = []
    while remaining:
        ready = [name for name in remaining if done.issuperset(operands(definitions[name]))]
        order.append(rng.choice(ready))
        done.add(order[-1])
        remaining.remove(order[-1])
    return order


def draw_component(rng: Random, names: list[str], needed: int, mod: int) -> dict[str, Formula]:
    """Return random formulas for `names`.

    Args:
        rng: Source of randomness.
        names: The parameters.
        needed: The parameter `names[needed - 1]` depends on exactly the first `needed` parameters. The others use
            earlier parameters and are used by none of the needed ones.
        mod: Numbers are modulo this.
    """
    formulas: dict[str, Formula] = {}
    unused: list[str] = []
    for k, name in enumerate(names):
        if k < needed:
            form = _draw_form(rng, k, len(unused), remaining=needed - k)
            formula = _formula(rng, form, unused, list(formulas), mod, tight=len(unused) > needed - k)
            unused = [parameter for parameter in unused if parameter not in formula] + [name]
        else:
            form = _draw_form(rng, k, 0, remaining=len(names))
            formula = _formula(rng, form, [], list(formulas), mod)
        formulas[name] = formula
    return formulas


def _draw_form(rng: Random, defined: int, unused: int, remaining: int) -> str:
    """Return a form of formula that still lets every needed parameter be used by the last one.

    A binary formula over two unused parameters lowers their number by one, a unary one over an unused parameter keeps
    it, and a constant raises it. After the last parameter exactly one must be unused.
    """
    allowed = {
        "constant": unused + 1 <= remaining,
        "unary": defined >= 1 and unused <= remaining,
        "binary": defined >= 2,
    }
    forms = [form for form in _FORM_WEIGHTS if allowed[form]]
    return rng.choices(forms, [_FORM_WEIGHTS[form] for form in forms])[0]


def _formula(
    rng: Random, form: str, unused: list[str], defined: list[str], mod: int, *, tight: bool = False
) -> Formula:
    """Return a formula of one form; it uses an unused parameter first, and two of them where `tight`."""
    if form == "constant":
        return (str(rng.randrange(mod)),)
    operation = rng.choice(list(OPERATIONS))
    first = rng.choice(unused or defined)
    if form == "unary":
        return (first, operation, _constant(rng, operation, mod))
    pool = [parameter for parameter in (unused if tight else defined) if parameter != first]
    second = rng.choice(pool)
    pair = [first, second]
    rng.shuffle(pair)
    return (pair[0], operation, pair[1])


def _constant(rng: Random, operation: str, mod: int) -> str:
    """Return a constant operand that changes the result: not 0, and not 1 in a product."""
    return str(rng.randrange(2 if operation == "times" else 1, mod))


def twin_of(component: Definitions, names: Mapping[str, str], rng: Random, mod: int) -> dict[str, Formula]:
    """Return the same graph and operations under other names, with new constants."""
    twin: dict[str, Formula] = {}
    for name, formula in component.items():
        if len(formula) == 1:
            twin[names[name]] = (str(rng.randrange(mod)),)
        else:
            left, operation, right = formula
            right = _constant(rng, operation, mod) if right.isdigit() else names[right]
            twin[names[name]] = (names[left], operation, right)
    return twin


def canonical(definitions: Definitions, marked: Iterable[str]) -> list[tuple]:
    """Return a form of the graph that does not depend on names, sentence order or the order of commuting operands.

    Colours start from each parameter's operation, constants and mark. They are refined by those of its operands and
    users until no class splits (Weisfeiler and Leman 1968).

    Args:
        definitions: The graph.
        marked: Parameters whose identity belongs to the form.
    """
    marked = set(marked)
    users: dict[str, list[tuple[str, int]]] = {name: [] for name in definitions}
    for name, formula in definitions.items():
        for slot, operand in enumerate(operands(formula)):
            users[operand].append((name, 0 if formula[1] in COMMUTES else slot))
    labels = {name: (name in marked, *_label(formula)) for name, formula in definitions.items()}
    colour = _ranks(labels)
    while True:
        refined = {
            name: (
                colour[name],
                _operand_colours(formula, colour),
                sorted((colour[u], slot) for u, slot in users[name]),
            )
            for name, formula in definitions.items()
        }
        finer = _ranks(refined)
        if len(set(finer.values())) == len(set(colour.values())):
            return sorted((finer[name], labels[name], refined[name][1]) for name in definitions)
        colour = finer


def _label(formula: Formula) -> tuple[str, ...]:
    return tuple(word for k, word in enumerate(formula) if k % 2 or word.isdigit())


def _operand_colours(formula: Formula, colour: Mapping[str, int]) -> list[int]:
    colours = [colour[operand] for operand in operands(formula)]
    return sorted(colours) if len(colours) == 2 and formula[1] in COMMUTES else colours


def _ranks(keys: Mapping[str, tuple]) -> dict[str, int]:
    """Return for each name the rank of its key among the distinct keys."""
    order: list[tuple] = []
    for key in sorted(keys.values()):
        if not order or order[-1] != key:
            order.append(key)
    return {name: order.index(key) for name, key in keys.items()}
