include(GoogleTest)

# Warnings, sanitizers and the helpers that every folder's CMakeLists.txt uses.

add_library(ballast_flags INTERFACE)
target_include_directories(ballast_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(ballast_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                       -Wswitch-enum -Werror -fno-omit-frame-pointer
                       # libfmt and toml++ headers are system headers; ours are not excused.
                       $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-missing-field-initializers>)
if(BALLAST_SANITIZE)
  target_compile_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE}
                         -fno-sanitize-recover=all -O1)
  target_link_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE})
  if(BALLAST_SANITIZE MATCHES "thread")
    # g++ warns that TSan does not model bare fences; we use none where it matters.
    target_compile_options(ballast_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  endif()
endif()
if(BALLAST_HARDEN)
  # Everything, the agent too. PIE is the compiler's default.
  add_compile_options(-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wformat -Werror=format-security
                      -fcf-protection)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
if(BALLAST_TIDY)
  set(CMAKE_CXX_CLANG_TIDY clang-tidy --quiet)
endif()

# ballast_library(name SOURCES... LIBS...): one folder, one idea, one archive.
function(ballast_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC ballast_flags ${ARG_LIBS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ballast_flags ${ARG_LIBS})
  endif()
endfunction()

# ballast_test(name LABEL unit|contract|sim|kernel|kvm|e2e SOURCES... LIBS...): a GoogleTest program.
# A test that lacks an ability of the machine must GTEST_SKIP() and say which.
function(ballast_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ballast_flags ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  # Every case is a test of its own, so that a skipped one shows as skipped.
  gtest_discover_tests(${name} TEST_PREFIX "${name}/" DISCOVERY_TIMEOUT 30
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT}
                                  SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()
