"""Typed access to the [report] table of a grid; every complaint names the key."""

import difflib


class OptionError(Exception):
    """Something in [report] that cannot be: "key: what"."""


class Reader:
    """Typed access to the table; every complaint names the key."""

    def __init__(self, table, grid):
        self.table, self.known = dict(table), {
            "model": [m for m in grid.models],
            "method": [m for m in grid.methods],
            "set": list(grid.sets),
            "metric": [m for m in grid.metrics],
        }

    def take(self, key, default, types, what):
        value = self.table.pop(key, default)
        if value is not default and (not isinstance(value, types) or isinstance(value, bool)):
            raise OptionError(f"{key}: must be {what}")
        return value

    def number(self, key, default):
        value = self.take(key, default, (int, float), "a number")
        if not 0.0 < value < 1.0:
            raise OptionError(f"{key}: {value} is not between 0 and 1")
        return float(value)

    def text(self, key, default):
        return self.take(key, default, str, "a text")

    def name(self, key, kind, default=None):
        value = self.text(key, default)
        return value if value is None else self.check(key, kind, value)

    def names(self, key, kind, default=()):
        return self.names_in(key, kind, self.take(key, default, list, f"a list of {kind}s"))

    def names_in(self, key, kind, values):
        if not isinstance(values, (list, tuple)):
            raise OptionError(f"{key}: must hold lists of {kind}s")
        return [self.check(key, kind, v) for v in values]

    def mapping(self, key):
        return self.take(key, {}, dict, "a table")

    def check(self, key, kind, value):
        if isinstance(value, str) and value in self.known[kind]:
            return value
        near = difflib.get_close_matches(str(value), self.known[kind], 1, 0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(self.known[kind][:8])}"
        raise OptionError(f"{key}: '{value}' is not a {kind} of this grid; {hint}")

    def finish(self, known_keys):
        for key in self.table:
            near = difflib.get_close_matches(key, known_keys, 1)
            raise OptionError(f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
