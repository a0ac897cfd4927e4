"""Both sides of the CurveTun protocol, version 1.0, written from docs/PROTOCOL.md alone.

Numbers in parentheses are sections of that document. Nothing here knows of
attacks; attacks.py bends these pieces. PyNaCl does the cryptography.
"""

import hmac
import os
import socket

from nacl import bindings as nacl

# 5: the kinds of packets, and their lengths
HELLO = bytes.fromhex("6c09afb28aa9fafc")
COOKIE = bytes.fromhex("1c45dcb941c0e3f6")
INITIATE = bytes.fromhex("6c09afb28aa9fafd")
MESSAGE = bytes.fromhex("6d1b39cbf65a11b4")
HELLO_LEN, COOKIE_LEN, INITIATE_LEN, MESSAGE_LEN_MIN = 128, 168, 224, 32
MESSAGE_MAX = 65503
DEADLINE = 20


class Refused(Exception):
    """The peer sent what it must not have sent."""


class Closed(Exception):
    """The peer closed the transport."""


def check(true, what):
    if not true:
        raise Refused(what)


def counter(n):
    return n.to_bytes(8, "big")


def agree(secret, public):
    """The key of every box between two pairs (2); a key of low order is refused (8)."""
    try:
        return nacl.crypto_box_beforenm(public, secret)
    except Exception:
        raise Refused("key of low order") from None


def opened(open_, *arguments):
    try:
        return open_(*arguments)
    except Exception:
        raise Refused("box does not open") from None


def box(key, nonce, message):
    return nacl.crypto_box_afternm(message, nonce, key)


def unbox(key, nonce, sealed):
    return opened(nacl.crypto_box_open_afternm, sealed, nonce, key)


class Wire:
    """Frames over a TCP connection (4)."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *packets):
        try:
            self.sock.sendall(b"".join(len(p).to_bytes(2, "big") + p for p in packets))
        except (ConnectionResetError, BrokenPipeError):
            raise Closed from None

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                piece = self.sock.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed
            data += piece
        return data

    def receive(self, right):
        """The next packet; `right` says whether its length can be right in this state."""
        length = int.from_bytes(self._exactly(2), "big")
        check(right(length), "length")
        return self._exactly(length)

    def close(self):
        self.sock.close()


class Channel:
    """Messages in both directions, each with its own counter (5.4)."""

    def __init__(self, key, ours, theirs):
        self.key, self.ours, self.theirs = key, ours, theirs
        self.send_next = self.receive_next = 2

    def packet(self, message, n):
        return MESSAGE + counter(n) + box(self.key, self.ours + counter(n), message)

    def seal(self, message):
        check(len(message) <= MESSAGE_MAX, "message too large")
        check(self.send_next < 2**64 - 1, "counter exhausted")
        self.send_next += 1
        return self.packet(message, self.send_next - 1)

    def open(self, packet):
        check(len(packet) >= MESSAGE_LEN_MIN and packet[:8] == MESSAGE, "kind")
        check(packet[8:16] == counter(self.receive_next), "counter")
        check(self.receive_next < 2**64 - 1, "counter exhausted")
        message = unbox(self.key, self.theirs + packet[8:16], packet[16:])
        self.receive_next += 1
        return message


class Client:
    """One handshake of the client (7); an instance is used once."""

    def __init__(self, secret, server):
        self.secret, self.server = secret, server
        self.public = nacl.crypto_scalarmult_base(secret)
        self.ec, self.ecs = nacl.crypto_box_keypair()

    def hello(self):
        self.hello_key = agree(self.ecs, self.server)
        return HELLO + self.ec + counter(0) + box(self.hello_key, b"CurveCP-client-H" + counter(0), bytes(64))

    def cookie(self, packet):
        check(len(packet) == COOKIE_LEN and packet[:8] == COOKIE, "kind")
        message = unbox(self.hello_key, b"CurveCPK" + packet[8:24], packet[24:])
        self.es, self.k = message[:32], message[32:]
        self.key = agree(self.ecs, self.es)

    def vouch(self, cn):
        return box(agree(self.secret, self.server), b"CurveCPV" + cn, self.ec)

    def initiate(self):
        cn = os.urandom(16)
        sealed = box(self.key, b"CurveCP-client-I" + counter(1), self.public + cn + self.vouch(cn))
        return INITIATE + self.k + counter(1) + sealed

    def channel(self):
        return Channel(self.key, b"CurveCP-client-M", b"CurveCP-server-M")


class Server:
    """One handshake of the server (7), with a minute key of its own; an instance is used once."""

    def __init__(self, secret, known):
        self.secret, self.known, self.minute_key = secret, known, os.urandom(32)
        self.es, self.ess = nacl.crypto_box_keypair()

    def hello(self, packet):
        check(len(packet) == HELLO_LEN and packet[:8] == HELLO and packet[40:48] == counter(0), "kind")
        self.ec = packet[8:40]
        self.hello_key = agree(self.secret, self.ec)
        zeros = unbox(self.hello_key, b"CurveCP-client-H" + counter(0), packet[48:])
        check(zeros == bytes(64), "zeros")

    def cookie(self):
        kn, sn = os.urandom(16), os.urandom(16)
        self.k = kn + nacl.crypto_secretbox(self.ec + self.ess, b"minute-k" + kn, self.minute_key)
        return COOKIE + sn + box(self.hello_key, b"CurveCPK" + sn, self.es + self.k)

    def initiate(self, packet):
        check(len(packet) == INITIATE_LEN and packet[:8] == INITIATE and packet[104:112] == counter(1), "kind")
        k = packet[8:104]
        check(hmac.compare_digest(k, self.k), "cookie of another connection")
        secrets = opened(nacl.crypto_secretbox_open, k[16:], b"minute-k" + k[:16], self.minute_key)
        check(hmac.compare_digest(secrets[:32], self.ec), "EC of the cookie")
        self.key = agree(secrets[32:], self.ec)
        message = unbox(self.key, b"CurveCP-client-I" + counter(1), packet[112:])
        self.client, cn, vouch = message[:32], message[32:48], message[48:]
        vouched = unbox(agree(self.secret, self.client), b"CurveCPV" + cn, vouch)
        check(hmac.compare_digest(vouched, self.ec), "EC of the vouch")
        check(self.client == self.known, "unknown peer")

    def channel(self):
        return Channel(self.key, b"CurveCP-server-M", b"CurveCP-client-M")


class Tunnel:
    """An established connection."""

    def __init__(self, wire, channel):
        self.wire, self.channel = wire, channel

    def send(self, message):
        self.wire.send(self.channel.seal(message))

    def receive(self):
        return self.channel.open(self.wire.receive(lambda length: length >= MESSAGE_LEN_MIN))

    def close(self):
        self.wire.close()


def connect(address, secret, server, early=()):
    """A client's tunnel; the messages of `early` leave in one write with the initiate."""
    wire, client = Wire(socket.create_connection(address, DEADLINE)), Client(secret, server)
    wire.send(client.hello())
    client.cookie(wire.receive(lambda length: length == COOKIE_LEN))
    channel = client.channel()
    wire.send(client.initiate(), *map(channel.seal, early))
    return Tunnel(wire, channel)


def accept(sock, secret, known):
    """A server's tunnel over an accepted TCP connection."""
    wire, server = Wire(sock), Server(secret, known)
    server.hello(wire.receive(lambda length: length == HELLO_LEN))
    wire.send(server.cookie())
    server.initiate(wire.receive(lambda length: length == INITIATE_LEN))
    return Tunnel(wire, server.channel())
