#include "simulator/fluid/rules/ballast_rule.h"
#include "simulator/fluid/rules/peers.h"

namespace ballast::simulator::fluid {

namespace {

template <typename Peer>
std::unique_ptr<Rule> make_peer(const Options&) {
  return std::make_unique<Peer>();
}

constexpr RuleInfo kRules[] = {
    {"ballast", "Ballast: shares and idle-memory tax, host states, balloons, own pagers",
     [](const Options& options) -> std::unique_ptr<Rule> {
       return std::make_unique<BallastRule>(options);
     }},
    {"swap", "Linux: nothing but the kernel's swap", make_peer<SwapRule>},
    {"proxmox", "Proxmox VE: pvestatd's ballooning towards 80 %", make_peer<ProxmoxRule>},
    {"mom", "oVirt: MOM's balloon policy", make_peer<MomRule>},
    {"squeezed", "xapi: squeezed, the same fraction for all", make_peer<SqueezedRule>},
    {"senpai", "oomd: senpai, one percent as long as nobody stalls", make_peer<SenpaiRule>},
};

}  // namespace

std::span<const RuleInfo> all_rules() { return kRules; }

}  // namespace ballast::simulator::fluid
