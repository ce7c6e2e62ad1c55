"""
A recording by its address: downloaded by http or https, within a largest size and a longest time.

Begin with [`download`].
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any


# A recording by URL: 100 MiB are 54 minutes of 16 kHz, 16 bit, mono.
MAX_DOWNLOAD_BYTES = 100 * 2**20
# To connect, and between two pieces of the answer.
CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 120.0
MAX_REDIRECTS = 10


def download(url: str, max_bytes: int = MAX_DOWNLOAD_BYTES, max_seconds: float = DOWNLOAD_SECONDS) -> bytes:
    """Download a file by http or https, which every redirect has to keep to.

    Args:
        url: the file's address.
        max_bytes: the largest size.
        max_seconds: the longest time in all, from the first connection to the last byte.

    Raises:
        ValueError: for another scheme, a server that does not answer as it should, a file that comes only in part, or one
            beyond the limits. The message has the address without what follows its path.
        ImportError: httpx is not installed.
    """
    name = without_secrets(url)
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{name}: expected an http or https URL, or the path of a file.")
    try:
        import asyncio

        import httpx
    except ImportError:
        raise ImportError("Recordings by URL need httpx: pip install httpx") from None

    async def fetch_in_time() -> bytes:
        # One deadline over all: a server that sends a byte of its headers every few seconds is within every other limit.
        return await asyncio.wait_for(fetch(httpx, url, max_bytes), max_seconds)

    try:
        # In a thread of its own, because the caller's may have an event loop that runs, as notebooks do.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(fetch_in_time())).result()
    except TimeoutError:
        reason = f"it took longer than {max_seconds:g} s"
    except Exception as error:  # httpx's, the operating system's, and groups of them
        reason = (str(error) or type(error).__name__).replace(url, name)
    raise ValueError(f"{name}: cannot be downloaded ({reason}). Download it yourself and give the file.")


async def fetch(httpx: Any, url: str, max_bytes: int) -> bytes:
    """Get a file's bytes.

    Raises:
        ValueError: the server refuses, or sends more than the limit, or less than it said.
    """
    # The bytes as they are: a small answer in a compressed form could be very large.
    headers = {"Accept-Encoding": "identity"}
    data = bytearray()
    async with (
        # httpx follows redirects to http and https alone.
        httpx.AsyncClient(follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=CONNECT_SECONDS) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if not response.is_success:
            raise ValueError(f"the server answers {response.status_code} {response.reason_phrase}")
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > max_bytes:
                raise ValueError(f"it is larger than {max_bytes} bytes")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != len(data):
            raise ValueError(f"it was cut off after {len(data)} of {length} bytes")
    return bytes(data)


def without_secrets(url: str) -> str:
    """Return an address for messages: without user, password, query and fragment, which may be what gives access."""
    scheme, separator, rest = url.partition("://")
    address = rest.split("?", 1)[0].split("#", 1)[0]
    host, slash, path = address.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


__all__ = ["download", "without_secrets"]
