#!/usr/bin/env python3
"""Page sharing between real guests: who shares with whom, that no byte is lost, and what it costs and saves."""
import os
import stat
import time

import harness
from harness import MIB, EndToEndTest, open_files, verifier, wait_until

EAGER = {"Mem.ShareScanTime": 1, "Mem.ShareRateMax": 200000, "Mem.ShareScanGHz": 1000}
TWINS = "zero:5,lz50:30,random:25,twin:40"
UUIDS = {name: f"5d1f6a4e-0000-4000-8000-00000000000{i}" for i, name in enumerate("abc")}


class SharingTest(EndToEndTest):
    def twins(self, daemon, name, seconds=600, seed=1, mib=64, mix=TWINS, salt=None, pshare=None, **more):
        """A guest whose pages are equal to those of other guests with its seed, and that rewrites them all the time."""
        environment = {}
        if salt is not None:
            environment["BALLAST_VM_SALT"] = salt
        if pshare is not None:
            environment["BALLAST_VM_PSHARE"] = pshare
        more.setdefault("memory_mib", 192)
        return self.guest(daemon, name, run=verifier(mib, seconds, seed, mix=mix, extra="--pause-us 300"),
                          qemu=("-uuid", UUIDS.get(name, UUIDS["a"])), environment=environment, **more)

    def pools(self, guest):
        """{(device, inode): path below /proc} of the share pools that the VM's process holds or maps."""
        found = {}
        for fd, target in open_files(guest.pid):
            if target.startswith("/memfd:ballast-pool"):
                info = os.stat(f"/proc/{guest.pid}/fd/{fd}")
                found[info.st_dev, info.st_ino] = f"/proc/{guest.pid}/fd/{fd}"
        with open(f"/proc/{guest.pid}/maps", encoding="ascii") as file:
            mapped = {int(line.split()[4]) for line in file if "memfd:ballast-pool" in line}
        self.assertLessEqual(mapped, {inode for _, inode in found})
        return found

    def groups(self, daemon):
        return {group["name"]: group for group in daemon.host()["share_groups"]}


class Salting(SharingTest):
    def test_matrix(self):
        """Promise: VMs share exactly as Mem.ShareForceSalting and their salts say, and a QEMU holds no other group's
        frames, and its own only for reading."""
        for mode, salts, expected in (
                (0, {"a": None, "b": "web"}, {"a": "all", "b": "all"}),
                (1, {"a": None, "b": None, "c": "web"}, {"a": "salt:0", "b": "salt:0", "c": "salt:web"}),
                (2, {"a": "web", "b": "web", "c": None}, {"a": "salt:web", "b": "salt:web", "c": f"uuid:{UUIDS['c']}"})):
            with self.subTest(mode=mode):
                daemon = self.daemon(600 * MIB, options={**EAGER, "Mem.ShareForceSalting": mode})
                guests = {name: self.twins(daemon, name, salt=salt, mib=32, memory_mib=128, mix="random:100")
                          for name, salt in salts.items()}
                for name, group in expected.items():
                    vm = daemon.wait_for_vm(name)
                    self.assertEqual(vm["share_group"], group)
                members = {}
                for name, group in expected.items():
                    members.setdefault(group, []).append(name)
                # All guests hold the same pages. Those of one group meet; the kernel's own pages meet, too.
                for group, names in members.items():
                    if len(names) == 2:
                        wait_until(lambda g=group: self.groups(daemon)[g]["shared_bytes"] > 40 * MIB,
                                   lambda: f"{mode}: {daemon.host()['share_groups']}", 60)
                self.say(f"mode {mode}: {self.groups(daemon)}")
                pools = {name: set(self.pools(guest)) for name, guest in guests.items()}
                for name, held in pools.items():
                    self.assertEqual(len(held), 1, name)
                    for other, theirs in pools.items():
                        self.assertEqual(held == theirs, expected[name] == expected[other], (mode, name, other))
                for guest in guests.values():
                    self.assert_read_only(guest)
                for group, one in self.groups(daemon).items():
                    self.assertEqual(one["vms"], len(members[group]))
                self.assertEqual(set(self.groups(daemon)), set(members))
                for guest in guests.values():
                    guest.kill()
                daemon.close()

    def assert_read_only(self, guest):
        for path in self.pools(guest).values():
            with open(path.replace("/fd/", "/fdinfo/"), encoding="ascii") as file:
                flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
            self.assertEqual(flags & os.O_ACCMODE, os.O_RDONLY)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o077, 0, "closed to other users")
        with open(f"/proc/{guest.pid}/maps", encoding="ascii") as file:
            for line in file:
                if "memfd:ballast-pool" in line:
                    self.assertEqual(line.split()[1][3], "p", line)

    def test_off(self):
        """Promise: a VM with page sharing off shares nothing, not even within itself; nor does one when the host's
        rates are 0."""
        daemon = self.daemon(500 * MIB, options={**EAGER, "Mem.ShareForceSalting": 0})
        off = self.twins(daemon, "a", pshare="0")
        self.twins(daemon, "b")
        daemon.wait_for_vm("b", share_joins=1000)
        vm = daemon.wait_for_vm("a")
        self.assertEqual((vm["share_group"], vm["shared_bytes"], vm["share_scanned"]), ("", 0, 0))
        self.assertEqual(self.pools(off), {})
        daemon.must("options", name="Mem.ShareRateMax", value="0")
        wait_until(lambda: daemon.vm("b")["share_rate"] == 0, lambda: daemon.vm("b"), 10)
        time.sleep(0.5)
        scanned = daemon.vm("b")["share_scanned"]
        time.sleep(2)
        self.assertEqual(daemon.vm("b")["share_scanned"], scanned)


class NoByteIsLost(SharingTest):
    def test_merges_breaks_and_evictions(self):
        """Promise: pages that are merged, broken and evicted at once, in two VMs that rewrite them all the time, are
        what their guests wrote; what the host consumes stays within the budget."""
        daemon = self.daemon(210 * MIB, options={**EAGER, "Mem.ShareForceSalting": 0})
        guests = [self.twins(daemon, name, seconds=45, mib=96, mix="zero:5,lz50:25,random:10,twin:60")
                  for name in ("a", "b")]
        most = evictions = peak = 0
        while all(guest.alive() for guest in guests):
            host = daemon.host()
            self.assertLessEqual(host["consumed_bytes"], host["budget_bytes"])
            peak = max(peak, host["consumed_bytes"])
            most = max(most, sum(vm["share_joins"] + vm["share_breaks"] for vm in host["vms"]))
            evictions = max(evictions, sum(vm["zips"] + vm["swap_outs"] for vm in host["vms"]))
            time.sleep(0.2)
        for guest in guests:
            guest.finish()
        self.say(f"{most} merges and breaks, {evictions} evictions, {peak / MIB:.1f} MiB at most")
        self.assertGreater(most, 20_000)
        self.assertGreater(evictions, 1000)
        wait_until(lambda: daemon.host()["share_groups"] == [], lambda: daemon.host(), 20)

    def test_daemon_dies_meanwhile(self):
        """Promise: a daemon that dies at any instant of sharing loses nothing, and the next one knows every frame."""
        daemon = self.daemon(400 * MIB, options={**EAGER, "Mem.ShareForceSalting": 0})
        guests = [self.twins(daemon, name, seconds=40) for name in ("a", "b")]
        for name in ("a", "b"):
            daemon.wait_for_vm(name, share_joins=500)
        kills = 0
        while all(guest.alive() for guest in guests) and kills < 25:
            time.sleep(self.random.uniform(0.05, 0.8))
            daemon.kill()
            kills += 1
            daemon.start()
            for guest in guests:
                if guest.alive():
                    wait_until(lambda g=guest: not g.alive() or daemon.has_vm(g.name), guest.tail, 30, every=0.02)
        group = self.groups(daemon).get("all")
        if group is not None:
            self.assertGreater(group["shared_bytes"], 10 * MIB)
        for guest in guests:
            guest.finish()
        self.assertEqual(daemon.events("vm.refused"), [])
        wait_until(lambda: daemon.host()["share_groups"] == [], lambda: daemon.host(), 20)
        self.say(f"{kills} kills")

    def test_balloon_and_death_of_a_member(self):
        """Promise: a guest gives shared pages up, another dies: those that stay keep their frames."""
        daemon = self.daemon(500 * MIB, options={**EAGER, "Mem.ShareForceSalting": 0})
        stays = self.twins(daemon, "a", seconds=30)
        dies = self.twins(daemon, "b")
        for name in ("a", "b"):
            daemon.wait_for_vm(name, shared_bytes=10 * MIB)
        daemon.must("set", vm="a", limit_bytes=110 * MIB)
        time.sleep(5)
        dies.kill()
        wait_until(lambda: not daemon.has_vm("b"), lambda: daemon.vms(), 20)
        self.assertGreater(daemon.vm("a")["shared_bytes"], 5 * MIB)
        stays.finish()


if __name__ == "__main__":
    harness.main()
