"""The page of `aecli explore` in a browser: how quick it is, and its pictures in docs/.

    python -m benchmarks.explore PAGE [PAGE ...]                 # first drawing, decoding, frames
    python -m benchmarks.explore PAGE --picture docs/explore.png
    python -m benchmarks.explore PAGE --animation docs/explore.gif

A page is made by `aecli explore run=… out=PAGE`. Needs chromium, chromedriver and the extra `test`.
"""

import argparse
import math
import shutil
import statistics
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

LOADS = 5
FRAMES_OF_A_ROUND = 40
SHOWN, SIZE = (0, 120, 1280, 830), (800, 444)
"""What of the window is shown in the animation, and how large, in pixels."""
OPTIONS = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,1230"
DECODING = """
    const { state } = explore;
    const { model, anchor } = state;
    const x = state.exampleAt(0);
    const milliseconds = work => {
        for (let n = 0; n < 30; n++) work();
        const start = performance.now();
        for (let n = 0; n < 200; n++) work();
        return (performance.now() - start) / 200;
    };
    return [milliseconds(() => model.decode(anchor)), milliseconds(() => model.encode(x))];
"""
"""Milliseconds of a decoding and of an encoding, after the browser has compiled them."""
FRAMES = """
    const done = arguments[0];
    const { map, state } = explore;
    const { left, top } = map.canvas.getBoundingClientRect();
    const work = [];
    const update = state.update.bind(state);
    state.update = () => {
        const start = performance.now();
        update();
        work.push(performance.now() - start);
    };
    const start = performance.now();
    let frames = 0;
    const step = now => {
        frames++;
        map.canvas.dispatchEvent(new PointerEvent("pointermove", {
            clientX: left + 100 + 300 * Math.abs(Math.sin(frames / 40)),
            clientY: top + 100 + 250 * Math.abs(Math.cos(frames / 31)),
            pointerType: "mouse",
        }));
        if (now - start < 4000) requestAnimationFrame(step);
        else done([1000 * frames / (now - start), work.sort((a, b) => a - b)[work.length >> 1]]);
    };
    requestAnimationFrame(step);
"""
"""Frames a second while the mouse moves over the map, and the milliseconds of work for one."""


def opened(page: Path) -> webdriver.Chrome:
    """Return a new browser that shows a page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in OPTIONS.split():
        options.add_argument(option)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(page.absolute().as_uri())
    while not browser.execute_script("return Boolean(globalThis.explore)"):
        time.sleep(0.02)
    return browser


def measured(page: Path) -> dict[str, Any]:
    """Return the milliseconds from the opening to the first drawing, and of what follows.

    Those of the main thread's own are the same on a machine that has other work to do.
    """
    loads, own = [], []
    for number in range(LOADS):
        browser = opened(page)
        loads.append(browser.execute_script("return explore.started"))
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        own += [1000 * found["value"] for found in metrics if found["name"] == "TaskDuration"]
        if number < LOADS - 1:
            browser.quit()
    decoding, encoding = browser.execute_script(DECODING)
    frames, work = browser.execute_async_script(FRAMES)
    browser.quit()
    return {
        "first drawing, ms": round(statistics.median(loads)),
        "of these the main thread's own": round(statistics.median(own)),
        "decoding, ms": round(decoding, 2),
        "encoding, ms": round(encoding, 2),
        "frames/s": round(frames),
        "work for a frame, ms": round(work, 1),
    }


def draw(page: Path, picture: Path) -> None:
    """Drag from a dot to another one, and write what is seen then."""
    browser = opened(page)
    canvas = browser.find_element(By.ID, "map")
    browser.find_element(By.ID, "painting").click()
    ends = browser.execute_script(
        "const { map, state } = explore; const at = label =>"
        " state.data.examples.labels.indexOf(label); const half = map.size / 2;"
        " return [0, 1].map(label => map.toCanvas(map.placeOf(at(label))).map(v => v - half))"
    )
    drag = ActionChains(browser).move_to_element_with_offset(canvas, *map(round, ends[0]))
    drag.click_and_hold().move_to_element_with_offset(canvas, *map(round, ends[1])).release()
    drag.move_to_element(browser.find_element(By.ID, "title")).perform()
    time.sleep(3)
    browser.save_screenshot(str(picture))
    browser.quit()


def animate(page: Path, animation: Path) -> None:
    """Move the mouse in a circle over the map, and write what is seen as frames of a GIF."""
    browser = opened(page)
    canvas = browser.find_element(By.ID, "map")
    browser.execute_script("window.scrollTo(0, 0)")
    radius, frames = 0.28 * canvas.size["width"], []
    for number in range(FRAMES_OF_A_ROUND):
        angle = 2 * math.pi * number / FRAMES_OF_A_ROUND
        place = round(radius * math.cos(angle)), round(radius * math.sin(angle))
        mouse = ActionChains(browser, duration=0)
        mouse.move_to_element_with_offset(canvas, *place).perform()
        time.sleep(0.1)
        seen = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        small = seen.crop(SHOWN).resize(SIZE, Image.Resampling.LANCZOS)
        frames.append(small.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    browser.quit()
    first, *rest = frames
    first.save(animation, save_all=True, append_images=rest, duration=120, loop=0, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--animation", type=Path)
    asked = parser.parse_args()
    if asked.picture:
        draw(asked.pages[0], asked.picture)
    elif asked.animation:
        animate(asked.pages[0], asked.animation)
    else:
        for page in asked.pages:
            print(page, measured(page))  # noqa: T201
