//! A worker that was built without the simulated world says so, and says how to get one that has it.
#![cfg(not(madsim))]

#[test]
fn a_build_without_a_world_explains_itself() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quench-worker"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no worlds yet") && said.contains("cargo quench run"),
        "{said}"
    );
}
