"""What both kinds of attack use: keys of low order, changed bytes, and the wait for the close."""

import os
import struct

from nacl import bindings as nacl

from tunnel import COOKIE, HELLO, INITIATE, MESSAGE, box, counter

P = 2**255 - 19
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
# Every u-coordinate that fits 255 bits and whose point has an order that divides 8, on the curve or on its twist.
LOW_ORDER = [n.to_bytes(32, "little") for n in (0, 1, *ORDER_8, P - 1, P, P + 1)]


def hsalsa20(key, block):
    """HSalsa20, to agree where libsodium refuses."""
    c, k, n = (struct.unpack(f"<{len(b) // 4}I", b) for b in (b"expand 32-byte k", key, block))
    x = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    columns = [[(5 * line + 4 * i) % 16 for i in range(4)] for line in range(4)]
    rows = [[4 * line + (line + i) % 4 for i in range(4)] for line in range(4)]
    for at in (columns + rows) * 10:
        for i, turn in ((1, 7), (2, 9), (3, 13), (0, 18)):
            total = (x[at[i - 1]] + x[at[i - 2]]) & 0xFFFFFFFF
            x[at[i]] ^= (total << turn | total >> (32 - turn)) & 0xFFFFFFFF
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def known_to_all():
    """The key that a peer agrees on with a point of low order, if it does not refuse."""
    (a, sa), (b, _) = nacl.crypto_box_keypair(), nacl.crypto_box_keypair()
    usual = hsalsa20(nacl.crypto_scalarmult(sa, b), bytes(16))
    assert usual == nacl.crypto_box_beforenm(b, sa), "HSalsa20 is wrong"
    return hsalsa20(bytes(32), bytes(16))


def flip(packet, at):
    """The packet with one bit changed."""
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


def wait_for_close(wire):
    """The peer must close and must not send another byte."""
    try:
        more = wire.sock.recv(1)
    except ConnectionResetError:
        more = b""
    assert not more, "the peer sent something to an attacker"
    wire.close()


class Forger:
    """Message packets of an established channel, right and wrong."""

    def __init__(self, channel, reflected):
        self.channel, self.n, self.reflected = channel, channel.send_next, reflected

    def good(self, i):
        """What would be the right packet after `i` others."""
        return self.at(self.n + i)

    def at(self, n):
        return self.channel.packet(f"message {n - self.n}".encode(), n)

    def under(self, prefix):
        return MESSAGE + counter(self.n) + box(self.channel.key, prefix + counter(self.n), b"message 0")


# Attacks on an established channel: name, packets, and how many of them are right and are to be delivered.
BAD_MESSAGES = (
    ("a_counter_left_out", lambda f: [f.good(1)], 0),
    ("a_message_twice", lambda f: [f.good(0), f.good(0)], 1),
    ("two_messages_swapped", lambda f: [f.good(1), f.good(0)], 0),
    ("a_counter_gone_back", lambda f: [f.good(0), f.good(1), f.good(0)], 2),
    ("counter_0", lambda f: [f.at(0)], 0),
    ("counter_1", lambda f: [f.at(1)], 0),
    ("the_last_counter", lambda f: [f.at(2**64 - 1)], 0),
    ("another_counter_written_on_it", lambda f: [f.good(1)[:8] + counter(f.n) + f.good(1)[16:]], 0),
    ("a_changed_tag", lambda f: [flip(f.good(0), 16)], 0),
    ("a_changed_last_byte", lambda f: [f.good(0), flip(f.good(1), 40), f.good(1)], 1),
    ("a_changed_kind", lambda f: [flip(f.good(0), 7)], 0),
    ("a_cut_message", lambda f: [f.good(0)[:-1]], 0),
    ("a_longer_message", lambda f: [f.good(0) + b"\0"], 0),
    ("a_forged_message_then_the_right_one", lambda f: [f.good(0)[:16] + os.urandom(25), f.good(0)], 0),
    ("a_frame_of_0", lambda f: [b""], 0),
    ("a_frame_of_31", lambda f: [f.good(0), f.good(1)[:31]], 1),
    ("its_own_message", lambda f: [f.reflected], 0),
    ("a_message_under_its_own_prefix", lambda f: [f.under(f.channel.theirs)], 0),
    ("a_message_under_the_initiates_prefix", lambda f: [f.under(b"CurveCP-client-I")], 0),
    ("a_message_in_the_clear", lambda f: [MESSAGE + counter(f.n) + bytes(16) + b"message 0"], 0),
    ("a_hello_when_connected", lambda f: [HELLO + bytes(120)], 0),
    ("a_cookie_when_connected", lambda f: [COOKIE + bytes(160)], 0),
    ("an_initiate_when_connected", lambda f: [INITIATE + bytes(216)], 0),
)
