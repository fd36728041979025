#include "model/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <vector>

#include "base/near_miss.h"

namespace ballast {

namespace {

// How one option is read from and written as text. `set` leaves the options alone on refusal.
struct Access {
  Status (*set)(Options& options, std::string_view name, std::string_view value);
  std::string (*get)(const Options& options);
};

Result<uint32_t> number_within(std::string_view name, std::string_view value, uint32_t low,
                               uint32_t high) {
  uint32_t number = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (problem != std::errc() || end != value.data() + value.size() || number < low ||
      number > high) {
    return Error{fmt::format("{} = '{}' is refused: a whole number from {} to {} is needed", name,
                             value.substr(0, 40), low, high)};
  }
  return number;
}

template <auto Member, uint32_t Low, uint32_t High>
constexpr Access number() {
  return {[](Options& options, std::string_view name, std::string_view value) -> Status {
            BALLAST_TRY(options.*Member, number_within(name, value, Low, High));
            return Done{};
          },
          [](const Options& options) { return std::to_string(options.*Member); }};
}

template <auto Member>
constexpr Access flag() {
  return {[](Options& options, std::string_view name, std::string_view value) -> Status {
            BALLAST_TRY(const uint32_t on, number_within(name, value, 0, 1));
            options.*Member = on == 1;
            return Done{};
          },
          [](const Options& options) { return std::string(options.*Member ? "1" : "0"); }};
}

// An enum whose values count from 0 in the order of the words.
using Words = std::array<std::string_view, 2>;
template <auto Member, const Words& kWords>
constexpr Access word() {
  return {[](Options& options, std::string_view name, std::string_view value) -> Status {
            const auto found = std::ranges::find(kWords, value);
            if (found == kWords.end()) {
              return Error{fmt::format("{} = '{}' is refused: {} or {} is needed", name,
                                       value.substr(0, 40), kWords[0], kWords[1])};
            }
            using Value = std::remove_reference_t<decltype(options.*Member)>;
            options.*Member = static_cast<Value>(found - kWords.begin());
            return Done{};
          },
          [](const Options& options) {
            return std::string(kWords[static_cast<size_t>(options.*Member)]);
          }};
}

constexpr Words kTaxTypes = {"0", "1"};
constexpr Words kThresholdSets = {"esxi6", "osdi02"};
constexpr Words kVictimChoices = {"random", "second-chance"};

constexpr OptionInfo kInfo[] = {
    {"Mem.BalancePeriod", "1 to 120", "seconds between two computations of all targets", true},
    {"Mem.CtlMaxPercent", "0 to 95", "largest balloon, % of a VM's memory; 0 = no ballooning",
     true},
    {"Mem.IdleTax", "0 to 99", "% of idle memory that may be taken from a VM; 0 = pure shares",
     true},
    {"Mem.IdleTaxType", "0, 1", "0: flat; 1: the rate grows with the idle part of the VM", true},
    {"Mem.MemMinFreePct", "0 to 50", "% of the budget to keep free; 0 = sliding scale", true},
    {"Mem.MemZipEnable", "0, 1", "compress pages before they are swapped", false},
    {"Mem.MemZipMaxPct", "1 to 100", "compression cache, % of a VM's memory", false},
    {"Mem.SampleActivePctMin", "0 to 100", "active memory is never estimated below this %", true},
    {"Mem.SamplePeriod", "0 to 180", "seconds of VM time per estimate of active memory; 0 = off",
     true},
    {"Mem.ShareForceSalting", "0 to 2",
     "who shares pages: 0 all; 1 equal salts, none being salt 0; 2 equal salts", false},
    {"Mem.ShareRateMax", "0 to 1000000", "pages/s of a VM that are looked at for sharing; 0 = off",
     true},
    {"Mem.ShareScanGHz", "0 to 1000", "MB/s per GHz of the host looked at for sharing; 0 = off",
     true},
    {"Mem.ShareScanTime", "0 to 600", "minutes to look once at all of a VM for sharing; 0 = off",
     true},
    {"Ballast.BringBack", "0, 1", "bring swapped pages back when memory is free again", true},
    {"Ballast.FaultSpinUs", "0 to 1000", "how long a worker spins for the next fault", false},
    {"Ballast.HardStopsBalloon", "0, 1", "freeze balloons while the state is hard or low", true},
    {"Ballast.SampleFaults", "10 to 10000", "faults that sampling may cost a VM in a period", true},
    {"Ballast.Thresholds", "esxi6, osdi02", "which thresholds separate the host states", true},
    {"Ballast.Victims", "random, second-chance", "which pages are swapped first", false},
};

constexpr Access kAccess[] = {
    number<&Options::balance_period_s, 1, 120>(),
    number<&Options::ctl_max_percent, 0, 95>(),
    number<&Options::idle_tax_percent, 0, 99>(),
    word<&Options::idle_tax_type, kTaxTypes>(),
    number<&Options::min_free_percent, 0, 50>(),
    flag<&Options::zip_enable>(),
    number<&Options::zip_max_percent, 1, 100>(),
    number<&Options::sample_active_min_percent, 0, 100>(),
    number<&Options::sample_period_s, 0, 180>(),
    number<&Options::share_force_salting, 0, 2>(),
    number<&Options::share_rate_max, 0, 1'000'000>(),
    number<&Options::share_scan_ghz, 0, 1000>(),
    number<&Options::share_scan_minutes, 0, 600>(),
    flag<&Options::bring_back>(),
    number<&Options::spin_us, 0, 1000>(),
    flag<&Options::hard_stops_balloon>(),
    number<&Options::sample_faults, 10, 10000>(),
    word<&Options::thresholds, kThresholdSets>(),
    word<&Options::victims, kVictimChoices>(),
};
static_assert(std::size(kInfo) == std::size(kAccess));

const Access& access_of(const OptionInfo& info) { return kAccess[&info - kInfo]; }

}  // namespace

std::span<const OptionInfo> all_options() { return kInfo; }

Result<const OptionInfo*> find_option(std::string_view name) {
  if (name == "Mem.MinFreePct") name = "Mem.MemMinFreePct";  // both are in use among operators
  const auto* found = std::ranges::find(kInfo, name, &OptionInfo::name);
  if (found != std::end(kInfo)) return found;
  std::vector<std::string_view> known;
  known.reserve(std::size(kInfo));
  for (const OptionInfo& info : kInfo) known.push_back(info.name);
  return Error{fmt::format("unknown option '{}'{}; known are {}", name.substr(0, 40),
                           did_you_mean(name, known), fmt::join(known, ", "))};
}

Status set_option(Options& options, std::string_view name, std::string_view value) {
  BALLAST_TRY(const OptionInfo* info, find_option(name));
  return access_of(*info).set(options, name, value);
}

Result<std::string> get_option(const Options& options, std::string_view name) {
  BALLAST_TRY(const OptionInfo* info, find_option(name));
  return access_of(*info).get(options);
}

OptionReport report_option(const Options& options, const OptionInfo& info) {
  return {.name = std::string(info.name),
          .value = access_of(info).get(options),
          .default_value = access_of(info).get(Options{}),
          .allowed = std::string(info.allowed),
          .meaning = std::string(info.meaning),
          .at_once = info.at_once};
}

}  // namespace ballast
