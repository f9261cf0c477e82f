#!/bin/sh
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# Makes a mirror of NVIDIA's repository below DIRECTORY: packages of the stand-ins, two releases of the toolkit, signed by a key made here,
# and, as DIRECTORY/distribution, a repository of a distribution with the driver.
#   make_mirror.sh STANDINS DIRECTORY
set -eu
standins=$1 mirror=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package NAME VERSION DEPENDS REPOSITORY: makes a package of the files in $work/NAME.
package() {
    mkdir -p "$work/$1/DEBIAN" "$4"
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: test <test@example.org>\nDescription: stand-in\n' "$1" "$2" > "$work/$1/DEBIAN/control"
    [ -z "$3" ] || echo "Depends: $3" >> "$work/$1/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$work/$1" "$4/$1_$2_amd64.deb" > /dev/null
    rm -rf "${work:?}/$1"
}

# index REPOSITORY: lists its packages.
index() {
    cd "$1"
    for file in *.deb; do
        dpkg-deb --field "$file"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat --format %s "$file")" "$(sha256sum "$file" | cut -d ' ' -f 1)"
    done > Packages
    printf 'Date: %s\nSHA256:\n %s %s Packages\n' "$(date -Ru)" "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat --format %s Packages)" > Release
    cd - > /dev/null
}

toolkit=$mirror/stable/deb/amd64
for version in 1.20.0-1 1.21.0-1; do
    install -D -m 0755 -t "$work/nvidia-container-toolkit-base/usr/bin" "$standins/nvidia-ctk" "$standins/nvidia-container-runtime"
    package nvidia-container-toolkit-base $version "" "$toolkit"
    install -D -m 0755 -t "$work/nvidia-container-toolkit/usr/bin" "$standins/nvidia-container-runtime-hook"
    package nvidia-container-toolkit $version "nvidia-container-toolkit-base (= $version), libnvidia-container-tools (= $version)" "$toolkit"
    package libnvidia-container-tools $version "libnvidia-container1 (>= $version)" "$toolkit"
    package libnvidia-container1 $version "" "$toolkit"
done
install -D -m 0755 -t "$work/nvidia-driver/usr/bin" "$standins/nvidia-smi"
install -D -m 0644 /dev/null "$work/nvidia-driver/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01"
package nvidia-driver 550.163.01-1 "" "$mirror/distribution"
index "$toolkit"
index "$mirror/distribution"

export GNUPGHOME="$work"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Mirror <mirror@example.org>' rsa2048 sign never
gpg --batch --quiet --armor --detach-sign --output "$toolkit/Release.gpg" "$toolkit/Release"
gpg --batch --quiet --armor --export > "$mirror/gpgkey"
gpg --batch --with-colons --list-keys | awk -F : '$1 == "fpr" { print $10; exit }' > "$mirror/fingerprint"
gpgconf --kill gpg-agent
