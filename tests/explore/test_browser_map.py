"""The map in a real browser: nearer, farther, moved, and an example that is looked for."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.explore.browser import IN_A_BROWSER, phone
from tests.explore.made import loaded

pytestmark = IN_A_BROWSER
SEEN = """
    const { state, map } = explore;
    const ids = state.data.examples.ids;
    return {
        depth: state.whole.half[0] / state.extent.half[0],
        middle: state.extent.middle,
        half: state.extent.half,
        whole: state.whole,
        point: state.plane.project(state.anchor),
        example: state.example,
        id: String(ids[state.example]),
        label: state.labelOf(state.example),
        at: arguments[0] && map.toCanvas(arguments[0]),
    };
"""
TOUCH = """
    const [type, id, x, y] = arguments;
    const canvas = document.getElementById('map');
    const box = canvas.getBoundingClientRect();
    canvas.setPointerCapture = () => {};
    canvas.dispatchEvent(new PointerEvent(type, {
        pointerId: id, pointerType: 'touch', bubbles: true,
        clientX: box.left + x, clientY: box.top + y,
    }));
"""
PAINTED = "return explore.map.background().toDataURL()"
WHEEL = """
    const canvas = document.getElementById('map');
    const box = canvas.getBoundingClientRect();
    const [x, y, deltaY, ctrlKey] = arguments;
    const event = new WheelEvent('wheel', {
        deltaY, ctrlKey, clientX: box.left + x, clientY: box.top + y, cancelable: true,
    });
    canvas.dispatchEvent(event);
    return event.defaultPrevented;
"""


@pytest.fixture
def opened(tmp_path, shown):
    browser = shown(loaded(tmp_path, "model=ae", "model.code_dim=5"))
    browser.execute_script("document.getElementById('map').scrollIntoView({ block: 'center' })")
    return browser


def seen(browser, place=None):
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )
    return browser.execute_script(SEEN, place)


def press(browser, name):
    browser.find_element(By.ID, name).click()


def is_enabled(browser, name):
    return browser.find_element(By.ID, name).is_enabled()


def test_the_wheel_with_ctrl_zooms_where_the_mouse_is_and_alone_scrolls(opened):
    before = opened.execute_script("return explore.map.toPlane([100, 150])")
    assert not opened.execute_script(WHEEL, 100, 150, -100, False)
    assert seen(opened)["depth"] == 1
    assert opened.execute_script(WHEEL, 100, 150, -100, True)
    near = seen(opened, before)
    assert near["depth"] == pytest.approx(1.492, abs=1e-3)  # exp(0.4)
    assert near["at"] == pytest.approx([100, 150], abs=1)  # clientX is whole
    for _ in range(40):
        opened.execute_script(WHEEL, 100, 150, -100, True)
    assert seen(opened)["depth"] == pytest.approx(200)
    assert not is_enabled(opened, "closer")
    for _ in range(40):
        opened.execute_script(WHEEL, 300, 20, 100, True)
    far = seen(opened)
    assert far["depth"] == 1
    assert far["middle"] == far["whole"]["middle"]


def test_buttons_and_keys_zoom_at_the_point_and_the_map_follows_it(opened):
    assert not is_enabled(opened, "farther")
    assert not is_enabled(opened, "whole")
    place = seen(opened)["point"]
    before = seen(opened, place)["at"]
    press(opened, "closer")
    near = seen(opened, place)
    assert near["depth"] == pytest.approx(1.6)
    assert near["at"] == pytest.approx(before, abs=1e-2)
    canvas = opened.find_element(By.ID, "map")
    canvas.send_keys("+++")
    assert seen(opened)["depth"] == pytest.approx(1.6**4)
    canvas.send_keys(*[Keys.SHIFT, *[Keys.ARROW_UP] * 12])
    there = seen(opened)
    assert there["middle"] != near["middle"]
    assert abs(there["point"][1] - there["middle"][1]) <= 0.9 * there["half"][1] + 1e-6
    canvas.send_keys("-")
    assert seen(opened)["depth"] == pytest.approx(1.6**3)
    canvas.send_keys("0")
    assert seen(opened)["depth"] == 1
    press(opened, "closer")
    press(opened, "whole")
    assert seen(opened)["depth"] == 1


def test_shift_and_the_mouse_move_the_map_and_not_the_point(opened):
    for _ in range(3):
        opened.execute_script(WHEEL, 280, 280, -100, True)
    canvas = opened.find_element(By.ID, "map")
    before = seen(opened)
    chain = ActionChains(opened).key_down(Keys.SHIFT)
    chain.move_to_element(canvas).click_and_hold().move_by_offset(60, -40).release()
    chain.key_up(Keys.SHIFT).perform()
    after = seen(opened)
    size = opened.execute_script("return explore.map.size / 2")
    moved = [
        (to - at) / half
        for to, at, half in zip(after["middle"], before["middle"], before["half"], strict=True)
    ]
    assert moved == pytest.approx([-60 / size, -40 / size], abs=1e-3)
    assert after["point"] == before["point"]
    # No farther than the whole map reaches.
    for _ in range(9):
        chain = ActionChains(opened).key_down(Keys.SHIFT)
        chain.move_to_element(canvas).click_and_hold().move_by_offset(200, 0).release()
        chain.key_up(Keys.SHIFT).perform()
    end = seen(opened)
    left = end["whole"]["middle"][0] - end["whole"]["half"][0]
    assert end["middle"][0] - end["half"][0] == pytest.approx(left)


def test_two_fingers_zoom_and_leave_the_point(opened):
    before = seen(opened)
    place = opened.execute_script("return explore.map.toPlane([150, 200])")
    for step in (
        ("pointerdown", 1, 100, 200),
        ("pointerdown", 2, 200, 200),
        ("pointermove", 1, 50, 200),
        ("pointermove", 2, 250, 200),
    ):
        opened.execute_script(TOUCH, *step)
    after = seen(opened, place)
    assert after["depth"] == pytest.approx(2, abs=1e-3)
    assert after["at"] == pytest.approx([150, 200], abs=0.5)
    assert after["point"] == before["point"]
    opened.execute_script(TOUCH, "pointerup", 1, 50, 200)
    opened.execute_script(TOUCH, "pointermove", 2, 300, 250)
    opened.execute_script(TOUCH, "pointerup", 2, 300, 250)
    assert seen(opened)["point"] == before["point"]
    assert seen(opened)["depth"] == after["depth"]


def test_an_example_is_found_and_brought_into_view(opened):
    ids = opened.execute_script("return explore.state.data.examples.ids.map(String)")
    opened.execute_script(WHEEL, 5, 5, -100, True)
    for _ in range(6):
        opened.execute_script(WHEEL, 5, 5, -100, True)
    field, told = (opened.find_element(By.ID, name) for name in ("asked", "found"))
    field.send_keys(ids[-1], Keys.ENTER)
    found = seen(opened)
    assert ids[-1] in (found["id"], found["label"])
    away = [
        abs(at - middle) / half
        for at, middle, half in zip(found["point"], found["middle"], found["half"], strict=True)
    ]
    assert max(away) <= 0.9 + 1e-6
    field.clear()
    field.send_keys("3", Keys.ENTER)
    count = int(told.text.rpartition(" of ")[2])
    numbers = {seen(opened)["example"]}
    for _ in range(count - 1):
        field.send_keys(Keys.ENTER)
        numbers.add(seen(opened)["example"])
    assert len(numbers) == count > 1
    field.clear()
    field.send_keys("<b>zebra", Keys.ENTER)
    assert told.text.startswith("no example here has “<b>zebra”")
    assert seen(opened)["example"] in numbers


def painted(browser):
    """Return what the map is filled with, once nothing of it changes any more."""
    before = None
    while before != (before := browser.execute_script(PAINTED)):
        for _ in range(10):
            seen(browser)
    return before


def test_a_painted_map_is_painted_anew_and_a_phone_has_room(opened):
    press(opened, "painting")
    before = painted(opened)
    press(opened, "closer")
    near = painted(opened)
    assert near != before
    # As it is when it is painted from the beginning: nothing moved is left in it.
    opened.execute_script("explore.map.background().width += 0")
    press(opened, "painting")
    press(opened, "painting")
    assert painted(opened) == near
    phone(opened, 390)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390


def test_what_is_in_view_stays_so_in_another_model_of_one_frame(tmp_path, shown):
    runs = [
        loaded(tmp_path / str(beta), "model=vae", "model.code_dim=2", f"model.beta={beta}")
        for beta in (1, 4)
    ]
    browser = shown(*runs)
    press(browser, "closer")
    before = seen(browser)
    browser.execute_script("explore.state.chooseModel(0)")
    after = seen(browser)
    assert after["depth"] == pytest.approx(1.6)
    assert (after["middle"], after["half"]) == (before["middle"], before["half"])
    browser.execute_script("explore.state.choosePlane({ across: 1, up: 0 })")
    assert seen(browser)["depth"] == 1
