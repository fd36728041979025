#include "machine/linux/machine_memory.h"

#include <gtest/gtest.h>

namespace ballast::linux_machine {
namespace {

TEST(MachineMemory, ReadsWhatTheKernelSays) {
  const MachineMemory memory = parse_machine_memory(
      "MemTotal:       65843212 kB\nMemFree:         1234567 kB\nMemAvailable:   12345678 kB\n");
  EXPECT_EQ(memory.total_bytes, 65843212ull * 1024);
  EXPECT_EQ(memory.available_bytes, 12345678ull * 1024);
}

TEST(MachineMemory, WhatIsNotThereIsNotKnown) {
  for (const char* text : {"", "MemTotal:", "MemTotal: many kB\n", "XMemTotal: 5 kB\n",
                           "MemTotal: 99999999999999999999999 kB\n"}) {
    EXPECT_EQ(parse_machine_memory(text).total_bytes, 0u) << text;
  }
}

TEST(MachineMemory, ThisMachineHasSome) {
  const MachineMemory memory = machine_memory();
  EXPECT_GT(memory.total_bytes, 0u);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
}

}  // namespace
}  // namespace ballast::linux_machine
