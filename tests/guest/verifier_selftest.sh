#!/usr/bin/env bash
# Proves on the host that the verifier finds what it exists to find: every kind of damage, every
# flipped bit, and that an undamaged run is silent. Builds its own copy; takes about two seconds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror \
  "$here"/{verifier,options,page_content}.c -o "$work/verifier"
verifier=$work/verifier

"$verifier" --selftest >"$work/log" || fail "--selftest: $(cat "$work/log")"
grep -q '^SELFTEST-OK' "$work/log" || fail "--selftest said nothing: $(cat "$work/log")"

# A clean run is silent and complete, a damaged one must fail and name the damage.
"$verifier" --mib 8 --seconds 1 >"$work/log" || fail "a clean run failed: $(cat "$work/log")"
grep -q '^BALLAST-DONE .* errors=0 complete=1 ' "$work/log" || fail "no clean end: $(cat "$work/log")"
for kind in zero stale foreign corrupt; do
  status=0
  "$verifier" --mib 8 --seconds 1 --inject $kind >"$work/log" || status=$?
  [[ $status -eq 1 ]] || fail "--inject $kind: exit status $status"
  [[ $(grep -c "^BALLAST-ERROR page=.* kind=$kind " "$work/log") -eq 1 ]] ||
    fail "--inject $kind: not reported once: $(cat "$work/log")"
  grep -q '^BALLAST-DONE .* errors=1 ' "$work/log" || fail "--inject $kind: not counted"
done

# SIGTERM ends it with the last sweep done.
"$verifier" --mib 8 >"$work/log" &
sleep 0.5
kill -TERM $!
wait $! || fail "SIGTERM: $(cat "$work/log")"
grep -q '^BALLAST-DONE .* errors=0 complete=1 ' "$work/log" || fail "SIGTERM: $(cat "$work/log")"

for wrong in '--mix zero:10' '--mix air:100' '--mib 0' '--mib x' '--write-percent 101' \
  '--inject fire' '--unknown' 'word'; do
  status=0
  # shellcheck disable=SC2086  # split into option and value on purpose
  "$verifier" $wrong >/dev/null 2>&1 || status=$?
  [[ $status -eq 2 ]] || fail "'$wrong' must be refused, exit status was $status"
done

# The contents compress as the mix promises: mean of LZ4 over single pages.
if command -v lz4 >/dev/null; then
  mean_size() {
    "$verifier" --mib 1 --mix "$1:100" --dump >"$work/pages"
    rm -f "$work"/page.*
    split -b 4096 -a 3 "$work/pages" "$work/page."
    local total=0 count=0 page
    for page in "$work"/page.a[ab]*; do
      total=$((total + $(lz4 -1 -c --no-frame-crc "$page" | wc -c) - 15)) # less the frame
      count=$((count + 1))
    done
    echo $((total / count))
  }
  size=$(mean_size lz50)
  [[ $size -gt 1000 && $size -lt 1900 ]] || fail "lz50 pages take $size bytes, not 25 to 45 %"
  size=$(mean_size random)
  [[ $size -gt 4000 ]] || fail "random pages compress to $size bytes"
else
  echo "SKIP: no lz4 command, so the compressibility was not checked"
fi
echo "verifier_selftest: ok"
