"""The page as a whole: its numbers on the axes, what it says of a model, its address, a failure."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.explore.browser import IN_A_BROWSER, until
from tests.explore.made import loaded, page

pytestmark = IN_A_BROWSER
TICKS = """
    const { map, state } = explore;
    const [middle, half] = arguments;
    const old = state.extent;
    state.extent = { middle: [middle, 0], half: [half, half] };
    const texts = [];
    const { write } = map;
    map.write = text => map.context.textAlign === 'center' && texts.push(text); // to the right
    map.drawTicks(0, 0);
    map.write = write;
    state.extent = old;
    return texts;
"""
WHERE = """
    const { state } = explore;
    state.update();
    const { kind, across, up } = state.choice;
    return [state.number, kind, across, up, state.example, location.hash];
"""


@pytest.mark.parametrize(
    ("middle", "half", "ticks"),
    [
        (0, 1000, ["−500", "500"]),
        (1235, 10, ["1230", "1235", "1240"]),
        (0, 1, ["−0.5", "0.5"]),
        (0.2, 0.25, ["0.1", "0.2", "0.3", "0.4"]),
        (0, 2e-5, ["−1e−5", "1e−5"]),
        (12_345_000, 10_000, ["1.234e7", "1.2345e7", "1.235e7"]),
    ],
)
def test_a_tick_says_its_number(middle, half, ticks, tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=ae", "model.code_dim=2"))
    assert browser.execute_script(TICKS, middle, half) == ticks


def test_there_may_be_more_units_than_a_call_takes_arguments(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=ae"))
    bars = """
        const { state } = explore;
        state.model.carried = new Float32Array(300_000).fill(2);
        state.tell('model');
        state.update();
        return Array.from(document.querySelectorAll('#units .bar'), bar => bar.style.width)"""
    assert browser.execute_script(bars) == ["100%"] * 3


def test_what_is_said_of_a_model_is_that_of_the_one_that_is_shown(tmp_path, shown):
    runs = [loaded(tmp_path, f"model={name}", "model.code_dim=2") for name in ("ae", "vae")]
    browser = shown(*runs)

    def told():
        browser.execute_script("explore.state.update()")
        return [browser.find_element(By.ID, name).text for name in ("foot", "map-told")]

    error = "return explore.state.model.figures.mse.toFixed(2)"
    foot, below = told()
    assert f"setting = run 1: squared error {browser.execute_script(error)}" in foot
    assert "the ellipse is where the encoder" in below
    browser.find_element(By.ID, "sweep-slider").send_keys(Keys.ARROW_LEFT)
    foot, below = told()
    assert f"setting = run 0: squared error {browser.execute_script(error)}" in foot
    assert "ellipse" not in below


def test_a_page_that_cannot_start_says_why(tmp_path, browser):
    file = tmp_path / "explore.html"
    file.write_text(page(loaded(tmp_path, "model=ae")))
    source = "globalThis.Response = class { constructor() { throw new TypeError('no memory') } }"
    broken = {"source": source}
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", broken)
    try:
        browser.get(file.as_uri())
        notice = "return document.getElementById('notice').textContent"
        until(browser, f"{notice}.includes('no memory')")
        told = browser.execute_script(notice)
        assert told == "This page could not start: TypeError: no memory"
        assert browser.get_log("browser") != []  # the console has it, too
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_an_address_leads_to_what_was_shown(tmp_path, shown):
    runs = [loaded(tmp_path, "model=vae", "model.code_dim=5") for _ in range(3)]
    browser = shown(*runs)
    assert browser.execute_script(WHERE)[-1] == "#run=2&example=0"
    length = browser.execute_script("return history.length")
    browser.execute_script(
        "const { state } = explore; state.chooseModel(1);"
        " state.choosePlane({ kind: 'units', across: 4, up: 2 }); state.chooseExample(7);"
    )
    before = browser.execute_script(WHERE)
    assert before == [1, "units", 4, 2, 7, "#run=1&across=4&up=2&example=7"]
    assert browser.execute_script("return history.length") == length
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    until(browser, "return Boolean(globalThis.explore)")
    assert browser.execute_script(WHERE) == before
    assert browser.find_element(By.ID, "sweep-value").text == "run 1"
    assert browser.find_element(By.ID, "axis-across").text == "unit 4"
    # Another address typed into the same page.
    browser.execute_script("location.hash = 'run=0&example=3'")
    until(browser, "return explore.state.number === 0")
    assert browser.execute_script(WHERE)[:2] == [0, "components"]
    assert browser.execute_script(WHERE)[4] == 3
    assert browser.find_element(By.ID, "sweep-value").text == "run 0"


@pytest.mark.parametrize(
    "nonsense",
    [
        "#run=9&across=7&up=1&example=100000",
        "#run=-1&across=1&up=1&example=1e1",
        "#run=x&across=&example=%00%ff&example=2",
        "#%E0%A4%A",
        "#__proto__=1&run=0x1",
        "#" + "run=1" * 5000,
    ],
)
def test_an_address_of_nothing_is_as_none(nonsense, tmp_path, browser, shown):
    runs = [loaded(tmp_path, "model=vae", "model.code_dim=5") for _ in range(2)]
    shown(*runs)
    usual = browser.execute_script(WHERE)
    address = browser.current_url.partition("#")[0]
    browser.get("about:blank")
    browser.get(address + nonsense)
    until(browser, "return Boolean(globalThis.explore)")
    assert browser.execute_script(WHERE) == usual
