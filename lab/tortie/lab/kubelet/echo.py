"""What runs for an image that this machine does not have: a server on each of the container's ports.

    echo.py NAME [PROTOCOL:PORT]…        PROTOCOL is tcp, udp or sctp

It answers each line, and each datagram, with a line that holds NAME; an HTTP GET or HEAD with 200 and NAME. Both
families are served by one socket. Without ports it sleeps. SIGTERM ends it at once. A port of a protocol that the
kernel does not have is not served, which it says on stdout.

It is a script on the standard library's small modules alone.
"""

import contextlib
import selectors
import signal
import socket
import struct
import sys

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
PACKET_INFO = struct.Struct("@16sI")
"""struct in6_pktinfo (RFC 3542): address, IPv4 ones mapped, and interface, 0 for any."""
LINE_LIMIT = 1 << 16
"""A client that sends more without a newline is cut off."""


class Server:
    def __init__(self, name: str) -> None:
        self.line = f"{name}\n".encode()
        self.selector = selectors.DefaultSelector()
        self.pending: dict[socket.socket, bytes] = {}

    def serve(self, protocol: str, port: int) -> None:
        kind, number = KINDS[protocol]
        for family in (socket.AF_INET6, socket.AF_INET):
            try:
                sock = socket.socket(family, kind, number)
            except OSError as error:
                reason = error
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setblocking(False)
            sock.bind(("", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
            handle = self.accept if kind == socket.SOCK_STREAM else self.datagram
            self.selector.register(sock, selectors.EVENT_READ, handle)
            print(f"serving {protocol}:{port}", flush=True)
            return
        print(f"not serving {protocol}:{port}: {reason}", flush=True)

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it gave up meanwhile
            sock = listener.accept()[0]
            sock.setblocking(False)
            self.pending[sock] = b""
            self.selector.register(sock, selectors.EVENT_READ, self.stream)

    def datagram(self, sock: socket.socket) -> None:
        """The answer comes from the address that was asked, which on a host with several is not a matter of course."""
        with contextlib.suppress(OSError):  # an ICMP error of an earlier answer, or a full queue: datagrams get lost
            _, ancillary, _, sender = sock.recvmsg(65536, socket.CMSG_SPACE(PACKET_INFO.size))
            asked = [
                (level, kind, PACKET_INFO.pack(PACKET_INFO.unpack(data)[0], 0))
                for level, kind, data in ancillary
                if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
            ]
            sock.sendmsg([self.line], asked, 0, sender)

    def stream(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
            *lines, rest = (self.pending[sock] + data).split(b"\n")
            if not data or len(rest) > LINE_LIMIT:
                raise ConnectionError
            if (lines and lines[0].startswith((b"GET ", b"HEAD "))) or rest.startswith((b"GET ", b"HEAD ")):
                self.pending[sock] += data
                self.http(sock)
            else:
                self.pending[sock] = rest
                sock.sendall(self.line * len(lines))
        except OSError:  # who does not read its answers is cut off, too
            self.close(sock)

    def http(self, sock: socket.socket) -> None:
        """Answer once the head is complete; each connection serves one request."""
        request = self.pending[sock]
        if b"\r\n\r\n" in request or b"\n\n" in request:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(self.line)}\r\n"
            body = b"" if request.startswith(b"HEAD") else self.line
            sock.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
            self.close(sock)

    def close(self, sock: socket.socket) -> None:
        self.selector.unregister(sock)
        del self.pending[sock]
        sock.close()

    def loop(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # not closed by an earlier one of this round
                    key.data(key.fileobj)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    name, *ports = sys.argv[1:]
    server = Server(name)
    for text in ports:
        protocol, _, port = text.partition(":")
        server.serve(protocol, int(port))
    server.loop()


if __name__ == "__main__":
    main()
