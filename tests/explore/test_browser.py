"""The page in a real browser: what moves, and what is fetched (nothing)."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from aecli.explore import examples
from tests.explore.browser import IN_A_BROWSER, SPARSE, table, until
from tests.explore.made import loaded, page

pytestmark = IN_A_BROWSER
STATE = """
    const { state, map } = explore;
    const canvas = document.querySelector('#picture canvas');
    return {
        code: Array.from(state.code),
        anchor: Array.from(state.anchor),
        hovered: state.hovered,
        example: state.example,
        told: document.getElementById('told').textContent,
        picture: canvas && canvas.toDataURL(),
        tip: map.tip.hidden ? null : map.tip.textContent,
    };
"""
PLACE = "const { map } = explore; return map.toCanvas(map.placeOf(arguments[0]));"
MIDDLE = "return explore.map.size / 2"


def state(browser):
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )
    return browser.execute_script(STATE)


def offset(browser, number):
    """Return how far an example's dot lies from the middle of the map."""
    middle = browser.execute_script(MIDDLE)
    return [round(at - middle) for at in browser.execute_script(PLACE, number)]


def test_the_decoder_follows_the_mouse_and_a_click_stays(tmp_path, shown):
    run = loaded(tmp_path, "model=ae", "model.code_dim=5")  # its dots fill the map
    browser = shown(run)
    canvas = browser.find_element(By.ID, "map")
    before = state(browser)
    ActionChains(browser).move_to_element_with_offset(canvas, 150, -120).perform()
    at = state(browser)
    assert at["picture"] != before["picture"]
    assert at["anchor"] == before["anchor"] != at["code"]
    ActionChains(browser).move_to_element_with_offset(canvas, *offset(browser, 7)).perform()
    near = state(browser)
    assert near["hovered"] == 7
    assert near["tip"].startswith("test example ")
    ActionChains(browser).click().perform()
    chosen = state(browser)
    assert chosen["example"] == 7
    split = run.data.splits["test"]
    x = examples.taken(split, examples.chosen(split, 360))[7:8]
    own = run.model.encode(x)[0]
    assert torch.tensor(chosen["anchor"]) == pytest.approx(own, abs=2e-3)
    ActionChains(browser).move_to_element(browser.find_element(By.ID, "title")).perform()
    away = state(browser)
    assert (away["anchor"], away["code"], away["tip"]) == (chosen["anchor"], chosen["anchor"], None)


def test_the_keys_move_the_point_and_a_reader_is_told(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=vae", "model.code_dim=2"))
    canvas = browser.find_element(By.ID, "map")
    before = state(browser)
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    after = state(browser)
    moved = [b - a for a, b in zip(before["anchor"], after["anchor"], strict=True)]
    assert moved[0] > 0 < moved[1]
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_LEFT)
    assert state(browser)["anchor"][0] < before["anchor"][0]
    until(browser, "return document.getElementById('live').textContent.startsWith('Unit 0 = ')")
    canvas.send_keys(Keys.ENTER)
    assert state(browser)["anchor"] in [
        pytest.approx(code) for code in browser.execute_script(
            "const { state } = explore; return [Array.from(state.model.codeOf(state.example))]"
        )
    ]  # fmt: skip


def test_a_slider_moves_its_unit_and_a_unit_that_carries_more_is_above(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=vae", "model.code_dim=6"))
    carried = browser.execute_script(
        "const { model } = explore.state; return model.order.map(unit => model.kl[unit])"
    )
    assert carried == sorted(carried, reverse=True)
    before = state(browser)
    slider = browser.find_element(By.CSS_SELECTOR, "#units li:nth-child(2) input")
    unit = int(slider.get_attribute("aria-label").removeprefix("unit "))
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    after = state(browser)
    changed = [n for n in range(6) if abs(after["code"][n] - before["code"][n]) > 1e-3]
    assert changed == [unit]
    assert after["picture"] != before["picture"]


def test_the_plane_of_two_units_is_theirs(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=vae", "model.code_dim=5"))
    browser.execute_script(
        "const set = (name, value) => { const s = document.getElementById(name); s.value = value;"
        " s.dispatchEvent(new Event('change')) }; set('plane', 'units'); set('across', 4);"
        " set('up', 1);"
    )
    places, codes = browser.execute_script(
        "const { map, state } = explore; state.update();"
        " return [Array.from(map.places), Array.from(state.model.codes)]"
    )
    codes = np.array(codes).reshape(-1, 5)
    assert np.allclose(np.array(places).reshape(-1, 2), codes[:, [4, 1]], atol=1e-6)
    assert browser.find_element(By.ID, "axis-across").text == "unit 4"


def test_a_posterior_is_drawn_as_wide_as_it_is_on_the_plane(tmp_path, shown):
    """Against the covariance of samples, on the plane of the principal components."""
    run = loaded(tmp_path, "model=vae", "model.code_dim=5")
    browser = shown(run)
    log_variance = torch.tensor([0.1, -2.0, -0.5, 1.0, -3.0])
    found = browser.execute_script(
        "const { plane } = explore.state; const z = new Float32Array(5);"
        " const d = plane.directions.map(u => Array.from(u));"
        " return [d, plane.ellipse(z, Float32Array.from(arguments[0]))]",
        log_variance.tolist(),
    )
    directions, ellipse = torch.tensor(found[0]), found[1]
    covariance = directions @ torch.diag(log_variance.exp()) @ directions.T
    values, vectors = torch.linalg.eigh(covariance)
    assert ellipse["axes"] == pytest.approx(values.flip(0).sqrt().tolist(), rel=1e-4)
    first = torch.tensor([np.cos(ellipse["angle"]), np.sin(ellipse["angle"])]).float()
    assert abs(float(first @ vectors[:, 1])) == pytest.approx(1, abs=1e-4)


def test_what_is_drawn_is_encoded_where_the_data_has_it(tmp_path, shown):
    run = loaded(tmp_path, "model=vae", "model.code_dim=2")
    browser = shown(run)
    browser.find_element(By.ID, "tab-input").click()
    pen = browser.find_element(By.ID, "pen")
    before = state(browser)
    stroke = ActionChains(browser, duration=10).move_to_element_with_offset(pen, -30, -30)
    stroke.click_and_hold().move_to_element_with_offset(pen, -30, 10).release().perform()
    after = state(browser)
    assert after["anchor"] != before["anchor"]
    x = browser.execute_script("return Array.from(explore.state.input.x)")
    image = np.array(x).reshape(8, 8)
    rows, columns = image.sum(axis=1), image.sum(axis=0)
    assert (rows > 0.1).all()  # the longer side of the ink takes all of an 8×8 digit
    assert (columns @ np.arange(8)) / columns.sum() == pytest.approx(3.5, abs=0.1)
    code = run.model.encode(torch.tensor(x).view(1, 1, 8, 8))[0]
    assert torch.tensor(after["anchor"]) == pytest.approx(code, abs=2e-3)
    assert "Your drawing scores higher than" in browser.find_element(By.ID, "input-told").text
    errors = browser.find_element(By.ID, "errors")
    assert errors.get_property("width") == 8


@pytest.mark.parametrize("noise", ["gaussian", "masking", "salt_and_pepper"])
def test_the_noise_slider_changes_what_the_encoder_sees(noise, tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=dae", f"noise={noise}"))
    browser.find_element(By.ID, "tab-input").click()
    level = browser.find_element(By.ID, "level")
    read = "return document.getElementById(arguments[0]).toDataURL()"
    seen, output = (browser.execute_script(read, name) for name in ("seen", "output"))
    level.send_keys(Keys.HOME)
    state(browser)
    assert browser.execute_script(read, "seen") == browser.execute_script(read, "clean") != seen
    assert browser.execute_script(read, "output") != output
    level.send_keys(Keys.END)
    state(browser)
    assert browser.execute_script(read, "seen") != browser.execute_script(read, "clean")


def test_k_pictures_build_the_reconstruction_up(tmp_path, shown):
    run = loaded(tmp_path, *SPARSE)
    browser = shown(run)
    browser.find_element(By.ID, "tab-sum").click()
    terms = browser.find_elements(By.CSS_SELECTOR, "#terms figure")
    assert len(terms) == 1 + 5  # the bias, and the units that are on
    last = "return document.querySelector('#terms figure:last-child canvas + canvas').toDataURL()"
    assert browser.execute_script(last) == state(browser)["picture"]
    browser.find_element(By.ID, "count").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#terms figure")) == 1 + 3
    assert sum(value != 0 for value in state(browser)["code"]) == 3
    assert browser.execute_script(last) == state(browser)["picture"]


def test_a_drag_is_a_morph_along_a_straight_line(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=ae", "model.code_dim=2"))
    canvas = browser.find_element(By.ID, "map")
    low, high = browser.execute_script(
        "const { map } = explore; const n = map.places.length / 2; let a = 0, b = 0;"
        " for (let k = 0; k < n; k++) { if (map.placeOf(k)[0] < map.placeOf(a)[0]) a = k;"
        " if (map.placeOf(k)[0] > map.placeOf(b)[0]) b = k; } return [a, b]"
    )
    drag = ActionChains(browser).move_to_element_with_offset(canvas, *offset(browser, low))
    drag.click_and_hold().move_to_element_with_offset(canvas, *offset(browser, high)).release()
    drag.perform()
    found = state(browser)
    ends = browser.execute_script(
        "return explore.state.ends.map(end => [end.example, Array.from(end.code)])"
    )
    assert [example for example, _ in ends] == [low, high]
    assert browser.find_element(By.ID, "panel-morph").is_displayed()
    share = browser.find_element(By.ID, "share")
    middle = np.mean([ends[0][1], ends[1][1]], axis=0)
    assert found["anchor"] == pytest.approx(middle, abs=1e-5)
    share.send_keys(Keys.HOME)
    assert state(browser)["anchor"] == pytest.approx(ends[0][1], abs=1e-5)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#strip canvas")) == 9


def test_the_sweeps_slider_goes_from_model_to_model(tmp_path, shown):
    runs = [loaded(tmp_path, "model=vae", f"model.code_dim={units}") for units in (2, 4, 4)]
    browser = shown(*runs)
    slider = browser.find_element(By.ID, "sweep-slider")
    assert browser.find_element(By.ID, "sweep-value").text == "run 2"
    last = state(browser)
    slider.send_keys(Keys.ARROW_LEFT)
    before = state(browser)
    assert browser.find_element(By.ID, "sweep-value").text == "run 1"
    assert before["picture"] != last["picture"]
    assert before["example"] == last["example"]
    slider.send_keys(Keys.ARROW_LEFT)
    assert len(state(browser)["code"]) == 2
    assert len(browser.find_elements(By.CSS_SELECTOR, "#units li")) == 2
    current = browser.find_element(By.CSS_SELECTOR, "#sweep-table [aria-current]")
    assert current.text.startswith("run 0 ")


def test_of_many_models_the_one_that_is_shown_is_in_sight_and_the_map_is_too(tmp_path, shown):
    browser = shown(*[loaded(tmp_path, "model=vae", "model.code_dim=2") for _ in range(30)])
    slider = browser.find_element(By.ID, "sweep-slider")
    assert browser.find_element(By.ID, "map").rect["y"] < 800
    in_sight = """
        const row = document.querySelector('#sweep-table [aria-current]').getBoundingClientRect();
        const place = document.querySelector('#sweep .scrolls').getBoundingClientRect();
        return row.top >= place.top && row.bottom <= place.bottom"""
    for key in (Keys.END, Keys.HOME):
        slider.send_keys(key)
        assert browser.execute_script(in_sight)


def test_a_unit_that_says_nothing_has_no_bar(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=vae", "model.code_dim=2"))
    widths = """
        const { state } = explore;
        state.model.carried = state.model.carried.map((_, unit) => arguments[unit]);
        state.tell('model');
        state.update();
        return Array.from(document.querySelectorAll('#units .bar'), bar => bar.style.width)"""
    assert browser.execute_script(widths, 0.0002, 0) == ["0.2%", "0%"]
    assert "100%" in browser.execute_script(widths, 3, 1.5)


def test_a_row_is_typed_and_comes_out_in_the_users_units(tmp_path, shown):
    run = table(tmp_path, "model=ae")
    browser = shown(run, split="train")
    assert browser.find_element(By.ID, "tab-input").text == "Row"
    browser.find_element(By.ID, "tab-input").click()
    height, town, _ = browser.find_elements(By.CSS_SELECTOR, "#form input, #form select")
    height.clear()
    height.send_keys("180")
    town.send_keys("Rome")
    state(browser)
    x = browser.execute_script("return Array.from(explore.state.input.x)")
    own = run.card.restored(torch.tensor([x]))
    assert own["height"][0] == pytest.approx(180, abs=0.01)
    assert own["town"][0] == "Rome"
    text = browser.find_element(By.ID, "table").text
    made = run.card.restored(run.model.reconstruct(torch.tensor([x])))
    assert f"height 180 {made['height'][0]:.0f}" in text


def test_a_grid_shows_the_decoding_of_the_nearest_place(tmp_path, shown):
    run = loaded(tmp_path, "model=vae", "model.code_dim=2")
    browser = shown(run, grids="true")
    assert "25 × 25 decodings made beforehand" in browser.find_element(By.ID, "grid-note").text
    assert not browser.find_element(By.ID, "panels").is_displayed()
    low, high, found = browser.execute_script(
        "const { state } = explore; const { low, high } = state.model.grid;"
        " return [low, high, Array.from(state.decoded(Float32Array.from([high[0], low[1]])))]"
    )
    own = run.model.decode(torch.tensor([[high[0], low[1]]])).mean.flatten()
    assert torch.tensor(found) == pytest.approx(own, abs=0.51 / 255)


def test_a_grid_lies_on_the_components_whatever_was_shown_before(tmp_path, shown):
    runs = [loaded(tmp_path, "model=ae", f"model.code_dim={units}") for units in (2, 4)]
    browser = shown(*runs, grids="true")
    slider = browser.find_element(By.ID, "sweep-slider")
    kind = "return explore.state.plane.kind"
    assert browser.execute_script(kind) == "components"
    slider.send_keys(Keys.ARROW_LEFT)
    state(browser)
    assert browser.execute_script(kind) == "units"
    slider.send_keys(Keys.ARROW_RIGHT)
    state(browser)
    assert browser.execute_script(kind) == "components"


def test_the_k_of_the_training_is_named(tmp_path, shown):
    browser = shown(loaded(tmp_path, *SPARSE, "sparsity.alpha=2"))
    browser.find_element(By.ID, "tab-sum").click()
    state(browser)
    assert "(trained with 5)" in browser.find_element(By.ID, "panel-sum").text
    assert len(browser.find_elements(By.CSS_SELECTOR, "#terms figure")) == 1 + 10


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_fetched_and_nothing_sticks_out(width, scheme, tmp_path, shown, browser):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    shown(loaded(tmp_path, "model=vae", "model.code_dim=12"))
    for tab in ("units", "input", "morph"):
        browser.find_element(By.ID, f"tab-{tab}").click()
        widest = browser.execute_script("return document.documentElement.scrollWidth")
        assert widest <= width
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    paper = browser.execute_script(
        "return getComputedStyle(document.documentElement).backgroundColor"
    )
    assert (int(paper[4:].split(",")[0]) > 128) == (scheme == "light")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=dae"))
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('button, input, select, canvas[tabindex]')]"
        ".filter(e => !e.textContent.trim() && !e.labels?.length && !e.getAttribute('aria-label'))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []


def test_a_browser_without_canvas_gets_a_sentence(tmp_path, browser):
    file = tmp_path / "explore.html"
    file.write_text(page(loaded(tmp_path, "model=ae")))
    without = {"source": "HTMLCanvasElement.prototype.getContext = () => null"}
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", without)
    try:
        browser.get(file.as_uri())
        until(browser, "return document.getElementById('notice').textContent.includes('canvas')")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert not browser.execute_script("return Boolean(globalThis.explore)")
    assert browser.get_log("browser") == []


def test_without_scripts_there_is_a_sentence(tmp_path):
    text = page(loaded(tmp_path, "model=ae"))
    assert "<noscript>This page is a program in JavaScript" in text


def test_a_picture_is_dropped_and_its_paper_is_made_as_dark_as_the_datas(tmp_path, shown):
    picture = Image.new("L", (300, 200), 255)  # dark ink on white paper; digits are light on dark
    ImageDraw.Draw(picture).rectangle([140, 40, 160, 160], fill=0)
    picture.save(tmp_path / "ink.png")
    browser = shown(loaded(tmp_path, "model=vae"))
    browser.find_element(By.ID, "tab-input").click()
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "ink.png"))
    until(browser, "return explore.state.input.name === 'your picture'")
    image = np.array(browser.execute_script("return Array.from(explore.state.input.x)"))
    columns = image.reshape(8, 8).sum(axis=0)
    assert columns[3:5].min() > 3
    assert columns[[0, 1, 6, 7]].max() < 0.1
    (tmp_path / "no.png").write_text("no picture")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "no.png"))
    until(browser, "return document.getElementById('input-told').textContent.includes('no.png')")
