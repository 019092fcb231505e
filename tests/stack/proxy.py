"""Stands between a job and a service, and does what networks and busy services do:

    proxy.py SERVICE:PORT KIND,MATCH,CHANCE,FROM,TIMES…

Of the requests that contain MATCH, from the one with number FROM on, each has with CHANCE the fault KIND, at most TIMES
of them (-1: all): `busy` (HTTP 503), `reset` (the connection ends instead), `lost` (it is served, and the connection
ends instead of the answer) or `stall` (nothing happens for 40 s). Listens on the service's port, and says on standard
output what it did.

Mounted into a container of the stack's network by tests/stack/test_faults.py.
"""

import asyncio
import random
import sys
from dataclasses import dataclass

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CHANCE = random.Random(1)


@dataclass
class Fault:
    kind: str
    match: bytes
    chance: float
    wait: int
    left: int

    def strikes(self, request: bytes) -> bool:
        if self.match not in request or not self.left:
            return False
        self.wait -= 1
        if self.wait > 0 or CHANCE.random() > self.chance:
            return False
        self.left -= 1
        print(self.kind, flush=True)
        return True


def parsed(text: str) -> Fault:
    kind, match, chance, wait, times = text.split(",")
    return Fault(kind, match.encode(), float(chance), int(wait), int(times))


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(1 << 16):
        sink.write(chunk)
        await sink.drain()
    sink.close()


async def answer_busy(head: bytes, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    """Takes the whole request first: what is unread would reset the connection before the answer is there."""
    headers, _, body = head.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in headers.split(b"\r\n")[1:] if b": " in line)
    if b"expect" not in fields or body:
        missing = int(fields.get(b"content-length", 0)) - len(body)
        while missing > 0 and (chunk := await client.read(missing)):
            missing -= len(chunk)
    content = b"" if head.startswith(b"HEAD ") else BUSY
    answer.write(
        b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
        % (len(content), content)
    )
    await answer.drain()
    answer.close()


async def converse(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    service, request = await asyncio.open_connection(HOST, PORT)
    answers = asyncio.create_task(pump(service, answer))
    try:
        # A request begins a piece: its client waits for the answer to the one before.
        while chunk := await client.read(1 << 16):
            fault = next((fault for fault in FAULTS if fault.strikes(chunk)), None)
            if fault and fault.kind != "reset":
                answers.cancel()
                await asyncio.wait([answers])  # until then it still reads
            if fault and fault.kind == "busy":
                return await answer_busy(chunk, client, answer)
            if fault and fault.kind == "stall":
                await asyncio.sleep(40)
            if fault and fault.kind == "lost":
                request.write(chunk)
                await request.drain()
                await service.read(1)
            if fault:
                return answer.transport.abort()
            request.write(chunk)
            await request.drain()
        answer.close()
    finally:
        answers.cancel()
        request.close()


async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    try:
        await converse(client, answer)
    except OSError:
        answer.transport.abort()


async def main() -> None:
    server = await asyncio.start_server(serve, "0.0.0.0", PORT, limit=1 << 20)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


HOST, PORT = sys.argv[1].split(":")[0], int(sys.argv[1].split(":")[1])
FAULTS = [parsed(text) for text in sys.argv[2:]]
asyncio.run(main())
