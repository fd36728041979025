# The dashboard as C++: assets.cc with its files in it. Two ways to use this file:
#
#   include(dashboard.cmake)             sets BALLAST_ASSETS, the file to compile, and how it is made
#   cmake -D… -P dashboard.cmake         makes it, at build time
#
# npm fetches what package-lock.json names and esbuild bundles it. Where Node.js, npm or the network is missing the build
# goes on: it says so, and the page at / says so too; the API is the same.

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(dashboard ${CMAKE_CURRENT_LIST_DIR}/dashboard)
  set(BALLAST_ASSETS ${CMAKE_CURRENT_BINARY_DIR}/assets.cc)
  # Sanitizers and linters gain nothing from it.
  if(BALLAST_SANITIZE OR BALLAST_TIDY OR BALLAST_FUZZ)
    set(dashboard_default OFF)
  else()
    set(dashboard_default ON)
  endif()
  option(BALLAST_DASHBOARD "bundle the dashboard with npm" ${dashboard_default})
  set(npm "")
  set(why "BALLAST_DASHBOARD was off")
  if(BALLAST_DASHBOARD)
    set(why "npm or Node.js was missing")
    find_program(BALLAST_NPM npm)
    find_program(BALLAST_NODE node)
    if(BALLAST_NPM AND BALLAST_NODE)
      set(npm ${BALLAST_NPM})
    else()
      message(WARNING "no npm or no node: the dashboard is left out, the page at / will say so (tools/setup installs them)")
    endif()
  endif()
  file(GLOB_RECURSE dashboard_sources CONFIGURE_DEPENDS ${dashboard}/src/* ${dashboard}/*.json ${dashboard}/*.mjs
       ${dashboard}/plain.html)
  add_custom_command(OUTPUT ${BALLAST_ASSETS}
    COMMAND ${CMAKE_COMMAND} -DNPM=${npm} -DWHY=${why} -DSOURCE=${dashboard} -DWORK=${CMAKE_CURRENT_BINARY_DIR}/dashboard
            -DOUTPUT=${BALLAST_ASSETS} -P ${CMAKE_CURRENT_LIST_FILE}
    DEPENDS ${dashboard_sources} ${CMAKE_CURRENT_LIST_FILE}
    COMMENT "Bundling the dashboard" VERBATIM)
  return()
endif()

# The plain page, with the reason.
function(use_plain_page why)
  message("dashboard left out: ${why}")
  file(REMOVE_RECURSE ${WORK}/dist)
  file(READ ${SOURCE}/plain.html page)
  string(REPLACE "@WHY@" "${why}" page "${page}")
  file(WRITE ${WORK}/dist/index.html "${page}")
endfunction()

# In the build directory, so that several builds do not share one node_modules.
file(MAKE_DIRECTORY ${WORK})
file(COPY ${SOURCE}/ DESTINATION ${WORK} PATTERN node_modules EXCLUDE PATTERN dist EXCLUDE)
if(NOT NPM)
  use_plain_page("${WHY}")
else()
  file(SHA256 ${SOURCE}/package-lock.json lock)
  set(fetched "")
  if(EXISTS ${WORK}/node_modules/.fetched)
    file(READ ${WORK}/node_modules/.fetched fetched)
  endif()
  if(NOT fetched STREQUAL lock)
    execute_process(COMMAND ${NPM} ci --ignore-scripts --no-audit --no-fund --loglevel=error
                    WORKING_DIRECTORY ${WORK} RESULT_VARIABLE failed OUTPUT_FILE ${WORK}/npm.log ERROR_FILE ${WORK}/npm.log)
    if(NOT failed)
      file(WRITE ${WORK}/node_modules/.fetched ${lock})
    endif()
  endif()
  if(failed)
    use_plain_page("npm could not fetch the packages it is made of (its log: ${WORK}/npm.log)")
  else()
    # A bundle that does not build is a bug of ours, not something that is missing.
    execute_process(COMMAND ${NPM} run --silent build WORKING_DIRECTORY ${WORK} COMMAND_ERROR_IS_FATAL ANY)
  endif()
endif()

set(types_html "text/html; charset=utf-8")
set(types_js "text/javascript; charset=utf-8")
set(types_css "text/css; charset=utf-8")
set(types_svg "image/svg+xml")
set(arrays "")
set(table "")
set(number 0)
file(GLOB files ${WORK}/dist/*)
foreach(file ${files})
  get_filename_component(name ${file} NAME)
  get_filename_component(extension ${file} LAST_EXT)
  string(SUBSTRING ${extension} 1 -1 extension)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  # 0 at the end: an empty array would not compile.
  string(APPEND arrays "constexpr unsigned char kFile${number}[] = {${bytes}0};\n")
  if(name STREQUAL "index.html")
    set(name "")
  endif()
  string(APPEND table "    {\"/${name}\", \"${types_${extension}}\", text(kFile${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Made by dashboard.cmake.
#include \"web/assets.h\"

namespace ballast::web {

namespace {

${arrays}
template <size_t size>
std::string_view text(const unsigned char (&bytes)[size]) {
  return {reinterpret_cast<const char*>(bytes), size - 1};
}

}  // namespace

std::span<const Asset> assets() {
  static const Asset kAssets[] = {
${table}  };
  return kAssets;
}

}  // namespace ballast::web
")
