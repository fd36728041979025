// UffdMemory's part in sharing: runs of pages become address ranges for the agent, and its answers
// ends.
#include <array>

#include "machine/linux/uffd_memory.h"

namespace ballast::linux_machine {

using machine::Remapped;

namespace {

constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;
constexpr uint64_t kPagemapSwapped = uint64_t{1} << 62;
constexpr uint64_t kPagemapOfFile = uint64_t{1} << 61;

}  // namespace

bool UffdMemory::start_share(PageRun run, FrameIndex first) {
  BALLAST_CHECK(can_share() && run.count > 0 && run.count <= kRemapPagesMax);
  PageRun rest = run;
  Piece piece;
  const bool placed = next_piece(rest, piece);
  // A part of a run could not be taken back when the rest is refused, so a run that lies in two
  // regions ends as not done.
  if (!placed || rest.count > 0) return remaps_.add_share(run, {});
  const AgentShareRange range{piece.address, pages_to_bytes(piece.pages),
                              pages_to_bytes(first.raw())};
  return remaps_.add_share(run, std::span(&range, 1));
}

bool UffdMemory::start_home(PageRun run) {
  BALLAST_CHECK(can_share() && run.count > 0 && run.count <= kRemapPagesMax);
  std::array<AgentRange, kAgentRegionsMax> ranges;
  size_t count = 0;
  PageRun rest = run;
  Piece piece;
  while (next_piece(rest, piece)) ranges[count++] = {piece.address, pages_to_bytes(piece.pages)};
  return remaps_.add_home(run, std::span(ranges).first(count));
}

bool UffdMemory::poll_remapped(Remapped& end) {
  remaps_.flush();
  RemapQueue::Request request;
  if (!remaps_.pop(request)) return false;
  end = {request.kind, request.run, request.done, 0};
  if (end.kind == Remapped::Kind::kShare && end.done) end.written = written_pages(end.run);
  return true;
}

// The guest may write between the mapping of the pool's frames and their write protection; the
// kernel has given it copies then, which are anonymous memory. (So may a page be whose entry the
// kernel dropped: it reads as swapped.)
uint64_t UffdMemory::written_pages(PageRun run) {
  const uint64_t all = run.count == 64 ? ~uint64_t{0} : (uint64_t{1} << run.count) - 1;
  Piece piece;
  PageRun rest = run;
  if (!next_piece(rest, piece)) return all;
  std::array<uint64_t, kRemapPagesMax> entries;
  const auto into = std::span(entries).first(piece.pages);
  // The VM died: the next call says so.
  if (!read_pagemap(piece.address, into)) return all;
  uint64_t written = 0;
  for (uint32_t i = 0; i < piece.pages; ++i) {
    const bool copied = (entries[i] & kPagemapPresent) != 0 && (entries[i] & kPagemapOfFile) == 0;
    if (copied || (entries[i] & kPagemapSwapped) != 0) written |= uint64_t{1} << i;
  }
  return written;
}

}  // namespace ballast::linux_machine
