"""A receiver of OTLP by others, oteltap, that prints every span: ``python -m tests.collector.otlp.tap PORT``.

One idea: a process, so that it can be killed; a line of base64 is a span as protobuf, so that nothing of it
is lost in between.
"""

import asyncio
import base64
import sys

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings


async def main() -> None:
    """Print "ready" once it listens, then spans."""
    settings = OtelTapHttpProtobufReceiverSettings(http_port=int(sys.argv[1]))
    async with OtelTapHttpProtobufReceiver(settings) as receiver:
        spans = receiver.stream_traces()
        following = asyncio.ensure_future(anext(spans))
        await asyncio.sleep(0)  # Now it is followed, and nothing is missed.
        print("ready", flush=True)
        while True:
            span = await following
            print(base64.b64encode(span.SerializeToString()).decode(), flush=True)
            following = asyncio.ensure_future(anext(spans))


if __name__ == "__main__":
    asyncio.run(main())
