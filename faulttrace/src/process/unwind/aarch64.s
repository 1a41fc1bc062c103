// Functions with and without a frame, for the tests of unwind.rs. To make aarch64.so of it:
// aarch64-linux-gnu-gcc -march=armv8.3-a -shared -nostdlib -s -Wl,-z,noseparate-code,-z,max-page-size=4096,--build-id=none,--hash-style=sysv -o aarch64.so aarch64.s
    .text
    .globl without_frame
    .type without_frame, %function
without_frame:
    .cfi_startproc
    nop
    sub sp, sp, #16
    .cfi_def_cfa_offset 16
    nop
    add sp, sp, #16
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size without_frame, . - without_frame

    .globl with_frame
    .type with_frame, %function
with_frame:
    .cfi_startproc
    nop
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset 29, -16
    .cfi_offset 30, -8
    mov x29, sp
    ldp x29, x30, [sp], #16
    .cfi_restore 30
    .cfi_restore 29
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size with_frame, . - with_frame

    // Nobody called it.
    .globl outermost
    .type outermost, %function
outermost:
    .cfi_startproc
    .cfi_undefined 30
    nop
    .cfi_endproc
    .size outermost, . - outermost

    // With signed return addresses.
    .globl signed_frame
    .type signed_frame, %function
signed_frame:
    .cfi_startproc
    paciasp
    .cfi_negate_ra_state
    nop
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset 29, -16
    .cfi_offset 30, -8
    ldp x29, x30, [sp], #16
    .cfi_restore 30
    .cfi_restore 29
    .cfi_def_cfa_offset 0
    autiasp
    .cfi_negate_ra_state
    ret
    .cfi_endproc
    .size signed_frame, . - signed_frame
