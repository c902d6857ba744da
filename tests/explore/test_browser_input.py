"""What the encoder is given in the page: rows with missing entries, photographs, noise."""

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from aecli.explore import examples
from tests.explore.browser import IN_A_BROWSER, table, until
from tests.explore.made import loaded

pytestmark = IN_A_BROWSER
CHOOSE = "explore.state.chooseExample(arguments[0]); explore.state.update();"
X = "explore.state.update(); return Array.from(explore.state.input.x)"
EMPTY = (Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
CONVOLUTIONS = ("network=conv", "network.channels=[2,2,2,2]")
TOLD = "explore.state.update(); return document.getElementById('input-told').textContent"


def photographs(folder, size, mode, count):
    """Make pictures that are dark in one half of them and light in the others."""
    draw = np.random.default_rng(0)
    for n in range(count):
        shape = (size, size, 3) if mode == "RGB" else (size, size)
        pixels = draw.integers(0, 60, shape) + (180 if n % 2 else 0)
        (folder / f"{n % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8), mode).save(folder / f"{n % 2}" / f"{n}.png")
    return ("dataset=images", f"dataset.root={folder}", f"dataset.size={size}")


def entries(browser):
    """Return what the table and the bars say of the row: input and output by column."""
    browser.execute_script("explore.state.update()")
    rows = browser.find_elements(By.CSS_SELECTOR, "#table tbody tr")
    inputs = {
        row.find_element(By.TAG_NAME, "th").text: row.find_elements(By.TAG_NAME, "td")[0].text
        for row in rows
    }
    bars = browser.find_elements(By.CSS_SELECTOR, ".bars li")
    return inputs, [bar.find_element(By.TAG_NAME, "output").text for bar in bars]


def test_a_missing_entry_is_said_to_be_and_stays_so(tmp_path, shown):
    run = table(tmp_path, "model=vae")
    browser = shown(run, split="train")
    browser.find_element(By.ID, "tab-input").click()
    split = run.data.splits["train"]
    x = examples.taken(split, examples.chosen(split, 1000))
    there = x[:, -3:]  # of height, town and age
    lacking = [int((there[:, n] == 0).nonzero()[0]) for n in (0, 1)]
    height, town, age = browser.find_elements(By.CSS_SELECTOR, "#form input, #form select")

    browser.execute_script(CHOOSE, lacking[0])
    inputs, bars = entries(browser)
    assert (inputs["height"], height.get_property("value")) == ("missing", "")
    assert height.get_attribute("placeholder") == "missing"
    assert bars[0].endswith(" (missing)")
    assert inputs["town"] in ("Rome", "Oslo")
    assert browser.execute_script("return document.querySelector('.bars .tick').hidden")

    before = browser.execute_script(X)
    age.send_keys(*EMPTY, "50")
    after = browser.execute_script(X)
    changed = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [3]  # age, and no mask
    assert entries(browser)[0]["height"] == "missing"
    encoded = browser.execute_script("return Array.from(explore.state.encoded.code)")
    own = run.model.encode(torch.tensor([after]))[0]
    assert torch.tensor(encoded) == pytest.approx(own, abs=2e-3)

    age.send_keys(*EMPTY)
    assert browser.execute_script(X)[-1] == 0
    assert entries(browser)[0]["age"] == "missing"
    height.send_keys("180")
    assert browser.execute_script(X)[-3:] == [1, 1, 0]
    assert entries(browser)[0]["height"] == "180"

    browser.execute_script(CHOOSE, lacking[1])
    assert entries(browser)[0]["town"] == "missing"
    choice = Select(town)
    assert choice.first_selected_option.text == "missing"
    choice.select_by_visible_text("Rome")
    assert browser.execute_script(X)[-2] == 1
    assert entries(browser)[0]["town"] == "Rome"
    choice.select_by_visible_text("missing")
    assert browser.execute_script(X)[1:3] == [0, 0]
    assert browser.execute_script(X)[-2] == 0


def test_a_masked_entry_is_missing_to_the_encoder(tmp_path, shown):
    run = table(tmp_path, "model=ae", "noise=masking", "noise.amount=1")
    browser = shown(run)
    browser.find_element(By.ID, "tab-input").click()
    rows = browser.find_elements(By.CSS_SELECTOR, "#table tbody tr")
    assert [row.find_elements(By.TAG_NAME, "td")[1].text for row in rows] == ["missing"] * 3


def test_without_a_mask_nothing_can_be_missing(tmp_path, shown):
    browser = shown(table(tmp_path, "model=ae", "dataset.missing=mean"))
    browser.find_element(By.ID, "tab-input").click()
    assert "missing" not in browser.find_element(By.ID, "panel-input").text
    height = browser.find_element(By.CSS_SELECTOR, "#form input")
    height.send_keys(*EMPTY)
    assert browser.execute_script(X)[0] == 0  # the mean


def test_a_photograph_is_never_turned_into_its_negative(tmp_path, shown):
    words = photographs(tmp_path / "photographs", 16, "L", 40)
    browser = shown(loaded(tmp_path, "model=ae", *CONVOLUTIONS, *words))
    browser.find_element(By.ID, "tab-input").click()
    for value in (40, 215):
        picture = tmp_path / f"{value}.png"
        Image.new("L", (16, 16), value).save(picture)
        browser.execute_script("explore.state.chooseExample(0); explore.state.update();")
        browser.find_element(By.ID, "file").send_keys(str(picture))
        until(browser, "return explore.state.input.name === 'your picture'")
        x = browser.execute_script(X)
        assert x == pytest.approx([value / 255] * 256, abs=0.01)


def test_masking_works_on_more_features_than_a_call_takes_arguments(tmp_path, shown):
    words = photographs(tmp_path / "photographs", 256, "RGB", 20)
    browser = shown(loaded(tmp_path, "model=dae", *CONVOLUTIONS, "noise.amount=0.25", *words))
    seen = browser.execute_script(
        "const { data } = document.getElementById('seen').getContext('2d')"
        ".getImageData(0, 0, 256, 256); return Array.from(data).filter(a => a === 0).length"
    )
    assert seen / (3 * 256**2) == pytest.approx(0.25, abs=0.02)


def test_a_rank_is_that_of_the_score_without_noise(tmp_path, shown):
    run = loaded(tmp_path, "model=dae", "noise=gaussian", "noise.std=0.9")
    browser = shown(run)
    browser.find_element(By.ID, "tab-input").click()
    scores = browser.execute_script("return Array.from(explore.state.model.scores)")
    number = scores.index(sorted(scores)[len(scores) // 4])
    browser.execute_script(CHOOSE, number)
    noisy = browser.execute_script(TOLD)
    assert "Without the noise this example scores " in noisy
    rank = round(100 * sum(score < scores[number] for score in scores) / len(scores))
    assert f", higher than {rank} % of the examples on the map." in noisy
    browser.find_element(By.ID, "level").send_keys(Keys.HOME)
    clean = browser.execute_script(TOLD)
    assert f"This example scores higher than {rank} % of" in clean
    assert f"example scores {scores[number]:.2f}, higher" in noisy
