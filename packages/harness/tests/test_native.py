"""Kernels that are compiled when they are first wanted."""

import os
import sys
from pathlib import Path

import pytest

from harness import native


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out a package "kernels" with a C file and a header, and an empty cache."""
    inner = tmp_path / "kernels" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").touch()
    (inner.parent / "_two.h").write_text("enum { TWO = 2 };\n")
    (inner / "_twice.c").write_text('#include "_two.h"\nint twice(int x) { return TWO * x; }\n')
    for name in ("kernels", "kernels.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def twice(x: int) -> int | None:
    """Build the package's library, whatever was built before, and call it; None where there is none."""
    found = native.library.__wrapped__("kernels.inner", "_twice")
    return None if found is None else int(found.twice(x))


@pytest.fixture
def _compiler(cache: Path) -> None:
    if twice(1) is None:
        pytest.skip("no C compiler")


@pytest.mark.usefixtures("_compiler")
def test_a_kernel_is_compiled_once_and_again_when_its_text_changes(cache: Path, tmp_path: Path) -> None:
    assert twice(21) == 42
    (first,) = cache.rglob("*.so")
    written = first.stat().st_mtime_ns
    assert twice(21) == 42
    assert first.stat().st_mtime_ns == written, "it was compiled a second time"
    (tmp_path / "kernels" / "_two.h").write_text("enum { TWO = 3 };\n")
    assert twice(21) == 63
    assert sorted(path.suffix for path in cache.rglob("*.*")) == [".sha256", ".sha256", ".so", ".so"]


@pytest.mark.usefixtures("_compiler")
def test_a_damaged_library_is_built_anew(cache: Path) -> None:
    """The loader would read beyond its end, and the process end by a signal."""
    (kept,) = cache.rglob("*.so")
    whole = kept.read_bytes()
    kept.unlink()  # this process has it open
    kept.write_bytes(whole[:4096])
    assert twice(21) == 42
    assert kept.stat().st_size == len(whole)
    kept.with_suffix(".sha256").unlink()
    assert twice(21) == 42
    kept.with_suffix(".sha256").write_bytes(b"\xff\xfe\xff")
    assert twice(21) == 42


@pytest.mark.usefixtures("_compiler")
def test_the_compiler_may_have_options(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = os.environ.get("CC") or "cc"
    for value in ("", f"{compiler} -O2"):
        monkeypatch.setenv("CC", value)
        assert twice(21) == 42, f"CC={value!r}"
    assert len(list(cache.rglob("*.so"))) > 1, "a library compiled otherwise was taken"


@pytest.mark.parametrize(
    ("name", "value"),
    [("CC", "a-compiler-that-is-not-there"), ("CC", "false"), ("CC", 'cc "'), ("KERNELS_NATIVE", "0")],
)
def test_without_a_compiler_there_is_none(name: str, value: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert twice(21) is None
    assert not list(cache.rglob("*.so"))


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert twice(21) is None
