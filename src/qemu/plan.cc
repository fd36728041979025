#include "qemu/plan.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/units.h"
#include "model/allocation.h"
#include "model/salt.h"
#include "qemu/command_line.h"
#include "qemu/libvirt_parameters.h"

namespace ballast::qemu {

namespace {

constexpr uint64_t kDefaultMemoryBytes = 128 << 20;  // QEMU's own default
constexpr uint64_t kMemoryGrain = 8192;              // QEMU rounds -m up to this
constexpr size_t kSocketPathMax = 107;
constexpr size_t kNameMax = 64;
constexpr std::string_view kRamId = "ballast-ram";

bool asks_for_help(const Option& option) {
  if (option.name == "help" || option.name == "version" || option.name == "audio-help") return true;
  if (!option.has_value || option.flag.empty() || option.name == "append") return false;
  const std::string_view value = option.value;
  return value == "help" || value == "?" || value.ends_with(",help") || value.ends_with(",?");
}

std::string machine_type(const CommandLine& line) {
  std::string type;
  for (const Option& option : line.options()) {
    if (option.name != "machine") continue;
    if (const auto value = parse_value(option)) type = value->get("type").value_or(type);
  }
  return type;
}

bool is_probe(const CommandLine& line) {
  return std::any_of(line.options().begin(), line.options().end(), asks_for_help) ||
         machine_type(line) == "none";
}

bool is_vm_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

Result<uint64_t> parse_variable(const std::string& name, const std::string& text) {
  uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) {
    return Error{fmt::format("{}='{}' is not a number of bytes", name, text)};
  }
  return value;
}

std::string text_unless(uint64_t none, uint64_t bytes) {
  return bytes == none ? std::string() : std::to_string(bytes);
}

// -m's own reading of sizes: a bare number counts MiB.
Result<uint64_t> parse_memory(const std::string& text) {
  const bool bare = !text.empty() && std::all_of(text.begin(), text.end(),
                                                 [](char c) { return c >= '0' && c <= '9'; });
  auto bytes = parse_size(bare ? text + "M" : text);
  if (!bytes) return Error{"-m: " + bytes.error().message};
  if (*bytes == 0) return kDefaultMemoryBytes;
  return (*bytes + kMemoryGrain - 1) / kMemoryGrain * kMemoryGrain;
}

std::string memory_text(uint64_t bytes) {
  return bytes % (1 << 20) == 0 ? fmt::format("{}M", bytes >> 20) : fmt::format("{}B", bytes);
}

std::string run_dir_of(const Environment& environment) {
  if (!environment.run_dir.empty()) return environment.run_dir;
  if (environment.socket.empty()) return "/run/ballast";
  return environment.socket.substr(0, environment.socket.rfind('/'));
}

// One run of make_plan.
class Planner {
 public:
  Planner(CommandLine line, const Environment& environment, const Host& host)
      : line_(std::move(line)), environment_(environment), host_(host) {}

  Result<Plan> run() {
    BALLAST_TRY_STATUS(find_refusal(line_, host_.files));
    BALLAST_TRY_STATUS(decide_identity());
    BALLAST_TRY_STATUS(decide_memory());
    BALLAST_TRY_STATUS(decide_allocation());
    BALLAST_TRY_STATUS(decide_sharing());
    BALLAST_TRY_STATUS(decide_backend());
    BALLAST_TRY_STATUS(decide_accelerator());
    BALLAST_TRY_STATUS(decide_balloon());
    BALLAST_TRY_STATUS(decide_qmp());
    return finish();
  }

 private:
  Status decide_identity();
  Status decide_memory();
  Status decide_allocation();
  Status decide_sharing();
  Status decide_backend();
  Status convert_backends(const std::set<std::string>& ids);
  Status decide_accelerator();
  Status decide_balloon();
  Status decide_qmp();
  std::string qmp_directory() const { return run_dir_ + "/qmp"; }
  Result<Plan> finish();

  CommandLine line_;
  const Environment& environment_;
  const Host& host_;
  std::string run_dir_;
  std::string name_;
  std::string uuid_;  // empty: nobody gave it one
  uint64_t memory_bytes_ = 0;
  Allocation allocation_;
  bool share_enable_ = true;
  std::string qmp_;
};

Status Planner::decide_identity() {
  run_dir_ = run_dir_of(environment_);

  name_ = environment_.name;
  if (const Option* option = line_.last("name"); option != nullptr && name_.empty()) {
    BALLAST_TRY(const OptionValue value, parse_value(*option));
    name_ = value.get("guest").value_or("").substr(0, kNameMax);
    std::replace_if(
        name_.begin(), name_.end(),
        [](char c) {
          return !is_vm_name({&c, 1});
        },
        '-');
  }
  if (name_.empty()) name_ = fmt::format("vm-{}", host_.pid);
  if (!is_vm_name(name_)) {
    return Error{fmt::format(
        "'{}' is no name for a VM; use 1 to 64 letters, digits, '.', '_' and '-'", name_)};
  }
  if (!line_.has("name")) line_.add("name", name_);

  if (const Option* option = line_.last("uuid")) {
    uuid_ = option->value;
  } else {
    uuid_ = environment_.uuid;
    line_.add("uuid", uuid_.empty() ? host_.new_uuid() : uuid_);
  }
  return Done{};
}

Status Planner::decide_memory() {
  std::string written;  // QEMU merges several -m: the last size wins
  for (const Option& option : line_.options()) {
    if (option.name != "m" || option.flag.empty()) continue;
    BALLAST_TRY(const OptionValue value, parse_value(option));
    written = value.get("size").value_or(written);
  }
  memory_bytes_ = kDefaultMemoryBytes;
  if (!written.empty()) {
    BALLAST_TRY(memory_bytes_, parse_memory(written));
  }
  if (!environment_.memory_bytes.empty()) {
    BALLAST_TRY(const uint64_t promised,
                parse_variable("BALLAST_VM_MEMORY", environment_.memory_bytes));
    if (promised == 0 || promised % kMemoryGrain != 0) {
      return Error{fmt::format("--memory {} is not a positive multiple of 8 KB", promised)};
    }
    if (!written.empty() && memory_bytes_ != promised) {
      return Error{fmt::format("-m {}: contradicts --memory {} ({}); leave -m out", written,
                               promised, format_size(promised))};
    }
    memory_bytes_ = promised;
  }
  if (!written.empty()) return Done{};
  if (Option* option = line_.last("m")) {
    BALLAST_TRY(OptionValue value, parse_value(*option));
    value.set("size", memory_text(memory_bytes_));
    option->value = value.text();
  } else {
    line_.add("m", memory_text(memory_bytes_));
  }
  return Done{};
}

Status Planner::decide_allocation() {
  const auto read = [](const char* name, const std::string& text, uint64_t& into) -> Status {
    if (text.empty()) return Done{};
    BALLAST_TRY(into, parse_variable(name, text));
    return Done{};
  };
  BALLAST_TRY_STATUS(read("BALLAST_VM_MIN", environment_.min_bytes, allocation_.min_bytes));
  BALLAST_TRY_STATUS(read("BALLAST_VM_LIMIT", environment_.limit_bytes, allocation_.limit_bytes));
  BALLAST_TRY_STATUS(read("BALLAST_VM_BALLOON_MAX", environment_.balloon_max_bytes,
                          allocation_.balloon_max_bytes));
  if (!environment_.shares.empty()) {
    BALLAST_TRY(allocation_.shares, parse_shares(environment_.shares));
  }
  return check_allocation("VM " + name_, allocation_, memory_bytes_);
}

Status Planner::decide_sharing() {
  if (!environment_.salt.empty()) {
    const Status good = check_salt(environment_.salt);
    if (!good) return Error{"BALLAST_VM_SALT: " + good.error().message};
  }
  const std::string& pshare = environment_.pshare;
  if (!pshare.empty() && pshare != "0" && pshare != "1") {
    return Error{fmt::format("BALLAST_VM_PSHARE='{}' is refused: 0 or 1 is needed", pshare)};
  }
  share_enable_ = pshare != "0";
  return Done{};
}

Status Planner::decide_backend() {
  std::set<std::string> ids;
  Option* machine = nullptr;
  for (Option& option : line_.options()) {
    if (option.name != "machine" && option.name != "numa") continue;
    BALLAST_TRY(const OptionValue value, parse_value(option));
    if (option.name == "machine") machine = &option;
    const auto id = value.get(option.name == "machine" ? "memory-backend" : "memdev");
    if (id) ids.insert(*id);
  }
  if (!ids.empty()) return convert_backends(ids);
  const std::string backend = fmt::format("memory-backend={}", kRamId);
  if (machine != nullptr) {
    BALLAST_TRY(OptionValue value, parse_value(*machine));
    value.set("memory-backend", kRamId);
    machine->value = value.text();
  } else {
    line_.add("machine", backend);
  }
  line_.add("object",
            fmt::format("memory-backend-memfd,id={},size={},share=on", kRamId, memory_bytes_));
  return Done{};
}

// The user's anonymous backends become memfds of the same id and size; find_refusal has seen to all
// others.
Status Planner::convert_backends(const std::set<std::string>& ids) {
  for (Option& option : line_.options()) {
    if (option.name != "object") continue;
    BALLAST_TRY(OptionValue value, parse_value(option));
    if (!ids.contains(value.get("id").value_or("")) ||
        value.get("qom-type") != "memory-backend-ram") {
      continue;
    }
    value.set("qom-type", "memory-backend-memfd");
    value.set("share", "on");
    option.value = value.text();
  }
  return Done{};
}

Status Planner::decide_accelerator() {
  if (line_.has("accel") || line_.has("enable-kvm")) return Done{};
  for (const Option& option : line_.options()) {
    if (option.name != "machine") continue;
    BALLAST_TRY(const OptionValue value, parse_value(option));
    if (value.get("accel")) return Done{};
  }
  if (host_.probe_kvm().usable) {
    line_.add("accel", "kvm");
  } else if (line_.has("icount")) {
    line_.add("accel",
              "tcg");  // instruction counting and several translating threads exclude each other
  } else {
    // The default translation cache grows to 1 GiB; 32 MiB cost a small guest nothing measurable.
    const uint64_t cache_mib = std::clamp<uint64_t>(memory_bytes_ >> 25, 32, 256);
    line_.add("accel", fmt::format("tcg,thread=multi,tb-size={}", cache_mib));
  }
  return Done{};
}

Status Planner::decide_balloon() {
  if (line_.has("balloon")) return Done{};
  for (const Option& option : line_.options()) {
    if (option.name != "device") continue;
    BALLAST_TRY(const OptionValue value, parse_value(option));
    if (value.get("driver").value_or("").starts_with("virtio-balloon")) return Done{};
  }
  const std::string type = machine_type(line_);
  if (type == "isapc") return Done{};  // no bus that a virtio device could sit on
  const std::string_view driver =
      type == "microvm" ? "virtio-balloon-device" : "virtio-balloon-pci";
  line_.add("device",
            fmt::format("{},id=ballast-balloon,free-page-reporting=on,deflate-on-oom=on", driver));
  return Done{};
}

// A monitor of the daemon's own: QEMU serves one client at a time on each socket, so the user's, if
// there is one, stays the user's.
Status Planner::decide_qmp() {
  // The process id keeps a second VM of the same name (which ballastd will refuse) away from the
  // first one's socket.
  qmp_ = fmt::format("{}/{}.{}.sock", qmp_directory(), name_, host_.pid);
  line_.add("qmp", fmt::format("unix:{},server=on,wait=off", escape_commas(qmp_)));
  if (qmp_.size() > kSocketPathMax) {
    return Error{
        fmt::format("{}: longer than {} bytes, which no socket's path can be; use a shorter "
                    "run directory (--run-dir, BALLAST_RUN_DIR)",
                    qmp_, kSocketPathMax)};
  }
  return Done{};
}

Result<Plan> Planner::finish() {
  Plan plan;
  plan.managed = true;
  plan.arguments = line_.arguments();
  plan.qmp_directory = qmp_directory();
  plan.environment = {
      {"BALLAST_SOCKET",
       environment_.socket.empty() ? run_dir_ + "/agent.sock" : environment_.socket},
      {"BALLAST_VM_NAME", name_},
      {"BALLAST_VM_MEMORY", std::to_string(memory_bytes_)},
      {"BALLAST_VM_MIN", std::to_string(allocation_.min_bytes)},
      {"BALLAST_VM_LIMIT", text_unless(kNoLimit, allocation_.limit_bytes)},
      {"BALLAST_VM_SHARES", format_shares(allocation_.shares)},
      {"BALLAST_VM_BALLOON_MAX", text_unless(kDefaultBalloonMax, allocation_.balloon_max_bytes)},
      {"BALLAST_VM_SALT", environment_.salt},
      {"BALLAST_VM_PSHARE", share_enable_ ? "1" : "0"},
      {"BALLAST_VM_UUID", uuid_},
      {"BALLAST_QMP", qmp_},
  };
  if (plan.environment[0].second.size() > kSocketPathMax) {
    return Error{
        fmt::format("{}: longer than {} bytes, which no socket's path can be; use a shorter "
                    "run directory (--run-dir, BALLAST_RUN_DIR)",
                    plan.environment[0].second, kSocketPathMax)};
  }
  return plan;
}

}  // namespace

Result<Plan> make_plan(const std::vector<std::string>& arguments, const Environment& environment,
                       const Host& host) {
  BALLAST_TRY(CommandLine line, CommandLine::parse(arguments));
  if (is_probe(line)) return Plan{false, arguments, {}, {}, {}};
  Environment complete = environment;
  std::string note;
  if (is_started_by_libvirt(line)) {
    BALLAST_TRY(note, add_libvirt_parameters(line, host.files, run_dir_of(environment), complete));
  }
  BALLAST_TRY(Plan plan, Planner(std::move(line), complete, host).run());
  plan.note = std::move(note);
  return plan;
}

}  // namespace ballast::qemu
