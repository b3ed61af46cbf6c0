"""From a regular expression to a deterministic automaton over the bytes of UTF-8.

``re``'s own parser reads the pattern, so the syntax is ``re``'s; Thompson 1968 builds the automaton with empty moves,
Rabin and Scott 1959 the one without.
"""

import re
from collections.abc import Iterator
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import torch

from kvcache.sampling import DEAD, Automaton

Ranges = list[tuple[int, int]]  # of code points, ends included
MOST = 20_000  # states
LAST = 0x10FFFF
BREAKS = (0x7F, 0x7FF, 0xFFFF, LAST)  # the largest code points of 1, 2, 3 and 4 bytes
SPACE: Ranges = [(9, 13), (32, 32)]
WORD: Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
CLASSES: dict[Any, Ranges] = {c.CATEGORY_DIGIT: [(48, 57)], c.CATEGORY_SPACE: SPACE, c.CATEGORY_WORD: WORD}
NEGATED = {
    c.CATEGORY_NOT_DIGIT: c.CATEGORY_DIGIT,
    c.CATEGORY_NOT_SPACE: c.CATEGORY_SPACE,
    c.CATEGORY_NOT_WORD: c.CATEGORY_WORD,
}


def automaton(pattern: str) -> Automaton:
    r"""Compile ``pattern`` to the automaton of the texts that ``re.fullmatch(pattern, text, re.ASCII)`` accepts.

    State 0 is the start, and from every state some text ends well. Raises ValueError for what is not a regular
    expression of ``re``, for what no finite automaton can do or is not built here (anchors, back-references, looking
    around, flags), for a pattern that matches nothing, and for one that needs more than 20,000 states.
    """
    try:
        parsed = _parser.parse(pattern, re.ASCII)
        if parsed.state.flags & ~re.ASCII:
            msg = f"{_short(pattern)} sets flags, which are not taken here"
            raise ValueError(msg)
        nfa = _Nfa()
        end = nfa.sequence(parsed, nfa.start)
    except (re.error, OverflowError) as error:
        msg = f"{_short(pattern)} is not a regular expression: {error}"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = f"{_short(pattern)} is nested too deeply"
        raise ValueError(msg) from error
    return _determined(pattern, nfa, end)


def _short(pattern: str, most: int = 60) -> str:
    """Quote a pattern so that an error about it stays one readable line."""
    return repr(pattern if len(pattern) <= most else f"{pattern[:most]}...")


class _Nfa:
    """States are numbers; ``empty`` moves read nothing, ``moves`` a byte in a range."""

    def __init__(self) -> None:
        self.empty: list[list[int]] = []
        self.moves: list[list[tuple[int, int, int]]] = []
        self.start = self.state()

    def state(self) -> int:
        if len(self.empty) >= 5 * MOST:
            msg = f"the regular expression needs more than {5 * MOST} states"
            raise ValueError(msg)
        self.empty.append([])
        self.moves.append([])
        return len(self.empty) - 1

    def sequence(self, items: Any, here: int) -> int:  # noqa: ANN401 - re's parser is untyped
        """Append ``items`` behind state ``here``; return where they end."""
        for kind, given in items:
            here = self.item(kind, given, here)
        return here

    def item(self, kind: Any, given: Any, here: int) -> int:  # noqa: ANN401
        if kind is c.BRANCH:
            end = self.state()
            for branch in given[1]:
                first = self.state()
                self.empty[here].append(first)
                self.empty[self.sequence(branch, first)].append(end)
            return end
        if kind is c.SUBPATTERN and not given[1] and not given[2]:
            return self.sequence(given[3], here)
        if kind in (c.MAX_REPEAT, c.MIN_REPEAT):  # which texts match does not depend on greed
            least, most, items = given
            return self.repeat(least, most, items, here)
        ranges = _ranges(kind, given)
        end = self.state()
        for low, high in ranges:
            for piece in _utf8(low, high):
                at = here
                for i, (first, last) in enumerate(piece):
                    to = end if i == len(piece) - 1 else self.state()
                    self.moves[at].append((first, last, to))
                    at = to
        return end

    def repeat(self, least: int, most: Any, items: Any, here: int) -> int:  # noqa: ANN401
        for _ in range(least):
            here = self.sequence(items, here)
        end = self.state()
        if most is c.MAXREPEAT:
            loop = self.state()
            self.empty[here].append(loop)
            self.empty[self.sequence(items, loop)].append(loop)
            self.empty[loop].append(end)
            return end
        for _ in range(most - least):
            self.empty[here].append(end)
            here = self.sequence(items, here)
        self.empty[here].append(end)
        return end


def _ranges(kind: Any, given: Any) -> Ranges:  # noqa: ANN401
    """Return the characters that one item of a parsed pattern stands for."""
    if kind is c.LITERAL:
        return [(given, given)]
    if kind is c.NOT_LITERAL:
        return _others([(given, given)])
    if kind is c.ANY:
        return _others([(10, 10)])
    if kind is c.RANGE:
        return [given]
    if kind is c.CATEGORY:
        return _others(CLASSES[NEGATED[given]]) if given in NEGATED else CLASSES[given]
    if kind is c.IN:
        negated = given[0][0] is c.NEGATE
        found = [pair for item in given[negated:] for pair in _ranges(*item)]
        return _others(found) if negated else found
    name = str(kind).lower().replace("_", " ")
    msg = f"a regular expression with {name!r} is not taken here: no anchors, back-references or looking around"
    raise ValueError(msg)


def _others(ranges: Ranges) -> Ranges:
    """Return all characters but those of ``ranges``."""
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, (start, LAST)] if start <= LAST else found


def _utf8(low: int, high: int) -> Iterator[list[tuple[int, int]]]:
    """Split characters into products of ranges of bytes; halves of surrogate pairs have no bytes."""
    if low > high:
        return
    for last in (0xD7FF, 0xDFFF, *BREAKS):
        if low <= last < high:
            yield from _utf8(low, last)
            yield from _utf8(last + 1, high)
            return
    if 0xD800 <= low <= 0xDFFF:  # noqa: PLR2004
        return
    size = next(i for i, most in enumerate(BREAKS) if high <= most)  # bytes that follow the first
    for i in range(1, size + 1):
        tail = (1 << 6 * i) - 1
        if low | tail < high | tail:  # not the same above the last i bytes: those must run through all values
            if low & tail:
                yield from _utf8(low, low | tail)
                yield from _utf8((low | tail) + 1, high)
                return
            if high & tail != tail:
                yield from _utf8(low, (high & ~tail) - 1)
                yield from _utf8(high & ~tail, high)
                return
    yield list(zip(chr(low).encode(), chr(high).encode(), strict=True))


def _determined(pattern: str, nfa: _Nfa, end: int) -> Automaton:
    """Follow sets of states, then drop what leads nowhere."""

    def closed(states: set[int]) -> frozenset[int]:
        found, waiting = set(states), list(states)
        while waiting:
            new = [to for to in nfa.empty[waiting.pop()] if to not in found]
            found.update(new)
            waiting += new
        return frozenset(state for state in found if nfa.moves[state] or state == end)

    first = closed({nfa.start})
    numbers, order, rows = {first: 0}, [first], list[list[int]]()
    for here in order:  # grows meanwhile
        known: dict[frozenset[int], int] = {frozenset(): DEAD}
        row = []
        for group in _by_byte(nfa, here):
            if group not in known:
                to_set = closed(set(group))
                known[group] = numbers.setdefault(to_set, len(numbers))
                if known[group] == len(order):
                    order.append(to_set)
            row.append(known[group])
        rows.append(row)
        if len(order) > MOST:
            msg = f"{_short(pattern)} needs more than {MOST} states"
            raise ValueError(msg)
    step, final = torch.tensor(rows), torch.tensor([end in states for states in order])
    live = _reaching(step, final)
    if not live[0]:
        msg = f"{_short(pattern)} matches no text"
        raise ValueError(msg)
    numbered = torch.where(live, live.cumsum(0) - 1, DEAD)
    step = torch.where(step != DEAD, numbered[step.clamp(min=0)], DEAD)[live]
    return Automaton(pattern, step, final[live])


def _reaching(step: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
    """Tell from which states a final one can be reached."""
    live = final
    while True:
        more = live | (live[step.clamp(min=0)] & (step != DEAD)).any(1)
        if torch.equal(more, live):
            return live
        live = more


def _by_byte(nfa: _Nfa, here: frozenset[int]) -> list[frozenset[int]]:
    """Return the states that each byte leads to from any of ``here``."""
    found: list[set[int]] = [set() for _ in range(256)]
    for state in here:
        for low, high, to in nfa.moves[state]:
            for byte in range(low, high + 1):
                found[byte].add(to)
    return [frozenset(states) for states in found]
