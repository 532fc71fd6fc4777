use std::process::ExitCode;

use clap::Parser;
use tagout::cli::Arguments;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let done = match tagout::cli::completes(&words) {
        Some(completed) => completed.map(|()| ExitCode::SUCCESS),
        None => tagout::cli::run(Arguments::parse()).await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
