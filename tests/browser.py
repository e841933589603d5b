"""A real headless Chromium, and what tests of pages ask it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WITHOUT_GPU = ("--disable-gpu", "--in-process-gpu")
"""No process computes in software what a graphics card would: a fifth of the processor time."""


@contextmanager
def chromium() -> Iterator["playwright.Browser"]:  # noqa: F821
    playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright; run make test")
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
        found = own if Path(own).exists() else next(filter(None, map(shutil.which, CHROMIUMS)), None)
        if found is None:
            pytest.skip("no Chromium on this machine; install one with: playwright install --with-deps chromium")
        running = driver.chromium.launch(executable_path=found, args=WITHOUT_GPU)
        yield running
        running.close()


CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const mixed = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const backgrounds = (node) => (node ? [...backgrounds(node.parentElement), getComputedStyle(node).backgroundColor] : []);
  const contrast = (node) => {
    const behind = backgrounds(node);
    const [darker, lighter] = [mixed(behind), mixed([...behind, getComputedStyle(node).color])].map(luminance).sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  };
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((node) => hasText(node) && node.checkVisibility() && !node.matches(":disabled, noscript, .unseen"))
    .map((node) => [node.textContent, contrast(node)]);
}"""
"""A script: each text on the page with its contrast against what is behind it."""
