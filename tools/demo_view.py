"""What the demo shows: a live table, one line now and then, and the summary. Pure: reports in, text out."""

MIB = 1 << 20
# With one blank between them, 77 columns: a terminal of 80 shows all of it.
COLUMNS = ("VM", "configured", "consumed", "compressed", "swapped", "faults/s", "ins/s",
           "verified", "errors")
WIDTHS = (5, 10, 8, 10, 7, 8, 6, 9, 6)


def size(count):
    if count < 10 * MIB:
        return f"{count / MIB:.1f} MB"
    return f"{count / MIB:.0f} MB" if count < 10 << 30 else f"{count / (1 << 30):.1f} GB"


def rate(report, earlier, counter):
    """Per second, by the daemon's clock; None when the two do not belong together."""
    if not earlier or earlier["host_uptime_ns"] >= report["host_uptime_ns"]:
        return None
    grown = report[counter] - earlier[counter]
    seconds = (report["host_uptime_ns"] - earlier["host_uptime_ns"]) / 1e9
    return grown / seconds if grown >= 0 else None


def with_rates(host, before):
    """The VMs of a host report by name, with faults_per_s and swap_ins_per_s (None: unknown)."""
    earlier = {}
    if before:
        earlier = {vm["name"]: {**vm, "host_uptime_ns": before["uptime_ns"]} for vm in before["vms"]}
    vms = {}
    for vm in host["vms"]:
        vm = {**vm, "host_uptime_ns": host["uptime_ns"]}
        for counter in ("faults", "swap_ins"):
            vm[f"{counter}_per_s"] = rate(vm, earlier.get(vm["name"]), counter)
        vms[vm["name"]] = vm
    return vms


def row(cells):
    return " ".join([f"{cells[0]:<{WIDTHS[0]}}"] +
                    [f"{cell:>{width}}" for cell, width in zip(cells[1:], WIDTHS[1:])]).rstrip()


def number(value):
    return "-" if value is None else f"{value:.0f}"


def guest_row(guest, vm):
    verified = guest.verified if guest.is_filled else f"{guest.filled_percent}% full"
    if vm is None:
        state = (size(guest.configured_bytes), "-", "-", "-", "-", "-")
    else:
        state = (size(vm["configured_bytes"]), size(vm["consumed_bytes"]),
                 size(vm["compressed_bytes"]), size(vm["swapped_bytes"]),
                 number(vm["faults_per_s"]), number(vm["swap_ins_per_s"]))
    return row((guest.name, *state, verified, guest.errors))


def host_lines(host):
    return [f"host  budget {size(host['budget_bytes'])}, consumed {size(host['consumed_bytes'])} "
            f"(peak {size(host['peak_consumed_bytes'])}), free {size(host['free_bytes'])}: "
            f"state {host['state']}",
            f"      promised {size(host['promised_bytes'])}"]


def paused_lines(vms):
    return [f"{vm['name']} is {vm['state']}: {vm['pause_reason']}" for vm in vms.values()
            if vm["state"] != "running"]


def live_table(elapsed, phase, guests, host, vms, restarts):
    """The lines of the table that is redrawn in place."""
    head = f"{elapsed:5.0f} s  {phase}"
    if restarts:
        head += f"; daemon killed and restarted {restarts} x"
    lines = [head, row(COLUMNS)]
    lines += [guest_row(guest, vms.get(guest.name)) for guest in guests]
    lines += host_lines(host) if host else ["host: the daemon does not answer"]
    return lines + paused_lines(vms)


def short_line(elapsed, phase, guests, host, restarts):
    """The same in one line, for logs."""
    filled = min((guest.filled_percent for guest in guests), default=0)
    text = f"{elapsed:5.0f} s  {phase}"
    text += f" ({filled} % filled)" if filled < 100 else ""
    if host:
        compressed = sum(vm["compressed_bytes"] for vm in host["vms"])
        swapped = sum(vm["swapped_bytes"] for vm in host["vms"])
        text += (f"  consumed {size(host['consumed_bytes'])} of {size(host['budget_bytes'])} "
                 f"({host['state']}), compressed {size(compressed)}, swapped {size(swapped)}")
    else:
        text += "  the daemon does not answer"
    text += f"  verified {sum(guest.verified for guest in guests)}"
    text += f", errors {sum(guest.errors for guest in guests)}"
    return text + (f", restarts {restarts}" if restarts else "")


def summary_json(guests, host, peak, restarts):
    """The figures of the whole run; `host` is the last report there was."""
    vms = {vm["name"]: vm for vm in host["vms"]}
    rows = []
    for guest in guests:
        vm = vms.get(guest.name, {})
        rows.append({"name": guest.name,
                     "configured_bytes": guest.configured_bytes,
                     **{key: vm.get(key, 0) for key in
                        ("consumed_bytes", "compressed_bytes", "swapped_bytes")},
                     "verified_pages": guest.verified,
                     "checksum_errors": guest.errors})
    return {"machine": "linux",
            "budget_bytes": host["budget_bytes"],
            "promised_bytes": sum(guest.configured_bytes for guest in guests),
            "peak_consumed_bytes": peak,
            "checksum_errors": sum(guest.errors for guest in guests),
            "verified_pages": sum(guest.verified for guest in guests),
            "daemon_restarts": restarts,
            "vms": rows}


def summary_lines(figures, host):
    """Promised against used, by which means, and whether every byte was right."""
    def total(key):
        return sum(vm[key] for vm in host["vms"])
    ratio = figures["promised_bytes"] / figures["budget_bytes"]
    given = total("configured_bytes")
    untouched = given - sum(total(key) for key in ("resident_bytes", "compressed_bytes",
                                                   "swapped_bytes", "zero_bytes",
                                                   "ballooned_bytes"))
    lines = ["",
             f"Promised {size(figures['promised_bytes'])} to {len(figures['vms'])} guests on "
             f"{size(figures['budget_bytes'])} of memory ({ratio:.2f} x)",
             f"Used     {size(figures['peak_consumed_bytes'])} at most, "
             f"{size(host['consumed_bytes'])} at the end",
             "By       "
             f"{size(total('resident_bytes'))} resident, "
             f"{size(total('compressed_bytes'))} compressed into {size(total('arena_bytes'))}, "
             f"{size(total('swapped_bytes'))} swapped,",
             f"         {size(total('zero_bytes'))} known zero, "
             f"{size(total('ballooned_bytes'))} given up by the guests, "
             f"{size(max(0, untouched))} never touched,",
             f"         {size(total('overhead_bytes') + host['daemon_bytes'])} for tables and "
             "buffers",
             f"Verified {figures['verified_pages']} pages; "
             f"checksum errors: {figures['checksum_errors']}"]
    if figures["daemon_restarts"]:
        lines.append(f"Killed   the daemon {figures['daemon_restarts']} times (SIGKILL); "
                     "each successor took over")
    return lines
