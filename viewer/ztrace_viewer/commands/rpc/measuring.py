"""``ztrace rpc bench`` and ``ztrace rpc ping``: times of calls."""

import time
from typing import TYPE_CHECKING

import click

from ztrace_viewer.commands.rpc.arguments import WordsCommand, key_option, read_call
from ztrace_viewer.commands.rpc.completing import complete_remote_methods
from ztrace_viewer.commands.statuses import NOTHING_FOUND
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.saying import complain, say

if TYPE_CHECKING:
    from ztrace.rpc import AsyncClient


@click.command(cls=WordsCommand)
@click.argument("address", metavar="ADDR")
@click.argument("method", shell_complete=complete_remote_methods)
@click.argument("words", metavar="[ARG|NAME=VALUE]...", nargs=-1)
@click.option(
    "--callers",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Calls in flight at once.",
)
@click.option(
    "--seconds",
    "duration_s",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="N",
    help="Duration of the measurement.",
)
@key_option
def bench(
    address: str, method: str, words: tuple[str, ...], callers: int, duration_s: float, key: str | None
) -> None:
    """Measure the calls of a method.

    The method is called with the same arguments again and again, and is really run. The items of a stream are
    read to its end. Calls that fail are counted, and the first failure is printed; times are those of the
    calls that do not.

    \b
    Example:
      ztrace rpc bench tcp://127.0.0.1:4242 charge visa amount=12 --callers 16
    """
    import asyncio
    from collections.abc import AsyncIterator

    from ztrace.rpc import RpcError
    from ztrace_viewer.commands.rpc.asking import ask, describe, find_method, invoke

    times_ns: list[int] = []
    failures: list[RpcError] = []
    literal = WordsCommand.literal()

    async def run(client: "AsyncClient") -> tuple[float, float]:
        found = find_method(await describe(client, address), method, address)
        args, kwargs = read_call(found, words, literal)
        start_s, start_cpu_s = time.monotonic(), time.process_time()

        async def call() -> None:
            # Once at least, also where the machine is busy for longer than the measurement.
            is_over = False
            while not is_over:
                start_ns = time.perf_counter_ns()
                try:
                    result = await invoke(client, method, args, kwargs)
                    if isinstance(result, AsyncIterator):
                        async for _ in result:
                            pass
                except RpcError as error:
                    failures.append(error)
                else:
                    times_ns.append(time.perf_counter_ns() - start_ns)
                is_over = time.monotonic() - start_s >= duration_s

        await asyncio.gather(*(call() for _ in range(callers)))
        return time.monotonic() - start_s, time.process_time() - start_cpu_s

    taken_s, cpu_s = ask(address, run, key=key, timeout_s=30.0)
    count = len(times_ns) + len(failures)
    say(f"{count:,} calls in {taken_s:.2f} s, {callers:,} at once: {count / taken_s:,.0f}/s")
    if times_ns:
        shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        say("  ".join(f"{name} {_quantile(times_ns, share)}" for name, share in shares))
    say(f"{cpu_s / count * 1e6:,.0f} µs of this process's CPU each")
    if failures:
        complain(f"ztrace: {plural(len(failures), 'call')} failed, the first with {failures[0]}")
        click.get_current_context().exit(NOTHING_FOUND)


@click.command()
@click.argument("address", metavar="ADDR")
@click.option(
    "--count",
    type=click.IntRange(1, 1_000_000),
    default=4,
    show_default=True,
    metavar="N",
    help="Round trips, a second apart.",
)
@key_option
def ping(address: str, count: int, key: str | None) -> None:
    """Measure the round trip to a server.

    The time includes msgpack and the server's own turn, but none of its methods.

    \b
    Example:
      ztrace rpc ping tcp://127.0.0.1:4242
    """
    from ztrace_viewer.commands.rpc.asking import ask, ask_first

    async def run(client: "AsyncClient") -> list[int]:
        import asyncio

        times_ns = []
        for number in range(count):
            if number:
                await asyncio.sleep(1.0)
            start_ns = time.perf_counter_ns()
            answer = await ask_first(client, address, "_zerorpc_ping")
            times_ns.append(time.perf_counter_ns() - start_ns)
            name = answer[-1] if isinstance(answer, list) and answer else ""
            say(f"{name or 'pong'} from {address}: {format_duration(times_ns[-1])}")
        return times_ns

    times_ns = ask(address, run, key=key)
    if count > 1:
        say(f"p50 {_quantile(times_ns, 0.5)}  least {format_duration(min(times_ns))}")


def _quantile(times_ns: list[int], share: float) -> str:
    ordered = sorted(times_ns)
    return format_duration(ordered[min(len(ordered) - 1, int(share * len(ordered)))])
