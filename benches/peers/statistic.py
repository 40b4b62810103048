"""Median, quantiles and spread of a few rounds."""

import dataclasses


def quantile(ordered, share):
    """The least value that at least `share` of the sorted values do not exceed; None of none."""
    if not ordered:
        return None
    rank = -(-len(ordered) * round(share * 1_000_000) // 1_000_000)
    return ordered[max(rank, 1) - 1]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The middle of some rounds between the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        ordered = sorted(value for value in values if value is not None)
        if not ordered:
            return None
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(median, ordered[0], ordered[-1])
