"""What owning a VM's pages costs, against plain QEMU and against the kernel's own swap on zram and on disk."""
import json
import os
import time

import guests
import harness
import peers
from harness import MIB, Daemon, Failed
from ours import ManagedToucher

ZIP_ALL = {"Mem.MemZipEnable": 1, "Mem.MemZipMaxPct": 100}
SWAP_ALL = {"Mem.MemZipEnable": 0}
SWAP_PARENT = "/var/tmp"  # ours and the kernel's swap file: the same disk


def _lacking(report, what, kvm=False):
    why = harness.missing_ability(kvm)
    if why:
        report.skip(what, why)
    return why


def _content(report):
    """Arguments that give the toucher real memory content, where a guest can be booted."""
    try:
        return ["--content", guests.memory_dump()]
    except Failed as problem:
        report.note(f"made-up page content instead of a real guest's: {problem}")
        return []


def boot(report, arguments):
    """Boot to ready and the guest's sequential first touch: the same guest under plain QEMU and under Ballast."""
    if _lacking(report, "boot and first touch"):
        return
    try:
        directory = guests.images()
    except Failed as problem:
        report.skip("boot and first touch", str(problem))
        return
    ready = report.row("boot to ready", "s", goal_ratio=1.15)
    touch = report.row("guest's sequential first touch", "us/page", goal_ratio=1.25)
    # Ours needs shared memory; what that alone changes shows against a plain QEMU that uses it too.
    shared = report.row("guest's sequential first touch, vs plain QEMU on a shared memfd", "us/page")
    memory, touched = 512, 300
    qemu = guests.arguments(directory, memory, f"verifier --mib {touched} --touch")
    qemu_shared = [*qemu, "-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on",
                   "-machine", "pc,memory-backend=ram"]

    def once(guest):
        began = time.monotonic()
        try:
            guest.expect("GUEST-READY", 120)
            seconds = time.monotonic() - began
            guest.expect("BALLAST-TOUCH", 120)
            guest.wait(60)
        finally:
            if guest.process.poll() is None:
                guest.kill()
        return seconds, guest.fields("BALLAST-TOUCH")[0]["us_per_page"]

    with Daemon(arguments.bin, 2 * memory * MIB) as daemon:
        for number in range(2 if arguments.quick else 7):
            ours = once(guests.start_managed(daemon, f"boot{number}", memory, qemu))
            peer = once(guests.start_plain(qemu))
            ready.add(ours[0], peer[0])
            touch.add(ours[1], peer[1])
            shared.add(ours[1], once(guests.start_plain(qemu_shared))[1])


def zipped(report, arguments):
    """Refault of compressed pages against the kernel's zram with LZ4, shared memory, the same pages."""
    what = "compressed refault"
    why = peers.lacking() or peers.zram_lacking() or (peers.tools_missing() and "no mkswap, swapon")
    if _lacking(report, what) or why:
        if why:
            report.skip(what, why)
        return
    mib = 32 if arguments.quick else 64
    toucher = ["--mib", mib, "--only", "compressible", *_content(report)]
    random_p50 = report.row("compressed page refault, random, p50", "us", goal_ratio=2.5)
    random_p99 = report.row("compressed page refault, random, p99", "us")
    walk = report.row("compressed page refault, sequential walk", "us/page", goal_ratio=0.8)
    with ManagedToucher(arguments.bin, mib, toucher, ZIP_ALL) as ours, peers.zram_swap(4 * mib), \
            peers.KernelToucher(arguments.bin, toucher) as peer:
        ours.do("fill")
        peer.do("fill")
        for _ in range(2 if arguments.quick else 9):
            out = ours.push_out()
            if out["swap_outs"]:
                report.note(f"{out['swap_outs']} pages went to swap that should compress")
            mine = ours.do("random 8")
            with peers.page_cluster(0):
                peer.push_out()
                its = peer.do("random 8")
            random_p50.add(mine["p50_us"], its["p50_us"])
            random_p99.add(mine["p99_us"], its["p99_us"])
            ours.push_out()
            mine = ours.do("walk")
            its = []
            for cluster in (0, 3):  # without and with read-ahead: the better one is the peer
                with peers.page_cluster(cluster):
                    peer.push_out()
                    its.append(peer.do("walk")["mean_us"])
            walk.add(mine["mean_us"], min(its))
        _check_content(report, ours, peer)


def _check_content(report, *touchers):
    for toucher in touchers:
        errors = toucher.do("check")["errors"]
        if errors:
            raise Failed(f"{errors} pages came back damaged")


def swapped(report, arguments):
    """Refault of swapped pages against the kernel's swap file on the same disk."""
    what = "swapped refault"
    why = peers.lacking() or (peers.tools_missing() and "no mkswap, swapon")
    if _lacking(report, what) or why:
        if why:
            report.skip(what, why)
        return
    mib = 32 if arguments.quick else 64
    toucher = ["--mib", mib, *_content(report)]
    random_p50 = report.row("swapped page refault, random, p50", "us", goal_ratio=1.3)
    random_p99 = report.row("swapped page refault, random, p99", "us")
    walk = report.row("swapped page refault, sequential walk", "us/page")
    peers.remove_leftovers()
    with ManagedToucher(arguments.bin, mib, toucher, SWAP_ALL) as ours, \
            peers.swap_file(SWAP_PARENT, 4 * mib), peers.KernelToucher(arguments.bin, toucher) as peer:
        ours.do("fill")
        peer.do("fill")
        for _ in range(2 if arguments.quick else 7):
            ours.push_out()
            mine = ours.do("random 16")
            with peers.page_cluster(0):
                peer.push_out()
                its = peer.do("random 16")
            random_p50.add(mine["p50_us"], its["p50_us"])
            random_p99.add(mine["p99_us"], its["p99_us"])
            ours.push_out()
            mine = ours.do("walk")
            with peers.page_cluster(3):
                peer.push_out()
                walk.add(mine["mean_us"], peer.do("walk")["mean_us"])
        _check_content(report, ours, peer)


def reclaim(report, arguments):
    """How fast pages are compressed away, per core, against bare LZ4 on the same pages."""
    if _lacking(report, "reclaim"):
        return
    mib = 32 if arguments.quick else 64
    toucher = ["--mib", mib, "--only", "compressible", *_content(report)]
    plain = report.row("reclaim to compressed vs bare LZ4", "pages/s per core", goal_ratio=0.7, at_least=True)
    capped = report.row("reclaim to compressed vs bare LZ4 that gives up at 2048 bytes", "pages/s per core")
    wall = report.row("reclaim to compressed, wall time", "pages/s")
    with ManagedToucher(arguments.bin, mib, toucher, ZIP_ALL) as ours:
        ours.do("fill")
        for _ in range(2 if arguments.quick else 9):
            free = ours.do("lz4 0")["pages_per_second"]
            half = ours.do("lz4 2048")["pages_per_second"]
            out = ours.push_out()
            speed = out["zips"] / out["cpu_seconds"]
            plain.add(speed, free)
            capped.add(speed, half)
            wall.add(out["zips"] / out["seconds"])
            ours.do("walk")
        _check_content(report, ours)


def tables(report, arguments):
    """Memory that Ballast needs beside what it manages; everything swapped out, so that all tables are in use."""
    if _lacking(report, "tables"):
        return
    mib = 128 if arguments.quick else 1024
    row = report.row(f"tables of a VM of {mib} MiB", "% of managed memory", goal_ours=0.5)
    with ManagedToucher(arguments.bin, mib, ["--mib", mib], SWAP_ALL, budget_mib=mib + 256) as ours:
        ours.do("fill")
        ours.push_out()
        vm = ours.vm()
        row.add(100 * vm["overhead_bytes"] / vm["configured_bytes"])


def idle(report, arguments):
    """CPU time of the daemon while 4 guests do nothing."""
    if _lacking(report, "idle"):
        return
    try:
        directory = guests.images()
    except Failed as problem:
        report.skip("idle", str(problem))
        return
    for budget, name in ((2048, "daemon with 4 idle VMs"), (320, "daemon with 4 idle VMs, memory short")):
        row = report.row(name, "% of a core", goal_ours=0.5 if budget == 2048 else None)
        with Daemon(arguments.bin, budget * MIB) as daemon:
            running = [guests.start_managed(daemon, f"idle{i}", 256, guests.arguments(directory, 256, poweroff=False))
                       for i in range(4)]
            try:
                for guest in running:
                    guest.expect("GUEST-READY", 180)
                time.sleep(5)
                for _ in range(1 if arguments.quick else 3):
                    cpu, began = daemon.cpu_seconds(), time.monotonic()
                    time.sleep(5 if arguments.quick else 20)
                    row.add(100 * (daemon.cpu_seconds() - cpu) / (time.monotonic() - began))
            finally:
                for guest in running:
                    guest.kill()


def kvm(report, arguments):
    """The same through KVM: the micro-VM under Ballast against itself without, and its refaults."""
    if _lacking(report, "kvm", kvm=True):
        return
    first = report.row("KVM guest's sequential first touch", "us/page")
    random_p50 = report.row("KVM guest: compressed page refault, random, p50", "us")
    walk = report.row("KVM guest: compressed page refault, sequential walk", "us/page")
    mib = 64
    ram = mib + 4
    program = os.path.join(arguments.bin, "ballast-microvm")
    common = ["--mib", mib, "--ram", ram, "--mix", "zero:0,lz50:100,random:0", "--interactive"]
    for _ in range(2 if arguments.quick else 5):
        for mode, row in (("random", random_p50), ("walk", walk)):
            with Daemon(arguments.bin, 256 * MIB, ZIP_ALL) as daemon:
                guest = harness.start_microvm(daemon, "kvm", ram, "--mode", mode, *common)
                try:
                    mine = _measured(guest, "BALLAST-FILLED")
                    plain = harness.Program([program, "--mode", mode, *map(str, common)])
                    first.add(mine["mean_us"], _measured(plain, "BALLAST-FILLED")["mean_us"])
                    plain.kill()
                    daemon.must("reclaim", vm="kvm", bytes=ram * MIB)
                    harness.wait_until(lambda: daemon.vm("kvm")["resident_bytes"] < MIB // 4, "pages stay resident", 60)
                    guest.send("go")
                    result = _measured(guest, "BALLAST-MEASURED")
                    row.add(result["p50_us" if mode == "random" else "mean_us"])
                finally:
                    guest.kill()


def _measured(guest, what):
    return json.loads(guest.expect(what, 60))


TARGETS = ["ballastd", "ballast", "ballast-qemu", "ballast_agent", "ballast-toucher", "ballast-microvm"]
PARTS = {"boot": boot, "zip": zipped, "swap": swapped, "reclaim": reclaim, "tables": tables, "idle": idle, "kvm": kvm}
