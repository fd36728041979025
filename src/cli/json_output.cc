#include "cli/json_output.h"

#include <cmath>

#include "proto/report_json.h"

namespace ballast::cli {

using nlohmann::json;

json vm_to_json(const VmReport& vm, const Observation& observation) {
  json result = proto::to_json(vm);
  result["untouched_bytes"] = untouched_bytes(vm);
  result["share_saving_bytes"] = saving_bytes(vm);
  const auto rates = observation.rates_of(vm);
  const auto add = [&](const char* name, double VmRates::*rate) {
    result[name] = rates ? json(std::round(*rates.*rate * 10) / 10) : json(nullptr);
  };
  add("faults_per_s", &VmRates::faults);
  add("first_touches_per_s", &VmRates::first_touches);
  add("unzips_per_s", &VmRates::unzips);
  add("swap_ins_per_s", &VmRates::swap_ins);
  add("zips_per_s", &VmRates::zips);
  add("swap_outs_per_s", &VmRates::swap_outs);
  add("brought_back_per_s", &VmRates::brought_back);
  add("clean_drops_per_s", &VmRates::clean_drops);
  add("waits_per_s", &VmRates::waits);
  add("sample_faults_per_s", &VmRates::sample_faults);
  add("share_scanned_per_s", &VmRates::share_scanned);
  add("share_joins_per_s", &VmRates::share_joins);
  add("share_breaks_per_s", &VmRates::share_breaks);
  return result;
}

json host_to_json(const Observation& observation) {
  json result = proto::to_json(observation.now);
  json& vms = result["vms"] = json::array();
  for (const VmReport& vm : observation.now.vms) vms.push_back(vm_to_json(vm, observation));
  const std::vector<ShareGroupReport>& groups = observation.now.share_groups;
  for (size_t i = 0; i < groups.size(); ++i) {
    result["share_groups"][i]["saving_bytes"] = saving_bytes(groups[i]);
  }
  return result;
}

json why_to_json(const VmReport& vm, const HostReport& host, std::span<const Event> events) {
  json without_vms = proto::to_json(host);
  without_vms.erase("vms");
  json list = json::array();
  for (const Event& event : events) list.push_back(proto::to_json(event));
  const auto all = static_cast<double>(sum_of_shares(host));
  return {{"vm", proto::to_json(vm)},
          {"share_percent", all > 0 ? json(100 * static_cast<double>(vm.shares) / all) : json()},
          {"host", std::move(without_vms)},
          {"events", std::move(list)}};
}

json ls_to_json(const Observation& observation) {
  json host = host_to_json(observation);
  json vms = std::move(host["vms"]);
  host.erase("vms");
  return {{"host", std::move(host)}, {"vms", std::move(vms)}};
}

}  // namespace ballast::cli
