"""Plays an agent in front of ballastd: an honest one, or one that lies. Usage: fake_agent.py SOCKET NAME LIE

Prints one line, `ACCEPT`, `REFUSE text` or `CLOSED`, and after ACCEPT waits until its stdin ends. The lie
"maps-nothing" comes later: it says that it maps shared frames, and touches the pages. The hand-off and what follows is
described in src/proto/agent_wire.h.
"""
import array
import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import sys

SIZE = 16 << 20
LIES = ("not-json", "half-json", "oversized", "no-descriptors", "too-few-descriptors", "no-userfaultfd", "not-mapped",
        "private-mapping", "other-offset", "short-file", "disk-file", "overflow", "overlap", "too-much-memory",
        "bad-name", "min-above-memory", "kept-nonsense", "resizable-bitmap", "same-file-twice", "another-vms-memory",
        "binary-garbage")


def userfaultfd(plain=False):
    fd = ctypes.CDLL(None, use_errno=True).syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    features = 0 if plain else 1 | 1 << 5 | 1 << 12  # write protection, shmem, write protection of shmem
    fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, features, 0))
    return fd


def memfd(name, size):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def send(connection, body, fds):
    # Large bodies may be refused before they are read to the end.
    try:
        sent = connection.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        connection.sendall(body[sent:])
    except (BrokenPipeError, ConnectionResetError):
        pass


def build(name, lie, victim):
    ram = memfd("ram", SIZE)
    if lie == "disk-file":
        ram = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
        os.ftruncate(ram, SIZE)
    if lie == "another-vms-memory":
        ram = os.open(victim, os.O_RDWR)
    mapping = mmap.mmap(ram, SIZE, mmap.MAP_PRIVATE if lie == "private-mapping" else mmap.MAP_SHARED)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    uffd = userfaultfd(plain=lie == "no-userfaultfd")
    fcntl.ioctl(uffd, 0xc020aa00, struct.pack("QQQQ", address, SIZE, 1 if lie in (
        "no-userfaultfd", "private-mapping", "disk-file") else 3, 0)) if lie not in (
            "no-userfaultfd", "private-mapping", "disk-file") else None
    bits = memfd("bits", 4096 + SIZE // 4096 // 8 + 4096)
    if lie == "resizable-bitmap":
        bits = os.memfd_create("bits", os.MFD_CLOEXEC)
        os.ftruncate(bits, 8192)
    identity = {"version": 1, "name": name, "uuid": "00000000-0000-4000-8000-000000000001", "memory_bytes": SIZE,
                "min_bytes": 0, "qmp": "", "ram_fd": 1, "kept": []}
    region = {"base_host_virt_addr": address, "size": SIZE, "offset": 0, "page_size": 4096, "page_size_kib": 4096,
              "ballast": identity}
    regions, fds = [region], [uffd, ram, bits]
    if lie == "not-mapped":
        region["base_host_virt_addr"] = 0x10000000
    elif lie == "other-offset":
        os.ftruncate(ram, 2 * SIZE)
        region["offset"] = SIZE
    elif lie == "short-file":
        os.ftruncate(ram, SIZE // 2)
    elif lie == "overflow":
        region["base_host_virt_addr"] = (1 << 64) - 4096
    elif lie == "overlap":
        half = {**region, "size": SIZE // 2}
        regions = [half, {**half, "ballast": {"ram_fd": 1}}]
    elif lie == "too-much-memory":
        identity["memory_bytes"] = SIZE // 2
    elif lie == "bad-name":
        identity["name"] = "../../etc/passwd"
    elif lie == "min-above-memory":
        identity["min_bytes"] = 2 * SIZE
    elif lie == "kept-nonsense":
        identity["kept"] = ["tables", "arena", "swap"]
        fds += [memfd("t", 4096), memfd("a", 4096), memfd("s", 4096)]
    elif lie == "same-file-twice":
        half = {**region, "size": SIZE // 2}
        regions = [half, {**half, "base_host_virt_addr": address + SIZE // 2, "offset": SIZE // 2,
                          "ballast": {"ram_fd": 2}}]
        fds = [uffd, ram, os.dup(ram), bits]
    elif lie == "no-descriptors":
        fds = []
    elif lie == "too-few-descriptors":
        fds = fds[:2]
    elif lie == "no-userfaultfd":
        fds[0] = os.open("/dev/null", os.O_RDWR)
    body = json.dumps(regions).encode() + b"\n"
    if lie == "not-json":
        body = b"[this is not JSON\n"
    elif lie == "half-json":
        body = body[:len(body) // 2] + b"\n"
    elif lie == "oversized":
        body = b"[" + b" " * (1 << 20) + b"]\n"
    elif lie == "binary-garbage":
        body, fds = os.urandom(5000).replace(b"[", b"x"), []
    return body, fds, (mapping, ram)


def hand_over(path, body, fds, keep):
    """Sends the hand-off, prints the verdict, and after ACCEPT waits until stdin ends."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(path)
    send(connection, body, fds)
    try:
        header = connection.recv(16)
        if len(header) < 16:
            print("CLOSED", flush=True)
            return
        _, kind, _, size = struct.unpack("IIII", header)
        text = b""
        while len(text) < size:
            text += connection.recv(size - len(text))
        print("ACCEPT" if kind == 1 else "REFUSE " + text.decode().replace("\n", " "), flush=True)
    except ConnectionResetError:
        print("CLOSED", flush=True)
        return
    if kind == 1:
        sys.stdin.read()
    del keep


def exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def say_done_to_all(connection):
    """Answers every request to change a mapping, and changes none."""
    connection.settimeout(None)
    while True:
        magic, kind, count, size = struct.unpack("IIII", exactly(connection, 16))
        exactly(connection, size)
        if kind in (5, 6):
            connection.sendall(struct.pack("IIII", magic, 7, count, 4 * count) + bytes(4 * count))


def touch_equal_pages(mapping):
    """For ever; a page that the daemon has taken away, trusting our word, is never there again."""
    for page in range(1024):
        mapping[page * 4096:(page + 1) * 4096] = b"equal   " * 512
    while True:
        for page in range(1024):
            mapping[page * 4096]  # pylint: disable=pointless-statement


def map_nothing(path, name):
    body, fds, (mapping, _) = build(name, "none", "")
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    send(connection, body, fds)
    _, kind, _, size = struct.unpack("IIII", exactly(connection, 16))
    exactly(connection, size)
    print("ACCEPT" if kind == 1 else "REFUSE", flush=True)
    if os.fork() == 0:  # who touches a missing page sleeps with Python's lock held
        say_done_to_all(connection)
    touch_equal_pages(mapping)


def main():
    path, name, lie = sys.argv[1:4]
    if lie == "maps-nothing":
        map_nothing(path, name)
    hand_over(path, *build(name, lie, sys.argv[4] if len(sys.argv) > 4 else ""))


if __name__ == "__main__":
    main()
