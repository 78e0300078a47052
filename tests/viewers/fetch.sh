#!/bin/bash
# Fetches the viewers that tests open our objects in, and axe-core, which looks at our pages, into the folder named as argument. None of them is
# shipped with radnode: OHIF is MIT, dwv GPL-3.0 (with konva, jszip and magic-wand-tool, MIT), axe-core MPL-2.0.
set -euo pipefail

into=$1
declare -A packages=(
  ["@ohif/app@3.13.2"]="WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
  ["dwv@0.36.4"]="kXGlujGcCKSJD6s0THa2z4Kn/aVCdltvbgrn8g2WcTA8TgLZJHp6Z0Tbu3gxkerIaMCrTC4TbaWJI0nq9tPAFg=="
  ["konva@10.2.5"]="WwBoe/EBhFcv+seL1Wnp3OAOwOFjCY4nCCgpLRrzUzw1IX4lKf/lYhj2Z3qo9P9q2fA3h+OdGDlimSNqZJaY5A=="
  ["jszip@3.10.2"]="3l+rb15IOWtUhU0H5MFqES/T6Kh7abYwjosBey/vD6hDt8zoEffkSC5Ws5SGtgVw3gBx2NEbhTeSW1+kWkpyTQ=="
  ["axe-core@4.14.1"]="FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
  ["magic-wand-tool@1.1.7"]="S4rHzCs/bAp7nhQGKeg+McWuqrdyZKpnu8Ahd8AU7NzuLTm/Hh8tkpv1tW91Kmm59foIrXzip1d+P9NDoyxrZA=="
)
wanted="${!packages[*]}"
[ "$(cat "$into/complete" 2> /dev/null)" = "$wanted" ] && exit 0

command -v npm > /dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
echo "Fetching the viewers that the tests open results in (50 MB, once)"
rm -rf "$into" && mkdir -p "$into"
for package in "${!packages[@]}"; do
  name=${package%@*} && name=${name##*/}
  file=$(cd "$into" && npm pack --silent "$package")
  [ "$(openssl dgst -sha512 -binary "$into/$file" | base64 --wrap 0)" = "${packages[$package]}" ] ||
    { echo "$package is not the file that was tested: its SHA-512 differs" >&2; exit 1; }
  mkdir "$into/$name" && tar --extract --gzip --file "$into/$file" --directory "$into/$name" --strip-components 1
  rm "$into/$file"
done
echo "$wanted" > "$into/complete"
