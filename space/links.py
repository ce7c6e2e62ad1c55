"""Links to a tab, with an example, a machine and a share of false alarms: what a link asks for, and the page's own."""

import json
from collections.abc import Collection
from typing import Any

import gradio as gr
from errors import to_json
from parts import QUIET, Place, machine_choices
from settings import EXAMPLES_DIR


# As much of a link is said again on the page.
MAX_SAID = 60


def follow_links(tabs: gr.Tabs, places: dict[str, Place | None], said: gr.HTML, restored: Any, own: gr.State) -> None:
    """Open what a link asks for, and make the page's address the link to what is open.

    Args:
        tabs: the tabs. A page without a link opens the first.
        places: by the name of a tab, what a link can fill in there.
        said: where the page says what of a link it does not know.
        restored: the event after which the machines that the browser kept are known.
        own: the session's detector.
    """
    fillable = {tab: place for tab, place in places.items() if place is not None}

    def choose(detector: Any, request: gr.Request) -> list[Any]:
        link = Link(dict(request.query_params), places, detector)
        updates = [update for tab in fillable for update in (link.choices if tab == link.tab else [gr.skip()] * 2)]
        return [to_json({"unknown": link.unknown}) if link.unknown else "", *updates]

    def open_example(request: gr.Request) -> list[Any]:
        link = Link(dict(request.query_params), places, None)
        given = [link.sounds if tab == link.tab else [gr.skip()] * len(place.sounds) for tab, place in fillable.items()]
        return [sound for sounds in given for sound in sounds]

    choices = [part for place in fillable.values() for part in (place.machine, place.rate)]
    sounds = [part for place in fillable.values() for part in place.sounds]
    # Sounds come last: they are judged by the choices that are on the page when they come.
    chosen = restored.then(None, js="() => asd.openTab()").then(choose, own, [said, *choices], **QUIET)
    chosen.then(open_example, None, sounds, **QUIET).then(
        None, js=f"() => asd.beginAddress({json.dumps(facts(fillable))})"
    )
    for tab, place in fillable.items():
        inputs = [place.machine, place.rate, *place.sounds]
        follows = f"(...values) => asd.inAddress({json.dumps(tab)}, values)"
        gr.on([part.change for part in inputs], None, inputs, js=follows)
    tabs.select(None, js="() => asd.tabInAddress()")


class Link:
    """What a link asks for.

    Args:
        asked: the parameters of the link.
        places: by the name of a tab, what a link can fill in there.
        detector: the user's detector; by default the model's own.

    Attributes:
        tab: the name of the tab that it opens.
        choices: updates of the tab's choices of machine and false alarms.
        sounds: updates of the tab's inputs for sounds.
        unknown: what is not known here, each with its name and value.
    """

    def __init__(self, asked: dict[str, str], places: dict[str, Place | None], detector: Any):
        self.asked = asked
        self.unknown: list[dict[str, str]] = []
        self.tab = self.known("tab", places) or next(iter(places))
        place = places[self.tab]
        offered = place.offered if place else {}
        example = offered.get(self.known("example", offered) or "")
        machines = machine_choices(detector) if place else []
        machine = self.known("machine", [value for _, value in machines])
        rates = {f"{value:g}": value for _, value in place.rate.choices} if place else {}
        rate = self.known("rate", rates)
        if machine is None and example:
            machine = example.known_machine
        self.choices = [
            gr.skip() if machine is None else gr.Dropdown(choices=machines, value=machine),
            gr.skip() if rate is None else rates[rate],
        ]
        self.sounds = example.paths if example else [gr.skip()] * len(place.sounds if place else ())

    def known(self, name: str, choices: Collection[str]) -> str | None:
        """Return the choice that the link names, whatever its case; `None` where there is none."""
        if name not in self.asked:
            return None
        asked, alike = self.asked[name], {choice.casefold(): choice for choice in choices}
        found = asked if asked in choices else alike.get(asked.casefold())
        if found is None:
            self.unknown.append({"name": name, "value": asked[:MAX_SAID]})
        return found


def facts(places: dict[str, Place]) -> dict[str, Any]:
    """Return what the browser needs to write a link: the examples of each tab, and the rate that is chosen by default."""
    return {
        tab: {
            "examples": {
                name: [f"/{EXAMPLES_DIR.name}/{sound}" for sound in example.sounds]
                for name, example in place.offered.items()
            },
            "rate": place.rate.value,
        }
        for tab, place in places.items()
    }


__all__ = ["follow_links"]
