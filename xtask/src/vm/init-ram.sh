#!/bin/busybox sh
# In the initramfs: loads what the disk and the tests need, then goes on from the disk.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in /modules/*.ko; do
    /bin/busybox insmod "$module" || echo "faulttrace-vm: cannot load $module"
done
# The host's deadline ends this if there is no disk.
until [ -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /root || echo "faulttrace-vm: cannot mount the disk"
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /init
