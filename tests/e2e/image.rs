//! The image itself.

use std::fs;
use std::process::Command;

use controlplane::installation::run;
use serde_json::Value;

use crate::world::{World, images, root};

/// As registries keep it, and nodes load it.
const LARGEST: usize = 10_000_000;

pub fn the_image_holds_one_small_static_file_that_says_what_it_is_made_of(_: &World) {
    let archive = images::archive("tagout");
    let compressed = run(Command::new("gzip").arg("--stdout").arg(&archive), "").expect("gzip");
    let size = compressed.stdout.len();
    println!("     {size} bytes");
    assert!(size < LARGEST, "the image takes {size} bytes");

    let unpacked = tempfile::tempdir().expect("a folder");
    let unpack = |archive: &str, into: &str| {
        let into = unpacked.path().join(into);
        fs::create_dir_all(&into).expect("a folder");
        let archive = unpacked.path().join(archive);
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&into), "").expect("tar");
        into
    };
    let image = unpack(&archive.display().to_string(), "image");
    let read = |name: &str| fs::read(image.join(name)).expect("it is in the archive");
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("JSON");
    let layers = manifest[0]["Layers"].as_array().expect("layers").clone();
    assert_eq!(layers.len(), 1, "{layers:?}");
    let layer = unpack(&format!("image/{}", layers[0].as_str().expect("a name")), "layer");
    let files: Vec<_> = fs::read_dir(&layer).expect("files").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(files, ["tagout"]);

    let config: Value = serde_json::from_slice(&read(manifest[0]["Config"].as_str().expect("a name"))).expect("JSON");
    let config = &config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"][0], "/tagout");
    for label in ["title", "description", "licenses", "source", "version", "revision"] {
        let value = config["Labels"][format!("org.opencontainers.image.{label}")].as_str().unwrap_or_default();
        assert!(!value.is_empty() && !value.contains('$') && value != "unknown", "{label}: {value:?}");
    }

    let binary = fs::read(layer.join("tagout")).expect("the program");
    let holds = |words: &str| binary.windows(words.len()).any(|window| window == words.as_bytes());
    assert!(!names_a_loader(&binary), "it is not static");
    assert!(holds(".dep-v0"), "it does not say which crates it is built of");
    let home = std::env::var("HOME").expect("a home");
    for place in [root().display().to_string(), format!("{home}/.cargo")] {
        assert!(!holds(&place), "it says that it was built in {place}");
    }
}

/// Whether one of its program headers says which other program has to load it.
fn names_a_loader(elf: &[u8]) -> bool {
    const INTERPRETER: usize = 3;
    assert_eq!(&elf[..5], b"\x7fELF\x02", "a program of 64 bits");
    let number = |at: usize, length: usize| {
        elf[at..at + length].iter().rev().fold(0, |number: usize, byte| number << 8 | usize::from(*byte))
    };
    let (first, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(first + index * size, 4) == INTERPRETER)
}
