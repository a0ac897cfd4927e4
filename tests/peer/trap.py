"""A server that attacks the clients which connect to it. Each attack takes one connection."""

import os

from nacl import bindings as nacl

import bent
import tunnel
from tunnel import COOKIE, COOKIE_LEN, HELLO_LEN, INITIATE_LEN, MESSAGE, Server, Wire, box, counter


class Trap:
    """Says on standard output, before each connection, what its client is to see."""

    def __init__(self, listener, secret, known):
        self.listener, self.secret, self.known = listener, secret, known

    def wire(self):
        return Wire(self.listener.accept()[0])

    def to_hello(self):
        """A connection whose hello has been read."""
        wire, server = self.wire(), Server(self.secret, self.known)
        server.hello(wire.receive(lambda length: length == HELLO_LEN))
        return wire, server

    def bad_cookies(self):
        """Name, the client's error, and what makes the packets out of a server that has read the hello."""

        def sealed(server, content, key=None):
            sn = os.urandom(16)
            return COOKIE + sn + box(key or server.hello_key, b"CurveCPK" + sn, content)

        def other_client(server):
            server.hello_key = tunnel.agree(self.secret, nacl.crypto_box_keypair()[0])
            return [server.cookie()]

        def other_server(server):
            server.hello_key = tunnel.agree(os.urandom(32), server.ec)
            return [server.cookie()]

        def changed(at):
            return lambda server: [bent.flip(server.cookie(), at)]

        yield "an_empty_frame", "bad_packet", lambda s: [b""]
        yield "a_short_cookie", "bad_packet", lambda s: [s.cookie()[:-1]]
        yield "a_long_cookie", "bad_packet", lambda s: [s.cookie() + b"\0"]
        yield "a_message_for_a_cookie", "bad_packet", lambda s: [MESSAGE + s.cookie()[8:]]
        yield "a_cookie_to_another_client", "wrong_server_key", other_client
        yield "a_cookie_by_another_server", "wrong_server_key", other_server
        for at in (8, 23, 24, 39, 40, COOKIE_LEN - 1):
            yield f"a_cookie_changed_at_{at}", "wrong_server_key", changed(at)
        for i, point in enumerate(bent.LOW_ORDER):
            yield f"a_cookie_of_low_order_{i}", "bad_packet", lambda s, p=point: [sealed(s, p + bytes(96))]

    def recorded_cookie(self):
        """The cookie of one connection, played to the next."""
        print("receive 0, then closed:", "a_recorded_connection", flush=True)
        wire, server = self.to_hello()
        recorded = server.cookie()
        wire.send(recorded)
        server.initiate(wire.receive(lambda length: length == INITIATE_LEN))
        assert server.channel().open(wire.receive(lambda length: True)) == b"first"
        wire.close()
        print("refuse with wrong_server_key:", "a_recorded_cookie", flush=True)
        wire, _ = self.to_hello()
        self.spring(wire, [recorded])

    def bad_messages(self):
        for name, forge, delivered in bent.BAD_MESSAGES:
            print(f"receive {delivered}, then bad_packet:", name, flush=True)
            wire, server = self.to_hello()
            wire.send(server.cookie())
            server.initiate(wire.receive(lambda length: length == INITIATE_LEN))
            channel = server.channel()
            reflected = wire.receive(lambda length: True)
            assert channel.open(reflected) == b"first"
            self.spring(wire, forge(bent.Forger(channel, reflected)))

    def spring(self, wire, packets):
        try:
            wire.send(*packets)
        except tunnel.Closed:
            pass
        bent.wait_for_close(wire)

    def run(self):
        print("refuse with bad_packet:", "a_cookie_before_the_hello", flush=True)
        wire = self.wire()
        wire.send(COOKIE + bytes(161))
        try:
            wire.receive(lambda length: length == HELLO_LEN)
        except tunnel.Closed:
            pass
        bent.wait_for_close(wire)
        for name, error, make in self.bad_cookies():
            print(f"refuse with {error}:", name, flush=True)
            wire, server = self.to_hello()
            self.spring(wire, make(server))
        print("refuse with wrong_server_key:", "a_close_without_a_cookie", flush=True)
        self.to_hello()[0].close()
        print("receive 0, then bad_packet:", "a_second_cookie", flush=True)
        wire, server = self.to_hello()
        wire.send(server.cookie())
        server.initiate(wire.receive(lambda length: length == INITIATE_LEN))
        assert server.channel().open(wire.receive(lambda length: True)) == b"first"
        self.spring(wire, [server.cookie()])
        self.recorded_cookie()
        self.bad_messages()
