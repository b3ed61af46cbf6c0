"""How fast a cache is sized, as a scheduler does for every request."""

import pytest

from capacity import zoo
from harness.race import Race


@pytest.mark.parametrize("tokens", [500, 8_000, 128_000])
def bench_request_bytes(race: Race, tokens: int) -> None:
    model = zoo.load("llama-3.1-8b")

    def check(found: int, tokens: int) -> None:
        assert found == 131_072 * tokens  # all three fill whole blocks of 4

    race(
        lambda impl, tokens: impl.request_bytes(model, tokens, 4), inputs=lambda: (tokens,), check=check, unit="tokens"
    )
