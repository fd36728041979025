#!/usr/bin/env python3
"""The daemon over HTTP: API, metrics, events, history, token, and clients that mean no good while a guest runs."""
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
import time

import harness
from harness import MIB, Daemon, EndToEndTest, wait_until, verifier

BUDGET = 256 * MIB


class WebDaemon(Daemon):
    """A ballastd on any free port, and questions to it."""

    def __init__(self, test, memory, **arguments):
        super().__init__(test, memory, http=arguments.pop("http", "127.0.0.1:0"), **arguments)

    def port(self):
        event = self.wait_for_event("http.listening")
        return int(re.search(r":(\d+)/", event["message"]).group(1))

    def http_ask(self, path, method="GET", body=None, headers=None):
        """Status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read().decode()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.http_ask(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def post(self, path, members, token=None, **headers):
        headers = {"Content-Type": "application/json", **headers}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        status, _, body = self.http_ask(path, "POST", json.dumps(members), headers)
        return status, json.loads(body)

    def metrics(self):
        """{(name, vm or None, state or None): value}."""
        found = {}
        for line in self.http_ask("/metrics")[2].splitlines():
            match = re.match(r'(\w+)(?:\{(.*)\})? (\S+)$', line)
            if match and not line.startswith("#"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""))
                found[match.group(1), labels.get("vm"), labels.get("state")] = float(match.group(3))
        return found

    def token_path(self):
        return os.path.join(self.swap_dir, "http-token")

    def token(self):
        with open(self.token_path(), encoding="ascii") as file:
            return file.read().strip()


class Web(EndToEndTest):
    def start(self, **arguments):
        return WebDaemon(self, BUDGET, **arguments).start()

    def test_tells_what_the_socket_tells(self):
        """Promise: API and metrics tell the same numbers as the command line, in the same words."""
        daemon = self.start()
        guest = self.guest(daemon, "vm", qemu=("-uuid", "12345678-1234-1234-1234-123456789abc"), memory_mib=128)
        guest.ready()
        time.sleep(1.2)  # its boot is over: the numbers stand still
        compared = ("configured_bytes", "resident_bytes", "swapped_bytes", "compressed_bytes", "overhead_bytes", "balloon_max_bytes",
                    "swap_reserved_bytes", "lost_pages")
        def at_rest():
            status, out, _ = daemon.cli("show", "vm", "--json")
            metrics = daemon.metrics()
            status, after, _ = daemon.cli("show", "vm", "--json")
            self.assertEqual(status, 0)
            before, after = json.loads(out), json.loads(after)
            return all(before[key] == after[key] for key in compared) and (after, metrics)
        shown, metrics = wait_until(at_rest, "a moment at rest", 20, every=0.5)
        names = {"faults": "faults_total"}
        for key in compared:
            self.assertEqual(metrics[f"ballast_vm_{names.get(key, key)}", "vm", None], shown[key], key)
        self.assertEqual(metrics["ballast_host_budget_bytes", None, None], BUDGET)
        self.assertEqual(metrics["ballast_host_state", None, daemon.host()["state"]], 1)
        self.assertIn('uuid="12345678-1234-1234-1234-123456789abc"', daemon.http_ask("/metrics")[2])
        vm = daemon.get("/api/v1/vms/vm")["vm"]
        self.assertEqual(set(vm), set(daemon.vm("vm")))
        self.assertEqual({key: vm[key] for key in compared}, {key: shown[key] for key in compared})
        self.assertEqual(daemon.get("/api/v1/host")["host"]["vms"][0]["name"], "vm")
        status, said, _ = daemon.cli("why", "vm")
        why = daemon.get("/api/v1/vms/vm/why")["text"]
        self.assertEqual(why.splitlines()[0].split("consumes")[0], said.splitlines()[0].split("consumes")[0])
        self.assertIn("host", why)
        self.assertEqual(daemon.http_ask("/api/v1/vms/none")[0], 404)
        self.assertEqual(daemon.get("/api/v1/events")["events"][0]["kind"], "host.started")

    def test_promtool(self):
        """Promise: Prometheus takes the metrics and the alert rules without complaint."""
        if shutil.which("promtool") is None:
            self.skipTest("no promtool (Debian: prometheus); run tools/setup")
        daemon = self.start()
        self.guest(daemon, "vm", qemu=("-S",))
        daemon.wait_for_vm("vm")
        text = daemon.http_ask("/metrics")[2]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        rules = os.path.join(harness.HERE, "..", "..", "packaging", "prometheus", "ballast.rules.yml")
        done = subprocess.run(["promtool", "check", "rules", rules], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        with open(rules, encoding="utf-8") as file:
            for name in set(re.findall(r"\bballast_\w+", file.read())):
                self.assertIn(f"# TYPE {name} ", text)

    def test_changes_need_the_token(self):
        """Promise: whoever reads may not change; whoever has the token may; pages of other sites and of other names get
        nothing."""
        daemon = self.start()
        self.guest(daemon, "vm", qemu=("-S",))
        daemon.wait_for_vm("vm")
        mode = stat.S_IMODE(os.stat(daemon.token_path()).st_mode)
        self.assertEqual(mode, 0o600)
        members = {"vm": "vm", "shares": 4321}
        for token in (None, "0" * 64, daemon.token()[:-1]):
            self.assertEqual(daemon.post("/api/v1/set", members, token)[0], 401)
        self.assertEqual(daemon.post("/api/v1/set", members, daemon.token(), Origin="http://evil.example")[0], 403)
        self.assertNotEqual(daemon.vm("vm")["shares"], 4321)
        status, answer = daemon.post("/api/v1/set", members, daemon.token())
        self.assertEqual((status, answer["vm"]["shares"]), (200, 4321))
        self.assertEqual(daemon.vm("vm")["shares"], 4321)
        status, answer = daemon.post("/api/v1/options", {"name": "Mem.IdleTax", "value": "100"}, daemon.token())
        self.assertEqual(status, 400)
        self.assertIn("0 to 99", answer["error"])
        for path in ("/api/v1/host", "/metrics", "/"):
            status, _, words = daemon.http_ask(path, headers={"Host": "evil.example"})
            self.assertEqual(status, 421)
            self.assertIn("evil.example", words)
        _, headers, page = daemon.http_ask("/")
        self.assertIn("default-src 'self'", headers["Content-Security-Policy"])
        self.assertIn("Ballast", page)
        token = daemon.token()
        daemon.kill()
        daemon.start()
        self.assertEqual(daemon.token(), token)

    def test_history_survives(self):
        """Promise: the history goes on over kill -9 and a stop; a damaged file costs the history alone, and is said."""
        daemon = self.start()

        def samples():
            consumed = daemon.get("/api/v1/history?since=-600")["host"]["consumed_bytes"]
            return sum(1 for value in consumed if value is not None)
        wait_until(lambda: samples() >= 1, "a sample", 15, every=0.3)
        daemon.kill()
        path = os.path.join(daemon.swap_dir, "history.sqlite")
        with contextlib.closing(sqlite3.connect(path)) as db:  # as if it had run for longer
            db.executescript("CREATE TEMP TABLE old AS SELECT * FROM host; UPDATE old SET time = time - 100;"
                             "INSERT INTO host SELECT * FROM old")
        daemon.start()
        self.assertGreaterEqual(samples(), 2)
        self.assertEqual(daemon.terminate(), 0)
        with open(path, "r+b") as file:
            file.write(b"nonsense" * 1000)
        daemon.start()
        daemon.wait_for_event("history.damaged")
        self.assertTrue(os.path.exists(path + ".damaged"))
        wait_until(lambda: samples() >= 1, "a sample in the new file", 15, every=0.3)

    def test_hostile_clients(self):
        """Promise: slow, greedy and garbled clients change nothing for the guest or for the command line; when they
        leave, nothing of them is left."""
        daemon = self.start()
        guest = self.guest(daemon, "vm", run=verifier(48, 6, 7), memory_mib=128)
        guest.ready()
        port, stop, threads = daemon.port(), threading.Event(), []
        quiet = daemon.descriptors()

        def plague(words, drip):
            while not stop.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                        connection.sendall(words)
                        for _ in range(20):
                            if stop.wait(0.1):
                                return
                            connection.sendall(drip)
                except OSError:
                    time.sleep(0.05)
        kinds = [(b"GET / HT", b"x"), (b"POST /api/v1/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n", b" "),
                 (b"GET /api/v1/host HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, b"\r\n"), (os.urandom(3000), os.urandom(100)),
                 (b"GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
                 (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 5000, b"C: d\r\n")]
        for i in range(36):
            threads.append(threading.Thread(target=plague, args=kinds[i % len(kinds)], daemon=True))
            threads[-1].start()
        slowest = 0
        until = time.monotonic() + 6
        while time.monotonic() < until:
            asked = time.monotonic()
            daemon.must("host")
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        self.assertEqual(daemon.http_ask("/api/v1/version")[0], 200)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertLess(slowest, 1.0)
        guest.finish()
        wait_until(lambda: daemon.descriptors().get("socket", 0) <= quiet.get("socket", 0), lambda: str(daemon.descriptors()), 25)
        self.assertLess(daemon.private_bytes(), 24 * MIB)

    def test_taken_port_and_off(self):
        """Promise: a port that is taken is said and costs nothing else, and is used when it is free again; off is off; what
        listens beyond loopback says so."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            daemon = self.start(http=f"127.0.0.1:{taken.getsockname()[1]}")
            self.assertIn("--http", daemon.wait_for_event("http.unavailable")["message"])
            self.assertTrue(daemon.must("host"))
        daemon.wait_for_event("http.listening", seconds=15)
        off = self.start(http="off")
        self.assertEqual(off.events("http.listening"), [])
        off.terminate()
        wide = self.start(http=None, config_text='[http]\nlisten = "0.0.0.0:0"\nhistory = false\n')
        self.assertIn("unencrypted", wide.wait_for_event("http.open")["message"])
        self.assertEqual(wide.http_ask("/api/v1/history")[0], 404)


if __name__ == "__main__":
    harness.main()
