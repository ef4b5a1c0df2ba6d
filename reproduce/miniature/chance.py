"""Seeded chance, the same on every Python from 3.9 on: random.Random.random() and SHA-256 are its only sources."""
import bisect
import hashlib
import itertools
import random

RAREST = 32  # how much rarer the last item of Draw.familiar is than the first

_familiarity = {}  # number of items -> cumulative weights


def _digest(*name):
    return hashlib.sha256("/".join(map(str, name)).encode()).digest()


def fraction(*name):
    """A number in [0, 1) that belongs to this name for ever."""
    return int.from_bytes(_digest(*name)[:4], "big") / 2**32


class Draw:
    """Seeded choices built on random() alone: the other methods of random.Random may change between versions."""

    def __init__(self, *name):
        self._random = random.Random(int.from_bytes(_digest(*name)[:8], "big")).random

    def below(self, n):
        return int(self._random() * n)

    def chance(self, p):
        return self._random() < p

    def pick(self, items):
        return items[self.below(len(items))]

    def weighted(self, pairs):
        """pairs: (item, weight)."""
        x = self._random() * sum(w for _, w in pairs)
        for item, weight in pairs:
            x -= weight
            if x < 0:
                return item
        return pairs[-1][0]

    def zipf(self, items):
        """Item i with probability about 1 / (i + 4): a few heroes are common, most are rare."""
        n = len(items)
        return items[min(n - 1, int(4 * ((n + 4) / 4) ** self._random() - 4))]

    def familiar(self, items):
        """The first third equally often, then ever more rarely: what is rare is known less well, which keeps the tasks
        away from both chance and ceiling."""
        n = len(items)
        if n not in _familiarity:
            common = n // 3
            weights = (RAREST ** -(max(0, i - common) / (n - common)) for i in range(n))
            _familiarity[n] = list(itertools.accumulate(weights))
        sums = _familiarity[n]
        return items[min(n - 1, bisect.bisect(sums, self._random() * sums[-1]))]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items
