"""One file over https, checked against its md5: within a largest size, and no slower than patience allows.

An interrupted download is resumed. The code is written here because pooch compares the md5 but does not resume, and the
download manager of `datasets` does neither.
"""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from datasets.utils import tqdm

from .archives import MAX_ARCHIVE_BYTES, ArchiveError


# An attempt may take so long, and longer by what it brought at the slowest rate that is worth waiting for.
PATIENCE_S = 60.0
SLOWEST_BYTES_PER_S = 10_000
# An attempt that brings less is futile.
PROGRESS_BYTES = 2**16
MAX_FUTILE_ATTEMPTS = 5
# A server that asks for a longer pause is asked again by the user.
MAX_PAUSE_S = 300.0
MAX_REDIRECTS = 10
# Request timeout, too many requests (Zenodo's rate limit), and passing failures of the server.
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Interrupted(Exception):
    """A transfer that ended early. Another attempt may succeed."""

    def __init__(self, message: str, retry_after_s: float = 0.0):
        super().__init__(message)
        self.retry_after_s = retry_after_s


def download(
    url: str,
    path: Path,
    md5: str | None,
    *,
    max_bytes: int = MAX_ARCHIVE_BYTES,
    retry_wait_s: float = 1.0,
    patience_s: float = PATIENCE_S,
) -> None:
    """Download one file, and check its md5. The download goes on where an earlier one stopped (`<path>.part`).

    If `path` exists, only its md5 is checked. Broken connections and passing server errors are tried again, until
    `MAX_FUTILE_ATTEMPTS` attempts in a row brought next to nothing.

    Args:
        url: the address, by https. A server on this machine may use http.
        path: the file to write.
        md5: the expected md5, in hexadecimal digits; None to check nothing and to start from the beginning.
        max_bytes: the largest size.
        retry_wait_s: seconds before the first new attempt. The time doubles with every attempt without progress.
        patience_s: how long an attempt may take to bring nothing.

    Raises:
        ArchiveError: the server refuses, sends more than `max_bytes` or leads to another protocol, all attempts have
            failed, or the md5 is another. In the last case the file is removed.
    """
    part = path.with_name(path.name + ".part")
    if md5 is None:
        part.unlink(missing_ok=True)  # without md5, the two halves may be of different files
    futile, longest = 0, _size(part)
    while not path.exists():
        try:
            _run(_transfer(url, part, max_bytes, patience_s))
            os.replace(part, path)
        except _Interrupted as error:
            futile = 0 if _size(part) >= longest + PROGRESS_BYTES else futile + 1
            longest = max(longest, _size(part))
            if futile == MAX_FUTILE_ATTEMPTS:
                raise ArchiveError(
                    f"{url}: gave up after {futile} attempts in a row without progress ({error}). What came "
                    f"is kept in {part}: run the same command again to go on from there."
                ) from error
            time.sleep(max(error.retry_after_s, retry_wait_s * 2**futile))
    if md5 is not None and (got := _md5(path)) != md5:
        path.unlink()
        raise ArchiveError(
            f"{path.name}: the md5 is {got}, expected {md5}. The file came from {url} and was removed. Run "
            "the same command again; if the md5 stays the same, the server does not hold the published file."
        )


def _run(transfer: Coroutine[Any, Any, None]) -> None:
    """Run a transfer to its end, in a thread of its own where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(transfer)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, transfer).result()


async def _transfer(url: str, part: Path, max_bytes: int, patience_s: float) -> None:
    """Append to `part` the bytes of `url` that it lacks. A server without Range support sends all bytes again."""
    start_s, have = time.monotonic(), _size(part)
    # The bytes as they are: a small answer in a compressed form could be very large.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    checks: dict[str, list] = {"request": [_checker_of_protocol(url)]}
    async with httpx.AsyncClient(
        follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=patience_s, event_hooks=checks
    ) as client:
        try:
            # All of the headers in time: a server that sends a byte of them now and then keeps every other limit.
            answer = client.send(client.build_request("GET", url, headers=headers), stream=True)
            response = await asyncio.wait_for(answer, patience_s)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ArchiveError(f"{url}: the server leads astray ({error}). Check the address in a browser.") from error
        except (httpx.TransportError, OSError) as error:  # TimeoutError is an OSError
            raise _Interrupted(str(error) or f"no answer in {patience_s:g} s") from error
        try:
            if _is_complete(response, url, part, have):
                return
            await _receive(response, url, part, max_bytes, patience_s, start_s)
        finally:
            await response.aclose()


def _checker_of_protocol(url: str) -> Any:
    """Make a function that refuses a request by another protocol than https; by http, where `url` is on this machine."""
    is_local = httpx.URL(url).host in LOOPBACK

    async def check(request: httpx.Request) -> None:
        is_allowed_http = is_local and request.url.scheme == "http" and request.url.host in LOOPBACK
        if request.url.scheme != "https" and not is_allowed_http:
            place = f"{request.url.scheme}://{request.url.host}"
            raise ArchiveError(f"{url}: leads to {place}. Expected https. Check the address in a browser.")

    return check


def _is_complete(response: httpx.Response, url: str, part: Path, have: int) -> bool:
    """Whether `part` holds all of the file already. A status that brings no file is an error."""
    if response.is_success:
        return False
    status = f"{response.status_code} {response.reason_phrase}"
    if response.status_code == 416 and have:
        total = re.fullmatch(r"bytes \*/(\d{1,18})", response.headers.get("Content-Range", ""))
        if total is None or int(total[1]) == have:  # the file is whole, or the md5 will tell
            return True
        part.unlink()
        raise _Interrupted(f"the server's file has {total[1]} bytes, {have} came before; starting over")
    if response.status_code not in RETRIED_STATUS:
        raise ArchiveError(f"{url}: the server answered {status}. Check the address in a browser.")
    wait = response.headers.get("Retry-After", "")
    pause_s = float(wait) if re.fullmatch(r"\d{1,18}", wait) else 0.0
    if pause_s > MAX_PAUSE_S:
        raise ArchiveError(
            f"{url}: the server answered {status}, and asks to wait for {pause_s:.0f} s. Run the same command again later."
        )
    raise _Interrupted(f"HTTP {status}", pause_s)


async def _receive(
    response: httpx.Response, url: str, part: Path, max_bytes: int, patience_s: float, start_s: float
) -> None:
    """Write what a response brings to the end of `part`, or from the beginning where the server sends all."""
    first, total = _range(response)
    if first not in (0, _size(part)):
        part.unlink(missing_ok=True)
        raise _Interrupted(f"the server sent the bytes from {first} on, which were not asked for; starting over")
    if total is not None and total > max_bytes:
        raise ArchiveError(f"{url}: the file has {total} bytes, expected at most {max_bytes}.")
    size, chunks = first, response.aiter_raw()
    with (
        part.open("ab" if first else "wb") as file,
        tqdm(
            desc=part.name.removesuffix(".part"), total=total, initial=first, unit="B", unit_scale=True, disable=None
        ) as bar,
    ):
        while True:
            left_s = start_s + patience_s + (size - first) / SLOWEST_BYTES_PER_S - time.monotonic()
            try:
                chunk = await asyncio.wait_for(anext(chunks, b""), max(left_s, 0.0))
            except TimeoutError:
                raise _Interrupted(f"slower than {SLOWEST_BYTES_PER_S} bytes a second") from None
            except (httpx.TransportError, httpx.DecodingError, OSError) as error:
                raise _Interrupted(f"the connection ended after {size} of {total or 'unknown'} bytes") from error
            if not chunk:
                break
            size += len(chunk)
            if size > max_bytes:
                break
            file.write(chunk)
            bar.update(len(chunk))
    if size > max_bytes:
        part.unlink()
        raise ArchiveError(f"{url}: more than {max_bytes} bytes came, expected fewer. What came was removed.")
    if total is not None and size < total:
        raise _Interrupted(f"the connection ended after {size} of {total} bytes")


def _range(response: httpx.Response) -> tuple[int, int | None]:
    """The first byte that a response brings, and the bytes of the whole file, as far as its headers make sense."""
    length = response.headers.get("Content-Length", "")
    length = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if response.status_code != 206:
        return 0, length
    given = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    if given is None:
        return -1, None
    return int(given[1]), None if given[3] == "*" else int(given[3])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
