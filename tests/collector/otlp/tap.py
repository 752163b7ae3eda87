"""oteltap, a third-party OTLP receiver, printing every span: ``python -m tests.collector.otlp.tap PORT``.

One idea: a separate process can be killed; spans are printed as base64 of protobuf, one per line, without
loss.
"""

import asyncio
import base64
import sys

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings


async def main() -> None:
    """Print "ready" once the receiver listens, then the spans."""
    settings = OtelTapHttpProtobufReceiverSettings(http_port=int(sys.argv[1]))
    async with OtelTapHttpProtobufReceiver(settings) as receiver:
        spans = receiver.stream_traces()
        following = asyncio.ensure_future(anext(spans))
        await asyncio.sleep(0)  # The stream is being read now, so no span is missed.
        print("ready", flush=True)
        while True:
            span = await following
            print(base64.b64encode(span.SerializeToString()).decode(), flush=True)
            following = asyncio.ensure_future(anext(spans))


if __name__ == "__main__":
    asyncio.run(main())
