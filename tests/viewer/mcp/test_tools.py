"""Tools for AI agents, by the client of their own library, over both transports."""

import asyncio
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.commands.test_process import MAIN, environment
from tests.viewer.queries.test_comparison import usual, write_minutes
from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import MINUTE, NOON, checkout, header, raised, span, store, trace_id
from tests.viewer.web.serving import TOKEN, served
from ztrace.wire import TOMBSTONE, TOPIC, pack_header, pack_stretch
from ztrace_collector.storing.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.process]

#: Most characters of an answer.
MOST = 16_000

Call = Callable[..., Awaitable[str]]


def ask_all(transport: Any, questions: Callable[[Call], Awaitable[None]], *used: Any) -> None:
    """Connect to a server, ask it, and close what the transport has used."""

    async def run() -> None:
        from mcp import Client

        async with AsyncExitStack() as stack:
            for each in used:
                await stack.enter_async_context(each)
            client = await stack.enter_async_context(Client(transport))

            async def call(tool: str, **arguments: Any) -> str:
                result = await client.call_tool(tool, arguments)
                text = "".join(getattr(part, "text", "") for part in result.content)
                assert len(text) <= MOST
                return f"error: {text}" if result.is_error else text

            await questions(call)

    asyncio.run(run())


def by_stdio(database: Path) -> Any:
    """Return a transport to ``ztrace mcp``."""
    from mcp import StdioServerParameters, stdio_client

    arguments = ["-c", MAIN, "mcp", "--db", str(database)]
    return stdio_client(StdioServerParameters(command=sys.executable, args=arguments, env=environment()))


def test_questions_are_answered_in_three_calls(shop: Path) -> None:
    """Why a call is slow, where it failed, and which calls failed for somebody: each needs few calls."""

    async def questions(call: Call) -> None:
        overview = await call("overview")
        assert "0 lost" in overview
        first = re.search(r"\b[0-9a-f]{16}\b", overview)
        assert first
        tree = await call("trace", trace_id=first[0])
        assert re.search(r"pricing\.price\*  773ms  own 773ms", tree)
        group = re.search(r"^([0-9a-f]{8})  \d+ time", overview, re.MULTILINE)
        assert group
        error = await call("error", group=group[1])
        assert re.search("stock.*division by zero", error, re.DOTALL)
        found = await call("find", text="user=ada")
        assert re.search("cart.*user", found)
        detail = await call("trace", trace_id=first[0], span="cart.load")
        assert "user = ada" in detail
        assert "shop.checkout" in await call("stats", order="total")
        assert "18 spans in 2 traces" in await call("status")
        place = re.search(r" at (\S+):\d+ in ", await call("errors"))
        assert place
        assert group[1] in await call("errors", file=place[1])
        assert group[1] not in await call("errors", file="nothing.py")

    ask_all(by_stdio(shop), questions)


def test_bad_questions_get_one_line(shop: Path) -> None:
    """What cannot be answered is an error with the line of the command."""

    async def questions(call: Call) -> None:
        for arguments, words in [
            ({"tool": "trace", "trace_id": "xyz"}, "is not a trace id"),
            ({"tool": "trace", "trace_id": "ab" * 16}, "no trace begins with"),
            ({"tool": "error", "group": "0123456789"}, "no error begins with"),
            ({"tool": "slow", "since": "soon"}, "is not a time"),
            ({"tool": "slow", "since": "5m", "until": "1h"}, "is not before"),
            ({"tool": "profile", "root": "shop.nothing"}, "shop.nothing"),
            ({"tool": "diff", "before": "2h..1h", "after": "1h.."}, "no call trees before"),
        ]:
            text = await call(**arguments)
            assert re.fullmatch(f"error: .*{re.escape(words)}.*", text)

    ask_all(by_stdio(shop), questions)


def test_a_large_tree_is_cut_and_says_so(tmp_path: Path) -> None:
    """Of a large tree as much as fits is told, and how to ask for less."""
    path = tmp_path / "large.db"
    trace = trace_id(1)
    spans = {"root": [span(trace, 1, duration_ms=5_000)]}
    for number in range(2, 3_002):
        call = span(trace, number, 1, name=f"call{number}", start_ms=number, duration_ms=number % 50)
        spans.setdefault(f"shop{number % 5}", []).append(call)
    store(path, spans, at_ns=NOON)

    async def questions(call: Call) -> None:
        tree = await call("trace", trace_id=trace.hex())
        assert re.search(r"… [\d,]+ more lines left out", tree)
        shorter = await call("trace", trace_id=trace.hex(), min_time="49ms")
        assert "left out" not in shorter
        assert re.search(r"… [\d,]+ shorter calls", shorter)

    ask_all(by_stdio(path), questions)


def test_the_page_serves_the_tools_to_holders_of_the_token(shop: Path) -> None:
    """Over HTTP the same tools are answered with the token, and refused without it."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def questions(call: Call) -> None:
        assert "Slowest call trees" in await call("overview")

    with served(shop) as site:
        url = f"http://127.0.0.1:{site.port}/mcp"
        assert site.ask("/mcp", "POST", {}).status == 401
        client = httpx2.AsyncClient(headers={"X-Ztrace-Token": TOKEN})
        ask_all(streamable_http_client(url, http_client=client), questions, client)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of two days: calls that became slower, a failed order, a lost batch."""
    path = tmp_path_factory.mktemp("week") / "shop.db"
    now_ns = time.time_ns()
    loads = {now_ns // MINUTE - 60 * hour: usual() for hour in range(1, 47)}
    for hour in range(1, 23):
        loads[now_ns // MINUTE - 60 * hour].each_ms["ship"] = 12.0
    write_minutes(path, loads, random.Random(1))
    began_ns = now_ns - 10 * MINUTE
    declined = raised("CardDeclined", "the bank declined the card of Ada")
    order = span(
        trace_id(7, began_ns + MINUTE),
        1,
        name="place",
        at_ns=began_ns + MINUTE,
        attributes={"customer": "Ada"},
        exception=declined,
    )
    settle(path, checkout(trace_id(1, began_ns), began_ns), {"orders": [order]})
    gone = header("bank", [], 99, kind=TOMBSTONE, span_count=5, created=5)
    with Store(path) as opened:
        opened.store([[TOPIC, pack_header(gone), pack_stretch(began_ns, began_ns + 1_000_000)]])
    return path


def test_each_question_is_answered_in_three_calls(week: Path) -> None:
    """Why a call is slow, where it failed, what was lost, what became slower, and what failed for Ada."""
    counts: list[int] = []

    async def questions(call: Call) -> None:
        async def ask(*steps: tuple[str, dict[str, Any], str]) -> None:
            """Ask step by step: `ID` is what the last pattern has found."""
            identifier = ""
            counts.append(len(steps))
            for tool, arguments, pattern in steps:
                given = {name: identifier if value == "ID" else value for name, value in arguments.items()}
                text = await call(tool, **given)
                found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
                assert found, text
                identifier = found[found.lastindex or 0]

        await ask(
            ("slow", {"method": "checkout"}, r"^([0-9a-f]{16,32}) "),
            ("trace", {"trace_id": "ID"}, r"pricing\.price\*  773ms  own 773ms"),
        )
        await ask(
            ("slow", {"method": "price"}, "calls within trees are found by find"),
            ("find", {"text": "price"}, r"^([0-9a-f]{16,32}) .*shop → price"),
            ("trace", {"trace_id": "ID"}, r"pricing\.price\*  773ms  own 773ms"),
        )
        await ask(
            ("profile", {"root": "pricing.price"}, "give a root that calls it: shop.checkout"),
            ("profile", {"root": "shop.checkout"}, r"pricing\.price +6\d\.\d%"),
        )
        await ask(
            ("errors", {"text": "division"}, r"^([0-9a-f]{8}) "),
            ("error", {"group": "ID"}, r"stock\.reserve.*/srv/shop/stock\.py:12"),
        )
        await ask(("status", {}, r"lost +5 spans.*window full"))
        await ask(
            ("overview", {}, r"the first \d+m ago"),
            ("diff", {"before": "48h..24h", "after": "24h.."}, r"<0\.001%  shop\.buy > shop\.ship"),
        )
        await ask(("find", {"text": "customer=Ada", "errors": True}, r"orders\.place.*customer=Ada"))
        await ask(
            ("find", {"text": "name=Ada", "errors": True}, "a value needs no key"),
            ("find", {"text": "Ada", "errors": True}, r"orders\.place"),
        )

    ask_all(by_stdio(week), questions)
    assert max(counts) <= 3
