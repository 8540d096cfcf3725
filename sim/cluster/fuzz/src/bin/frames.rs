//! Hostile bytes of one client, given to a node without I/O: `sim_cluster::host::hostile` says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sim_cluster::host::hostile::feed(bytes);
});
