// LinuxSharePool: the frames of one salt group in a memfd that every member VM's agent keeps open.
//
// The daemon maps it whole and sparse; members get a read-only descriptor and map frames privately,
// so that nothing a guest does can change a frame. Sealed against resizing and closed to other
// users.
#pragma once

#include <memory>
#include <string>

#include "machine/linux/file_id.h"
#include "machine/linux/mapping.h"
#include "machine/linux/unique_fd.h"
#include "machine/share_pool.h"

namespace ballast::linux_machine {

class LinuxSharePool final : public machine::SharePool {
 public:
  // New, without frames. `name` shows in /proc/PID/maps. `frames` is at least 1.
  static Result<std::unique_ptr<LinuxSharePool>> create(const std::string& name, uint32_t frames);
  // From a descriptor that came back from an agent; as large as the file is.
  static Result<std::unique_ptr<LinuxSharePool>> adopt(UniqueFd kept);

  uint32_t frame_count() const override { return frames_; }
  std::span<std::byte, kPageBytes> frame(FrameIndex frame) override;
  void release(FrameRun run) override;
  void find_present(std::vector<FrameRun>& present) override;

  // A descriptor for an agent to keep and to map.
  Result<UniqueFd> read_only_fd() const;
  // Tells whether another descriptor means this pool.
  FileId identity() const { return identity_; }

 private:
  LinuxSharePool() = default;
  static Result<std::unique_ptr<LinuxSharePool>> map(UniqueFd file, uint64_t bytes);

  UniqueFd file_;
  Mapping mapping_;
  uint32_t frames_ = 0;
  FileId identity_;
};

}  // namespace ballast::linux_machine
