"""What each opcode of a pickle does to the machine; opcodes that no official file needs are refused."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from skiptune.checkpoints.reading.pickle_machine import Global, Machine, Refused, checked_key

LONGEST_INTEGER = 64  # bytes
HIGHEST_PROTOCOL = 5


def run(machine: Machine) -> Any:
    """The value of the pickle at the machine's position. Raises Refused."""
    data, budget = machine.data, machine.budget
    try:
        while True:
            code = data[machine.position]
            machine.position += 1
            budget.spend(1)
            if code == STOP:
                return machine.stack.pop()
            operation = OPERATIONS.get(code)
            if operation is None:
                raise Refused(f"uses the pickle opcode {code:#04x}, which no official file needs")
            operation(machine)
    except IndexError as error:
        raise Refused("is no whole pickle: it ends too early, or is damaged") from error
    except (KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise Refused(f"holds a damaged pickle ({type(error).__name__})") from error


def _push(read: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def operation(machine: Machine) -> None:
        value = read(machine)  # first, as it may take values off the stack or replace it
        machine.stack.append(value)

    return operation


def _long(machine: Machine, width: int) -> int:
    size = machine.number(width)
    if size > LONGEST_INTEGER:
        raise Refused(f"has an integer of {size} bytes")
    return machine.number(size, signed=True)


def _tuple(size: int) -> Callable[[Machine], None]:
    def operation(machine: Machine) -> None:
        if len(machine.stack) < size:
            raise IndexError
        machine.stack[-size:] = [tuple(machine.stack[-size:])]

    return operation


def _append(machine: Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise Refused(f"appends to a {type(target).__name__}")
    target.extend(values)


def _add_to_set(machine: Machine) -> None:
    values, target = machine.pop_mark(), machine.stack[-1]
    if type(target) is not set:
        raise Refused(f"adds elements to a {type(target).__name__}")
    target.update(map(checked_key, values))


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.add_items(machine.stack[-1], [key, value])


def _set_items(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.add_items(machine.stack[-1], items)


def _dict(machine: Machine) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    machine.add_items(made, machine.pop_mark())
    return made


def _apply(machine: Machine, new: bool) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if not isinstance(function, Global):
        raise Refused(f"calls a {type(function).__name__}")
    builder = function.make if new else function.call
    if builder is None or type(arguments) is not tuple:
        raise Refused(f"calls {function.name} in a way that no official file does")
    machine.stack.append(builder(*arguments))


def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    machine.handler.build(machine.stack[-1], state)


def _stack_global(machine: Machine) -> Any:
    name, module = machine.stack.pop(), machine.stack.pop()
    return machine.find(module, name)


def _mark(machine: Machine) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _frame(machine: Machine) -> None:
    machine.take(8)  # the length of a block, which only matters to readers of a stream


def _protocol(machine: Machine) -> None:
    machine.protocol = machine.number(1)
    if machine.protocol > HIGHEST_PROTOCOL:
        raise Refused(f"has pickle protocol {machine.protocol}, which does not exist")


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _instance(machine: Machine) -> None:
    found = machine.find(machine.line(), machine.line())
    raise Refused(f"makes an instance of {getattr(found, 'name', found)} in a way that no official file does")


STOP = pickle.STOP[0]
# Left out, hence refused: OBJ, NEWOBJ_EX, EXT1/2/4 (extension registry), NEXT_BUFFER, and those of protocol 0
# that give values as lines of text.
OPERATIONS: dict[int, Callable[[Machine], None]] = {
    opcode[0]: operation
    for opcode, operation in {
        pickle.MARK: _mark,
        pickle.POP: _pop,
        pickle.POP_MARK: _pop_mark,
        pickle.DUP: _push(lambda m: m.stack[-1]),
        pickle.PROTO: _protocol,
        pickle.FRAME: _frame,
        pickle.NONE: _push(lambda m: None),
        pickle.NEWTRUE: _push(lambda m: True),
        pickle.NEWFALSE: _push(lambda m: False),
        pickle.BININT: _push(lambda m: m.number(4, signed=True)),
        pickle.BININT1: _push(lambda m: m.number(1)),
        pickle.BININT2: _push(lambda m: m.number(2)),
        pickle.LONG1: _push(lambda m: _long(m, 1)),
        pickle.LONG4: _push(lambda m: _long(m, 4)),
        pickle.BINFLOAT: _push(lambda m: struct.unpack(">d", m.take(8))[0]),
        pickle.BINSTRING: _push(lambda m: m.text(m.number(4), "ascii")),
        pickle.SHORT_BINSTRING: _push(lambda m: m.text(m.number(1), "ascii")),
        pickle.SHORT_BINUNICODE: _push(lambda m: m.text(m.number(1))),
        pickle.BINUNICODE: _push(lambda m: m.text(m.number(4))),
        pickle.BINUNICODE8: _push(lambda m: m.text(m.number(8))),
        pickle.SHORT_BINBYTES: _push(lambda m: m.take(m.number(1))),
        pickle.BINBYTES: _push(lambda m: m.take(m.number(4))),
        pickle.BINBYTES8: _push(lambda m: m.take(m.number(8))),
        pickle.BYTEARRAY8: _push(lambda m: m.take(m.number(8))),
        pickle.EMPTY_TUPLE: _push(lambda m: ()),
        pickle.EMPTY_LIST: _push(lambda m: []),
        pickle.EMPTY_DICT: _push(lambda m: {}),
        pickle.EMPTY_SET: _push(lambda m: set()),
        pickle.TUPLE: _push(lambda m: tuple(m.pop_mark())),
        pickle.TUPLE1: _tuple(1),
        pickle.TUPLE2: _tuple(2),
        pickle.TUPLE3: _tuple(3),
        pickle.LIST: _push(lambda m: m.pop_mark()),
        pickle.DICT: _push(_dict),
        pickle.FROZENSET: _push(lambda m: frozenset(map(checked_key, m.pop_mark()))),
        pickle.APPEND: lambda m: _append(m, [m.stack.pop()]),
        pickle.APPENDS: lambda m: _append(m, m.pop_mark()),
        pickle.ADDITEMS: _add_to_set,
        pickle.SETITEM: _set_item,
        pickle.SETITEMS: _set_items,
        pickle.BINPUT: lambda m: _put(m, m.number(1)),
        pickle.LONG_BINPUT: lambda m: _put(m, m.number(4)),
        pickle.MEMOIZE: lambda m: _put(m, len(m.memo)),
        pickle.BINGET: _push(lambda m: m.memo[m.number(1)]),
        pickle.LONG_BINGET: _push(lambda m: m.memo[m.number(4)]),
        pickle.GLOBAL: _push(lambda m: m.find(m.line(), m.line())),
        pickle.STACK_GLOBAL: _push(_stack_global),
        pickle.REDUCE: lambda m: _apply(m, new=False),
        pickle.NEWOBJ: lambda m: _apply(m, new=True),
        pickle.BUILD: _build,
        pickle.BINPERSID: _push(lambda m: m.handler.persistent(m.stack.pop())),
        pickle.INST: _instance,
    }.items()
}
