//! Prepares the published source of zeromq for the simulated world (nothing to do in an ordinary build).

fn main() {
    sim_transplant::Transplant::of("zeromq", "0.7.0").main();
}
