"""Links to what the Space shows, as people follow, copy and mistype them; and the page's languages. In a real Chromium."""

import json
import re

import pytest
from space_app import until
from space_browser import TABS, answer, choose_machine, give, in_both_themes, open_tab, panel, serious_faults, verdict
from space_server import SPACE


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
    page = visit(query="/?tab=Listen")
    until(lambda: address(page) == "")  # from now on the address follows
    for tab in ("Files", "About"):
        open_tab(page, tab)
        until(lambda tab=tab: address(page) == f"?tab={tab.lower()}")
    for tab, expected in (("Files", "?tab=files"), ("Listen", "")):
        page.go_back()
        page.get_by_role("tab", name=tab, selected=True).wait_for()
        until(lambda expected=expected: address(page) == expected)
    page.go_forward()
    page.get_by_role("tab", name="Files", selected=True).wait_for()


def test_a_tablet_shows_all_tabs_and_axe_finds_no_serious_fault(visit):
    page = visit(820, 1180, query="/?example=fan_clogged&machine=fan_id_00&rate=often")
    page.emulate_media(reduced_motion="reduce")
    page.locator(".asd-notice[role=alert]").wait_for()
    panel(page).locator(".asd-verdict").wait_for()
    assert page.get_by_role("tab").all_inner_texts() == TABS
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    for theme in in_both_themes(page):
        assert serious_faults(page) == [], theme


# Languages


@pytest.fixture
def texts(monkeypatch) -> dict[str, dict]:
    """The page's texts by language and name; a text with forms for one and for many is a table."""
    monkeypatch.syspath_prepend(SPACE)
    from texts import TEXTS  # pyright: ignore[reportMissingImports]  # in space/, whose path was just added

    return TEXTS


def forms(text: str | dict) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def values_of(text: str | dict) -> list[set[str]]:
    return [set(re.findall(r"\{(\w+)\}", form)) for form in forms(text)]


def test_every_language_has_every_text_with_the_same_values(texts):
    assert {"de", "en"} <= set(texts)
    english = texts["en"]
    for language, other in texts.items():
        assert set(other) == set(english), language
        assert [key for key in english if values_of(other[key]) != values_of(english[key])] == [], language


def test_every_text_that_the_code_asks_for_exists_and_every_text_is_asked_for(texts):
    code = "\n".join(file.read_text(encoding="utf-8") for file in [*SPACE.glob("*.py"), *SPACE.glob("pictures/*.js")])
    named = set(re.findall(r"[\"'`]([a-z]+\.[a-z_]+)[\"'`]", code))
    # Names that the code puts together, such as `verdict.${KEYS[verdict]}`.
    composed = tuple(re.findall(r"[\"'`]([a-z]+\.[a-z_]*)\$?\{", code))
    assert [key for key in texts["en"] if key not in named and not key.startswith(composed)] == []
    said = re.findall(r"\b(?:say|saying|told|Told|label|write)\(\s*[\"']([\w.]+)[\"']", code)
    assert [key for key in said if key not in texts["en"] and "." in key] == []


# What Gradio says by itself, and names that are the same in every language.
GRADIOS = r"datei hier ablegen|- oder -|hochladen|aufnehmen|stopp|laden|in queue: .*|common\.\w+"
NAMES = r"\b[\w-]+\.(?:wav|json|safetensors|flac)\b|\b\w+_id_\d\d\b|\bpress_3\b|machine_room \(synthetic\)"
# Text of elements and labels for screen readers, outside of what is marked as English: what the model's code says.
SHOWN = """() => {
  const apart = "[lang=en], pre, .cm-editor, .asd-about, footer, .file-preview, [role=option], [data-testid=status-tracker]";
  const isShown = node => node.checkVisibility() && !node.closest(apart);
  const walker = document.createTreeWalker(document.querySelector(".gradio-container"), NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) if (isShown(walker.currentNode.parentElement)) found.push(walker.currentNode.data);
  for (const node of document.querySelectorAll(".asd [aria-label], [placeholder]"))
    if (isShown(node)) found.push(node.getAttribute("aria-label") ?? node.placeholder);
  return found;
}"""


def foreign(said: list[str], language: dict) -> set[str]:
    """What of the page is no text of this language."""
    table = [form for text in language.values() for form in forms(text)]
    known = [
        re.compile(
            ".+?".join(re.escape(part) for part in re.split(r"\{\w+\}", form.strip(" :."))), re.IGNORECASE | re.DOTALL
        )
        for text in table
        for form in (text, *re.split(r"\{\w+\}", text))  # elements may stand between the parts of a text
        if re.sub(r"\{\w+\}|\W", "", form)
    ]

    def is_known(text: str) -> bool:
        text = re.sub(NAMES, "N", text).strip(" ▶●■◐❚–:,.)\n")
        if not re.search(r"[^\W\d_]{4}", text) or re.fullmatch(GRADIOS, text.lower()):
            return True
        if any(pattern.fullmatch(text) for pattern in known):
            return True
        parts = re.split(r"[:,.] | \(| (?=N$)", text, maxsplit=1)
        return len(parts) == 2 and all(map(is_known, parts))

    return {text for text in said if not is_known(text)}


# As the app remembers it.
LIVE_ALARM = {
    "file": "Live, from 10 s on",
    "heard_by": "live",
    "time": "2026-11-03T14:05:00+00:00",
    "machine": "fan_id_00",
    "verdict": "anomalous",
    "p_value": 0.001,
    "score": 2.0,
    "threshold": 1.0,
    "false_alarm_rate": 0.01,
}


def test_a_german_sees_german_on_every_tab(visit, space, sounds, texts, tmp_path):
    page = visit(locale="de-DE")
    choose = panel(page).get_by_role("combobox", name="Maschine")
    choose.click()
    page.get_by_role("option", name="fan_id_00").click()
    give(page, sounds / "faulty.wav")
    panel(page).get_by_text("faulty.wav klingt nicht wie fan_id_00 im Normalbetrieb.").wait_for()
    assert verdict(page) == "Auffällig" and page.title() == "Klingt diese Maschine richtig?"
    card = panel(page).locator(".asd-card")
    # The reason is the model's own.
    assert answer(page)["reason"] == card.locator(".asd-reason[lang=en]").inner_text()
    assert "Die Begründung des Modells ist auf Englisch." in card.inner_text() and "1 von 100" in card.inner_text()
    with page.expect_download() as saved:
        panel(page).get_by_role("button", name="Bericht speichern").click()
    saved.value.save_as(tmp_path / "report.html")
    said = page.evaluate(SHOWN)
    for tab, files, done in (
        ("Dateien", ["normal.wav", "broken.wav"], "2 beurteilt: 1 normal, 1 nicht lesbar."),
        ("Zeitachse", ["long.wav"], "Fenstern haben einen Alarm ausgelöst"),
        ("Anlernen", [f"mine_{i}.wav" for i in range(3)], "Keine der 3 hätte einen Fehlalarm ausgelöst."),
        ("Verlauf", [], "Live, ab 10 s"),
        ("Live", [], "Halten Sie das Mikrofon an die Maschine"),
        ("Vergleichen", [], "Wählen Sie zwei Geräusche"),
        ("Über", [], "Wie es arbeitet"),
    ):
        open_tab(page, tab)
        if tab == "Zeitachse":
            panel(page).get_by_role("combobox", name="Maschine").click()
            page.get_by_role("option", name="fan_id_00").click()
        if files:
            give(page, [sounds / name for name in files])
        if tab == "Verlauf":
            (tmp_path / "live.json").write_text(json.dumps([LIVE_ALARM]))
            panel(page).locator("input[type=file]").set_input_files(tmp_path / "live.json")
        panel(page).get_by_text(done).first.wait_for()
        for summary in panel(page).locator("summary").filter(visible=True).all():
            summary.click()
        said += page.evaluate(SHOWN)
    open_tab(page, "Anlernen")
    panel(page).get_by_role("button", name="Anlernen", exact=True).click()
    panel(page).get_by_text("Die Maschine hat keinen Namen: Geben Sie einen ein.").wait_for()
    panel(page).get_by_label("Name der Maschine").fill("press_3")
    panel(page).get_by_role("button", name="Anlernen", exact=True).click()
    panel(page).get_by_text("Aus 3 Aufnahmen gemacht.").wait_for()
    said += page.evaluate(SHOWN)
    # What the alarm was to be learned with is gone from the server.
    open_tab(page, "Anhören")
    choose.click()
    page.get_by_role("option", name="press_3").click()
    panel(page).get_by_label("Löschen").click()
    give(page, sounds / "mine_faulty.wav")
    panel(page).get_by_text("mine_faulty.wav klingt nicht wie press_3 im Normalbetrieb.").wait_for()
    for path in space.temporary.rglob("mine_0.wav"):
        path.unlink()
    panel(page).get_by_role("button", name="Es war ein Fehlalarm").click()
    panel(page).get_by_text("mine_0.wav: wurde eine halbe Stunde nach der letzten Benutzung gelöscht.").wait_for()
    said += page.evaluate(SHOWN)
    left = sorted(foreign(said, texts["de"]))
    assert not left, left
    alone = page.context.new_page()
    alone.goto((tmp_path / "report.html").as_uri())
    assert (
        alone.locator(".asd-verdict").inner_text() == "Auffällig"
        and alone.locator("html").get_attribute("lang") == "de"
    )
    assert "1 von 100 normalen Aufnahmen" in alone.locator(".asd-report-head").inner_text()


def test_whoever_reads_neither_language_sees_english_and_another_can_be_chosen(visit, sounds):
    page = visit(locale="it-IT", query="/?tab=listen&machine=fan_id_00")
    until(lambda: panel(page).get_by_role("combobox", name="Machine").input_value() == "fan_id_00")
    give(page, sounds / "faulty.wav")
    panel(page).locator(".asd-verdict").wait_for()
    assert verdict(page) == "Anomalous"
    assert page.get_by_role("tab").all_inner_texts() == TABS
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("combobox", name="Language").click()
    page.get_by_role("option", name="Deutsch").click()
    until(lambda: verdict(page) == "Auffällig")
