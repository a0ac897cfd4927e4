#!/usr/bin/env python3
"""An independent peer, to try an implementation with.

    peer.py talk HOST PORT [SIZE...]  a client: sends messages of these sizes, wants each back
    peer.py echo CLIENTS              a server: sends each message of so many clients back
    peer.py attack HOST PORT          a client that breaks each rule (attack.py)
    peer.py trap                      a server that breaks each rule (trap.py)

Two lines of standard input are its own secret key and the peer's public key, in
hexadecimal. A server is at 127.0.0.1 and first prints its port. The exit status
is 0 if the peer did all that it should, and nothing else.
"""

import socket
import sys

import attack
import trap
import tunnel


def content(size):
    return bytes((i * 31 + size) % 256 for i in range(size))


def talk(address, secret, peer, sizes):
    # The first messages leave with the initiate, the others one by one.
    early = [content(size) for size in sizes[:3]]
    line = tunnel.connect(address, secret, peer, early)
    for message in early:
        assert line.receive() == message
    for size in sizes[3:]:
        line.send(content(size))
        assert line.receive() == content(size)
    line.close()
    print(len(sizes), "messages sent and received")


def echo(listener, secret, peer, clients):
    for _ in range(clients):
        line = tunnel.accept(listener.accept()[0], secret, peer)
        try:
            while True:
                line.send(line.receive())
        except tunnel.Closed:
            line.close()


def main(verb, *arguments):
    secret, peer = (bytes.fromhex(sys.stdin.readline()) for _ in range(2))
    if verb in ("echo", "trap"):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(tunnel.DEADLINE)
        print(listener.getsockname()[1], flush=True)
        if verb == "echo":
            echo(listener, secret, peer, int(arguments[0]))
        else:
            trap.Trap(listener, secret, peer).run()
        return
    address = arguments[0], int(arguments[1])
    if verb == "talk":
        talk(address, secret, peer, [int(size) for size in arguments[2:]])
    elif verb == "attack":
        attack.Attacker(address, secret, peer).run()
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
