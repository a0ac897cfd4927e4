"""A client that attacks a server which knows its key. Each attack has a connection of its own."""

import os
import socket

from nacl import bindings as nacl

import bent
import tunnel
from tunnel import COOKIE_LEN, HELLO, INITIATE, MESSAGE, Client, Wire, box, counter


class Attacker:
    """Says on standard output, one a line, what the server is to see of each connection that it lets in."""

    def __init__(self, address, secret, server):
        self.address, self.secret, self.server = address, secret, server

    def wire(self):
        return Wire(socket.create_connection(self.address, tunnel.DEADLINE))

    def to_cookie(self, client=None, answered=None):
        """A connection on which the server has answered the hello."""
        wire, client = self.wire(), client or Client(self.secret, self.server)
        wire.send(client.hello())
        packet = wire.receive(lambda length: length == COOKIE_LEN)
        if answered is None:
            client.cookie(packet)
        else:
            answered(packet)
        return wire, client

    def honest(self, after):
        """One that keeps the rules, after each attack: it is served."""
        text = b"honest after " + after.encode()
        line = tunnel.connect(self.address, self.secret, self.server, early=[text])
        assert line.receive() == text
        line.close()
        print("let in, 1 delivered, closed:", after)

    def refused(self, name, wire, packets):
        """Sends what must not be let in."""
        try:
            wire.send(*packets)
        except tunnel.Closed:
            pass
        bent.wait_for_close(wire)
        self.honest(name)

    def bad_hellos(self):
        client = Client(self.secret, self.server)
        good = client.hello()
        key = client.hello_key
        other = Client(self.secret, nacl.crypto_box_keypair()[0]).hello()

        def sealed(n, content):
            return HELLO + client.ec + counter(n) + box(key, b"CurveCP-client-H" + counter(n), content)

        yield "an_empty_frame", [b""]
        yield "a_short_hello", [good[:-1]]
        yield "a_long_hello", [good + b"\0"]
        yield "an_initiate_for_a_hello", [INITIATE + good[8:]]
        yield "a_hello_of_another_counter", [sealed(1, bytes(64))]
        yield "a_hello_with_a_changed_counter", [good[:40] + counter(1) + good[48:]]
        yield "a_hello_without_its_zeros", [sealed(0, bytes(63) + b"\1")]
        yield "a_hello_to_another_server", [other]
        yield "a_message_for_a_hello", [MESSAGE + counter(2) + bytes(112)]
        for at in (8, 39, 48, 63, 64, 127):
            yield f"a_hello_changed_at_{at}", [bent.flip(good, at)]
        for i, point in enumerate(bent.LOW_ORDER):
            zero_box = box(bent.known_to_all(), b"CurveCP-client-H" + counter(0), bytes(64))
            yield f"a_hello_of_low_order_{i}", [HELLO + point + counter(0) + zero_box]

    def bad_initiates(self):
        """Name, and what makes the packets out of a client that has read its cookie."""

        def sealed(client, content, n=1):
            return INITIATE + client.k + counter(n) + box(client.key, b"CurveCP-client-I" + counter(n), content)

        def vouched(client, by, to, ec):
            cn = os.urandom(16)
            return client.public + cn + box(tunnel.agree(by, to), b"CurveCPV" + cn, ec)

        def stranger(client):
            client.secret = os.urandom(32)
            client.public = nacl.crypto_scalarmult_base(client.secret)
            return [client.initiate()]

        def of_low_order(point):
            def make(client):
                cn = os.urandom(16)
                vouch = box(bent.known_to_all(), b"CurveCPV" + cn, client.ec)
                return [sealed(client, point + cn + vouch)]

            return make

        def changed(at):
            return lambda client: [bent.flip(client.initiate(), at)]

        fresh, fresh_secret = nacl.crypto_box_keypair()
        yield "a_second_hello", lambda c: [c.hello()]
        yield "a_message_before_the_initiate", lambda c: [c.channel().seal(b"early"), c.initiate()]
        yield "a_hello_of_the_initiates_length", lambda c: [HELLO + c.initiate()[8:]]
        yield "an_initiate_of_another_counter", lambda c: [sealed(c, vouched(c, c.secret, c.server, c.ec), 0)]
        yield "a_vouch_for_another_key", lambda c: [sealed(c, vouched(c, c.secret, c.server, fresh))]
        yield "a_vouch_to_another_server", lambda c: [sealed(c, vouched(c, c.secret, fresh, c.ec))]
        yield "a_vouch_by_another_client", lambda c: [sealed(c, vouched(c, fresh_secret, c.server, c.ec))]
        yield "a_client_that_nobody_knows", stranger
        for at in (8, 23, 24, 103, 112, 127, 128, 223):
            yield f"an_initiate_changed_at_{at}", changed(at)
        for i, point in enumerate(bent.LOW_ORDER):
            yield f"a_client_of_low_order_{i}", of_low_order(point)

    def replay(self):
        """All that a client said on one connection, said again on another."""
        wire, client = self.to_cookie()
        channel = client.channel()
        recorded = [client.initiate(), channel.seal(b"one"), channel.seal(b"two")]
        wire.send(*recorded)
        line = tunnel.Tunnel(wire, channel)
        assert [line.receive(), line.receive()] == [b"one", b"two"]
        line.close()
        print("let in, 2 delivered, closed:", "recorded")
        again, _ = self.to_cookie(client, answered=lambda packet: None)
        self.refused("replayed", again, recorded)

    def cookie_of_another_connection(self):
        """Two connections of one client at a time: the cookie of the first, brought to the second."""
        first, client = self.to_cookie()
        second, _ = self.to_cookie(client, answered=lambda packet: None)
        self.refused("the_cookie_of_another_connection", second, [client.initiate()])
        first.close()

    def bad_messages(self):
        for name, forge, delivered in bent.BAD_MESSAGES:
            line = tunnel.connect(self.address, self.secret, self.server, early=[b"first"])
            reflected = line.wire.receive(lambda length: True)
            assert line.channel.open(reflected) == b"first"
            packets = forge(bent.Forger(line.channel, reflected))
            # What is right is answered before what is wrong comes.
            line.wire.send(*packets[:delivered])
            for i in range(delivered):
                assert line.receive() == f"message {i}".encode()
            print(f"let in, {1 + delivered} delivered, refused:", name)
            self.refused(name, line.wire, packets[delivered:])

    def run(self):
        for name, packets in self.bad_hellos():
            self.refused(name, self.wire(), packets)
        for name, make in self.bad_initiates():
            wire, client = self.to_cookie()
            self.refused(name, wire, make(client))
        self.replay()
        self.cookie_of_another_connection()
        self.bad_messages()
