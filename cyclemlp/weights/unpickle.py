"""Pickle streams read as data: a small stack machine that can build containers and nothing else.

A pickle is a program, and Python's own unpickler runs it: a restricted `find_class` narrows what it may call, but the
stream still calls, instantiates and sets attributes, allocates what it claims to need, and recurses. This machine has
no instruction that imports, calls or sets an attribute. What a stream asks to be called is looked up, by name, in a
table of our own constructors (`records.py`), which make plain values; a name that is not in the table ends the reading.

Memory is bounded by the file: `pickletools.genops` hands out only bytes that are there, the memo is a dict, so that
an index costs nothing, and each of at most `MAX_INSTRUCTIONS` instructions adds one small object, or a copy of what
its constructor is given; all copies together are bounded by what was read. Nothing recurses, here or in what follows,
so nesting costs nothing either.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from cyclemlp.errors import WeightsError

#: A published training checkpoint has 35 thousand for a thousand tensors.
MAX_INSTRUCTIONS = 1_000_000

#: What constructors may copy in all: so many times the bytes read so far, and some to begin with.
MAX_COPIES, FREE_COPIES = 4, 16 * 2**20
_ITEM_BYTES = 64  # of a container, roughly

WAY_OUT = (
    "a weight file holds only tensors, arrays, numbers, strings and containers; nothing of this file was run. "
    "If you trust its origin, open it there and save the state dict alone"
)

Constructors = Mapping[str, Callable[..., Any]]


class Stream(Protocol):
    """What instructions are read from: an open file, a BytesIO or, best for large files, an mmap."""

    def read(self, n: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


class Global:
    """A name that the stream would have imported. It stands for the name; there is nothing behind it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Record:
    """Base of what a constructor returns when the stream may give it a state afterwards (`BUILD`)."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        """Take the state, or raise WeightsError."""
        raise WeightsError(f"gives a state to {type(self).__name__}, which has none; {WAY_OUT}")


def read_pickle(
    stream: Stream, constructors: Constructors, persistent_load: Callable[[Any], Any] | None = None
) -> Any:
    """Read one pickle; the stream is left behind it.

    Args:
        stream: at the pickle's first byte.
        constructors: full names of what the stream may ask for, and what makes the plain value.
        persistent_load: makes the value of a persistent id (PyTorch's storages); without it they are refused.

    Raises:
        WeightsError: the stream is damaged, or asks for a name that is not in `constructors`; it says which.
    """
    try:
        return _Machine(constructors, persistent_load).run(stream)
    except WeightsError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError) as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise WeightsError(
            f"is damaged or cut off: its pickle cannot be followed ({detail}); fetch or copy it again"
        ) from error


def printable(name: str) -> str:
    """A name out of a file, safe to show on a terminal: escaped, and cut if long."""
    escaped = name[:100].encode("unicode_escape").decode("ascii")
    return escaped + ("..." if len(name) > 100 else "")


def fill(target: dict[Any, Any], pairs: Iterable[Iterable[Any]]) -> None:
    """Set items. Keys are scalars only: hashing a nested tuple visits its every leaf, however often it is shared."""
    for key, value in pairs:
        if not (key is None or isinstance(key, str | int | float | bytes)):
            raise WeightsError(f"has a dict with a key of type {type(key).__name__}; {WAY_OUT}")
        target[key] = value


class _Machine:
    def __init__(self, constructors: Constructors, persistent_load: Callable[[Any], Any] | None) -> None:
        self.constructors = constructors
        self.persistent_load = persistent_load
        self.memo: dict[int, Any] = {}
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.copied = 0  # bytes

    def run(self, stream: Stream) -> Any:
        self.stream = stream
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if opcode.name == "STOP":
                return self.stack.pop()
            if count >= MAX_INSTRUCTIONS:
                raise WeightsError(
                    f"has more than {MAX_INSTRUCTIONS} pickle instructions, which no weight file needs; {WAY_OUT}"
                )
            self.step(opcode.name, argument)
        raise ValueError("it has no end")  # genops raises before

    def step(self, name: str, argument: Any) -> None:
        """One instruction; the names are those of `pickletools`."""
        stack = self.stack
        match name:
            # scalars: the parsed argument is the value
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING"
                | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):  # fmt: skip
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            # the memo and the stack
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP":
                if stack:
                    stack.pop()
                else:
                    self.pop_mark()
            case "POP_MARK":
                self.pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME":
                pass
            # containers
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(name[-1])
                if len(stack) < length:
                    raise IndexError("its stack is too short")
                stack[-length:] = [tuple(stack[-length:])]
            case "TUPLE":
                items = self.pop_mark()
                self.stack.append(tuple(items))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                items = self.pop_mark()
                self.stack.append(items)
            case "APPEND":
                value = stack.pop()
                self.top(list).append(value)
            case "APPENDS":
                items = self.pop_mark()
                self.top(list).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self.pop_mark()
                self.stack.append({})
                fill(self.top(dict), zip(items[::2], items[1::2], strict=True))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                fill(self.top(dict), [(key, value)])
            case "SETITEMS":
                items = self.pop_mark()
                fill(self.top(dict), zip(items[::2], items[1::2], strict=True))
            # names, and what a pickle would call
            case "GLOBAL":
                stack.append(self.find(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise TypeError("a name in it is not a string")
                stack.append(self.find(f"{module}.{attribute}"))
            case "EXT1" | "EXT2" | "EXT4":
                raise WeightsError(f"asks for extension code {argument}; {WAY_OUT}")
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.make(function, arguments))
            case "NEWOBJ_EX":
                keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
                if keywords:
                    raise WeightsError(f"makes an object with keyword arguments; {WAY_OUT}")
                stack.append(self.make(function, arguments))
            case "OBJ":
                function, *items = self.pop_mark()
                self.stack.append(self.make(function, tuple(items)))
            case "INST":
                function = self.find(argument.replace(" ", "."))
                items = self.pop_mark()
                self.stack.append(self.make(function, tuple(items)))
            case "BUILD":
                state = stack.pop()
                target = stack[-1]
                if isinstance(target, Record):
                    self.charge(state if isinstance(state, tuple) else (state,))
                    target.set_state(state)
                elif (
                    type(target) is not dict
                ):  # a dict was an OrderedDict; its attributes are nothing we need
                    raise WeightsError(f"gives a state to a value of type {type(target).__name__}; {WAY_OUT}")
            case "BINPERSID" | "PERSID":
                if self.persistent_load is None:
                    raise WeightsError(f"refers to objects outside its pickle; {WAY_OUT}")
                stack.append(self.persistent_load(argument if name == "PERSID" else stack.pop()))
            case _:
                raise WeightsError(
                    f"uses the pickle instruction {name}, which no weight file needs; {WAY_OUT}"
                )

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"it adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def find(self, name: str) -> Global:
        if name not in self.constructors:
            raise WeightsError(f"asks for {printable(name)}; {WAY_OUT}")
        return Global(name)

    def make(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise WeightsError(f"calls a value of type {type(function).__name__}; {WAY_OUT}")
        self.charge(arguments)
        return self.constructors[function.name](*arguments)

    def charge(self, values: tuple[Any, ...]) -> None:
        """Count what is about to be copied: one long value under many calls would fill any memory."""
        for value in values:
            if isinstance(value, str | bytes | bytearray):
                self.copied += len(value)
            elif isinstance(value, list | tuple | dict):
                self.copied += _ITEM_BYTES * len(value)
        if self.copied > MAX_COPIES * self.stream.tell() + FREE_COPIES:
            raise WeightsError(f"copies the same data over and over, which no weight file needs; {WAY_OUT}")
