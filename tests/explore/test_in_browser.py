"""The explorer in headless Chromium, served by Voilà from a kernel of its own: what a press on Fit brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

nbformat = pytest.importorskip("nbformat")
webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytest.importorskip("voila", reason="voila is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its chromedriver on this machine")
SECONDS = 240  # at most, for a page, a reference or a fit
CELL = """
import pyro, pyro.distributions as dist, pyrometer, torch

def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

options = dict(reference="laplace", draws=200, compile=False, starts=1)
explorer = pyrometer.explore(model, torch.linspace(-1.0, 2.0, 20), **options)
explorer.steps.value = "200"
explorer
"""
FLAGS: tuple[str, ...] = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
)
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,1600")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The address of the notebook, served."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "explore.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    folders = {
        name: str(tmp_path / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with (tmp_path / "voila.log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | folders)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    """Chromium with a profile of its own, which it forgets."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(SECONDS)
    try:
        yield driver
    finally:
        driver.quit()


def test_a_press_on_fit_brings_a_row_a_curve_and_code(page: str, browser: WebDriver, tmp_path: Path) -> None:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import Select, WebDriverWait

    patience = WebDriverWait(browser, SECONDS, poll_frequency=0.5, ignored_exceptions=[WebDriverException])

    def rows() -> list[str]:
        return [cell.text for cell in browser.find_elements("css selector", "tbody th")]

    def opened(driver: WebDriver) -> bool:  # the server may not be there yet
        driver.get(page)
        return True

    patience.until(opened)
    patience.until(lambda _: rows() == ["laplace"])
    picture = browser.find_element("css selector", "img.widget-image").get_attribute("src")
    Select(browser.find_element("css selector", ".widget-dropdown select")).select_by_index(3)  # auto_mvn
    browser.find_element("xpath", "//button[contains(., 'Fit')]").click()
    patience.until(lambda _: rows() == ["laplace", "auto_mvn, steps 200"])
    drawn = browser.find_element("css selector", "img.widget-image")
    patience.until(lambda _: drawn.get_attribute("src") != picture)
    patience.until(lambda _: drawn.get_property("naturalWidth") > 100)  # type: ignore[operator]
    assert 'guide="auto_mvn", steps=200' in browser.find_element("css selector", "pre").text
    assert "auto_mvn, steps 200: done" in browser.find_element("tag name", "body").text
    browser.save_screenshot(str(tmp_path / "explore.png"))
