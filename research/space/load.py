"""Many users of the Space at once, and a long live session: is everyone answered, and does memory stay flat?

    python -m research.space.load --data_dir DATA --users 20 --live_minutes 30 --output R.md

The app runs in a process of its own, on this machine's cores, with the model of the Space. Each user is a session that sends
the page's own requests. The live session is a real Chromium, whose microphone repeats recordings of DATA.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from evaluation.command import run
from research.benchmarks.report import describe_machine, markdown

from .page import choose_machine, chromium, open_page, open_tab, panel
from .server import SPACE, SpaceServer
from .visitor import Visitor


MACHINE, RATE = "pump_id_00", 0.01
FILES, NORMAL = 5, 8
# So often all users come. After each time the app may give back memory, as it does every minute.
TIMES, GIVE_BACK_S = 3, 65
# How often memory is read during the live session, in seconds.
EVERY_S = 30


def main() -> int:
    """Measure, print or write the page, and return 1 where somebody was not answered, or the live session stopped."""
    arguments = parse_arguments()
    clips = machine_clips(arguments.data_dir)
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    parts = [f"Measured {began}: `{' '.join(['python -m research.space.load', *sys.argv[1:]])}`", machine_line()]
    users: list[dict[str, Any]] = []
    live: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="space-load-") as folder:
        server = SpaceServer(Path(folder), SPACE, MODEL_ID=arguments.model or "")
        try:
            if arguments.users:
                memory = [resident_mib(server)]
                for _ in range(TIMES):
                    users += serve_users(server, clips, arguments.users)
                    memory.append(resident_mib(server))
                    time.sleep(GIVE_BACK_S)
                    memory.append(resident_mib(server))
                parts += [*users_section(users, arguments.users), memory_sentence(memory)]
            if arguments.live_minutes:
                listen_live(server, clips, arguments.live_minutes, Path(folder), live)
        finally:
            # What was measured is not lost, whatever ends it.
            parts += live_section(live) if live else []
            text = "\n\n".join(parts) + "\n"
            print(text, flush=True)
            if arguments.output:
                arguments.output.write_text(text, encoding="utf-8")
            server.stop()
    return int(any(user["error"] for user in users) or any(sample["has_stopped"] for sample in live))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help=f"DCASE layout, with recordings of {MACHINE}")
    parser.add_argument("--model", help="a model that knows this machine (the Space's own)")
    parser.add_argument("--users", type=int, default=20, help="how many come at once; 0 for none (20)")
    parser.add_argument("--live_minutes", type=float, default=30.0, help="length of the live session; 0 for none (30)")
    parser.add_argument("--output", type=Path, help="write the tables into this file, too")
    return parser.parse_args()


def machine_clips(data_dir: Path) -> dict[str, list[Path]]:
    """Return the recordings of `MACHINE`: `train`, and `test`.

    Raises:
        ValueError: there are too few.
    """
    kind, machine_id = MACHINE.split("_id_")
    clips = {split: sorted((data_dir / kind / split).glob(f"*_id_{machine_id}_*.wav")) for split in ("train", "test")}
    if len(clips["train"]) < NORMAL or len(clips["test"]) < FILES:
        raise ValueError(
            f"{data_dir}: expected {NORMAL} recordings of {MACHINE} in {kind}/train and {FILES} in {kind}/test, found "
            f"{len(clips['train'])} and {len(clips['test'])}."
        )
    return clips


def machine_line() -> str:
    machine = describe_machine()
    return (
        f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']:.1f} at the start; torch "
        f"{machine['torch']}, Python {machine['python']}."
    )


# Many users


def serve_users(server: SpaceServer, clips: dict[str, list[Path]], count: int) -> list[dict[str, Any]]:
    """Let all users come at once; return the seconds of each step of each, and what went wrong."""
    together = threading.Barrier(count, timeout=300)
    with ThreadPoolExecutor(count) as users:
        return list(users.map(lambda index: use(server.url, clips, index, together), range(count)))


def use(url: str, clips: dict[str, list[Path]], index: int, together: threading.Barrier) -> dict[str, Any]:
    """Be one user: listen to a recording, judge several, enroll a machine, and judge as this machine."""
    steps: dict[str, Any] = {"error": None}
    visitor = Visitor(url)
    try:
        heard, *files = visitor.upload([clips["test"][(index + i) % len(clips["test"])] for i in range(FILES + 1)])
        normal = visitor.upload(clips["train"][:NORMAL])
        together.wait()
        began = time.monotonic()
        (found,), steps["Listen, 1 recording"] = visitor.timed("listen", heard, MACHINE, RATE, None, None)
        check(json.loads(found), lambda answer: answer["result"]["machine"] == MACHINE)
        (table, _), steps[f"Files, {FILES} recordings"] = visitor.timed("judge_many", files, MACHINE, RATE, None)
        check(json.loads(table), lambda answer: all("result" in row for row in answer["rows"]))
        visitor.ask("add", normal, [])
        (study,), steps[f"Enroll, {NORMAL} recordings studied"] = visitor.timed("show_study", None)
        check(json.loads(study), lambda answer: len(answer["recordings"]) == NORMAL)
        (made, _, _, detector_files, *_), steps["Enroll, the machine made"] = visitor.timed(
            "enroll_on_page", *[None] * 3, "press_3", None, None
        )
        check(json.loads(made), lambda answer: answer["title"][1]["machine"] == "press_3")
        visitor.fetch(detector_files)
        visitor.ask("offered_machines", None, MACHINE)  # as the page does when the session's machines change
        (again,), steps["Listen, as this machine"] = visitor.timed("listen", heard, "press_3", RATE, None, None)
        check(json.loads(again), lambda answer: answer["result"]["machine"] == "press_3")
        steps["All steps of a user"] = time.monotonic() - began
    except Exception as error:  # whatever it is, the other users are served
        steps["error"] = f"user {index}: {type(error).__name__}: {error}"
    finally:
        visitor.close()
    return steps


def check(answer: dict[str, Any], is_right: Callable[[dict[str, Any]], bool]) -> None:
    if "error" in answer or not is_right(answer):
        raise ValueError(f"a wrong answer: {json.dumps(answer)[:300]}")


def users_section(users: list[dict[str, Any]], at_once: int) -> list[str]:
    """Return heading, table and sentence about the users' times."""
    answered = [user for user in users if user["error"] is None]
    errors = "".join(f" {user['error']}." for user in users if user["error"])
    rows = []
    for step in answered[0] if answered else ():
        if step == "error":
            continue
        seconds = np.array([user[step] for user in answered])
        at = {f"{share} %": float(np.percentile(seconds, share)) for share in (50, 90, 95)}
        rows.append({"step": step, **at, "slowest": float(seconds.max())})
    heading = (
        f"## {at_once} users at once, {TIMES} times\n\nSeconds from the request to the whole answer, over all users."
    )
    return [heading, *([markdown(rows)] if rows else []), f"Answered: {len(answered)} of {len(users)} users.{errors}"]


def memory_sentence(memory: list[float]) -> str:
    """Say what the app had before the users, and after each time."""
    before, *after = (f"{mib:.0f}" for mib in memory)
    times = "; ".join(f"{at_once} MiB, {later} MiB" for at_once, later in zip(after[::2], after[1::2], strict=True))
    return f"Memory of the app: {before} MiB before the users. After each time, at once and {GIVE_BACK_S} s later: {times}."


# A long live session


def listen_live(
    server: SpaceServer, clips: dict[str, list[Path]], minutes: float, folder: Path, samples: list[dict[str, Any]]
) -> None:
    """Let a real page listen to its microphone, and append the memory of page and app to `samples` every now and then."""
    microphone = folder / "microphone.wav"
    parts = [soundfile.read(path, dtype="int16") for path in clips["test"]]
    soundfile.write(microphone, np.concatenate([samples for samples, _ in parts]), parts[0][1])
    with chromium(microphone) as browser:
        context = browser.new_context(permissions=["microphone"])
        page = context.new_page()
        open_page(page, server.url)
        open_tab(page, "Live")
        choose_machine(page, MACHINE)
        panel(page).get_by_role("button", name="Start listening").click()
        panel(page).locator(".asd-verdict").wait_for()
        tools = context.new_cdp_session(page)
        began = time.monotonic()
        while not samples or samples[-1]["minutes"] < minutes:
            if samples:
                page.wait_for_timeout(1000 * min(EVERY_S, max(60 * minutes - (time.monotonic() - began), 0.1)))
            tools.send("HeapProfiler.collectGarbage")
            samples.append(
                {
                    "minutes": (time.monotonic() - began) / 60,
                    "app_mib": resident_mib(server),
                    "heap_mib": tools.send("Runtime.getHeapUsage")["usedSize"] / 2**20,
                    "nodes": tools.send("Memory.getDOMCounters")["nodes"],
                    "clock": panel(page).locator(".asd-answer .asd-hint").first.inner_text(),
                    "has_stopped": panel(page).get_by_role("button", name="Start listening").count() > 0,
                }
            )
            print(samples[-1], file=sys.stderr, flush=True)


def resident_mib(server: SpaceServer) -> float:
    """Return the memory that the app has now."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def live_section(samples: list[dict[str, Any]]) -> list[str]:
    """Return heading, table and sentences about the live session, with every fifth minute and the last one."""
    *before, last = samples
    firsts = [next((sample for sample in before if sample["minutes"] >= mark), last) for mark in range(0, 24 * 60, 5)]
    shown = [*firsts[: firsts.index(last)], last]
    names = {"minutes": "minute", "app_mib": "app [MiB]", "heap_mib": "page's heap [MiB]", "nodes": "nodes of the page"}
    rows = [{title: round(sample[name], 1) for name, title in names.items()} for sample in shown]
    return [
        f"## {last['minutes']:.0f} minutes live",
        markdown(rows),
        *growth(samples),
        f"The page's own count at the end: {last['clock']}"
        + (" The page had stopped listening." if last["has_stopped"] else ""),
    ]


def growth(samples: list[dict[str, Any]]) -> list[str]:
    """Return a sentence about the slopes of the second half, an hour; none of a session that is too short."""
    half = samples[len(samples) // 2 :]
    if len(half) < 5:
        return []
    minutes = [sample["minutes"] for sample in half]
    app, heap = (60 * np.polyfit(minutes, [sample[name] for sample in half], 1)[0] for name in ("app_mib", "heap_mib"))
    return [f"In the second half the app grew by {app:.1f} MiB an hour, the page's heap by {heap:.1f} MiB an hour."]


if __name__ == "__main__":
    run(main)
