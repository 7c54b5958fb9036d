//! The target that `HOLDFAST_FUZZ_TARGET` names, for libFuzzer.
#![no_main]

use std::sync::OnceLock;

use holdfast_fuzz::target::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("HOLDFAST_FUZZ_TARGET").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| panic!("HOLDFAST_FUZZ_TARGET names no target"))
    });
    (target.check)(data);
});
