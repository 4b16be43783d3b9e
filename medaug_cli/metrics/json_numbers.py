"""Compiled reading of JSON's numbers from bytes, each as the double nearest to it, as `json.loads` has it.

`text` are bytes that end in a zero. A place of STOP says that what stands there is not plain: it is cut
off, wrong, or of a form that is left to the thorough reader.

Importing this module imports numba: import it inside the function that needs it. numba keeps the compiled
code of the functions that call these with those: it does not see that only this file has changed.
"""

import math

import numpy as np

from medaug_cli.metrics.kernels import compiled

STOP = -1
MINUS, PLUS, POINT, ZERO, NINE, E = (ord(c) for c in "-+.09e")
MOST_DIGITS = 19  # of a number that fit in 64 bits
LEAST_POWER, MOST_POWER = -300, 280  # of ten, for which powers of five are at hand
EXACT = np.array([10.0**k for k in range(23)])  # powers of ten that are doubles


def _five(power: int) -> int:
    """Return 5**power as its first 128 bits (Lemire 2021, section 5): below 1 rounded up, else cut off."""
    if power >= 0:
        value = 5**power
        shift = 128 - value.bit_length()
        return value << shift if shift >= 0 else value >> -shift
    value = 5**-power
    bits = value.bit_length() + 127 if power >= -27 else 2 * value.bit_length() + 128
    found = (1 << bits) // value + 1
    return found >> max(0, found.bit_length() - 128)


_FIVES = [_five(power) for power in range(LEAST_POWER, MOST_POWER + 1)]
FIVES = np.array([[five >> 64, five & (1 << 64) - 1] for five in _FIVES], np.uint64)
U0, U1, U3, U9, U32, U63 = (np.uint64(n) for n in (0, 1, 3, 9, 32, 63))
TEN, LOW32, LOW9, FULL = (np.uint64(n) for n in (10, 0xFFFFFFFF, 0x1FF, 0xFFFFFFFFFFFFFFFF))
HIDDEN, TWICE = np.uint64(1 << 52), np.uint64(2 << 52)


@compiled
def times(one, other):
    """Return the high and the low 64 bits of a product of two uint64."""
    a, b, c, d = one >> U32, one & LOW32, other >> U32, other & LOW32
    low, cross = b * d, a * d
    middle = b * c + (low >> U32) + (cross & LOW32)
    return a * c + (cross >> U32) + (middle >> U32), (middle << U32) | (low & LOW32)


@compiled
def nearest_double(digits, power):
    """Return the double nearest to digits * 10**power (uint64, int), ties to even; NaN where that is not certain.

    Lemire, "Number parsing at a gigabyte per second" (2021), algorithm 1; the fast path is Clinger's.
    """
    if digits == U0:
        return 0.0
    if digits <= TWICE and -22 <= power <= 22:
        return float(digits) / EXACT[-power] if power < 0 else float(digits) * EXACT[power]
    if power < LEAST_POWER or power > MOST_POWER:
        return np.nan
    zeros = 0
    while digits < (U1 << U63):
        digits <<= U1
        zeros += 1
    five = FIVES[power - LEAST_POWER]
    high, low = times(digits, five[0])
    if high & LOW9 == LOW9:
        carried, _ = times(digits, five[1])
        low += carried
        if carried > low:
            high += U1
    if low == FULL and not -27 <= power <= 55:
        return np.nan
    upper = high >> U63
    mantissa = high >> (upper + U9)
    exponent = ((217706 * power) >> 16) + 63 + np.int64(upper) - zeros + 1023
    if exponent <= 0 or exponent >= 2046:
        return np.nan
    if low <= U1 and -4 <= power <= 23 and mantissa & U3 == U1 and mantissa << (upper + U9) == high:
        mantissa -= U1  # exactly halfway
    mantissa = (mantissa + (mantissa & U1)) >> U1
    if mantissa >= TWICE:
        mantissa >>= U1
        exponent += 1
    return math.ldexp(float(mantissa), exponent - 1023 - 52)


@compiled
def read_number(text, at):
    """Read a number: the place after it, its value, and whether it is a whole number of at most 18 digits."""
    negative = text[at] == MINUS
    begin = at + negative
    at, digits, power = begin, U0, 0
    while ZERO <= text[at] <= NINE:
        digits = digits * TEN + np.uint64(text[at] - ZERO)
        at += 1
    length = at - begin
    if length == 0 or (length > 1 and text[begin] == ZERO):
        return STOP, 0.0, 0, False
    whole = True
    if text[at] == POINT:
        whole = False
        at += 1
        point = at
        while ZERO <= text[at] <= NINE:
            digits = digits * TEN + np.uint64(text[at] - ZERO)
            at += 1
        power = point - at
        length -= power
        if power == 0:
            return STOP, 0.0, 0, False
    end, cut = at, False
    if text[at] | 32 == E:
        whole = False
        at, tens = read_exponent(text, at + 1)
        if at == STOP:
            return STOP, 0.0, 0, False
        power += tens
    if length > MOST_DIGITS:  # then the loops above ran over
        digits, left_out, cut = first_digits(text, begin, end)
        power += left_out
    value = nearest_double(digits, power)
    if value != value or (cut and nearest_double(digits + U1, power) != value):
        return STOP, 0.0, 0, False
    whole = whole and length < MOST_DIGITS
    number = int(digits) if whole else 0
    if negative:
        return at, (0.0 if whole and number == 0 else -value), -number, whole
    return at, value, number, whole


@compiled
def read_exponent(text, at):
    """Read what follows an e: the place after it, and the power of ten, at most 100,000 or about that."""
    negative = text[at] == MINUS
    at += negative or text[at] == PLUS
    if not ZERO <= text[at] <= NINE:
        return STOP, 0
    tens = 0
    while ZERO <= text[at] <= NINE:
        tens = min(10 * tens + int(text[at] - ZERO), 100_000)
        at += 1
    return at, -tens if negative else tens


@compiled
def first_digits(text, at, end):
    """Return the first 19 digits after leading zeros, how many more there are, and whether one of those is not 0."""
    digits, count, left_out, cut = U0, 0, 0, False
    for i in range(at, end):
        if text[i] == POINT:
            continue
        if count == MOST_DIGITS:
            left_out += 1
            cut |= text[i] != ZERO
        else:
            digits = digits * TEN + np.uint64(text[i] - ZERO)
            count += 1 if digits > U0 else 0
    return digits, left_out, cut
