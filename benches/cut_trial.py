#!/usr/bin/env python3
"""Counts how forwarders pass on a transport that was cut.

A man in the middle between the two halves of a forwarder ends their transport, by FIN and by RST,
after every 1,000th byte of a transfer of 40,000 bytes in each direction. The programs at both ends
know what is sent, and count what they see: everything, an error, or an end that comes too soon.

    benches/cut_trial.py curve-tun|spiped    the first one is build/bin/curve-tun
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None)
SIZE = 40_000
STEP = 1000
TOOL = os.path.join(os.path.dirname(__file__), "..", "build", "bin", "curve-tun")


def data(seed, count):
    return bytes((i * 31 ^ i >> 8 ^ seed) & 255 for i in range(count))


QUESTION, ANSWER = data(1, SIZE), data(2, SIZE)


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def exchange(sock, send, wanted):
    """Sends and receives at once; says what came of it."""
    sock.settimeout(20)
    failed = []

    def write():
        try:
            sock.sendall(send)
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    got = bytearray()
    try:
        while part := sock.recv(65536):
            got += part
    except OSError as error:
        failed.append(error)
    writer.join()
    sock.close()
    if failed:
        return "error"
    return "whole" if got == wanted else "false end"


class Middle:
    """Forwards a transport, and cuts it after so many bytes of a direction."""

    def __init__(self, to):
        self.to, self.cut = to, None
        self.passed = [0, 0]
        self.listener, self.port = listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.to))
            self.passed = [0, 0]
            pair = (client, server)
            for way in (0, 1):
                threading.Thread(target=self.forward, args=(pair, way, self.cut), daemon=True).start()

    def forward(self, pair, way, cut):
        source, sink = pair[way], pair[1 - way]
        left = cut[1] if cut and cut[0] == way else None
        try:
            while left is None or left > 0:
                part = source.recv(4096 if left is None else min(left, 4096))
                if not part:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(part)
                self.passed[way] += len(part)
                left = left if left is None else left - len(part)
            for sock in pair:
                if cut[2] == "RST":
                    # The other direction's thread waits in it, so that closing it would not end it.
                    unspecified = struct.pack("H14x", socket.AF_UNSPEC)
                    LIBC.connect(sock.fileno(), unspecified, len(unspecified))
                else:
                    sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def start(args, **more):
    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


def listening(process):
    return int(process.stdout.readline().decode().strip().rsplit(":", 1)[1])


def free_port():
    listener, port = listen()
    listener.close()
    return port


def curve_tun(folder, target):
    def keygen(name):
        text = subprocess.check_output([TOOL, "keygen"], text=True).split()
        with open(f"{folder}/{name}", "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(text[text.index("secret") + 1])
        return text[text.index("public") + 1]

    server, client = keygen("server"), keygen("client")
    with open(f"{folder}/peers", "w") as file:
        file.write(f"* {client}\n")
    address = ["--listen", "127.0.0.1:0"]
    serve = start([TOOL, "serve", *address, "--to", f"127.0.0.1:{target}", "--secret-file", f"{folder}/server",
                   "--registry", f"{folder}/peers"], stdout=subprocess.PIPE)
    middle = Middle(listening(serve))
    connect = start([TOOL, "connect", *address, "--to", f"127.0.0.1:{middle.port}", "--server", server,
                     "--secret-file", f"{folder}/client"], stdout=subprocess.PIPE)
    return middle, listening(connect), [serve, connect]


def spiped(folder, target):
    with open(f"{folder}/key", "wb") as file:
        file.write(os.urandom(32))
    inner, outer = free_port(), free_port()
    middle = Middle(inner)
    end = start(["spiped", "-F", "-d", "-s", f"127.0.0.1:{inner}", "-t", f"127.0.0.1:{target}", "-k",
                 f"{folder}/key"])
    front = start(["spiped", "-F", "-e", "-s", f"127.0.0.1:{outer}", "-t", f"127.0.0.1:{middle.port}", "-k",
                   f"{folder}/key"])
    for port in (inner, outer):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
    return middle, outer, [end, front]


def main():
    forwarder = {"curve-tun": curve_tun, "spiped": spiped}[sys.argv[1]]
    served = []
    listener, target = listen()

    def serve():
        while True:
            client, _ = listener.accept()
            served.append(exchange(client, ANSWER, QUESTION))

    threading.Thread(target=serve, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        middle, port, processes = forwarder(folder, target)
        time.sleep(0.2)
        transfer = lambda: exchange(socket.create_connection(("127.0.0.1", port)), QUESTION, ANSWER)
        assert transfer() == "whole", "it does not forward"
        passed, seen, cuts = list(middle.passed), [], 0
        served.clear()
        for way in (0, 1):
            for after in range(0, passed[way], STEP):
                for how in ("FIN", "RST"):
                    middle.cut = (way, after, how)
                    seen.append(transfer())
                    cuts += 1
        time.sleep(1)
        for process in processes:
            process.kill()
    for name, results in (("client", seen), ("service", served)):
        counts = {result: results.count(result) for result in ("whole", "error", "false end")}
        print(f"{sys.argv[1]}, {cuts} cuts, at the {name}: {counts}")


main()
