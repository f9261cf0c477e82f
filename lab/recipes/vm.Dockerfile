# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# A "VM" of the lab: a small Debian with systemd, sshd and the stand-in of OpenNebula's guest agent. Context: lab/guest.
ARG BASE
FROM ${BASE}

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      systemd systemd-sysv dbus sudo openssh-server iproute2 iputils-ping procps kmod python3-apt \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /etc/ssh/ssh_host_*_key* \
 && : > /etc/machine-id \
 && systemctl set-default multi-user.target \
 # What a container has no use for, and what would only make the boot longer.
 && systemctl mask console-getty.service getty.target systemd-logind.service systemd-udevd.service systemd-udev-trigger.service \
      systemd-networkd.service systemd-resolved.service systemd-timesyncd.service systemd-remount-fs.service \
      systemd-modules-load.service dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
      dev-sr0.device \
      apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer

COPY . /
RUN systemctl enable one-context-local.service one-context-online.service one-context.service one-context-changed.path

STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
