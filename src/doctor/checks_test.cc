// Every finding, with its golden text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "doctor/doctor.h"

namespace ballast::doctor {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kGb = uint64_t{1} << 30;

HostFacts good_host() {
  HostFacts facts;
  facts.kernel = {.release = "6.1.0-18-amd64",
                  .major = 6,
                  .minor = 1,
                  .root = true,
                  .userfaultfd_features = 0x1fff,
                  .clock_source = "tsc"};
  facts.memory = {.bytes = 64 * kGb,
                  .mappings_max = 1 << 20,
                  .shmem_huge_pages = "never",
                  .pressure_percent = 0.5};
  facts.swap_dir = {.path = "/var/lib/ballast/swap",
                    .looked_at = "/var/lib/ballast/swap",
                    .free_bytes = 100 * kGb,
                    .read_us = 80};
  facts.programs = {.qemu_path = "/usr/bin/qemu-system-x86_64",
                    .qemu_version = "7.2.22",
                    .qemu_major = 7,
                    .qemu_minor = 2,
                    .qemu_has_balloon = true,
                    .kvm_usable = true,
                    .launcher_path = "/usr/bin/ballast-qemu",
                    .agent_path = "/usr/lib/ballast/libballast-agent.so",
                    .agent_version = "1.0",
                    .own_version = "1.0"};
  facts.service = {.run_dir = "/run/ballast",
                   .daemon_found = true,
                   .group = "ballast",
                   .daemon_answers = true,
                   .daemon_version = "1.0",
                   .budget_bytes = 48 * kGb,
                   .open_files_max = 131072,
                   .systemd = true,
                   .unit_load = "loaded",
                   .unit_active = "active",
                   .unit_enabled = "enabled",
                   .limits = {{"ballastd", "", 0, 24 * kGb}}};
  return facts;
}

constexpr const char* kGoodText =
    R"(OK    kernel         Linux 6.1.0-18-amd64
OK    userfaultfd    all features needed (of 0x1fff)
OK    memfd          sealing works
OK    pagemap        readable for other processes
OK    clock          tsc
OK    qemu           /usr/bin/qemu-system-x86_64 7.2.22, with virtio-balloon
OK    kvm            runs guests
OK    ballast-qemu   /usr/bin/ballast-qemu
OK    agent          /usr/lib/ballast/libballast-agent.so 1.0
OK    budget         48 GB of the host's 64 GB
OK    pressure       0 % over the last minute
OK    host-swap      none
OK    max_map_count  1048576
OK    overcommit     vm.overcommit_memory = 0
OK    huge-pages     of shared memory: never
OK    ksm            off
OK    swap-dir       /var/lib/ballast/swap, 100 GB free
OK    swap-disk      direct I/O; a 4 KB read takes 80 us
OK    config         good
OK    unit           ballastd.service is active and enabled
OK    daemon         ballastd 1.0 answers in /run/ballast
OK    group          members of ballast may look
OK    open-files     ballastd may open 131072
OK    cgroup         no memory limit below what ballastd and its VMs need
All is well.
)";

TEST(Doctor, AGoodHost) {
  const auto findings = examine(good_host());
  EXPECT_EQ(to_text(findings, false), kGoodText);
  EXPECT_FALSE(any_fails(findings));
}

struct Case {
  const char* name;
  std::function<void(HostFacts&)> spoil;
  const char* text;  // of the findings that are not OK
};

const Case kCases[] = {
    {"old kernel",
     [](HostFacts& f) {
       f.kernel = {.release = "5.10.0",
                   .major = 5,
                   .minor = 10,
                   .root = true,
                   .userfaultfd_features = 0x1fff};
     },
     R"(FAIL  kernel         Linux 5.10.0 is too old
      why: before 5.19 userfaultfd cannot write-protect shared memory
      fix: boot Linux 5.19 or newer (Debian 12 has 6.1)
)"},
    {"no userfaultfd",
     [](HostFacts& f) { f.kernel.userfaultfd_error = "Function not implemented"; },
     R"(FAIL  userfaultfd    cannot be created: Function not implemented
      why: guest memory is managed through userfaultfd; no VM can start without it
      fix: use a kernel with CONFIG_USERFAULTFD; in a container allow the system call userfaultfd, or pass /dev/userfaultfd in
)"},
    {"not root",
     [](HostFacts& f) {
       f.kernel.root = false;
       f.kernel.userfaultfd_error = "Operation not permitted";
       f.kernel.pagemap_error = "/proc/PID/pagemap: Permission denied";
     },
     R"(WARN  userfaultfd    cannot be created: Operation not permitted
      why: VMs started by this user would be refused
      fix: start VMs as root, or sysctl -w vm.unprivileged_userfaultfd=1
WARN  pagemap        not looked at: /proc/PID/pagemap: Permission denied
      why: only root can tell whether the daemon may read it
      fix: sudo ballast doctor
)"},
    {"userfaultfd lacks",
     [](HostFacts& f) {
       f.kernel.userfaultfd_features &=
           ~(uint64_t{UFFD_FEATURE_WP_HUGETLBFS_SHMEM} | UFFD_FEATURE_THREAD_ID);
     },
     R"(FAIL  userfaultfd    lacks: thread of a fault, write protection of shared memory
      why: guest memory is managed through userfaultfd; no VM can start without it
      fix: use a kernel with CONFIG_HAVE_ARCH_USERFAULTFD_WP and CONFIG_PTE_MARKER_UFFD_WP
)"},
    {"memfd", [](HostFacts& f) { f.kernel.sealing_error = "Invalid argument"; },
     R"(FAIL  memfd          cannot be sealed: Invalid argument
      why: files shared with QEMU must not shrink under the daemon
      fix: use a kernel with CONFIG_MEMFD_CREATE and CONFIG_TMPFS
)"},
    {"pagemap",
     [](HostFacts& f) { f.kernel.pagemap_error = "/proc/PID/pagemap: Permission denied"; },
     R"(FAIL  pagemap        /proc/PID/pagemap: Permission denied
      why: which pages a guest touched is read from /proc/PID/pagemap
      fix: use a kernel with CONFIG_PROC_PAGE_MONITOR, and give the daemon CAP_SYS_PTRACE
)"},
    {"slow clock", [](HostFacts& f) { f.kernel.clock_source = "hpet"; },
     R"(WARN  clock          hpet is slow to read
      why: every fault reads the clock; this one takes microseconds each time
      fix: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource
)"},
    {"no QEMU", [](HostFacts& f) { f.programs.qemu_path = ""; },
     R"(FAIL  qemu           qemu-system-x86_64 is not in PATH
      why: it runs the VMs
      fix: apt install qemu-system-x86
)"},
    {"broken QEMU", [](HostFacts& f) { f.programs.qemu_version = ""; },
     R"(FAIL  qemu           /usr/bin/qemu-system-x86_64 does not tell its version
      why: it does not work, or is another program
      fix: /usr/bin/qemu-system-x86_64 -version; apt install qemu-system-x86 --reinstall
)"},
    {"old QEMU",
     [](HostFacts& f) {
       f.programs.qemu_version = "5.0.1";
       f.programs.qemu_major = 5;
       f.programs.qemu_minor = 0;
     },
     R"(FAIL  qemu           /usr/bin/qemu-system-x86_64 5.0.1 is too old
      why: free-page reporting came with QEMU 5.1
      fix: apt install qemu-system-x86
)"},
    {"no balloon", [](HostFacts& f) { f.programs.qemu_has_balloon = false; },
     R"(FAIL  qemu           /usr/bin/qemu-system-x86_64 7.2.22 has no virtio-balloon-pci
      why: guests are asked for memory through it; every VM is given one
      fix: apt install qemu-system-x86
)"},
    {"no KVM",
     [](HostFacts& f) {
       f.programs.kvm_usable = false;
       f.programs.kvm_error = "/dev/kvm: No such file or directory";
     },
     R"(WARN  kvm            not usable: /dev/kvm: No such file or directory
      why: guests run in QEMU's software emulation (TCG), ten times slower or worse
      fix: modprobe kvm_intel or kvm_amd, switch virtualisation on in the firmware; in a VM, allow nested virtualisation
)"},
    {"KVM not ours",
     [](HostFacts& f) {
       f.programs.kvm_usable = false;
       f.programs.kvm_error = "/dev/kvm: Permission denied";
     },
     R"(WARN  kvm            not usable: /dev/kvm: Permission denied
      why: guests run in QEMU's software emulation (TCG), ten times slower or worse
      fix: sudo adduser $USER kvm, and log in again
)"},
    {"parts missing",
     [](HostFacts& f) {
       f.programs.launcher_path = "";
       f.programs.agent_path = "";
     },
     R"(FAIL  ballast-qemu   not beside this program
      why: `ballast run` starts VMs with it
      fix: apt install --reinstall ballast
FAIL  agent          libballast-agent.so is neither beside ballast-qemu nor in ../lib/ballast
      why: it hands guest memory over to the daemon; no VM can start without it
      fix: apt install --reinstall ballast
)"},
    {"other agent", [](HostFacts& f) { f.programs.agent_version = "0.9"; },
     R"(FAIL  agent          /usr/lib/ballast/libballast-agent.so is of version 0.9, this program of 1.0
      why: daemon and agent may not understand each other
      fix: apt install --reinstall ballast
)"},
    {"budget beyond memory", [](HostFacts& f) { f.service.budget_bytes = 65 * kGb; },
     R"(FAIL  budget         65 GB of the host's 64 GB
      why: it promises frames that do not exist: the OOM killer decides
      fix: a smaller memory = "SIZE" in /etc/ballast/conf.d/memory.toml, then systemctl restart ballastd
)"},
    {"budget of all", [](HostFacts& f) { f.service.budget_bytes = 63 * kGb; },
     R"(WARN  budget         63 GB of the host's 64 GB
      why: the kernel and the QEMUs themselves need about 100 MB for each VM
      fix: a smaller memory = "SIZE" in /etc/ballast/conf.d/memory.toml, then systemctl restart ballastd
)"},
    {"pressure", [](HostFacts& f) { f.memory.pressure_percent = 42; },
     R"(WARN  pressure       programs waited for memory 42 % of the last minute
      why: the host itself is short of memory, whatever the budget says
      fix: give ballastd less: memory = "SIZE" in /etc/ballast/conf.d/memory.toml
)"},
    {"swap and zram",
     [](HostFacts& f) {
       f.memory.swaps = {{"/dev/sda2", 2 * kGb, kGb}, {"/dev/zram0", kGb, 0}};
       f.memory.zswap = true;
     },
     R"(WARN  host-swap      /dev/sda2, /dev/zram0: 1 GB of 3 GB used, behind zswap
      why: the kernel may swap guest memory a second time, behind Ballast, and then a fault waits twice
      fix: swapoff -a (and take it out of /etc/fstab), or keep it for the rest of the host: sysctl -w vm.swappiness=1
)"},
    {"settings",
     [](HostFacts& f) {
       f.memory.mappings_max = 65530;
       f.memory.overcommit = 2;
       f.memory.shmem_huge_pages = "always";
       f.memory.ksm = 1;
     },
     R"(WARN  max_map_count  vm.max_map_count = 65530
      why: every stretch of shared pages is a mapping of QEMU's: page sharing ends early
      fix: sysctl -w vm.max_map_count=1048576
WARN  overcommit     vm.overcommit_memory = 2
      why: the kernel refuses QEMU memory while plenty is free
      fix: sysctl -w vm.overcommit_memory=0
WARN  huge-pages     of shared memory: always
      why: the kernel may fill 2 MB where Ballast gave 4 KB, beyond the budget
      fix: echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled
WARN  ksm            KSM runs
      why: it costs CPU time, does not see the memory of managed VMs, and lets all others share with strangers; Ballast shares within salt groups
      fix: systemctl disable --now ksmtuned; echo 2 > /sys/kernel/mm/ksm/run
)"},
    {"swap dir unusable", [](HostFacts& f) { f.swap_dir.error = "Not a directory"; },
     R"(FAIL  swap-dir       /var/lib/ballast/swap: Not a directory
      why: every VM keeps a swap file there
      fix: name a directory on a local disk: swap_dir = "DIR" in /etc/ballast/conf.d/swap.toml
)"},
    {"swap dir not permitted", [](HostFacts& f) { f.swap_dir.not_permitted = true; },
     R"(WARN  swap-dir       /var/lib/ballast/swap was not looked at: no permission
      why: only root can tell whether it will do
      fix: sudo ballast doctor
)"},
    {"swap dir in memory", [](HostFacts& f) { f.swap_dir.in_memory = true; },
     R"(FAIL  swap-dir       /var/lib/ballast/swap is on a memory file system
      why: memory is no place to swap to: ballastd does not start
      fix: name a directory on a local disk: swap_dir = "DIR" in /etc/ballast/conf.d/swap.toml
)"},
    {"swap dir small, to be made, on a disk",
     [](HostFacts& f) {
       f.swap_dir.looked_at = "/var/lib";
       f.swap_dir.free_bytes = 3 * kGb;
       f.swap_dir.rotates = true;
       f.swap_dir.read_us = 9000;
     },
     R"(WARN  swap-dir       /var/lib/ballast/swap (ballastd will make it), 3 GB free
      why: every VM reserves its memory minus its min there when it starts, or is refused
      fix: name a directory on a local disk: swap_dir = "DIR" in /etc/ballast/conf.d/swap.toml
WARN  swap-disk      a turning disk; a 4 KB read takes 9000 us
      why: a fault on a swapped page waits for this disk
      fix: use an SSD or NVMe disk
)"},
    {"no direct I/O", [](HostFacts& f) { f.swap_dir.direct_error = "Invalid argument"; },
     R"(WARN  swap-disk      no direct I/O: Invalid argument
      why: swap goes through the page cache, which takes memory while it is short
      fix: name a directory on a local disk: swap_dir = "DIR" in /etc/ballast/conf.d/swap.toml
)"},
    {"bad configuration",
     [](HostFacts& f) { f.service.config_error = "ballastd: a:1: x\nballastd: a:2: y\n"; },
     R"(FAIL  config         ballastd: a:1: x
                     ballastd: a:2: y
      why: ballastd does not start with it
      fix: mend the file, then ballastd --check-config
)"},
    {"no daemon program", [](HostFacts& f) { f.service.daemon_found = false; },
     R"(FAIL  config         ballastd is neither beside this program, nor in ../sbin, nor in PATH
      why: it owns the memory of all VMs
      fix: apt install --reinstall ballast
)"},
    {"no unit", [](HostFacts& f) { f.service.unit_load = "not-found"; },
     R"(WARN  unit           there is no ballastd.service
      why: nothing starts ballastd with the host, or again when it ends
      fix: apt install --reinstall ballast
)"},
    {"disabled", [](HostFacts& f) { f.service.unit_enabled = "disabled"; },
     R"(WARN  unit           ballastd.service is active and disabled
      why: ballastd will not run after the next boot
      fix: systemctl enable --now ballastd
)"},
    {"masked", [](HostFacts& f) { f.service.unit_enabled = "masked"; },
     R"(WARN  unit           ballastd.service is active and masked
      why: ballastd will not run after the next boot
      fix: systemctl unmask ballastd; systemctl enable --now ballastd
)"},
    {"failed, no daemon",
     [](HostFacts& f) {
       f.service.unit_active = "failed";
       f.service.daemon_answers = false;
       f.service.daemon_error = "no ballastd answers at /run/ballast/control.sock";
     },
     R"(FAIL  unit           ballastd.service is failed and enabled
      why: guests wait in their next fault until it runs again
      fix: journalctl -u ballastd -n 50; systemctl restart ballastd
FAIL  daemon         no ballastd answers at /run/ballast/control.sock
      why: no VM can start, and VMs that run wait in their next fault
      fix: systemctl start ballastd
)"},
    {"not permitted",
     [](HostFacts& f) {
       f.service.daemon_answers = false;
       f.service.not_permitted = true;
       f.service.daemon_error = "no permission";
     },
     R"(WARN  daemon         no permission
      why: nothing can be said about the daemon
      fix: sudo adduser $USER ballast, and log in again
)"},
    {"other daemon, no group",
     [](HostFacts& f) {
       f.service.daemon_version = "0.9";
       f.service.group = "";
     },
     R"(WARN  daemon         ballastd 0.9 runs, this program is 1.0
      why: the running daemon is not the installed one
      fix: systemctl restart ballastd (guests only pause)
WARN  group          the group of those who may look does not exist
      why: only root may look at the VMs
      fix: groupadd --system ballast; systemctl restart ballastd
)"},
    {"limits",
     [](HostFacts& f) {
       f.service.open_files_max = 1024;
       f.service.limits = {{"ballastd", "", 0, 24 * kGb},
                           {"web1", "/sys/fs/cgroup/a/memory.max", kGb, 4 * kGb},
                           {"db", "/x", 9 * kGb, 8 * kGb}};
     },
     R"(WARN  open-files     ballastd may open 1024
      why: it holds about twenty files for each VM
      fix: LimitNOFILE=131072 in the unit, or ulimit -n 131072 before it is started
WARN  cgroup         web1 may use 1 GB and may need 4 GB: /sys/fs/cgroup/a/memory.max
      why: the kernel would swap or kill it, whatever Ballast decides
      fix: take the limit away: MemoryMax= and MemoryHigh= of its unit or slice
)"},
};

TEST(Doctor, EveryFindingSaysWhatWhyAndHowToMendIt) {
  for (const Case& one : kCases) {
    HostFacts facts = good_host();
    one.spoil(facts);
    auto findings = examine(facts);
    std::erase_if(findings, [](const Finding& f) { return f.grade == Grade::kOk; });
    const std::string text = to_text(findings, false);
    // Without the line of sums.
    const size_t last = text.rfind('\n', text.size() - 2) + 1;
    EXPECT_EQ(text.substr(0, last), one.text) << one.name;
    const bool fails = std::string_view(one.text).find("FAIL") != std::string_view::npos;
    EXPECT_EQ(any_fails(findings), fails) << one.name;
  }
}

TEST(Doctor, WhatIsNotThereIsNoReasonToWorry) {
  HostFacts facts = good_host();
  facts.memory.pressure_percent.reset();
  facts.memory.shmem_huge_pages = "";
  facts.kernel.clock_source = "";
  facts.service.systemd = false;
  facts.service.limits.clear();
  facts.service.budget_bytes = 0;
  facts.swap_dir.read_us.reset();
  for (const Finding& finding : examine(facts)) {
    EXPECT_EQ(finding.grade, Grade::kOk) << finding.check << ": " << finding.what;
  }
}

TEST(Doctor, SumsAndJson) {
  HostFacts facts = good_host();
  facts.memory.ksm = 1;
  facts.service.config_error = "\x1b[2J";
  const auto findings = examine(facts);
  const std::string text = to_text(findings, false);
  EXPECT_THAT(text, HasSubstr("1 failure, 1 warning\n"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_THAT(to_text(findings, true), HasSubstr("\x1b[31mFAIL\x1b[0m  config"));
  const auto json = nlohmann::json::parse(to_json_text(findings));
  EXPECT_EQ(json["failures"], 1);
  EXPECT_EQ(json["warnings"], 1);
  EXPECT_EQ(json["findings"][0]["check"], "kernel");
  EXPECT_EQ(json["findings"][0]["grade"], "ok");
}

}  // namespace
}  // namespace ballast::doctor
