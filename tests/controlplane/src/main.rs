//! Builds what the tests need and says where it is, so that a cold build need not happen inside a test.

fn main() -> anyhow::Result<()> {
    let binaries = controlplane::Binaries::ensure()?;
    println!("{}", binaries.folder().display());
    Ok(())
}
