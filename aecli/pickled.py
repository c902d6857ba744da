"""The pickle of tensors in dicts and lists, walked through before torch builds what it describes.

A pickle is a program that puts parts on a stack. By its memo a part may stand in several places, so
that a kilobyte can describe a tuple of 2⁶⁰ parts; torch would be at it for ever as soon as such a
tuple is hashed or printed, in C, where no signal reaches it. Here the parts are counted only.
"""

import pickletools
from collections.abc import Collection
from typing import cast

from aecli.errors import SettingError
from aecli.text import one_line

MOST_PARTS, MOST_UNFOLDED, MOST_DEPTH = 200_000, 1 << 22, 200
"""Of what a pickle describes: parts, those of them as often as each stands there, and how deep they
nest. A tensor is eight parts."""
LEAVES = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"),
    *("BINUNICODE", "SHORT_BINSTRING", "GLOBAL"),
}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
EMPTY = ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET")
TAKES = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
"""Parts that are taken from the stack into the one below them."""
CALLS = {"REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
"""Parts that are taken from the stack, and of which one is made."""
LEAF, MARK = 0, -1


def check_pickle(data: bytes, used: Collection[str]) -> None:
    """Refuse a pickle that refers to anything but `used`, or that unfolds too far.

    Raises `SettingError`, or what a reader of pickles can raise.
    """
    parts = _parts(data, used)
    sizes, depths = [1] * len(parts), [0] * len(parts)
    done, on_the_way = [False] * len(parts), [False] * len(parts)
    for start in range(len(parts)):
        waiting = [start]
        while waiting:
            part = waiting[-1]
            if done[part]:
                waiting.pop()
                continue
            if not on_the_way[part]:
                on_the_way[part] = True
                ahead = [child for child in parts[part] if not done[child]]
                if any(on_the_way[child] for child in ahead):
                    raise SettingError("a part of it holds itself")
                waiting += ahead
                continue
            waiting.pop()
            sizes[part] = 1 + sum(sizes[child] for child in parts[part])
            depths[part] = 1 + max((depths[child] for child in parts[part]), default=0)
            if sizes[part] > MOST_UNFOLDED or depths[part] > MOST_DEPTH:
                raise SettingError("it unfolds to more than any checkpoint holds")
            done[part], on_the_way[part] = True, False


def _parts(data: bytes, used: Collection[str]) -> list[list[int]]:
    """Return the parts that each part of a pickle holds, by their numbers; 0 is what holds none."""
    parts: list[list[int]] = [[]]
    stack: list[int] = []
    memo: dict[int, int] = {}

    def made(holds: list[int]) -> int:
        parts.append(holds)
        if len(parts) > MOST_PARTS:
            raise SettingError("it unfolds to more than any checkpoint holds")
        return len(parts) - 1

    def taken(count: int) -> list[int]:
        if count > len(stack) or MARK in stack[len(stack) - count :]:
            raise SettingError("its pickle is damaged")
        found = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return found

    def taken_to_mark() -> list[int]:
        place = len(stack) - 1
        while stack[place] != MARK:
            place -= 1
        found = stack[place + 1 :]
        del stack[place:]
        return found

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "GLOBAL" and argument not in used:
            raise SettingError(f"it refers to {one_line(argument)}")
        if name in LEAVES:
            stack.append(LEAF)
        elif name in TUPLES:
            stack.append(made(taken(TUPLES[name])))
        elif name in EMPTY:
            stack.append(made([]))
        elif name == "MARK":
            stack.append(MARK)
        elif name == "TUPLE":
            stack.append(made(taken_to_mark()))
        elif name in TAKES or name in ("APPENDS", "SETITEMS"):
            found = taken(TAKES[name]) if name in TAKES else taken_to_mark()
            if not stack or stack[-1] <= LEAF:
                raise SettingError("its pickle is damaged")
            parts[stack[-1]] += found
        elif name in CALLS:
            stack.append(made(taken(CALLS[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[cast(int, argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[cast(int, argument)])
        elif name not in ("PROTO", "STOP"):
            raise SettingError(f"its pickle has a {name}, which tensors need not")
    return parts
