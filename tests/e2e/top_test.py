#!/usr/bin/env python3
"""`ballast top` in a real terminal: screen, keys, sizes, restarts of the daemon; and CSV."""
import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import harness
from harness import BIN, HERE, MIB, EndToEndTest, Failed, die_with_parent, wait_until


class Tmux:
    """A terminal of a given size, with a shell in it, that can be typed into and looked at."""

    def __init__(self, test, columns, rows, environment):
        self.socket = os.path.join(environment["HOME"], "tmux")
        self.shell_pid = None
        test.addCleanup(self.close)
        # No configuration of the user's, a server of our own.
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "exec sh",
                  environment={**os.environ, **environment, "PS1": "$ ", "ENV": ""})

    def tmux(self, *words, environment=None):
        done = subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              env=environment)
        if done.returncode != 0:
            raise Failed(f"tmux {words}: {done.stderr}")
        return done.stdout

    def keys(self, *names):
        self.tmux("send-keys", *names)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def run(self, command):
        self.type(command)
        self.keys("Enter")

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def pane(self, what):
        return self.tmux("display-message", "-p", f"#{{{what}}}").strip()

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def shows(self, pattern, seconds=15.0):
        """Waits until the screen matches; returns it."""
        def look():
            screen = self.screen()
            return screen if re.search(pattern, screen, re.MULTILINE) else None
        return wait_until(look, lambda: f"'{pattern}' on the screen:\n{self.screen()}", seconds, every=0.05)

    def close(self):
        if os.path.exists(self.socket):
            subprocess.run(["tmux", "-S", self.socket, "kill-server"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)


class Top(EndToEndTest):
    def fake_vm(self, daemon, name):
        """The cheapest VM there is: 16 MB and nobody in it."""
        process = subprocess.Popen([sys.executable, os.path.join(HERE, "fake_agent.py"),
                                    os.path.join(daemon.run_dir, "agent.sock"), name, "none"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.addCleanup(end)
        self.assertEqual(process.stdout.readline().strip(), "ACCEPT")

    def terminal(self, daemon, columns=80, rows=24, **more):
        if shutil.which("tmux") is None:
            self.skipTest("tmux is not installed: the screen of ballast top is not tested")
        self.home = os.path.join(daemon.directory, "home")
        os.makedirs(self.home, exist_ok=True)
        return Tmux(self, columns, rows, {"HOME": self.home, "XDG_CONFIG_HOME": "", "BALLAST_RUN_DIR": daemon.run_dir,
                                          "PATH": f"{BIN}:{os.environ['PATH']}", "TZ": "UTC", "LC_ALL": "C.UTF-8",
                                          "NO_COLOR": "", **more})

    def assert_terminal_is_sane(self, terminal):
        """The shell's own screen is back, with its cursor, and echoes what is typed."""
        wait_until(lambda: terminal.pane("alternate_on") == "0", "the shell's screen is not back")
        self.assertEqual(terminal.pane("cursor_flag"), "1", "no cursor")
        terminal.run("stty -a | grep -o -E ' -?(icanon|echo|ixon) ' | tr -d '\\n'; echo; echo sa''ne")
        screen = terminal.shows("^sane$")
        self.assertNotIn("-icanon", screen)
        self.assertNotIn("-echo ", screen)
        self.assertIn("echo sa''ne", screen)  # it was echoed

    def test_screen_and_keys(self):
        """Promise: the screen shows host and VMs, at 80 columns and at 200; keys sort, scroll, choose columns, explain;
        what W keeps is there again; q leaves the terminal as it was."""
        daemon = self.daemon(400 * MIB)
        self.guest(daemon, "linux").ready()
        for name in ("alpha", "beta"):
            self.fake_vm(daemon, name)
        daemon.must("reserve", name="later", memory_bytes=64 * MIB, min_bytes=16 * MIB, seconds=600)
        terminal = self.terminal(daemon)
        terminal.run("ballast top -d 0.5")
        screen = terminal.shows(r"^>alpha +16 ")
        self.assertRegex(screen, r"^\d\d:\d\d:\d\d up .*, 3 VMs.*; MEM overcommit avg: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d")
        self.assertRegex(screen, r"(?m)^PMEM  /MB: +\d+ +total: .* vmk, .* other, .* free$")
        self.assertRegex(screen, r"(?m)^VMKMEM/MB: +400 managed: .* minfree, .* rsvd, .* ursvd, high state$")
        self.assertRegex(screen, r"(?m)^PSHARE/MB: .*(?s:.*)^SWAP  /MB: (?s:.*)^ZIP   /MB: (?s:.*)^MEMCTL/MB: ")
        self.assertRegex(screen, r"(?m)^ NAME >? +MEMSZ   GRANT    CNSM   SZTGT    TCHD ")
        self.assertRegex(screen, r"(?m)^ linux +256 ")
        self.assertRegex(screen, r"(?m)^ \(ballastd\) ")
        self.assertRegex(screen, r"(?m)^ \(reserved later\) +64 ")
        self.assertLessEqual(max(len(line) for line in screen.splitlines()), 80)

        terminal.keys("M")
        terminal.shows(r"sorted by MEMSZ")
        order = re.findall(r"(?m)^[> ](alpha|beta|linux) ", terminal.screen())
        self.assertEqual(order[0], "linux")
        terminal.keys("V")
        terminal.shows(r"VMs only")
        self.assertNotIn("(ballastd)", terminal.screen())
        terminal.keys("Home", "e")
        terminal.shows(r"^    linux consumes ")
        terminal.keys("PageDown")
        terminal.shows(r"^ +balloon +")
        terminal.keys("Down", "Up", "e")
        wait_until(lambda: "consumes" not in terminal.screen(), "why stays on the screen")
        terminal.keys("Right", "Right", "Right")
        terminal.shows(r"^ NAME <>? +SZTGT")
        terminal.keys("Left", "Left", "Left")
        terminal.keys("h")
        terminal.shows("sort by   N name")
        terminal.keys("q")
        terminal.keys("s")
        terminal.shows("Seconds between updates")
        terminal.type("1.5")
        terminal.keys("Enter")
        terminal.shows("every 1.5 s")

        terminal.resize(200, 40)
        screen = terminal.shows(r"^ NAME .* SHRDSVD ")
        self.assertGreater(max(len(line) for line in screen.splitlines()), 150)
        terminal.keys("f")
        terminal.shows(r"^> \* MEMSZ ")
        terminal.keys("Space", "End", "Space", "W")  # no MEMSZ, but STATE
        terminal.shows(r"kept in .*/top\.toml")
        terminal.keys("q")
        screen = terminal.shows(r"^ NAME .* STATE$")
        self.assertNotIn(" MEMSZ ", screen)
        terminal.keys("q")
        self.assert_terminal_is_sane(terminal)
        terminal.run("clear; ballast top")
        terminal.shows(r"^ NAME .* STATE$")
        self.assertNotIn("(ballastd)", terminal.screen())
        terminal.keys("q")
        self.assert_terminal_is_sane(terminal)

    def test_restarts_and_signals(self):
        """Promise: while the daemon is away top says so and goes on with the next one; signals leave the terminal as it
        was; a broken top.toml is told; no colours where none are wanted."""
        daemon = self.daemon(100 * MIB)
        self.fake_vm(daemon, "alpha")
        terminal = self.terminal(daemon, NO_COLOR="1")
        os.makedirs(os.path.join(self.home, ".config/ballast"))
        with open(os.path.join(self.home, ".config/ballast/top.toml"), "w", encoding="ascii") as file:
            file.write("delay = 1\nfields = [\"NOPE\"]\n")
        terminal.run("ballast top -d 0.5")
        terminal.shows(r"top\.toml:2: fields has 'NOPE'.*")
        terminal.shows(r"^>alpha ")
        self.assertNotIn("\x1b[", terminal.tmux("capture-pane", "-p", "-e"))
        daemon.kill()
        terminal.shows(r"waiting for ballastd: no ballastd answers")
        self.assertRegex(terminal.screen(), r"(?m)^>alpha ")
        daemon.start()
        screen = terminal.shows(r"^ NAME ")
        wait_until(lambda: "waiting" not in terminal.screen(), lambda: terminal.screen())
        self.assertIn("VM", screen)
        # ^Z and back.
        terminal.keys("C-z")
        self.assert_terminal_is_sane(terminal)
        terminal.run("fg")
        terminal.shows(r"^PMEM ")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGABRT):
            if number != signal.SIGTERM:
                terminal.run("clear; ballast top -d 0.5")
                terminal.shows(r"^PMEM ")
            shell = int(terminal.pane("pane_pid"))
            top = int(subprocess.run(["pgrep", "-P", str(shell)], stdout=subprocess.PIPE, text=True,
                                     check=True).stdout.split()[0])
            os.kill(top, number)
            self.assert_terminal_is_sane(terminal)
        terminal.run("clear; ballast top | cat; TERM=dumb ballast top; echo status $?")
        terminal.shows(r"^status 1$")
        self.assertEqual(terminal.screen().replace("\n", " ").count("top -b'"), 2, terminal.screen())

    def test_batch(self):
        """Promise: -b prints CSV with one header, a line for the host and one for each VM, as often as told, at the
        pace that was told; without a daemon it says so."""
        daemon = self.daemon(100 * MIB)
        for name in ("alpha", "beta"):
            self.fake_vm(daemon, name)
        begun = time.monotonic()
        status, text, errors = daemon.cli("top", "-b", "-n", "3", "-d", "0.5")
        took = time.monotonic() - begun
        self.assertEqual((status, errors), (0, ""))
        self.assertGreater(took, 0.95)
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual([row["name"] for row in rows], ["", "alpha", "beta"] * 3)
        host, alpha = rows[0], rows[1]
        self.assertEqual(float(host["managed_mb"]), 100)
        self.assertGreater(float(host["host_total_mb"]), float(host["host_available_mb"]))
        self.assertEqual(host["host_vms"], "2")
        self.assertEqual(host["memsz_mb"], "")
        self.assertEqual((alpha["memsz_mb"], alpha["state"], alpha["swr_mb_per_s"]), ("16.000", "running", ""))
        self.assertEqual(rows[4]["swr_mb_per_s"], "0.000")
        self.assertEqual(alpha["host_state"], "")
        self.assertEqual(alpha["almt_mb"], "none")
        gap = float(rows[3]["time"]) - float(rows[0]["time"])
        self.assertTrue(0.4 < gap < 1.5, gap)
        # Who reads only the first line ends it.
        done = subprocess.run(f"{BIN}/ballast top -b -d 0.5 | head -n 1", shell=True, stdout=subprocess.PIPE, text=True,
                              timeout=20, check=True, env={**os.environ, "BALLAST_RUN_DIR": daemon.run_dir})
        self.assertTrue(done.stdout.startswith("time,name,"))
        status, text, errors = daemon.cli("top", "-n", "1")
        self.assertEqual((status, text), (1, ""))
        self.assertIn("ballast top -b", errors)
        for wrong in (["-d", "0.1"], ["-d", "x"], ["-n", "-3"]):
            self.assertEqual(daemon.cli("top", "-b", *wrong)[0], 2, wrong)
        self.assertEqual(daemon.cli("top", "--json")[0], 1)
        daemon.kill()
        status, text, errors = daemon.cli("top", "-b")
        self.assertEqual((status, text), (1, ""))
        self.assertIn("no ballastd answers", errors)


if __name__ == "__main__":
    harness.main()
