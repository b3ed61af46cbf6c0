"""The table of accelerators: dense peaks, memory as the driver shows it, links in one direction."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import resources
from types import MappingProxyType
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure was published, and when it was last compared with that."""

    text: str
    checked: date


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator: bytes of ``memory``, bytes/s of ``bandwidth`` and of its ``link`` in one direction.

    ``flops`` maps the tensor cores' input type ("bf16", "fp8", "int8") to dense operations/s. ``sources`` maps each
    figure's name to where it comes from; a figure of your own needs none.
    """

    name: str
    memory: int
    bandwidth: float
    link: float
    flops: Mapping[str, float]
    sources: Mapping[str, Source] = field(default_factory=dict)

    def peak(self, compute: str) -> float:
        """Return the dense operations/s of an input type; ValueError where there is no such tensor core."""
        if compute not in self.flops:
            msg = f"{self.name} has no {compute} tensor cores, only {', '.join(self.flops)}"
            raise ValueError(msg)
        return self.flops[compute]


def names() -> list[str]:
    """Name the accelerators in the table."""
    return list(_table())


def gpu(name: str) -> Gpu:
    """Return an accelerator of the table by its short name, such as "h100"; ValueError where there is none."""
    table = _table()
    if name.lower() not in table:
        msg = f"no GPU {name!r} in the table, only {', '.join(table)}"
        raise ValueError(msg)
    row = table[name.lower()]
    figures = {key: cell for key, cell in row.items() if key != "name"}
    return Gpu(
        row["name"],
        figures["memory_mib"]["value"] * MIB,
        figures["bandwidth"]["value"],
        figures["link"]["value"],
        MappingProxyType({key: figures[key]["value"] for key in ("bf16", "fp8", "int8") if key in figures}),
        MappingProxyType({key: Source(cell["source"], cell["checked"]) for key, cell in figures.items()}),
    )


def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("capacity").joinpath("gpus.toml").read_text("utf-8"))
