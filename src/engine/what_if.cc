// Host::what_if: the policy's own solver on a changed copy of the present; nothing is touched.
#include <algorithm>

#include "engine/host.h"

namespace ballast::engine {

namespace {

// A VM that is not there yet is assumed to use all its memory, actively: the worst that it can do.
VmSituation assumed(const VmSpec& spec) {
  const auto pages = static_cast<uint32_t>(spec.configured_bytes / kPageBytes);
  const uint64_t most = max_bytes(spec.allocation, spec.configured_bytes);
  return {.name = spec.name,
          .configured_bytes = spec.configured_bytes,
          .allocation = spec.allocation,
          .overhead_bytes = Pager::overhead_bytes(pages),
          .consumed_bytes = most,
          .resident_bytes = most,
          .paged_bytes = 0,
          .active_bytes = most,
          .balloon = {}};
}

}  // namespace

WhatIfAnswer Host::what_if(const WhatIfQuestion& question) const {
  const std::vector<VmSituation> now = situations();
  std::vector<VmSituation> then = now;
  Promises promised = promises();
  WhatIfAnswer answer;
  const auto refuse = [&](const Status& status) {
    if (!status && answer.refusal.empty()) answer.refusal = status.error().message;
  };
  for (const auto& [name, change] : question.set) {
    const auto at = std::ranges::find(then, name, &VmSituation::name);
    if (at == then.end()) continue;  // the question was checked against the VMs there are
    const Allocation wanted = apply(at->allocation, change);
    promised.mins += wanted.min_bytes - at->allocation.min_bytes;
    at->allocation = wanted;
  }
  // What one gives up another can have: each change is judged beside all the others.
  for (size_t i = 0; i < members_.size(); ++i) {
    refuse(check_change(members_[i], then[i].allocation, promised));
  }
  for (const VmSpec& spec : question.add) {
    refuse(admission_.admit(spec, promised, clock_.now()));
    then.push_back(assumed(spec));
    promised.mins += spec.allocation.min_bytes + then.back().overhead_bytes;
    ++promised.vms;
  }
  answer.divided_now_bytes = answer.divided_then_bytes = divided_bytes();
  const auto targets_now = solve(answer.divided_now_bytes, now, options_);
  const auto targets_then = solve(answer.divided_then_bytes, then, options_);
  for (size_t i = 0; i < then.size(); ++i) {
    WhatIfRow row;
    row.name = then[i].name;
    row.configured_bytes = then[i].configured_bytes;
    row.min_bytes = then[i].allocation.min_bytes;
    row.limit_bytes = then[i].allocation.limit_bytes;
    row.shares = targets_then[i].shares;
    row.is_new = i >= now.size();
    row.want_bytes = targets_then[i].want_bytes;
    row.target_then_bytes = targets_then[i].target_bytes;
    row.bound_then = name_of(targets_then[i].bound);
    if (!row.is_new) {
      row.target_now_bytes = targets_now[i].target_bytes;
      row.bound_now = name_of(targets_now[i].bound);
    }
    answer.rows.push_back(std::move(row));
  }
  return answer;
}

}  // namespace ballast::engine
