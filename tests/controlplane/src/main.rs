//! Builds what the tests need and says where it is, so that a cold build need not happen inside a test. With the argument
//! `node`, what a real node needs, too.

fn main() -> anyhow::Result<()> {
    let binaries = controlplane::Binaries::ensure()?;
    if std::env::args().any(|argument| argument == "node") {
        controlplane::Binaries::ensure_node()?;
    }
    println!("{}", binaries.folder().display());
    Ok(())
}
