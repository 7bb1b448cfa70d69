//! Generates the crate's dispatcher and builds our overlay around it (see bpf/overlay.bpf.c).

use std::path::Path;

fn main() {
    let overlay = Path::new("../../bpf/overlay.bpf.c");
    scx_rustland_core::RustLandBuilder::new()
        .expect("BPF build set-up (is clang 18 or newer installed? run `cargo xtask setup`)")
        .build()
        .expect("building scx_rustland_core's dispatcher");
    adapt();
    // The second build replaces the skeleton of the first: same name, our object.
    let mut builder = scx_cargo::BpfBuilder::new().expect("BPF build set-up");
    builder
        .enable_intf("intf.h", "bpf_intf.rs")
        .enable_skel(overlay.to_str().expect("UTF-8 path"), "bpf")
        .add_include_path(".")
        .build()
        .expect("building the overlay");
    // Where a system extension brings the libraries that a node may lack.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,/usr/lib/infera");
    // The overlay and everything that it includes.
    println!("cargo:rerun-if-changed=../../bpf");
}

/// Two changes of the generated code, for which the crate has no hook. It replaces libbpf's print function, which would drop
/// the messages that explain a refused load: src/loading.rs keeps them. And src/callbacks.rs fits the object to the kernel.
fn adapt() {
    const GENERATED: &str = "src/bpf.rs";
    const SILENCES: &str = "skel_builder.obj_builder.debug(debug);";
    const LOADS: &str = "let mut skel = scx_ops_load!(skel, rustland, uei)?;";
    let code = std::fs::read_to_string(GENERATED).expect("the crate has just written it");
    for line in [SILENCES, LOADS] {
        assert_eq!(
            code.matches(line).count(),
            1,
            "another scx_rustland_core: see whether {line} still is where libbpf is silenced, or the object loaded"
        );
    }
    let fitted = format!("crate::callbacks::fit(&mut skel)?; {LOADS}");
    let code = code.replace(SILENCES, "").replace(LOADS, &fitted);
    std::fs::write(GENERATED, code).expect("its own source tree");
}
