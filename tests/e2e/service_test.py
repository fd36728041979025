#!/usr/bin/env python3
"""ballastd as a service: what systemd hears of it, its configuration read anew while it runs, who may ask it."""
import os
import shutil
import signal
import socket
import subprocess

import harness
from harness import BIN, MIB, Daemon, EndToEndTest, wait_until

NOBODY = 65534


class NotifySocket:
    """Takes systemd's place."""

    def __init__(self, test, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0)
        self.heard = []
        test.addCleanup(self.socket.close)

    def expect(self, beginning, seconds=10.0):
        """Waits for a message since the last expected one, and returns it."""
        def look():
            try:
                while True:
                    self.heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                pass
            for at, message in enumerate(self.heard):
                if message.startswith(beginning):
                    del self.heard[:at + 1]
                    return message
            return None
        return wait_until(look, lambda: f"'{beginning}'; heard {self.heard}", seconds)


class Service(EndToEndTest):
    def write(self, daemon, name, text):
        path = os.path.join(daemon.config, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def configured(self, text="", **arguments):
        """A daemon whose configuration is a directory, not started."""
        daemon = Daemon(self, 96 * MIB, **arguments)
        os.unlink(daemon.config)
        self.write(daemon, "ballast.toml", text)
        return daemon

    def test_service_manager(self):
        """Promise: systemd hears when the daemon is ready, how it does, that its main loop turns, that it reloads
        and that it stops; a daemon that hangs is heard no more."""
        daemon = self.configured()
        manager = NotifySocket(self, daemon.directory)
        before = dict(os.environ)
        # No WATCHDOG_PID: for whichever process reads it.
        os.environ.update(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="800000")
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        daemon.start()
        self.assertEqual(manager.expect("STATUS="), "STATUS=0 VMs, state high")
        manager.expect("READY=1")
        for _ in range(3):
            manager.expect("WATCHDOG=1", 1)
        daemon.process.send_signal(signal.SIGHUP)
        manager.expect("RELOADING=1\nMONOTONIC_USEC=")
        manager.expect("READY=1")
        os.kill(daemon.pid, signal.SIGSTOP)
        with self.assertRaises(harness.Failed):
            manager.expect("WATCHDOG=1", 0.3)
            manager.expect("WATCHDOG=1", 1)
        os.kill(daemon.pid, signal.SIGCONT)
        self.assertEqual(daemon.terminate(), 0)
        manager.expect("STOPPING=1")

    def test_reload(self):
        """Promise: SIGHUP changes what can change and names what needs a restart; what `ballast options` set stays,
        and that is said; a broken file changes nothing and is named with its line."""
        daemon = self.configured('[options]\n"Mem.IdleTax" = 10\n"Mem.SamplePeriod" = 30\n')
        daemon.start()

        def option(name):
            return daemon.must("options", name=name)["options"][0]["value"]

        def reload(kind):
            count = len(daemon.events(kind))
            daemon.process.send_signal(signal.SIGHUP)
            return daemon.wait_for_event(kind, count=count + 1)["message"]

        daemon.must("options", name="Mem.SamplePeriod", value="45")
        extra = self.write(daemon, "conf.d/10-site.toml",
                           'swap_dir = "/elsewhere"\nlog_level = "error"\n[options]\nMem.IdleTax = 20\n')
        self.assertRegex(reload("config.reloaded"), "log_level = error, Mem.IdleTax = 20$")
        self.assertEqual((option("Mem.IdleTax"), option("Mem.SamplePeriod")), ("20", "45"))
        # The command line says where the swap directory is; it wins as it did at the start.
        self.assertEqual(daemon.events("config.needs-restart"), [])
        self.assertRegex(daemon.events("config.overridden")[-1]["message"],
                         r"Mem.SamplePeriod stays 45.*files say 30.*options.toml")

        self.write(daemon, "conf.d/10-site.toml", 'group = "staff"\nlog_level = "error"\n[options]\nMem.IdleTax = 20\n')
        self.assertEqual(reload("config.reloaded"), "configuration reloaded, nothing has changed")
        self.assertIn("group = staff takes effect when ballastd is restarted",
                      daemon.wait_for_event("config.needs-restart")["message"])

        self.write(daemon, "conf.d/10-site.toml", 'log_level = "info"\n[options]\nMem.IdleTax = 30\nMem.SampelPeriod = 1\n')
        refusal = reload("config.refused")
        self.assertIn(f"{extra}:4: unknown option 'Mem.SampelPeriod' (did you mean Mem.SamplePeriod?)", refusal)
        self.assertEqual(option("Mem.IdleTax"), "20")

        os.unlink(extra)
        os.unlink(os.path.join(daemon.swap_dir, "options.toml"))
        reload("config.reloaded")
        self.assertEqual((option("Mem.IdleTax"), option("Mem.SamplePeriod")), ("10", "30"))

    def test_check_config(self):
        """Promise: --check-config tells what would apply, or all that is wrong, and starts nothing."""
        daemon = self.configured('memory = "96M"\n')
        command = [daemon.program, "--check-config", "--config", daemon.config, "--swap-dir", daemon.swap_dir]
        good = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=20)
        for line in (f"the configuration is good: {daemon.config}/ballast.toml", f"memory = {96 * MIB}",
                     f"swap_dir = {daemon.swap_dir}", "Mem.IdleTax = 75"):
            self.assertIn(line, good.stdout.splitlines())
        self.write(daemon, "conf.d/1.toml", 'swapdir = "/x"\nmemory = "lots"\n')
        bad = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=20)
        self.assertEqual(bad.returncode, 1)
        lines = bad.stderr.splitlines()
        self.assertEqual(len(lines), 2, lines)
        self.assertIn("1.toml:1: unknown key 'swapdir' (did you mean swap_dir?)", lines[0])
        self.assertIn("1.toml:2: memory: 'lots' is not a size", lines[1])

    def test_who_may_ask(self):
        """Promise: members of the group may look at everything and change nothing; others may not even look."""
        if shutil.which("setpriv") is None:
            self.skipTest("no setpriv")
        daemon = self.configured('group = "daemon"\n')
        os.chmod(daemon.directory, 0o755)
        daemon.start()

        def ask_as(groups, *words):
            done = subprocess.run(["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), *groups,
                                   os.path.join(daemon.directory, "ballast"), "--run-dir", daemon.run_dir, *words],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=20)
            return done.returncode, done.stdout + done.stderr

        shutil.copy(os.path.join(BIN, "ballast"), daemon.directory)  # where nobody can reach it
        member = ["--groups", str(os.stat(os.path.join(daemon.run_dir, "control.sock")).st_gid)]
        for words in (["ls"], ["host"], ["options"], ["events"]):
            status, text = ask_as(member, *words)
            self.assertEqual(status, 0, text)
        for words in (["options", "Mem.IdleTax=1"], ["reserve", "db", "--memory", "64M"]):
            status, text = ask_as(member, *words)
            self.assertEqual(status, 1)
            self.assertIn("you may only look", text)
        self.assertEqual(daemon.must("options", name="Mem.IdleTax")["options"][0]["value"], "75")
        status, text = ask_as(["--clear-groups"], "ls")
        self.assertEqual(status, 1)
        self.assertIn("no permission", text)


if __name__ == "__main__":
    harness.main()
