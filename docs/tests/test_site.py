"""The built site: whole, and silent towards the network."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs import stage

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOADS = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
FETCHED = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here")
HOST = r"https?://[^\"'\s)]+"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site in a folder of its own; whatever the builder warns of fails the build."""
    settings = stage.stage_all(tmp_path_factory.mktemp("site"))
    command = [sys.executable, "-m", "zensical", "build", "--strict", f"--config-file={settings}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)[-2000:]
    return settings.parent / "site"


class Page(HTMLParser):
    """Collects what a page loads by itself, where it leads, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loaded += [value for name, value in given.items() if (tag, name) in LOADS]
        if tag == "link" and FETCHED & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


@functools.cache
def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def pages(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


def target(site: Path, page: Path, link: str) -> Path:
    """Return the file that a relative link means."""
    path = unquote(urlsplit(link).path)
    found = (site / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve() if path else page
    return found / "index.html" if found.is_dir() else found


def test_every_page_is_built(site: Path) -> None:
    staged = site.parent / "staged"
    for source in staged.rglob("*.md"):
        name = source.relative_to(staged)
        built = site / name.parent if name.stem == "README" else site / name.with_suffix("")
        assert (built / "index.html").is_file(), f"{name} is staged and not built"


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for page in pages(site):
        for link in read(page).loaded:
            assert not urlsplit(link).netloc, f"{page.relative_to(site)} loads {link}"
            assert link.startswith("data:") or target(site, page, link).is_file(), f"{page}: {link} is not there"
    for style in site.rglob("*.css"):
        assert not re.search(rf"(?:url\(|@import)\s*[\"']?{HOST}", style.read_text("utf-8")), f"{style.name} loads"


def test_links_and_anchors_of_the_site_exist(site: Path) -> None:
    count = 0
    for page in pages(site):
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            found = target(site, page, link)
            assert found.is_file(), f"{page.relative_to(site)}: {link} leads nowhere"
            if parts.fragment and found.suffix == ".html":
                assert unquote(parts.fragment) in read(found).anchors, f"{page.relative_to(site)}: no anchor {link}"
            count += 1
    assert count > 500


class Served(http.server.SimpleHTTPRequestHandler):
    """Serves the site, and has the browser report whatever a page wants from elsewhere."""

    policy = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; report-uri /report"

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def do_POST(self) -> None:
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.reported.append(report["csp-report"]["blocked-uri"])  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


def browse(folder: Path, page: str, user: Path) -> tuple[list[str], list[str]]:
    """Open a page in the browser; return what it asked of the site, and what it wanted from elsewhere."""
    assert BROWSER
    asked, reported = list[str](), list[str]()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Served, directory=str(folder))) as server:
        server.asked, server.reported = asked, reported  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={user}", *quiet]
        address = f"http://127.0.0.1:{server.server_port}/{page}"
        command = [BROWSER, *options, "--virtual-time-budget=3000", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        server.shutdown()
    assert "<h1" in done.stdout
    return asked, reported


@browser
@pytest.mark.parametrize("page", ["", "docs/two_weeks/", "docs/cuda_triton/", "system_design/question_03_llm_serving/"])
def test_a_page_in_a_browser_wants_nothing_from_elsewhere(page: str, site: Path, tmp_path: Path) -> None:
    asked, reported = browse(site, page, tmp_path)
    assert any(path.endswith(".js") for path in asked), f"the page ran no script: {asked}"
    assert not reported, f"/{page} wants {reported}"


@browser
def test_a_page_that_loads_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<h1>x</h1><img src="https://example.org/pixel.png">')
    _, reported = browse(tmp_path, "", tmp_path / "user")
    assert reported == ["https://example.org/pixel.png"]
