"""Compiled loops that read the flat rows of COCO's JSON straight from bytes: one object a row.

Each function takes `text`, bytes that end in a zero, and a place in it. A place of STOP says that what
stands there is not plain: it is cut off, wrong, or of a form that is left to the thorough reader. So
these loops accept nothing that JSON does not allow, and what they accept has the value that
`json.loads` gives it.

Importing this module imports numba: import it inside the function that needs it.
"""

import numpy as np

from medaug_cli.metrics.json_numbers import MINUS, NINE, STOP, ZERO, read_number
from medaug_cli.metrics.kernels import compiled

IMAGE, CATEGORY, BBOX, SCORE, AREA, CROWD, ID = (1 << i for i in range(7))
_NAMES = (b"image_id", b"category_id", b"bbox", b"score", b"area", b"iscrowd", b"id")
NAMES = np.frombuffer(b"".join(_NAMES), np.uint8)
NAME_ENDS = np.cumsum([len(name) for name in _NAMES])
OPEN, NEXT, CLOSED = 0, 1, 2  # states of a list: before its first row, after a row, after its end
QUOTE, BACKSLASH, COMMA, COLON = (ord(c) for c in '"\\,:')
LIST, END_LIST, OBJECT, END_OBJECT = (ord(c) for c in "[]{}")
DEEPEST = 60  # lists and objects in each other


@compiled
def skip_space(text, at):
    """Return where the next byte that is not white space stands, from `at` on."""
    while text[at] == 32 or text[at] == 10 or text[at] == 13 or text[at] == 9:
        at += 1
    return at


@compiled
def skip_string(text, at):
    """Return the place after a string that begins at `at`."""
    if text[at] != QUOTE:
        return STOP
    at += 1
    while text[at] != QUOTE:
        if text[at] < 32:
            return STOP
        if text[at] == BACKSLASH:
            at += 1
            c = text[at]
            if c == 117:  # u and four hexadecimal digits
                for _ in range(4):
                    at += 1
                    c = text[at] | 32
                    if not (ZERO <= text[at] <= NINE or 97 <= c <= 102):
                        return STOP
            elif c not in (34, 47, 92, 98, 102, 110, 114, 116):
                return STOP
        at += 1
    return at + 1


@compiled
def skip_key(text, at):
    """Return the place after a string and a colon."""
    at = skip_string(text, skip_space(text, at))
    if at == STOP:
        return STOP
    at = skip_space(text, at)
    return at + 1 if text[at] == COLON else STOP


@compiled
def skip_word(text, at):
    """Return the place after true, false or null."""
    if text[at] == 116 and text[at + 1] == 114 and text[at + 2] == 117 and text[at + 3] == 101:
        return at + 4
    if text[at] == 110 and text[at + 1] == 117 and text[at + 2] == 108 and text[at + 3] == 108:
        return at + 4
    if text[at] == 102 and text[at + 1] == 97 and text[at + 2] == 108 and text[at + 3] == 115 and text[at + 4] == 101:
        return at + 5
    return STOP


@compiled
def skip_value(text, at):
    """Return the place after any value, lists and objects in it included."""
    ends = np.empty(DEEPEST, np.uint8)
    depth = 0
    while True:
        at = skip_space(text, at)
        if text[at] == OBJECT or text[at] == LIST:
            end = text[at] + 2
            at = skip_space(text, at + 1)
            if text[at] != end:
                if depth == DEEPEST:
                    return STOP
                ends[depth] = end
                depth += 1
                at = skip_key(text, at) if end == END_OBJECT else at
                if at == STOP:
                    return STOP
                continue
            at += 1
        elif text[at] == QUOTE:
            at = skip_string(text, at)
        elif text[at] == MINUS or ZERO <= text[at] <= NINE:
            at = read_number(text, at)[0]
        else:
            at = skip_word(text, at)
        while True:  # a value is complete
            if at == STOP or depth == 0:
                return at
            at = skip_space(text, at)
            if text[at] == COMMA:
                at = skip_key(text, at + 1) if ends[depth - 1] == END_OBJECT else at + 1
                break
            if text[at] != ends[depth - 1]:
                return STOP
            depth -= 1
            at += 1
        if at == STOP:
            return STOP


@compiled
def field_at(text, at, end):
    """Return which of `NAMES` stands from `at` to `end` as one of the constants, or 0."""
    begin = 0
    for i in range(NAME_ENDS.shape[0]):
        if NAME_ENDS[i] - begin == end - at:
            k = 0
            while k < end - at and text[at + k] == NAMES[begin + k]:
                k += 1
            if k == end - at:
                return 1 << i
        begin = NAME_ENDS[i]
    return 0


@compiled
def read_box(text, at, sides, boxes, row):
    """Read a list of `sides` numbers, 4 or 6 where that is 0, no size below 0: the place after it, and how many."""
    if text[at] != LIST:
        return STOP, 0
    count = 0
    while True:
        if count == boxes.shape[1]:
            return STOP, 0
        at, boxes[row, count], _, _ = read_number(text, skip_space(text, at + 1))
        if at == STOP:
            return STOP, 0
        count += 1
        at = skip_space(text, at)
        if text[at] == END_LIST:
            break
        if text[at] != COMMA:
            return STOP, 0
    if count != sides and (sides != 0 or count not in (4, 6)):
        return STOP, 0
    for i in range(count // 2, count):
        if boxes[row, i] < 0:
            return STOP, 0
    return at + 1, count


@compiled
def read_row(text, at, wanted, sides, row, wholes, boxes, values):
    """Read one object: the place after it, the length of its box, and which of the `wanted` fields it has.

    Row `row` of `wholes` (n, 4) takes image, category, id and crowd, of `boxes` (n, 6) the box, of `values` (n,)
    score or area.
    """
    seen = 0
    if text[at] != OBJECT:
        return STOP, sides, seen
    at = skip_space(text, at + 1)
    if text[at] == END_OBJECT:
        return at + 1, sides, seen
    while True:
        if text[at] != QUOTE:
            return STOP, sides, seen
        begin = at + 1
        end = begin
        while text[end] != QUOTE:
            if text[end] < 32 or text[end] == BACKSLASH:  # an escaped name might be one of ours
                return STOP, sides, seen
            end += 1
        at = skip_space(text, end + 1)
        if text[at] != COLON:
            return STOP, sides, seen
        field = field_at(text, begin, end) & wanted
        at = skip_space(text, at + 1)
        if field == 0:
            at = skip_value(text, at)
        elif field & seen:
            return STOP, sides, seen
        elif field == BBOX:
            at, sides = read_box(text, at, sides, boxes, row)
        else:
            at, number, integer, is_whole = read_number(text, at)
            if field in (SCORE, AREA):
                values[row] = number
            elif not is_whole or (field == CROWD and integer not in (0, 1)):
                return STOP, sides, seen
            else:
                wholes[row, 0 if field == IMAGE else 1 if field == CATEGORY else 2 if field == ID else 3] = integer
        if at == STOP:
            return STOP, sides, seen
        seen |= field
        at = skip_space(text, at)
        if text[at] == END_OBJECT:
            return at + 1, sides, seen
        if text[at] != COMMA:
            return STOP, sides, seen
        at = skip_space(text, at + 1)


@compiled
def read_rows(text, at, state, wanted, needed, sides, wholes, boxes, values, fields):
    """Read rows of a list until one is not plain or the arrays (n, ...) are full.

    Returns how many, the place after the last one, the state of the list, and the length of their boxes.
    """
    count = 0
    while state != CLOSED and count < wholes.shape[0]:
        here = skip_space(text, at)
        if text[here] == END_LIST:
            at, state = here + 1, CLOSED
            break
        if state == NEXT:
            if text[here] != COMMA:
                break
            here = skip_space(text, here + 1)
        wholes[count, 3] = 0
        here, length, seen = read_row(text, here, wanted, sides, count, wholes, boxes, values)
        if here == STOP or seen & needed != needed:
            break
        fields[count] = seen
        at, state, sides, count = here, NEXT, length, count + 1
    return count, at, state, sides


@compiled
def find_members(text, at, spans):
    """Find the members of the object at `at`: how many (STOP if it is not plain), and the place after it.

    `spans` (most, 4) takes where each one's name and value begin and end.
    """
    at = skip_space(text, at)
    if text[at] != OBJECT:
        return STOP, at
    count = 0
    while count < spans.shape[0]:
        begin = skip_space(text, at + 1)
        end = skip_string(text, begin)
        at = skip_key(text, begin)
        if at == STOP:
            return STOP, at
        at = skip_space(text, at)
        spans[count, 0], spans[count, 1], spans[count, 2] = begin, end, at
        at = skip_value(text, at)
        if at == STOP:
            return STOP, at
        spans[count, 3] = at
        count += 1
        at = skip_space(text, at)
        if text[at] == END_OBJECT:
            return count, at + 1
        if text[at] != COMMA:
            return STOP, at
    return STOP, at
