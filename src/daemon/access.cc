#include "daemon/access.h"

#include <grp.h>
#include <unistd.h>

#include "daemon/config.h"

namespace ballast::daemon {

proto::Access access_of(const proto::Peer& peer) {
  const bool may_change = peer.uid == 0 || peer.uid == geteuid();
  return may_change ? proto::Access::kChange : proto::Access::kLook;
}

Status open_to_group(const std::string& socket_path, const std::string& group) {
  const std::string name = group.empty() ? kDefaultGroup : group;
  errno = 0;
  const struct group* found = getgrnam(name.c_str());  // at the start, before there are threads
  if (found == nullptr) {
    if (group.empty()) return Done{};
    return Error{
        fmt::format("group: there is no group '{}'; make it (groupadd --system {}), or "
                    "name another one",
                    name, name)};
  }
  // Who is not root cannot give files away; he can be reached by his own group as before.
  if (chown(socket_path.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0 && errno != EPERM) {
    return system_error(fmt::format("give {} to the group {}", socket_path, name));
  }
  return Done{};
}

}  // namespace ballast::daemon
