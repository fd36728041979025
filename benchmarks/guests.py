"""Linux guests under plain QEMU and under Ballast, with the same options; and the content of a real guest's memory."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from harness import Failed, Program, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "ballast")
LOAD = ("dbench -c /usr/share/dbench/client.txt -t 3 1 >/dev/null; cat /usr/bin/* >/dev/null 2>&1;"
        " redis-server --save '' --daemonize yes >/dev/null; sleep 1;"
        " redis-benchmark -q -n 20000 -r 15000 -d 1000 -t set >/dev/null;"
        " sqlite3 /tmp/db 'create table t(a); with recursive c(x) as (select 1 union all select x+1 from c"
        " where x<60000) insert into t select hex(randomblob(50)) from c'; echo LOADED")


def images():
    """The directory of the guest's images; raises Failed when they cannot be had."""
    if not shutil.which("qemu-system-x86_64"):
        raise Failed("no qemu-system-x86_64; run tools/setup")
    built = subprocess.run([os.path.join(ROOT, "tools", "make-guest")], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        raise Failed("tools/make-guest cannot build an image (see its message)")
    return built.stdout.strip()


def arguments(directory, memory_mib, command=None, poweroff=True, extra=(), kernel=""):
    """QEMU's arguments, the same for plain QEMU and for Ballast's."""
    append = f"console=ttyS0 quiet {kernel}".strip()
    if command:
        append += f' ballast.run="{command}"'
    if poweroff:
        append += " ballast.poweroff=1"
    return ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
            "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "qemu64", "-m", str(memory_mib),
            "-kernel", f"{directory}/vmlinuz", "-initrd", f"{directory}/initrd.cpio.gz",
            "-drive", f"file={directory}/rootfs.ext4,if=none,id=d0,format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=d0", "-serial", "stdio", *extra, "-append", append]


def start_plain(qemu_arguments):
    return Program(["qemu-system-x86_64", *qemu_arguments])


def start_managed(daemon, name, memory_mib, qemu_arguments):
    environment = {**os.environ, "BALLAST_RUN_DIR": daemon.run_dir}
    return Program([os.path.join(daemon.bin_dir, "ballast"), "run", "--name", name, "--memory", f"{memory_mib}M", "--",
                    *qemu_arguments], environment)


def memory_dump():
    """A file with the memory of a guest that has worked for a while. Made once."""
    path = os.path.join(CACHE, "bench", "guest-memory-512")
    if os.path.exists(path):
        return path
    directory = images()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        qmp = os.path.join(temporary, "qmp")
        guest = start_plain(arguments(directory, 512, poweroff=False, extra=("-qmp", f"unix:{qmp},server=on,wait=off")))
        try:
            guest.expect("GUEST-READY", 120)
            guest.send(LOAD)
            guest.expect("LOADED", 180)
            _save_memory(qmp, 512 << 20, path + ".new")
        finally:
            guest.kill()
    os.rename(path + ".new", path)
    return path


def _save_memory(qmp_path, size, path):
    with socket.socket(socket.AF_UNIX) as port:
        port.connect(qmp_path)
        stream = port.makefile("rw")
        stream.readline()
        for command in ({"execute": "qmp_capabilities"},
                        {"execute": "pmemsave", "arguments": {"val": 0, "size": size, "filename": path}}):
            stream.write(json.dumps(command) + "\n")
            stream.flush()
            while "return" not in (answer := json.loads(stream.readline())):
                if "error" in answer:
                    raise Failed(f"QMP: {answer['error']}")
    wait_until(lambda: os.path.getsize(path) == size, "the memory dump is incomplete")
    time.sleep(0.1)
