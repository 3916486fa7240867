"""The functions of the `uwsgi` module for plain descriptors and files."""

import os

TIMEOUT = 4  # seconds: socket-timeout's default


def connect(address, timeout=TIMEOUT):
    """A connected descriptor, or -1."""
    import socket
    host, colon, port = address.rpartition(":")
    try:
        if colon:
            peer = socket.create_connection((host or "127.0.0.1", int(port)), timeout or None)
        else:
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(timeout or None)
            peer.connect("\0" + address[1:] if address.startswith("@") else address)
    except (OSError, ValueError):
        return -1
    peer.setblocking(True)
    return peer.detach()


def async_connect(address):
    return connect(address)


def send(*arguments):
    """send([fd,] data): without a descriptor to the client of the request."""
    import uwsgi
    fd, data = arguments if len(arguments) == 2 else (uwsgi.connection_fd(), *arguments)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    return True


def recv(fd, size=4096):
    """At most 4096 bytes; None at the end or on an error."""
    try:
        return os.read(fd, max(1, min(size, 4096))) or None
    except OSError:
        return None


def close(fd):
    os.close(fd)


def extract(name):
    """The contents of a file; None if it is empty or not there."""
    try:
        with open(name, "rb") as file:
            return file.read() or None
    except OSError:
        return None


def parsefile(name):
    """The variables of a file that holds a uwsgi packet of modifier 0 or 17, else None."""
    packet = extract(name)
    if packet is None or len(packet) < 4 or packet[0] not in (0, 17):
        return None
    end, at, fields = 4 + int.from_bytes(packet[1:3], "little"), 4, []
    if end > len(packet):
        return None
    while at < end:
        start = at + 2
        at = start + int.from_bytes(packet[at:start], "little")
        if at > end:
            return None
        fields.append(packet[start:at])
    return dict(zip(fields[::2], fields[1::2])) if len(fields) % 2 == 0 else None
