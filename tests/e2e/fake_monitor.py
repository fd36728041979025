"""Plays a VM whose monitor (QMP) misbehaves. Usage: fake_monitor.py AGENT-SOCKET NAME MONITOR-SOCKET MANNER

Listens at MONITOR-SOCKET, hands an empty VM over as an honest agent would, prints the verdict (fake_agent.py), and then
treats every connection as MANNER says until its stdin ends. The process that listens is the VM's, as ballastd demands,
but for the manner "stranger".
"""
import json
import os
import random
import socket
import sys
import threading
import time

import fake_agent
import machine

GREETING = b'{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7},"package":""},"capabilities":[]}}\n'
DEVICE = [{"name": "balloon", "type": "child<virtio-balloon-pci>"}]


def honest_answer(command, arguments, actual):
    if command == "qom-list":
        return DEVICE if arguments["path"] == "/machine/peripheral" else []
    if command == "query-status":
        return {"status": "running", "running": True}
    if command == "query-balloon":
        return {"actual": actual}
    if command == "qom-get":
        return {"stats": {"stat-total-memory": fake_agent.SIZE, "stat-available-memory": fake_agent.SIZE // 2},
                "last-update": int(time.time())}
    return {}


def talk(connection, answer):
    """A conversation: `answer` makes the lines to send for a command, or None for silence."""
    connection.sendall(GREETING)
    for line in connection.makefile("rb"):
        request = json.loads(line)
        reply = answer(request["execute"], request.get("arguments", {}), request.get("id"))
        if reply is not None:
            connection.sendall(reply)


def returning(value_of):
    def answer(command, arguments, name):
        return json.dumps({"return": value_of(command, arguments), "id": name}).encode() + b"\n"
    return answer


def forever(connection, data_of):
    try:
        while True:
            connection.sendall(data_of())
    except OSError:  # ballastd has hung up
        pass


def drip(connection, data):
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def flood(connection):
    """Valid events without end, beside valid answers."""
    event = b'{"event":"RTC_CHANGE","data":{"offset":1},"timestamp":{"seconds":1,"microseconds":2}}\n'
    threading.Thread(target=lambda: forever(connection, lambda: event * 100), daemon=True).start()
    talk(connection, returning(lambda command, arguments: honest_answer(command, arguments, fake_agent.SIZE)))


ABSURD = (-1, 0, 1, 1 << 63, (1 << 64) - 1, 1e300, -1e300, "all", None, [], {}, True, fake_agent.SIZE * 1000)


def absurd(command, arguments):
    """The right form, numbers that cannot be."""
    value = random.choice(ABSURD)
    if command == "query-balloon":
        return {"actual": value}
    if command == "qom-get":
        return {"stats": {name: random.choice(ABSURD) for name in (
            "stat-total-memory", "stat-available-memory", "stat-free-memory", "stat-swap-in", "stat-major-faults")},
                "last-update": random.choice(ABSURD)}
    return honest_answer(command, arguments, 0)


MANNERS = {
    "hangs": lambda c: time.sleep(3600),
    "closes": lambda c: None,
    "half-greeting": lambda c: (c.sendall(GREETING[:40]), time.sleep(3600)),
    "drips": lambda c: drip(c, GREETING * 100),
    "mute": lambda c: talk(c, lambda command, arguments, name: b'{"return":{},"id":%s}\n' % json.dumps(name).encode()
                           if command == "qmp_capabilities" else None),
    "floods": flood,
    "noise": lambda c: forever(c, lambda: random.randbytes(4096)),
    "endless-line": lambda c: forever(c, lambda: b"x" * 65536),
    "deep": lambda c: forever(c, lambda: b"[" * 60000 + b"\n"),
    "wrong-ids": lambda c: talk(c, lambda command, arguments, name: b'{"return":{},"id":4711}\n' * 3),
    "errors": lambda c: talk(c, lambda command, arguments, name: json.dumps(
        {"error": {"class": "GenericError", "desc": "no \x1b[31m" + "y" * 20000}, "id": name}).encode() + b"\n"),
    "absurd": lambda c: talk(c, returning(absurd)),
    # Says that all of the VM's memory is in its balloon, whatever it was asked for.
    "empty": lambda c: talk(c, returning(lambda command, arguments: honest_answer(command, arguments, 0))),
    "stranger": lambda c: talk(c, returning(lambda command, arguments: honest_answer(command, arguments, 0))),
}


def serve(listener, manner):
    def one(connection):
        try:
            MANNERS[manner](connection)
        except (OSError, ValueError):
            pass
        connection.close()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def main():
    path, name, monitor, manner = sys.argv[1:5]
    if manner == "stranger" and os.fork() == 0:
        machine.die_with_parent()
        listen_and_serve(monitor, manner)
    if manner != "stranger":
        threading.Thread(target=listen_and_serve, args=(monitor, manner), daemon=True).start()
    while not os.path.exists(monitor):
        time.sleep(0.01)
    body, fds, keep = fake_agent.build(name, "none", "")
    regions = json.loads(body)
    regions[0]["ballast"]["qmp"] = monitor
    fake_agent.hand_over(path, json.dumps(regions).encode() + b"\n", fds, keep)


def listen_and_serve(path, manner):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        serve(listener, manner)


if __name__ == "__main__":
    main()
