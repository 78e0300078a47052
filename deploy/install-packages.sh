#!/bin/bash
# Installs the Debian packages named as arguments, without letting any of their daemons start.
# As root it installs them; otherwise it prints the one command that is missing and exits with 1.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "Debian packages are missing. Run this once, then try again:" >&2
  echo "  sudo apt-get install --yes --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

policy=/usr/sbin/policy-rc.d
saved=$(mktemp --dry-run /usr/sbin/policy-rc.d.radnode.XXXXXX)
[ -e "$policy" ] && mv "$policy" "$saved"
restore() {
  rm -f "$policy"
  if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
}
trap restore EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' > "$policy" # 101: starting it is forbidden (invoke-rc.d(8))
chmod 755 "$policy"

echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update --quiet --quiet && apt-get install --yes --quiet --quiet --no-install-recommends "${missing[@]}"; } > "$log" 2>&1 < /dev/null; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install them; the last lines of its output stand above." >&2
  exit 1
fi
rm -f "$log"
