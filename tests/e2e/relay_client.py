"""The relay, spoken to by a client that is not ours: aioquic, and frames written from the page of the protocol alone.

`cargo xtask relay-client` starts the backend and says where it is. Prints a line for each check and "N passed, M failed" at the end.
"""

import asyncio
import json
import os
import ssl
import struct
import sys
import traceback
import urllib.request

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived
from cryptography import x509

TIMEOUT = 30.0
RELIABLE, UNRELIABLE, ORDERED = 0, 1, 2
JOIN, KICK, LEAVE, ACCEPT = 0x10, 0x11, 0x12, 0x13
WELCOME, JOINED, LEFT, ENDED = 0x20, 0x21, 0x22, 0x23


def call(path, body, token=None):
    """Posts to the backend."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(os.environ["BACKEND_URL"] + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
        return json.load(reply)


def player(name):
    """An access token."""
    return call("/v1/auth/anonymous", {"display_name": name})["access_token"]


def framed(frame):
    return struct.pack(">I", len(frame)) + frame


def message(kind, channel, target, payload, sequence=None):
    head = struct.pack(">BBi", kind, channel, target)
    return head + (struct.pack(">H", sequence) if kind == ORDERED else b"") + payload


class Player(QuicConnectionProtocol):
    """A connection: frames by the channel of their stream, datagrams, and the reason of its end."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.streams = {}
        self.arrived = asyncio.Queue()
        self.datagrams = asyncio.Queue()
        self.end = asyncio.get_event_loop().create_future()
        self.first = None
        self.number = None

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            data = self.streams.get(event.stream_id, b"") + event.data
            while len(data) >= 4 and len(data) >= 4 + struct.unpack(">I", data[:4])[0]:
                length = struct.unpack(">I", data[:4])[0]
                self.arrived.put_nowait((event.stream_id, data[4 : 4 + length]))
                data = data[4 + length :]
            self.streams[event.stream_id] = data
        elif isinstance(event, DatagramFrameReceived):
            self.datagrams.put_nowait(event.data)
        elif isinstance(event, ConnectionTerminated) and not self.end.done():
            self.end.set_result(event.error_code)

    def send(self, frame, stream=None):
        self._quic.send_stream_data(self.first if stream is None else stream, framed(frame))
        self.transmit()

    def send_datagram(self, frame):
        self._quic.send_datagram_frame(frame)
        self.transmit()

    def new_stream(self):
        return self._quic.get_next_available_stream_id(is_unidirectional=True)

    async def frame(self):
        return (await asyncio.wait_for(self.arrived.get(), TIMEOUT))[1]

    async def message(self):
        """The next message, with the number of its stream: (stream, kind, channel, sender, payload)."""
        while True:
            stream, frame = await asyncio.wait_for(self.arrived.get(), TIMEOUT)
            if frame[0] < JOIN:
                return stream, *parsed(frame)

    async def datagram(self):
        return parsed(await asyncio.wait_for(self.datagrams.get(), TIMEOUT))

    async def closed(self):
        return await asyncio.wait_for(self.end, TIMEOUT)


def parsed(frame):
    kind, channel, sender = struct.unpack(">BBi", frame[:6])
    return kind, channel, sender, frame[8 if kind == ORDERED else 6 :]


class Connected:
    """A player with this ticket."""

    def __init__(self, ticket, welcome=True):
        self.ticket, self.welcome = ticket, welcome
        configuration = QuicConfiguration(
            alpn_protocols=["backend-relay/1"], max_datagram_frame_size=65536, verify_mode=ssl.CERT_NONE
        )
        room = ticket["room"]
        self.context = connect(
            room["address"], room["port"], configuration=configuration, create_protocol=Player
        )

    async def __aenter__(self):
        player = await self.context.__aenter__()
        # The one of the ticket and no other.
        pinned = x509.load_pem_x509_certificate(self.ticket["certificate"].encode())
        assert player._quic.tls._peer_certificate == pinned, "another certificate"
        player.first = player._quic.get_next_available_stream_id()
        room_id = self.ticket["room"]["room_id"].encode()
        player.send(bytes([JOIN, 1, len(room_id)]) + room_id + self.ticket["ticket"].encode())
        if self.welcome:
            frame = await player.frame()
            assert frame[:2] == bytes([WELCOME, 1]), frame
            player.number = struct.unpack(">I", frame[2:])[0]
        return player

    async def __aexit__(self, *problem):
        await self.context.__aexit__(*problem)


def hosted():
    return call("/v1/relay/rooms", {"room": {"name": "Independent"}}, player("Host"))


def invited(ticket, name="Ada"):
    return call(f"/v1/rooms/{ticket['room']['room_id']}/ticket", {}, player(name))


async def test_messages_of_all_kinds():
    ticket = hosted()
    async with Connected(ticket) as host, Connected(invited(ticket)) as ada:
        assert host.number == 1 and ada.number > 1
        joined = await host.frame()
        assert joined[0] == JOINED and struct.unpack(">I", joined[1:5])[0] == ada.number
        assert joined.endswith(b"\x03Ada"), joined
        there = await ada.frame()
        assert there[0] == JOINED and there.endswith(b"\x04Host"), there
        ada.send(message(RELIABLE, 0, 1, b"first"))
        ada.send(message(RELIABLE, 0, 0, b"second"))
        assert (await host.message())[1:] == (RELIABLE, 0, ada.number, b"first")
        assert (await host.message())[1:] == (RELIABLE, 0, ada.number, b"second")
        stream = host.new_stream()
        host.send(message(RELIABLE, 7, 0, b"x" * 100_000), stream)
        got = await ada.message()
        assert got[1:] == (RELIABLE, 7, 1, b"x" * 100_000)
        assert got[0] % 4 == 3, "a stream that the relay has opened, in one direction"
        host.send_datagram(message(UNRELIABLE, 2, ada.number, b"now"))
        assert await ada.datagram() == (UNRELIABLE, 2, 1, b"now")
        ada.send_datagram(message(ORDERED, 3, -2, b"later", 258))
        raw = await asyncio.wait_for(host.datagrams.get(), TIMEOUT)
        assert raw == message(ORDERED, 3, ada.number, b"later", 258), "only the sender is replaced"
        host.send(message(UNRELIABLE, 7, 0, b"y" * 5_000), stream)
        assert (await ada.message())[1:] == (UNRELIABLE, 7, 1, b"y" * 5_000)


async def test_the_host_kicks_and_leaves():
    ticket = hosted()
    async with Connected(ticket) as host, Connected(invited(ticket)) as ada, Connected(invited(ticket, "Bob")) as bob:
        host.send(bytes([KICK]) + struct.pack(">I", ada.number))
        while (frame := await ada.frame())[0] != ENDED:
            pass
        assert frame == bytes([ENDED, 2])
        host.send(bytes([LEAVE]))
        while (frame := await bob.frame())[0] != ENDED:
            pass
        assert frame == bytes([ENDED, 3])
        assert await bob.closed() == 3


async def test_refusals_name_their_reason():
    ticket = hosted()
    async with Connected(invited(ticket), welcome=False) as early:
        assert await early.closed() == 14
    async with Connected(ticket) as host:
        async with Connected(ticket, welcome=False) as again:
            assert await again.closed() == 12
        closed = hosted()
        async with Connected({**closed, "ticket": ticket["ticket"]}, welcome=False) as elsewhere:
            assert await elsewhere.closed() == 11
        host.send(bytes([0x7F]))
        assert await host.closed() == 9


async def main():
    passed = failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            await test()
            print(f"ok   {name}", flush=True)
            passed += 1
        except Exception:  # Whatever it is, it is the result of this check.
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
