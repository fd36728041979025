// Victims: which resident pages of one VM go next. Selectable; both kinds name runs of pages that
// are neither in flight nor without a frame, and always find some while there are any.
//
// Random is ESX's choice: no guest policy can resonate with it. It picks aligned blocks of 16 pages
// instead of single pages, because system calls cost per run. Second chance is a clock with two
// hands: the front hand starts an access sample on a block, the back hand, a quarter turn behind at
// most, skips what was touched since. After 4096 pages in a row that were all touched it takes what
// comes, so reclaim always makes progress.
#pragma once

#include <memory>

#include "base/random.h"
#include "engine/vm.h"

namespace ballast::engine {

class Victims {
 public:
  virtual ~Victims() = default;
  // The next run of at most kRunPages victims; count 0 when the VM has none.
  virtual PageRun next() = 0;

  static std::unique_ptr<Victims> make(Vm& vm);
};

}  // namespace ballast::engine
