//! Builds the eBPF programs and puts the object where `probe` includes it from.

fn main() -> anyhow::Result<()> {
    // `-Z build-std=core` needs the nested cargo to accept unstable flags; with this variable the
    // one pinned stable toolchain does. It is set here, for the nested build alone, so that no
    // other crate is built with unstable features.
    // SAFETY: a build script's main is single-threaded; nothing reads the environment meanwhile.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../faulttrace-ebpf");
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "faulttrace-ebpf",
            root_dir: root,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(&toolchain),
    )
}
