"""Pictures of the README, drawn from real runs and the real page: ``make pictures``.

Needs what ``make demo`` leaves (runs of ``tiny``) and a Chromium. Each picture is one function.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import mlflow
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.servers import ROOT, free_port

IMAGES = ROOT / ".github" / "images"
DIMENSION = "toxicity"
COLOURS = 128
"""A page has few: a third of the file."""
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def newest_run(entry_point: str) -> str:
    """The id of the newest finished run of a command in the experiment ``trusttrace``."""
    runs = mlflow.search_runs(
        experiment_names=["trusttrace"],
        filter_string=f"attributes.status = 'FINISHED' and tags.`trusttrace.entry_point` = '{entry_point}'",
        max_results=1,
        output_format="list",
    )
    if not runs:
        raise SystemExit(f"no finished run of {entry_point}; run `make demo` first")
    return str(runs[0].info.run_id)


def draw_curve(run_id: str) -> None:
    drawn = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=f"figures/{DIMENSION}_curve.png")
    shutil.copy(drawn, IMAGES / "curve.png")


@contextmanager
def served(model: str, registry: Path) -> Iterator[str]:
    """The address of a real service on ``model`` and an empty registry, once it is ready: by the shipped pack."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:SteeringService", "--port", str(port)]
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{registry / 'mlflow.db'}"}
    environment = {**os.environ, **tracking, "TRUSTTRACE_MODEL": model}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(f"{url}/readyz", process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{url} was not ready within {seconds:.0f} s")


@contextmanager
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        raise SystemExit("no Chromium on this machine; as root: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def draw_playground(browser: Browser, url: str) -> None:
    """On the pack's example, as the page opens, with both answers shaded by the probe of its dimension."""
    page = browser.new_page(viewport={"width": 1280, "height": 1020}, device_scale_factor=1.5, reduced_motion="reduce")
    page.goto(url)
    page.wait_for_selector("#generate[aria-disabled=false]")
    page.get_by_label("Shade by").select_option(index=1)
    page.click("#generate")
    page.wait_for_selector("#stop:disabled")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=IMAGES / "playground.png")
    with Image.open(IMAGES / "playground.png") as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(IMAGES / "playground.png", optimize=True)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    draw_curve(newest_run("probe"))
    with TemporaryDirectory() as registry, chromium() as browser, served("smollm2", Path(registry)) as url:
        draw_playground(browser, url)


if __name__ == "__main__":
    main()
