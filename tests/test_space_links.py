"""Links to what the Space shows: in a real Chromium, as people follow, copy and mistype them."""

import pytest
from space_app import until
from space_browser import choose_machine, give, open_tab, panel


pytest_plugins = ["space_app", "space_browser"]
pytest.importorskip("gradio", reason="needs gradio: pip install -e .[space]")


def address(page) -> str:
    return page.evaluate("location.search")


def test_a_link_opens_its_tab_with_example_machine_and_rate(visit):
    page = visit(query="/?tab=Compare&example=Pump&machine=pump_id_00&rate=0.05")
    page.get_by_role("tab", name="Compare", selected=True).wait_for()
    panel(page).locator(".asd-sides").wait_for()
    files = panel(page).locator(".asd-card").all_inner_texts()
    assert "pump_normal.flac" in files[0] and "pump_clogged.flac" in files[1]
    assert all("pump_id_00" in text for text in files) and "the alarm is set to 1 in 20." in files[0]
    assert panel(page).get_by_role("combobox", name="Machine").input_value() == "pump_id_00"
    assert panel(page).get_by_label("1 in 20").is_checked()
    until(lambda: address(page) == "?tab=compare&example=pump&machine=pump_id_00&rate=0.05")
    assert page.locator(".asd-notice[role=alert]").count() == 0


def test_what_a_link_asks_for_and_the_page_lacks_is_named_and_the_rest_is_opened(visit):
    wrong = "<img src=x onerror=alert(1)>" + "a" * 200
    page = visit(query=f"/?tab=timeline&machine={wrong}&rate=often&example=fan_clogged&__theme=light")
    page.get_by_role("tab", name="Timeline", selected=True).wait_for()
    said = page.locator(".asd-notice[role=alert]")
    said.wait_for()
    assert said.inner_text() == (
        "The link asks for what is not known here: "
        f"example “fan_clogged”, machine “{wrong[:60]}”, rate “often”. The rest of it was opened."
    )
    assert said.locator("img").count() == 0
    assert panel(page).get_by_label("1 in 100", exact=True).is_checked()
    until(lambda: address(page) == "?tab=timeline&__theme=light")
    other = visit(query="/?tab=settings&example=fan")
    other.locator(".asd-notice[role=alert]").wait_for()
    assert "tab “settings”. The rest" in other.locator(".asd-notice[role=alert]").inner_text()
    panel(other).locator(".asd-card", has_text="fan_normal.flac").wait_for()
    other.get_by_role("tab", name="Listen", selected=True).wait_for()


def test_the_copied_link_shows_what_the_page_shows(visit, sounds):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = page.get_by_role("button", name="Copy link")

    def copied() -> str:
        copy.click()
        page.get_by_text("Copied.").wait_for()
        return page.evaluate("navigator.clipboard.readText()").removeprefix(visit.url)

    assert copied() == "/"
    panel(page).get_by_role("button", name="Fan, clogged").click()
    choose_machine(page)
    until(lambda: panel(page).get_by_text("fan_id_00 (").count() == 1)  # judged as the machine that was chosen
    until(lambda: address(page) == "?tab=listen&example=fan_clogged&machine=fan_id_00")
    shown = panel(page).locator(".asd-card").inner_text()
    link = copied()
    assert link == "/" + address(page)
    other = visit(query=link)
    panel(other).locator(".asd-verdict").wait_for()
    until(lambda: panel(other).locator(".asd-card").inner_text() == shown)
    # A recording of one's own stays where it is.
    panel(page).get_by_label("Clear").click()
    give(page, sounds / "faulty.wav")
    panel(page).get_by_text("faulty.wav does not").wait_for()
    assert copied() == "/?tab=listen&machine=fan_id_00"


def test_a_page_without_a_clipboard_shows_the_link_to_copy(visit):
    page = visit(query="/?tab=live&rate=0.1")
    page.get_by_role("tab", name="Live", selected=True).wait_for()
    until(lambda: address(page) == "?tab=live&rate=0.1")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy link").click()
    assert page.get_by_label("Link to copy").input_value() == visit.url + "/?tab=live&rate=0.1"


def test_the_button_back_goes_through_the_tabs(visit):
    page = visit()
    for tab in ("Files", "About"):
        open_tab(page, tab)
    assert address(page) == "?tab=about"
    for tab, expected in (("Files", "?tab=files"), ("Listen", "")):
        page.go_back()
        page.get_by_role("tab", name=tab, selected=True).wait_for()
        assert address(page) == expected
    page.go_forward()
    page.get_by_role("tab", name="Files", selected=True).wait_for()
