#!/bin/sh
# On the disk: runs what its second disk lists and tells the host how each ended. The console is the host's.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
ip link set lo up
echo "faulttrace-vm: kernel $(uname -r)"
# As in "none voluntary (full)", where it can be chosen.
preempt=$(sed -n 's/.*(\(.*\)).*/\1/p' /sys/kernel/debug/sched/preempt 2>/dev/null) && echo "faulttrace-vm: preempt $preempt"
[ "$preempt" != full ] || export FAULTTRACE_E2E_PREEMPTED=1
export FAULTTRACE_BIN=/faulttrace/faulttrace RUST_BACKTRACE=1
case " $(cat /proc/cmdline) " in *" faulttrace_emulated "*) export FAULTTRACE_E2E_EMULATED=1 ;; esac
"$FAULTTRACE_BIN" doctor
# Each line: a program, then its arguments.
while read -r program arguments; do
    # Empty lines fill the disk.
    [ -n "$program" ] || continue
    {
        # shellcheck disable=SC2086 # arguments are words
        "/faulttrace/deps/$program" --test-threads=1 $arguments
        echo $? >/run/code
    } </dev/null 2>&1 | tee /run/output
    counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/passed=\1 failed=\2 ignored=\3/p' /run/output)
    echo "faulttrace-vm: program $program ${counts:-passed=? failed=? ignored=?} exit=$(cat /run/code)"
done </dev/vdb
# What the kernel complained of, if it did.
dmesg | sed -n '/cut here\|BUG:\|Oops/,/end trace/p'
echo "faulttrace-vm: tainted $(cat /proc/sys/kernel/tainted)"
echo "faulttrace-vm: end"
poweroff -f
