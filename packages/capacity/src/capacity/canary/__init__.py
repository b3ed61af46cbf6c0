"""Canary: how much traffic, and how many days, until a worse model is seen to be worse.

A canary that runs "for a day at 5 %" proves nothing unless somebody computed what it could have seen. The number of
requests follows from the shift that matters, the chance of a false alarm, and the chance to miss it.

What you write:

- ``samples_needed``: requests in the canary to see a rate move from one value to another.
- ``days_needed``: how long that takes at a share of the traffic.
- ``rule_of_three``: what no failure among n requests proves.
- stretch: ``samples_for_mean``, the same for latencies; ``looks_boundary``, looking every day without fooling oneself.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison's false-alarm rate ``alpha``, its ``power`` to see the shift, and whether both directions count."""

    __test__ = False  # not one of pytest's

    alpha: float = 0.05
    power: float = 0.8
    two_sided: bool = False

    def __post_init__(self) -> None:
        """Refuse probabilities that are none."""
        if not 0 < self.alpha < 1 or not 0 < self.power < 1:
            msg = f"alpha and power lie between 0 and 1, not {self.alpha} and {self.power}"
            raise ValueError(msg)
        if self.power <= self.alpha:
            msg = f"power ({self.power}) must be above alpha ({self.alpha}): tossing a coin has that much"
            raise ValueError(msg)
