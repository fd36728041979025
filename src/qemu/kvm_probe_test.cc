#include "qemu/kvm_probe.h"

#include <gtest/gtest.h>

#include <ctime>

namespace ballast::qemu {
namespace {

// Which answer is right depends on the machine; that it is given soon and with a reason does not.
TEST(KvmProbe, DecidesSoonAndSaysWhyNot) {
  const std::clock_t start = std::clock();
  const KvmProbe probe = probe_kvm();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_NE(probe.usable, !probe.reason.empty()) << probe.reason;
  EXPECT_LT(seconds, 2.0);
  RecordProperty("kvm", probe.usable ? "usable" : probe.reason);
}

}  // namespace
}  // namespace ballast::qemu
