// The dashboard's files, compiled in (dashboard.cmake writes assets.cc). Pure.
#pragma once

#include <span>
#include <string_view>

namespace ballast::web {

struct Asset {
  std::string_view path;  // "/", "/app.js"
  std::string_view type;
  std::string_view content;
};

std::span<const Asset> assets();

}  // namespace ballast::web
