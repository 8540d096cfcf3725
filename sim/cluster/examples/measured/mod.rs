//! What the examples share that go to servers: they run in the production world and say what went wrong.

use std::error::Error;
use std::process::ExitCode;

/// Why nothing came of it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs it to its end; a failure is told in the name of the example.
pub fn run(example: &str, work: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(work))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{example}: {failure}");
            ExitCode::from(1)
        }
    }
}
